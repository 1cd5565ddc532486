"""Trainer: the hands. It measures, and applies mechanically what the chain left in the context; it judges nothing.

forward(iter_num)  -> loss          one host read
backward(ctx)                       if ctx.updated
advance()          -> read          clip, optimizer, pull, projection; `read()` gives drift, gradient norm, KL
evaluate()         -> Evaluation    always the same batches
move_anchor(...), roll_back()
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import torch

from ockham.context import OccamContext
from ockham.nano import checkpoint_io, device
from ockham.nano.anchor import AnchorWeights, to_float64
from ockham.nano.batch_size import resolve_batch_size
from ockham.nano.config import Settings
from ockham.nano.data import Batches, Corpus
from ockham.nano.model import build_model, pad_vocab_size
from ockham.nano.optimizer import add_noise, clip_gradients, make_optimizer, set_learning_rate, step_if_finite
from ockham.nano.prefetch import PrefetchingBatches
from ockham.nano.stage_timer import StageTimer
from ockham.nano.step_metrics import PendingStepMetrics, no_step_metrics
from ockham.record.checkpoints import STATE, CheckpointFiles

PROBE_TOKENS = 256  # KL over these lay within 17 % of that over 768, and within 13 % of that over 7,680; a third of the time


class Evaluation(NamedTuple):
    """Mean loss over the evaluation batches and its standard error, nats/token; tokens read; seconds taken."""

    loss: float
    standard_error: float
    tokens: int
    seconds: float


class Trainer:
    """Model, optimizer, data and anchor of one run.

    Args:
        settings: what to build.
        corpus: what to train on; says the vocabulary unless the settings do.
        pull: `decoupled`, `coupled` or `none`, from the policy.
        wants: costly measurements that plugins ask for (`PluginChain.wants`).

    Attributes:
        late: gauges of a batch are read after the next batch's loss, so that a GPU never waits for the host.

    """

    anchor_kind = AnchorWeights

    def __init__(
        self, settings: Settings, corpus: Corpus, *, pull: str = "none", wants: Mapping[str, int] | None = None,
        rank: int = 0,
    ) -> None:  # fmt: skip
        self.pull_mode, self.required_measurements = pull, dict(wants or {})
        self.device, self.threads = device.set_up_device(settings)
        self.tokens = settings.vocab_size or corpus.vocab_size
        self.model = build_model(settings, pad_vocab_size(self.tokens, settings.vocab_multiple)).to(
            self.device
        )
        self.settings = settings = resolve_batch_size(
            settings, self.model, device.gpu_memory_bytes(self.device)
        )
        self.deferred_metrics = self.device.startswith("cuda")
        self.meter = StageTimer(*device.make_timer(self.device))
        draws = (
            partial(PrefetchingBatches, micros=settings.gradient_accumulation_steps)
            if self.deferred_metrics
            else Batches
        )
        self.batches: Batches = draws(
            corpus, settings.batch_size, settings.block_size, settings.seed, rank=rank, device=self.device
        )
        self.optimizer = make_optimizer(
            self.model, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay,
            betas=(settings.beta1, settings.beta2), kind=settings.optimizer,
        )  # fmt: skip
        self.anchor: AnchorWeights | None = None
        self.steps = 0
        self._loss: torch.Tensor | None = None
        self._random: dict[str, str] = {}
        self._examples: torch.Tensor | None = None
        self._last_accepted: OccamContext | None = None
        self._accepted = 0
        self._compute = self.model.loss
        if device.should_compile(
            settings, self.device
        ):  # model and loss in one graph: no float32 logits need be written
            self._compute = torch.compile(self.model.loss, dynamic=False)

    @property
    def device_name(self) -> str:
        """The device in words."""
        return device.device_name(self.device)

    @property
    def tokens_per_step(self) -> int:
        """Tokens forwarded for one optimizer step, skipped ones included."""
        return self.settings.tokens_per_batch * self.settings.gradient_accumulation_steps

    def facts(self) -> dict[str, Any]:
        """Run-long facts of the context."""
        s = self.settings
        return {
            "seed": s.seed, "max_iters": s.max_iters, "warmup_iters": s.effective_warmup_iters, "vocab_size": self.tokens,
            "model_params": self.model.num_params(), "inference_flops": self.model.inference_flops(s.block_size),
            "inference_tokens": s.block_size, "memory_footprint_mb": self.model.megabytes(),
        }  # fmt: skip

    def forward(self, iter_num: int, micro_step: int = 0) -> float:
        """Loss of a fresh micro-batch in nats per token, read to the host; its graph is kept for `backward`."""
        if self.deferred_metrics and self.settings.dropout > 0:
            self._random = device.get_rng_state(self.device)
        with self.meter.stage("data"):
            inputs, targets = self.batches.sample_batch(iter_num, micro_step)
        with self.meter.stage("forward"), device.compute_context(self.settings, self.device):
            if "example_losses" in self.required_measurements:
                self._examples = self.model.example_losses(inputs, targets)
                self._loss = self._examples.mean()
            else:
                self._loss = self._compute(inputs, targets)
            return float(self._loss.item())

    @property
    def has_pending_loss(self) -> bool:
        """Whether a loss waits for its verdict."""
        return self._loss is not None

    def discard_forward(self) -> None:
        """Throw a forward away as if it had never been made; generators that dropout drew from go back."""
        if self.has_pending_loss and self._random:
            device.set_rng_state(self._random, self.device)
        self._loss = self._examples = None

    def context_fields(self, iter_num: int, micro_step: int = 0) -> dict[str, Any]:
        """Facts and scheduled knobs of this micro-batch, for `Run.batch`."""
        s = self.settings
        done = iter_num * s.gradient_accumulation_steps + micro_step
        fields: dict[str, Any] = {
            "learning_rate": s.learning_rate_at(iter_num), "grad_clip": s.grad_clip,
            "tokens_seen": done * s.tokens_per_batch, "anchor_available": self.anchor is not None,
        }  # fmt: skip
        if self._examples is not None:
            fields["example_losses"] = tuple(self._examples.detach().float().cpu().tolist())
        return fields

    def backward(self, ctx: OccamContext) -> None:
        """Add this micro-batch's gradient, or drop its graph where the chain skipped it."""
        loss, self._loss = self._loss, None
        examples, self._examples = self._examples, None
        if loss is None or not ctx.updated:
            return
        with self.meter.stage("backward"):
            if ctx.example_gain and examples is not None:
                gains = torch.tensor(ctx.example_gain, device=examples.device, dtype=examples.dtype)
                loss = (examples * gains).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        self._last_accepted = ctx
        self._accepted += 1

    def step(self) -> tuple[bool, dict[str, Any]]:
        """Take the optimizer step and wait for its gauges; returns whether one was taken, and them."""
        return self.step_async()()

    def step_async(self) -> Callable[[], tuple[bool, dict[str, Any]]]:
        """Take the optimizer step of the accepted micro-batches, without waiting for it.

        Returns what reads whether a step was taken, and the gauges: read each before the next one is taken.
        """
        ctx, self._last_accepted = self._last_accepted, None
        accepted, self._accepted = self._accepted, 0
        if ctx is None:
            return no_step_metrics
        with self.meter.stage("optimizer"):
            norm = self._optimizer_step(ctx, accepted)
        anchor, strength, distance = self.anchor, 0.0, None
        if anchor is not None:
            with self.meter.stage("anchor"):
                strength = (
                    2.0 * ctx.learning_rate * ctx.lambda_ockham if self.pull_mode == "decoupled" else 0.0
                )
                distance = anchor.pull(strength, ctx.drift_ceiling, torch.isfinite(norm))
        drift = partial(anchor.drift, strength=strength, ceiling=ctx.drift_ceiling) if anchor else None
        return PendingStepMetrics(norm, distance, self._kl(), drift, self._stepped).result

    def evaluate(self) -> Evaluation:
        """Mean loss over the first `eval_batches` of the validation text's own counter: always the same tokens."""
        began = time.perf_counter()
        self.model.eval()
        count = range(self.settings.eval_batches)
        with torch.no_grad(), device.compute_context(self.settings, self.device):
            losses = [self._compute(*self.batches.sample_batch(0, at, "val")) for at in count]
        self.model.train()
        each = to_float64(torch.stack(losses))
        error = float(each.std() / math.sqrt(len(losses))) if len(losses) > 1 else 0.0
        tokens = len(losses) * self.settings.tokens_per_batch
        return Evaluation(float(each.mean()), error, tokens, time.perf_counter() - began)

    def move_anchor(self, iter_num: int) -> float:
        """Make the present weights the anchor; returns the drift that the old one had."""
        drift = 0.0 if self.anchor is None else self.anchor.measure().after
        self.anchor = self.anchor_kind(self.model, iter_num, self.probe_windows())
        return drift

    def roll_back(self) -> tuple[int, float, float]:
        """Put the weights back to the anchor and forget the moments.

        Returns the anchor's iteration, the drift that was given up, and the seconds it took.

        Raises:
            RuntimeError: if there is no anchor yet.

        """
        if self.anchor is None:
            raise RuntimeError("there is no anchor to go back to")
        began = time.perf_counter()
        self.discard_forward()
        drift = self.anchor.measure().after
        self.anchor.restore()
        self.optimizer.state.clear()
        return max(0, self.anchor.iter_num), drift, time.perf_counter() - began

    def probe_windows(self) -> torch.Tensor | None:
        """The fixed windows that KL is measured on, the first of the validation counter; None if nobody asks."""
        if "kl_to_anchor" not in self.required_measurements:
            return None
        rows = max(1, min(self.settings.batch_size, PROBE_TOKENS // self.settings.block_size))
        return self.batches.sample_batch(0, 0, "val")[0][:rows]

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """The files of a checkpoint: weights with `metadata`, and with a `state` all that a resume needs."""
        config = {"settings": asdict(self.settings), "vocab_size": self.model.vocab_size}
        packed, digest = checkpoint_io.serialize_model(self.model, {**metadata, **config})
        files = {checkpoint_io.MODEL: packed}
        if state is not None:
            own = {
                "settings": {**asdict(self.settings), "threads": self.threads}, "steps": self.steps,
                "random": device.get_rng_state(self.device), "anchor_iter": None if self.anchor is None else self.anchor.iter_num,
            }  # fmt: skip
            files[checkpoint_io.OPTIMIZER] = checkpoint_io.serialize_optimizer(self.model, self.optimizer)
            files[STATE] = orjson.dumps({**state, "trainer": own}, option=orjson.OPT_INDENT_2)
            if self.anchor is not None:
                files[checkpoint_io.ANCHOR] = checkpoint_io.serialize_tensors(self.anchor.state(self.model))
        return CheckpointFiles(files, digest)

    def restore(self, path: Path, state: Mapping[str, Any]) -> None:
        """Take up where a resumable checkpoint left.

        Raises:
            CheckpointError: if it belongs to another model.

        """
        own = state["trainer"]
        checkpoint_io.load_model(self.model, path / checkpoint_io.MODEL)
        checkpoint_io.load_optimizer(self.model, self.optimizer, path / checkpoint_io.OPTIMIZER)
        self.steps = own["steps"]
        if own["anchor_iter"] is not None:
            anchored = checkpoint_io.load_tensors(path / checkpoint_io.ANCHOR)
            self.anchor = self.anchor_kind.from_state(
                self.model, own["anchor_iter"], self.probe_windows(), anchored
            )
        device.set_rng_state(own["random"], self.device)

    def _optimizer_step(self, ctx: OccamContext, accepted: int) -> torch.Tensor:
        parameters = list(self.model.parameters())
        if accepted > 1:
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], accepted)
        if self.anchor is not None and self.pull_mode == "coupled" and ctx.lambda_ockham > 0:
            self.anchor.add_penalty(ctx.lambda_ockham)
        if ctx.grad_noise_std > 0:
            add_noise(parameters, ctx.grad_noise_std, self.settings.seed, ctx.iter_num)
        norm = clip_gradients(parameters, ctx.grad_clip)
        set_learning_rate(self.optimizer, ctx.learning_rate)
        step_if_finite(self.optimizer, norm)
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _stepped(self, taken: bool) -> None:
        self.steps += taken

    def _kl(self) -> torch.Tensor | None:
        """KL after the step that is under way, which is taken for a good one; a refused one does not report it."""
        every = self.required_measurements.get("kl_to_anchor", 0)
        if self.anchor is None or not every or (self.steps + 1) % every:
            return None
        with self.meter.stage("probe"):
            return self.anchor.kl(self.model)
