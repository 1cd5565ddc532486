"""Log a PyTorch training loop that can be stopped and started again."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save

import ockham

RUN_ID = "own-loop"
STEPS = 120
VOCAB_SIZE = 32

torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 32), torch.nn.Linear(32, VOCAB_SIZE))
optimizer = torch.optim.SGD(model.parameters(), lr=20.0)


def read_batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets. They depend only on the seed, so a resumed run reads the same batches."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, VOCAB_SIZE, (64,), generator=generator)
    return tokens, (tokens + 1) % VOCAB_SIZE


def compute_loss(seed: int) -> torch.Tensor:
    """Return the loss of one batch in nats per token."""
    inputs, targets = read_batch(seed)
    return torch.nn.functional.cross_entropy(model(inputs), targets)


def pack(metadata: dict, state: dict | None) -> ockham.CheckpointFiles:
    """Return the files of a checkpoint. The metadata names the run, so `ockham lineage` can find it."""
    text = {name: json.dumps(value) for name, value in metadata.items()}
    weights = save(model.state_dict(), metadata=text)
    files = {"model.safetensors": weights}
    if state is not None:
        # A resume needs the state of the plugins. Add the state of your optimizer if it has one.
        files["state.json"] = json.dumps(state).encode()
    return ockham.CheckpointFiles(files, hashlib.sha256(weights).hexdigest())


def train(resume_point: ockham.ResumePoint | None) -> None:
    """Train from the beginning, or from the newest resume checkpoint."""
    facts = {"max_iters": STEPS, "vocab_size": VOCAB_SIZE, "model_params": 2_080, "seed": 1}
    policy = None if resume_point else "balanced"  # a resumed run keeps its policy
    with ockham.Run(policy, run_id=RUN_ID, facts=facts, resumed=resume_point) as run:
        first_step = 0
        # The path is None if the run was stopped before its first checkpoint.
        if resume_point and resume_point.path:
            model.load_state_dict(load_file(resume_point.path / "model.safetensors"))
            run.load_state_dict(resume_point.state["run"])
            first_step = resume_point.iter_num
        # Learning rate, norm and weights are measured at each step, and compared with the decisions.
        run.watch(optimizer, measure_norm=True)
        for iter_num in range(first_step, STEPS):
            loss = compute_loss(iter_num)
            ctx = run.start_batch(iter_num, loss.item())
            if ctx.updated:  # a skipped batch has no backward pass
                loss.backward()
                gradients = [parameter.grad for parameter in model.parameters()]
                norm = torch.nn.utils.get_total_norm(gradients)
                run.gradients(ctx, grad_norm=norm.item())
                if ctx.step:  # otherwise the gradients are dropped
                    torch.nn.utils.clip_grads_with_norm_(model.parameters(), ctx.grad_clip, norm)
                    with run.learning_rates(ctx):
                        optimizer.step()
                optimizer.zero_grad()
            run.end_batch(ctx)
            if iter_num % 20 == 19:
                with torch.no_grad():
                    run.evaluate(ctx, compute_loss(seed=10**6).item())
                if ctx.accepted:
                    run.save_checkpoint(ctx, "accepted", pack)
                run.save_checkpoint(ctx, "resume", pack)
            if ctx.halt or run.stop_requested:
                break


if Path("runs", RUN_ID).exists():
    point = ockham.find_resume_point("runs", RUN_ID)
    if point.is_complete(STEPS):
        print(f"{RUN_ID}: complete")
    else:
        train(point)
else:
    train(None)
