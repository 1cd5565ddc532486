"""Cost of the Hugging Face callback under observe, compared with the same Trainer without it.

    .venv/bin/python -m benchmarks.callback_overhead                    two model sizes, about 3 minutes
    .venv/bin/python -m benchmarks.callback_overhead --rounds 2         a short test

Trainings with and without the callback take turns in one process with one thread. The ratio of each pair is
computed, so that noise on the machine affects both. The first steps of each training are ignored.
The CPU time of the loop is that of the calling thread. The process also contains the writer of the log.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from typing import Any

import torch
import transformers

from ockham import Run
from ockham.integrations.huggingface import OckhamCallback

# Name, layers, width, rows and tokens per row, and steps of one training.
SIZES = {"tiny (0.1 M)": (2, 64, 4, 16, 120), "10 M": (5, 400, 2, 32, 24)}
VOCAB_SIZE = 64
WARMUP_STEPS = 8


class Clock(transformers.TrainerCallback):
    """Measures the CPU time between the end of the warm-up and the last step."""

    def __init__(self) -> None:
        self.began = (0.0, 0.0)
        self.spent = (0.0, 0.0)

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Read both clocks."""
        now = (time.thread_time(), time.process_time())
        if state.global_step == WARMUP_STEPS:
            self.began = now
        self.spent = (now[0] - self.began[0], now[1] - self.began[1])


def train(size: tuple[int, ...], policy: str | None) -> tuple[float, float]:
    """Return the CPU seconds per step of the loop and of the process."""
    layers, width, rows, tokens, steps = size
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=VOCAB_SIZE, n_positions=tokens, n_embd=width, n_layer=layers, n_head=4
    )
    batch = torch.randint(0, VOCAB_SIZE, (rows * 8, tokens))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OCKHAM_KEY_DIR"] = f"{folder}/keys"
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=rows,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )

        def fit(callbacks: list[Any]) -> None:
            transformers.Trainer(
                model=transformers.GPT2LMHeadModel(config),
                args=arguments,
                train_dataset=[{"input_ids": row, "labels": row} for row in batch],
                callbacks=[*callbacks, clock],
            ).train()

        if policy is None:
            fit([])
        else:
            with Run(policy, runs=folder, run_id="o") as run:
                fit([OckhamCallback(run)])
    return clock.spent[0] / (steps - WARMUP_STEPS), clock.spent[1] / (steps - WARMUP_STEPS)


def compare(name: str, policy: str, rounds: int) -> str:
    """Return one line with the medians over all rounds."""
    plain, watched = [], []
    for number in range(rounds):
        pair = [(plain, None), (watched, policy)]
        for times, chosen in pair if number % 2 else reversed(pair):
            times.append(train(SIZES[name], chosen))
    loop = statistics.median(w[0] / p[0] for p, w in zip(plain, watched, strict=True))
    process = statistics.median(w[1] / p[1] for p, w in zip(plain, watched, strict=True))
    step = statistics.median(p[0] for p in plain)
    goal = 0.0003 + 0.01 * step
    return (
        f"{name}, {policy}: step {step * 1e3:.2f} ms; loop +{(loop - 1) * step * 1e3:.2f} ms "
        f"({loop - 1:+.1%}), process {process - 1:+.1%}; goal +{goal * 1e3:.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=8, help="Pairs of trainings per model and policy.")
    parser.add_argument("--policy", nargs="+", default=["observe"], help="Policies to measure.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name in SIZES:
        for policy in options.policy:
            print(compare(name, policy, options.rounds), flush=True)


if __name__ == "__main__":
    main()
