"""Trainer: measures the model and applies the knobs of the context. It makes no decisions.

forward(iter_num, micro_step)       loss of a micro-batch, one host read
backward(ctx)                       gradient if ctx.updated
measure_gradients(ctx)              norm of the gradient, if plugins decide about it
finish_batch(ctx)                   step, pull, projection, measurements
evaluate(), move_anchor(...), roll_back()
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ockham.context import OccamContext
from ockham.nano import device
from ockham.nano.anchor import AnchorWeights, Rollback, to_float64
from ockham.nano.batch_size import resolve_batch_size
from ockham.nano.config import Settings
from ockham.nano.data import Batches, Corpus, PrefetchingBatches
from ockham.nano.data_order import DataOrder, parse_ranges
from ockham.nano.model import build_model, pad_vocab_size
from ockham.nano.optimizer import make_optimizer
from ockham.nano.optimizer_steps import OptimizerSteps
from ockham.nano.resumable import ResumableTrainer
from ockham.nano.stage_timer import StageTimer
from ockham.nano.step_meter import StepProbe
from ockham.nano.step_metrics import (
    NO_STEP,
    BatchResult,
    copy_to_host,
)

# The KL of 256 tokens was within 17 % of the KL of 768 and within 13 % of that of 7,680, in a third of the
# time.
PROBE_TOKENS = 256


class Evaluation(NamedTuple):
    """Mean loss in nats per token, its standard error (None if unknown), tokens read, seconds taken."""

    loss: float
    standard_error: float | None = None
    tokens: int = 0
    seconds: float = 0.0


class PrecomputedLoss(NamedTuple):
    """Loss of the next micro-batch, computed before it was requested."""

    iter_num: int
    micro_step: int
    loss: float


class Trainer(ResumableTrainer, OptimizerSteps):
    """Model, optimizer, data and anchor of one run.

    Args:
        settings: Settings of model and training.
        corpus: Training data. It defines the vocabulary unless the settings do.
        pull: `decoupled`, `coupled` or `none`, from the policy.
        required_measurements: Costly measurements that plugins require, as field -> interval in updates
            (`PluginChain.required_measurements`).
        rank: Rank of this process. It selects the batches.

    Attributes:
        deferred_metrics: Read the gauges of a batch after the loss of the next one, so that a GPU never waits
            for the host. The default on CUDA.

    """

    def __init__(
        self,
        settings: Settings,
        corpus: Corpus,
        *,
        pull: str = "none",
        required_measurements: Mapping[str, int] | None = None,
        rank: int = 0,
    ) -> None:
        self.configure(pull=pull, required_measurements=required_measurements or {})
        self.device, self.threads = device.set_up_device(settings)
        self.vocab_size = settings.vocab_size or corpus.vocab_size
        model = build_model(settings, pad_vocab_size(self.vocab_size, settings.vocab_multiple))
        self.model = model.to(self.device)
        settings = resolve_batch_size(settings, self.model, device.gpu_memory_bytes(self.device))
        self.settings = settings
        self.deferred_metrics = self.device.startswith("cuda")
        self.meter = StageTimer(*device.make_timer(self.device))
        self.batches = self._make_batches(corpus, rank)
        self.optimizer = make_optimizer(
            self.model,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            betas=(settings.beta1, settings.beta2),
            kind=settings.optimizer,
        )
        self._step_probe: StepProbe | None = None
        self.anchor: AnchorWeights | None = None
        self.steps = 0
        self._loss: torch.Tensor | None = None
        self._precomputed: PrecomputedLoss | None = None
        self._rng_before_forward: dict[str, str] = {}
        self._examples: torch.Tensor | None = None
        self._last_accepted: OccamContext | None = None
        self._accepted = 0
        self._norm: torch.Tensor | None = None
        self._compute = self.model.loss
        if device.should_compile(settings, self.device):
            # Model and loss are one graph, so the float32 logits need not be written to memory.
            self._compute = torch.compile(self.model.loss, dynamic=False)

    def configure(self, *, pull: str, required_measurements: Mapping[str, int]) -> None:
        """Apply what the policy requires of the trainer. A run's policy is known only after its trainer.

        Args:
            pull: Form of the pull towards the anchor: `decoupled`, `coupled` or `none`.
            required_measurements: Costly measurements, as field -> interval in updates.

        """
        self.pull_mode = pull
        self.required_measurements = dict(required_measurements)

    @property
    def device_name(self) -> str:
        """Name of the device for people."""
        return device.device_name(self.device)

    @property
    def tokens_per_step(self) -> int:
        """Tokens that are forwarded for one optimizer step, including those of skipped batches."""
        return self.settings.tokens_per_batch * self.settings.gradient_accumulation_steps

    def recorded_settings(self) -> dict[str, Any]:
        """Return the settings as they are recorded, with the warm-up and the threads that are used."""
        used = {"threads": self.threads, "warmup_iters": self.settings.effective_warmup_iters}
        return {**asdict(self.settings), **used}

    def facts(self) -> dict[str, Any]:
        """Return the facts of the whole run for the context."""
        settings = self.settings
        return {
            "seed": settings.seed,
            "max_iters": settings.max_iters,
            "warmup_iters": settings.effective_warmup_iters,
            "vocab_size": self.vocab_size,
            "model_params": self.model.num_params(),
            "inference_flops": self.model.inference_flops(settings.block_size),
            "inference_tokens": settings.block_size,
            "memory_footprint_mb": self.model.megabytes(),
        }

    def forward(self, iter_num: int, micro_step: int = 0) -> float:
        """Return the loss of a micro-batch in nats per token. Its graph is kept for `backward`.

        A loss that `finish_batch` has computed in advance is not computed again.
        """
        precomputed, self._precomputed = self._precomputed, None
        if precomputed is not None and precomputed[:2] == (iter_num, micro_step):
            return precomputed.loss
        return self._forward(iter_num, micro_step)

    def discard_forward(self) -> None:
        """Undo a forward that has no verdict yet: drop its graph and restore the generators of dropout."""
        if self._loss is not None and self._rng_before_forward:
            device.set_rng_state(self._rng_before_forward, self.device)
        self._loss = self._examples = self._precomputed = None

    def context_fields(self, iter_num: int, micro_step: int = 0) -> dict[str, Any]:
        """Return the facts and scheduled knobs of a micro-batch, for `Run.start_batch`."""
        settings = self.settings
        done = iter_num * settings.gradient_accumulation_steps + micro_step
        fields: dict[str, Any] = {
            "learning_rate": settings.learning_rate_at(iter_num),
            "grad_clip": settings.grad_clip,
            "micro_steps": settings.gradient_accumulation_steps,
            "tokens_seen": done * settings.tokens_per_batch,
            "anchor_available": self.anchor is not None,
            "state_available": self.has_saved_state,
        }
        if self._examples is not None:
            fields["example_losses"] = tuple(self._examples.detach().float().cpu().tolist())
        return fields

    def backward(self, ctx: OccamContext) -> None:
        """Add this micro-batch's gradient, or drop its graph if the chain skipped it."""
        loss, self._loss = self._loss, None
        examples, self._examples = self._examples, None
        if loss is None or not ctx.updated:
            return
        with self.meter.stage("backward"), device.explained_memory_error(self.settings):
            if ctx.example_gain and examples is not None:
                gains = torch.tensor(ctx.example_gain, device=examples.device, dtype=examples.dtype)
                loss = (examples * gains).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        self._last_accepted = ctx
        self._accepted += 1

    def finish_batch(self, ctx: OccamContext, *, forward_next: bool = False) -> BatchResult:
        """Take the optimizer step after the last micro-batch of a step. Return gauges and stage times.

        Args:
            ctx: Context of the micro-batch whose backward pass is done.
            forward_next: Compute the loss of the next micro-batch before the gauges are read, if
                `deferred_metrics` is set. The device then works while the gauges are copied to the host.

        """
        micro_steps = self.settings.gradient_accumulation_steps
        pending = self.step_async() if ctx.ends_step else NO_STEP
        changed = copy_to_host([self.step_probe.change()])
        stages = self.meter.finish_batch()
        if forward_next and self.deferred_metrics:
            following = divmod(ctx.iter_num * micro_steps + ctx.micro_step + 1, micro_steps)
            self._precomputed = PrecomputedLoss(*following, self._forward(*following))
        step, gauges = pending.result()
        applied = step._replace(weights_changed=bool(changed()[0]))
        return BatchResult(applied, gauges, stages.read_seconds())

    def evaluate(self) -> Evaluation:
        """Return the mean loss over the first `eval_batches` validation batches.

        The tokens are always the same.
        """
        started = time.perf_counter()
        self.model.eval()
        numbers = range(self.settings.eval_batches)
        with torch.no_grad(), device.compute_context(self.settings, self.device):
            losses = [self._compute(*self.batches.sample_batch(0, number, "val")) for number in numbers]
        self.model.train()
        values = to_float64(torch.stack(losses))
        error = float(values.std() / math.sqrt(len(losses))) if len(losses) > 1 else 0.0
        tokens = len(losses) * self.settings.tokens_per_batch
        return Evaluation(float(values.mean()), error, tokens, time.perf_counter() - started)

    def move_anchor(self, iter_num: int) -> float:
        """Make the present weights the anchor. Return the drift from the previous anchor, or 0."""
        drift = 0.0 if self.anchor is None else self.anchor.measure().after
        self.anchor = self.anchor_kind(self.model, iter_num, self.probe_windows())
        return drift

    def roll_back(self, iter_num: int) -> Rollback:
        """Restore the anchor's weights and clear the optimizer's moments.

        The next iteration reads the data as the setting `after_rollback` requires.

        Args:
            iter_num: Iteration of the step that requested it.

        Raises:
            RuntimeError: If there is no anchor yet.

        """
        if self.anchor is None:
            raise RuntimeError("no anchor exists; call move_anchor first")
        self.discard_forward()
        performed = self.anchor.roll_back(self.optimizer)
        order, mode = self.batches.order, self.settings.after_rollback
        return performed._replace(data=order.roll_back(iter_num, self.anchor.iter_num, mode))

    @property
    def state_every(self) -> int:
        """Steps between two states to which a rollback returns. 0 if it returns to the anchor."""
        return self.settings.state_every

    def roll_back_to(self, path: Path, state: Mapping[str, Any], iter_num: int) -> Rollback:
        """Restore weights, optimizer, anchor and generators of a saved state.

        Args:
            path: Folder of the checkpoint.
            state: Content of its `state.json`.
            iter_num: Iteration of the step that requested it.

        Raises:
            CheckpointError: If a file cannot be read.

        """
        started = time.perf_counter()
        drift = 0.0 if self.anchor is None else self.anchor.measure().after
        self.discard_forward()
        self.restore_model(path, state)
        data = self.batches.order.roll_back(iter_num, state["iter_num"], self.settings.after_rollback)
        return Rollback(state["iter_num"], drift, time.perf_counter() - started, data)

    def probe_windows(self) -> torch.Tensor | None:
        """Return the fixed windows for the KL divergence, or None if no plugin requires it."""
        if "kl_to_anchor" not in self.required_measurements:
            return None
        rows = max(1, min(self.settings.batch_size, PROBE_TOKENS // self.settings.block_size))
        return self.batches.sample_batch(0, 0, "val")[0][:rows]

    def _make_batches(self, corpus: Corpus, rank: int) -> Batches:
        settings = self.settings
        shape = settings.batch_size, settings.block_size, settings.seed
        options: dict[str, Any] = {
            "rank": rank,
            "device": self.device,
            "order": DataOrder(parse_ranges(settings.skip_data)),
        }
        if not self.deferred_metrics:
            return Batches(corpus, *shape, **options)
        return PrefetchingBatches(corpus, *shape, micro_steps=settings.gradient_accumulation_steps, **options)

    def _forward(self, iter_num: int, micro_step: int) -> float:
        """Compute the loss of a micro-batch and read it to the host."""
        self.step_probe.start()
        if self.deferred_metrics and self.settings.dropout > 0:
            self._rng_before_forward = device.get_rng_state(self.device)
        with self.meter.stage("data"):
            inputs, targets = self.batches.sample_batch(iter_num, micro_step)
        with (
            self.meter.stage("forward"),
            device.compute_context(self.settings, self.device),
            device.explained_memory_error(self.settings),
        ):
            if "example_losses" in self.required_measurements:
                self._examples = self.model.example_losses(inputs, targets)
                self._loss = self._examples.mean()
            else:
                self._loss = self._compute(inputs, targets)
            return float(self._loss.item())
