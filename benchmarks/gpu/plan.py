"""Sizes and steps of the GPU command, for a GPU and for the dry run on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# nanoGPT's micro-batch for GPT-2 124M.
REFERENCE_MICRO_BATCH = 12
# Largest micro-batch that is measured in turns with others.
MAX_SHARED_MICRO_BATCH = 30
# Processes of the step `speed` that share the memory of one GPU.
SHARED_ARMS = 5
# Memory of one process in bytes: CUDA context and weights, and per example. Measured sizes are in `memory`.
PROCESS_BYTES = 5e9
EXAMPLE_BYTES = 0.8e9


class Step(NamedTuple):
    """One step.

    Attributes:
        name: Name of the step and of its log.
        letter: Place in the order of importance.
        limit_seconds: Time limit.
        after_failure_of: Run only if this step is not done.
        in_dry_run: Run also in a dry run. A step that repeats another one with other sizes does not.

    """

    name: str
    letter: str
    limit_seconds: float
    after_failure_of: str = ""
    in_dry_run: bool = True


# In order of importance. The limits leave room for a cold compilation.
STEPS = (
    Step("smoke-train", "a", 120),
    # Only if compilation failed. Later steps then run without it.
    Step("smoke-eager", "a", 60, after_failure_of="smoke-train"),
    Step("smoke-resume", "a", 60),
    Step("smoke-rollback", "a", 60),
    Step("smoke-gauges", "a", 60),
    Step("smoke-ranks", "a", 90),
    Step("speed", "b", 240),
    Step("overhead", "c", 120),
    Step("loss", "d", 150),
    Step("recipe", "e", 120),
    Step("speed-large", "b", 200, in_dry_run=False),
    Step("memory", "f", 150),
    Step("profile", "g", 90),
)


@dataclass(frozen=True)
class Plan:
    """Everything that a step needs to know.

    Attributes:
        reference: Folder of a nanoGPT checkout.
        folder: Folder of the results.
        dry_run: Tiny sizes on the CPU.

    """

    reference: Path
    folder: Path
    dry_run: bool = False

    @property
    def device(self) -> str:
        """Device of all steps."""
        return "cpu" if self.dry_run else "cuda"

    @property
    def runs(self) -> Path:
        """Folder of the run folders, for `ockham --runs`."""
        return self.folder / "runs"

    @property
    def data(self) -> Path:
        """Folder of the token files that both trainers read."""
        return self.folder / "data"

    @property
    def size(self) -> str:
        """Size whose settings are used."""
        return "nano" if self.dry_run else "gpt2"

    @property
    def examples(self) -> int:
        """Examples in an optimizer step of the throughput."""
        return 4 if self.dry_run else 480

    @property
    def default_micro(self) -> int:
        """NanoGPT's own micro-batch."""
        return 2 if self.dry_run else REFERENCE_MICRO_BATCH

    @property
    def large_micro(self) -> int:
        """Micro-batch of the throughput with few processes on the device."""
        return 2 if self.dry_run else 60

    @property
    def memory_micros(self) -> tuple[int, ...]:
        """Micro-batches whose memory is measured, the most useful first."""
        return (2, 4) if self.dry_run else (60, 12, 30, 24, 48, 96, 120)

    @property
    def block(self) -> int:
        """Steps in a block."""
        return 2 if self.dry_run else 4

    @property
    def turns(self) -> int:
        """Measured blocks of each process."""
        return 2 if self.dry_run else 4

    @property
    def rounds(self) -> int:
        """Rounds of the audit overhead, each with all modes."""
        return 2 if self.dry_run else 8

    @property
    def smoke_steps(self) -> int:
        """Steps of each run of the smoke test, a multiple of 3."""
        return 6 if self.dry_run else 60

    @property
    def loss_steps(self) -> tuple[int, int]:
        """Steps at which the losses are compared."""
        return (4, 8) if self.dry_run else (50, 200)

    @property
    def loss_window(self) -> int:
        """Number of steps whose mean loss is compared."""
        return 4 if self.dry_run else 10

    def choose_micro(self, memory_bytes: int | None, processes: int = SHARED_ARMS) -> int:
        """Return the micro-batch with which this number of processes fits into one device together."""
        if memory_bytes is None:
            return self.large_micro
        free = memory_bytes * 0.9 / processes - PROCESS_BYTES
        limit = max(1, min(MAX_SHARED_MICRO_BATCH, int(free // EXAMPLE_BYTES)))
        return max(n for n in range(1, limit + 1) if self.examples % n == 0)

    def model_settings(self, micro: int, examples: int) -> dict[str, object]:
        """Return the settings that Ockham and nanoGPT have in common, under the names of both."""
        shape: dict[str, object] = {"batch_size": micro, "gradient_accumulation_steps": examples // micro}
        if self.dry_run:
            return {**shape, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 32}
        return {**shape, "block_size": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768}
