"""Cost of the Hugging Face callback under observe, compared with the same Trainer without it.

    .venv/bin/python -m benchmarks.callback_overhead                    two model sizes, about 2 minutes
    .venv/bin/python -m benchmarks.callback_overhead --steps 60         a short test

Two trainings run in two threads of one process and take turns after every step, so that noise on the
machine affects both. Each thread measures its own CPU time, with one thread of torch. The result is the
median over all pairs of steps, without the first steps. The CPU time of the log writer is reported
separately, because it runs in a thread of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable
from typing import Any

import torch
import transformers

from ockham import Run
from ockham.integrations.huggingface import OckhamCallback

# Name, layers, width, rows and tokens per row, and the default number of steps.
SIZES = {"tiny (0.1 M)": (2, 64, 4, 16, 1500), "10 M": (5, 400, 2, 32, 150)}
VOCAB_SIZE = 64
WARMUP_STEPS = 8


class Turns:
    """Lets two threads run in turns. A thread that has ended passes its turns on."""

    def __init__(self) -> None:
        self._turns = [threading.Semaphore(1), threading.Semaphore(0)]
        self._ended = False

    def take(self, number: int) -> None:
        """Wait for the turn of a thread."""
        if not self._ended:
            self._turns[number].acquire()

    def give(self, number: int) -> None:
        """End the turn of a thread."""
        self._turns[1 - number].release()

    def end(self, number: int) -> None:
        """End the last turn of a thread."""
        self._ended = True
        self.give(number)


class Clock(transformers.TrainerCallback):
    """Measures the CPU time of each step in its thread."""

    def __init__(self, turns: Turns, number: int) -> None:
        self.turns = turns
        self.number = number
        self.seconds: list[float] = []
        self.writer_seconds = 0.0
        self._began = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Wait for the first turn."""
        self.turns.take(self.number)
        self._began = time.thread_time()

    def on_step_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Read the clock, and let the other thread take a step."""
        self.seconds.append(time.thread_time() - self._began)
        self.turns.give(self.number)
        self.turns.take(self.number)
        self._began = time.thread_time()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Read the clock of the log writer, and end the turns."""
        writers = [thread for thread in threading.enumerate() if thread.name.startswith("ockham-log-1-")]
        self.writer_seconds = sum(map(_read_clock, writers))
        self.turns.end(self.number)


def _read_clock(thread: threading.Thread) -> float:
    """Return the CPU seconds of another thread."""
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def train(size: Iterable[int], steps: int, policy: str | None, clock: Clock, folder: str) -> None:
    """Train one model, with the callback if there is a policy."""
    layers, width, rows, tokens, _ = size
    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=VOCAB_SIZE, n_positions=tokens, n_embd=width, n_layer=layers, n_head=4
    )
    batch = torch.randint(0, VOCAB_SIZE, (rows * 8, tokens))
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


def compare(name: str, policy: str, steps: int) -> str:
    """Return one line with the medians over all pairs of steps."""
    turns = Turns()
    clocks = [Clock(turns, number) for number in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OCKHAM_KEY_DIR"] = f"{folder}/keys"
        size, policies = SIZES[name], (None, policy)
        threads = [
            threading.Thread(target=train, args=(size, steps, chosen, clock, folder))
            for chosen, clock in zip(policies, clocks, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    plain, watched = (clock.seconds[WARMUP_STEPS:] for clock in clocks)
    step = statistics.median(plain)
    low, added, high = statistics.quantiles([w - p for p, w in zip(plain, watched, strict=True)], n=4)
    goal = 0.0003 + 0.01 * step
    mean = statistics.fmean(watched) - statistics.fmean(plain)
    writer = clocks[1].writer_seconds / steps
    return (
        f"{name}, {policy}: step {step * 1e3:.2f} ms; loop {added * 1e3:+.2f} ms ({added / step:+.1%}, "
        f"quartiles {low * 1e3:+.2f} to {high * 1e3:+.2f}, mean {mean * 1e3:+.2f}); "
        f"log writer {writer * 1e3:.2f} ms; goal +{goal * 1e3:.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=0, help="Steps of each training. 0 uses the default.")
    parser.add_argument("--policy", nargs="+", default=["observe"], help="Policies to measure.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    for name, size in SIZES.items():
        for policy in options.policy:
            print(compare(name, policy, options.steps or size[-1]), flush=True)


if __name__ == "__main__":
    main()
