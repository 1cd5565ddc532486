"""Program of one rank: a Hugging Face training with DDP, and what it really did.

    python -m tests.integrations.huggingface_ranks FOLDER '{"gradient_accumulation_steps": 4}'

It writes `truth-RANK.json` as `tests.helpers.rank_loop` does.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

warnings.simplefilter("ignore")

from ockham.errors import OckhamError  # noqa: E402
from ockham.integrations.huggingface import OckhamCallback  # noqa: E402
from tests.helpers.rank_loop import RankTruth  # noqa: E402
from tests.helpers.step_truth import StepTruth, gradient_norm  # noqa: E402
from tests.integrations import huggingface_models as models  # noqa: E402
from tests.integrations import huggingface_truth as truths  # noqa: E402

STEPS, ROWS = 12, 3


class PaddedRows(torch.utils.data.Dataset):
    """Rows of which the ranks predict different numbers of tokens."""

    def __init__(self, count: int) -> None:
        self.rows = models.make_rows(count)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = {key: value.clone() for key, value in self.rows[index].items()}
        row["labels"][1 + index % 5 :][: index % 4] = -100
        return row


class AverageNorm(transformers.TrainerCallback):
    """Measures the norm of the averaged gradients, before they are clipped."""

    def __init__(self, ockham: OckhamCallback) -> None:
        self.ockham = ockham
        self.norms: list[float] = []

    def on_train_begin(self, args, state, control, **_):
        """Measure after each exchange of gradients."""
        run = self.ockham.run
        if run is not None:
            average = run.average_gradients
            run.average_gradients = lambda parameters: self._measure(average, list(parameters))

    def _measure(self, average, parameters):
        average(parameters)
        if any(parameter.grad is not None for parameter in parameters):
            self.norms.append(gradient_norm(parameters))


def count_tokens(batches: list[dict]) -> list[int]:
    """Return the number of predicted tokens of each batch."""
    return [int((batch["labels"][:, 1:] != -100).sum()) for batch in batches]


def train(folder: Path, options: dict[str, Any], truth: RankTruth) -> None:
    """Train, and fill *truth*."""
    measured = StepTruth()
    policy = options.pop("policy", "balanced")
    ockham = OckhamCallback(policy=policy, runs=folder / "runs", run_id=options.pop("run_id", "a"))
    before, after = truths.Before(measured), truths.After(measured, truths.causal_loss)
    before.is_active = False
    norms = AverageNorm(ockham)
    accumulation = options.get("gradient_accumulation_steps", 1)
    arguments = transformers.TrainingArguments(
        str(folder / "hf"),
        **{
            "max_steps": STEPS,
            "per_device_train_batch_size": ROWS,
            "learning_rate": 0.01,
            "report_to": [],
            "save_strategy": "no",
            "eval_strategy": "no",
            "eval_steps": 4,
            "disable_tqdm": True,
            "use_cpu": True,
            "ddp_backend": "gloo",
            "seed": 3,
            **options,
        },
    )
    # The truth reads batches in the collator, which also serves evaluations.
    measured_by = [after] if arguments.eval_strategy == "no" else []
    data = PaddedRows(STEPS * ROWS * accumulation * int(os.environ.get("WORLD_SIZE", "1")))
    trainer = transformers.Trainer(
        models.make_gpt2(),
        arguments,
        train_dataset=data,
        eval_dataset=models.make_rows(8),
        callbacks=[before, *([] if policy is None else [ockham, norms]), *measured_by],
    )
    if measured_by:
        after.install(trainer)
    trainer.train()
    truth.losses, truth.moved = measured.losses, measured.moved
    truth.rates, truth.norms = [list(rates) for rates in measured.rates], measured.clipped_norms
    truth.raw_norms = norms.norms
    truth.tokens = count_tokens(after.batches)[: len(truth.losses)]
    digest = hashlib.sha256()
    for weight in trainer.model.parameters():
        digest.update(weight.detach().numpy().tobytes())
    truth.weights = digest.hexdigest()


def main(folder: Path, options: str) -> None:
    """Train on one rank, and write the truth also after an error."""
    torch.set_num_threads(1)
    truth, status = RankTruth(), 0
    try:
        train(folder, json.loads(options), truth)
    except OckhamError as error:
        truth.error, status = f"{type(error).__name__}: {error}", error.exit_status
    (folder / f"truth-{os.environ['RANK']}.json").write_text(json.dumps(vars(truth)))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    sys.exit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
