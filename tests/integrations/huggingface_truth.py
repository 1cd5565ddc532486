"""Truth of a Hugging Face training: callbacks and hooks of the test, and losses that the test computes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers
from torch.nn import functional

from tests.helpers.step_truth import StepTruth, gradient_norm

TruthLoss = Callable[[torch.nn.Module, dict], float]
IGNORED = -100


class Before(transformers.TrainerCallback):
    """Measures before Ockham: optimizer hooks, and the gradient before it is clipped. The first callback."""

    def __init__(self, truth: StepTruth) -> None:
        self.truth = truth
        self.is_active = True

    def on_train_begin(self, args, state, control, optimizer=None, **_):
        while (inner := getattr(optimizer, "optimizer", None)) is not None:
            optimizer = inner
        self.truth.watch(optimizer)

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        if any(parameter.grad is not None for parameter in model.parameters()):
            self.truth.norms.append(gradient_norm(model.parameters()) if self.is_active else None)


class After(transformers.TrainerCallback):
    """Measures after Ockham whether weights moved. The last callback."""

    def __init__(self, truth: StepTruth, loss: TruthLoss) -> None:
        self.truth = truth
        self.loss = loss
        self.batches: list[dict] = []
        # Batches of an earlier training of the same run.
        self._first = len(truth.losses)
        self._is_open = False
        self._is_busy = False
        self._is_evaluating = False

    def install(self, trainer: transformers.Trainer) -> None:
        """Record the batches of the data loader, and measure before each first forward pass."""
        collate = trainer.data_collator
        trainer.data_collator = lambda rows: self._record(collate(rows), trainer)
        trainer.model.register_forward_pre_hook(self._on_forward)
        evaluate = trainer.evaluation_loop

        def evaluation_loop(*args, **kwargs):
            self._is_evaluating = True
            try:
                return evaluate(*args, **kwargs)
            finally:
                self._is_evaluating = False

        trainer.evaluation_loop = evaluation_loop

    def on_step_end(self, args, state, control, model=None, **_):
        self.truth.end_batch(model)
        self._is_open = False

    on_substep_end = on_step_end

    def _record(self, batch, trainer):
        if trainer.is_in_train and not self._is_evaluating:
            self.batches.append({key: value.clone() for key, value in batch.items()})
        return batch

    def _on_forward(self, model, _):
        if self._is_open or self._is_busy or not model.training or not torch.is_grad_enabled():
            return
        self._is_open = self._is_busy = True
        # A truth forward must not change the graph of the training.
        with torch.no_grad():
            batch = self.batches[len(self.truth.losses) - self._first]
            self.truth.begin_batch(model, self.loss(model, dict(batch)))
        self._is_busy = False


def causal_loss(model, batch):
    """Return the mean cross entropy of all predicted tokens."""
    labels = batch.pop("labels")
    logits = model(**_inputs(batch)).logits.float()
    targets = labels[:, 1:].reshape(-1)
    flat = logits[:, :-1].reshape(-1, logits.shape[-1])
    return float(functional.cross_entropy(flat, targets, ignore_index=IGNORED))


def z_loss(model, batch):
    """Return the cross entropy plus the z-loss of the test's subclass."""
    logits = model(**_inputs(batch)).logits
    return causal_loss(model, batch) + float(logits.logsumexp(-1).pow(2).mean())


def smoothed_loss(model, batch, epsilon=0.1):
    """Return the label-smoothed cross entropy."""
    labels = batch["labels"][:, 1:]
    log_probs = torch.log_softmax(model(**_inputs(batch)).logits[:, :-1].float(), -1)
    wanted = labels != IGNORED
    nll = -log_probs.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)[wanted].mean()
    uniform = -log_probs.mean(-1)[wanted].mean()
    return float((1 - epsilon) * nll + epsilon * uniform)


def aligned_loss(model, batch):
    """Return the mean cross entropy of labels that are not shifted (T5, classification)."""
    labels = batch["labels"]
    logits = model(**batch).logits.float()
    return float(functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)))


class DPOLoss:
    """Sigmoid DPO loss against a frozen copy of the initial model."""

    def __init__(self, reference, beta: float = 0.1) -> None:
        self.reference = reference
        self.beta = beta

    def __call__(self, model, batch):
        ratio = _log_prob(model, batch) - _log_prob(self.reference, batch)
        chosen, rejected = ratio.chunk(2)
        return float(-functional.logsigmoid(self.beta * (chosen - rejected)).mean())


def no_loss(_model, _batch):
    """Return None: the test does not compute this loss."""


def _inputs(batch):
    return {key: value for key, value in batch.items() if key in ("input_ids", "attention_mask")}


def _log_prob(model, batch):
    """Return the log-probability of each row's completion."""
    tokens = batch["input_ids"]
    log_probs = torch.log_softmax(model(**_inputs(batch)).logits[:, :-1].float(), -1)
    each = log_probs.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    return (each * batch["completion_mask"][:, 1:]).sum(-1)
