"""Log a training loop with several processes, gradient accumulation, parameter groups and a loss scaler."""

import contextlib
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import ockham

STEPS = 60
MICRO_STEPS = 2
VOCAB_SIZE = 32
LEARNING_RATES = [0.05, 0.01]

if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    dist.init_process_group("gloo")
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 32), torch.nn.Linear(32, VOCAB_SIZE))
parallel = DistributedDataParallel(model) if dist.is_initialized() else model
groups = [
    {"params": layer.parameters(), "lr": rate} for layer, rate in zip(model, LEARNING_RATES, strict=True)
]
optimizer = torch.optim.AdamW(groups)
scaler = torch.amp.GradScaler("cpu")
generator = torch.Generator().manual_seed(dist.get_rank() if dist.is_initialized() else 0)


def compute_loss() -> tuple[torch.Tensor, int]:
    """Return the loss of this rank's next micro-batch in nats per token, and the number of tokens."""
    tokens = torch.randint(0, VOCAB_SIZE, (64,), generator=generator)
    with torch.autocast("cpu", torch.float16):
        logits = parallel(tokens)
    return torch.nn.functional.cross_entropy(logits.float(), (tokens + 1) % VOCAB_SIZE), tokens.numel()


def take_step(run: ockham.Run, ctx: ockham.OccamContext) -> float:
    """Take one step as the context requires. Return the norm of the gradient before clipping."""
    run.average_gradients(model.parameters())  # on every rank, after the last verdict of the step
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), ctx.grad_clip)
    for group, rate in zip(optimizer.param_groups, LEARNING_RATES, strict=True):
        group["lr"] = rate * ctx.learning_rate / LEARNING_RATES[0]
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return norm.item()


facts = {"max_iters": STEPS, "vocab_size": VOCAB_SIZE, "model_params": 2_080, "seed": 1}
with ockham.Run.distributed("balanced", run_id="distributed", facts=facts) as run:
    run.watch(optimizer, measure_norm=True)
    for _ in range(STEPS):
        last_accepted = None
        for _ in range(MICRO_STEPS):
            # Without synchronisation, because a skipped micro-batch has no backward pass.
            with parallel.no_sync() if dist.is_initialized() else contextlib.nullcontext():
                loss, count = compute_loss()
                ctx = run.start_batch(
                    loss=loss.item(),
                    tokens=count,
                    micro_steps=MICRO_STEPS,
                    learning_rate=LEARNING_RATES[0],
                )
                if ctx.updated:
                    last_accepted = ctx
                    scaler.scale(loss / MICRO_STEPS).backward()
            measured = {}
            if ctx.ends_step and last_accepted is not None:
                measured["grad_norm"] = take_step(run, last_accepted)
            run.end_batch(ctx, **measured)
        if ctx.halt or run.stop_requested:
            break
if dist.is_initialized():
    dist.destroy_process_group()
