"""Lightning: a callback that lets the chain decide about each batch.

    callback = OckhamCallback(policy="balanced", runs="runs")
    trainer = lightning.Trainer(max_steps=600, callbacks=[callback])
    trainer.fit(module, train_batches, val_batches)

The loss of a skipped batch has no graph. Lightning's backward pass then computes no gradient, and the
optimizer changes neither weights nor moments. With several processes, gradients are not synchronised in a
backward pass, but once per step after the last verdict.
"""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from ockham.errors import BadInputError, OckhamError, OckhamWarning
from ockham.event import STOPPED_BY_USER
from ockham.integrations import lightning_setup
from ockham.integrations.lightning_checkpoints import LightningCheckpoints
from ockham.integrations.manual_batches import ManualBatch, ManualBatches
from ockham.integrations.patches import Patches
from ockham.integrations.run_facts import require_equal_facts, require_one_source
from ockham.integrations.step_controller import StepController, detach_loss
from ockham.integrations.trainer_state import (
    ResumeRequest,
    describe_late_start,
    require_continued,
    require_same_block,
    restore_run_state,
    write_run_state,
)
from ockham.policy import Policy
from ockham.record.checkpoints import ResumePoint
from ockham.run import Run
from ockham.step_actions import EndReason

# The Trainer ended before its last step, for a reason of its own such as early stopping.
STOPPED_EARLY = "STOPPED_EARLY"


class OckhamCallback(pl.Callback):
    """Applies the chain's verdicts to each batch, on one device or with DDP.

    With an open run, several trainings in its block are recorded, and the block ends it. Without one, each
    training is a run: the callback opens and ends it, on each rank.

    The state of the run is saved next to each checkpoint of the Trainer. `fit(ckpt_path=...)` continues its
    run as a new attempt, if the files are those of a signed event.

    Under manual optimization the module calls `batch`, and carries out the verdict.

    Args:
        run: An open run. None opens a run for each training.
        policy: Policy of a run that the callback opens. None uses `balanced`.
        overrides: Settings such as `"gate.target=0.3"`.
        runs: Folder of all runs.
        run_id: ID of the run. None makes one from the time.
        facts: Facts that the Trainer does not know, such as `vocab_size`.
        monitor: Name of the logged validation loss, in nats per token.
        count_tokens: Returns the number of predicted tokens of a batch. With several processes it weights
            their losses. None gives all of them the same weight.
        data_position: Returns where the rows of a batch came from. See `ockham.Run.start_batch`.
        save_checkpoints: Save accepted weights as checkpoints of the run.

    Raises:
        BadInputError: When training starts, if it is not supported, or if facts differ from the Trainer's.
            After the first validation, if it did not log the loss.
        CheckpointError: When training continues from a checkpoint of a run that the log does not confirm.

    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        policy: str | Path | Policy | None = None,
        overrides: Sequence[str] = (),
        runs: str | Path = "runs",
        run_id: str | None = None,
        facts: Mapping[str, Any] | None = None,
        monitor: str = "val_loss",
        count_tokens: Callable[[Any], int] | None = None,
        data_position: Callable[[Any], Mapping[str, Any]] | None = None,
        save_checkpoints: bool = True,
    ) -> None:
        require_one_source(run, policy, overrides, run_id, facts)
        self.run = run
        self.monitor = monitor
        self.count_tokens = count_tokens
        self.data_position = data_position
        self.save_checkpoints = save_checkpoints
        self.controller: StepController | None = None
        self.manual: ManualBatches | None = None
        self.stop_reason: EndReason | None = None
        self._opens_run = run is None
        # A resumed run keeps its policy unless one is named here.
        policy = "balanced" if policy is None and overrides else policy
        self._options = {"policy": policy, "overrides": overrides, "runs": runs, "run_id": run_id}
        self._place = (runs, run_id) if run is None else (run.folder.runs, run.run_id)
        self._facts = dict(facts or {})
        self._patches = Patches()
        self._checkpoints = LightningCheckpoints()
        self._point: ResumePoint | None = None
        # Micro-batches of the present step, and the verdict on the present one. None before it.
        self._started = 0
        self._accepts: bool | None = None
        # Limits of the Trainer: of the norm of the gradient, and of each element. None without the latter.
        self._limit = math.inf
        self._clip_value: int | float | None = None
        self._has_evaluated = False
        self._old_value: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare the checkpoint from which the Trainer is about to continue."""
        if stage == "fit":
            self._leave_training()
            self._checkpoints.watch_load(trainer, *self._place, self._patches)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the run if the callback does that, and wrap the module's training step."""
        self._leave_training()
        lightning_setup.require_supported(trainer)
        self.stop_reason = None
        self._started = 0
        self._accepts = None
        facts = self._enter_run(trainer, pl_module)
        if trainer.world_size > 1:
            # As no_sync does, because a skipped batch has no backward pass that could synchronise.
            self._patches.replace(trainer.strategy.model, "require_backward_grad_sync", False)
        assert self.run is not None
        self._checkpoints.attach(trainer, self.run, self._write_state, self._patches)
        if not pl_module.automatic_optimization:
            self.manual = ManualBatches(self.run, trainer.optimizers, facts)
            if self._point is not None:
                restore_run_state(self.run, None, self._point)
            return
        self._limit = lightning_setup.read_norm_limit(trainer)
        self._attach_controller(self.run, trainer, pl_module, facts)
        step = self._wrap_training_step(trainer, pl_module.training_step)
        # Lightning calls the attribute of the object, so the method is replaced there.
        self._patches.replace(pl_module, "training_step", step)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Average the gradients over the ranks after the last micro-batch of a step."""
        controller = self.controller
        if controller is None or trainer.world_size == 1 or lightning_setup.is_accumulating(trainer):
            return
        controller.check_skip()
        controller.run.average_gradients(controller.weights.parameters())

    def on_before_optimizer_step(self, trainer: pl.Trainer, *_: object) -> None:
        """Prepare the gradients of the step."""
        controller = self.controller
        if controller is None:
            return
        controller.before_step()
        if self._clip_value is not None:
            # torch cannot clip the values of no gradients, as after a skip.
            has_gradient = any(parameter.grad is not None for parameter in controller.weights.parameters())
            trainer.gradient_clip_val = self._clip_value if has_gradient else None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object, **__: object) -> None:
        """Record the batch, and stop if the policy requires it."""
        self._started = self._started + 1 if lightning_setup.is_accumulating(trainer) else 0
        self._accepts = None
        if self.controller is not None:
            self.controller.end_batch()
            self.stop_reason = self.stop_reason or self.controller.stop_reason
        trainer.should_stop |= self.stop_reason is not None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the value of an earlier validation."""
        self._old_value = trainer.callback_metrics.get(self.monitor)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pass the validation loss to memory and anchor."""
        if trainer.sanity_checking or (self.controller is None and self.manual is None):
            return
        val_loss = trainer.callback_metrics.get(self.monitor)
        if val_loss is None or val_loss is self._old_value:
            self._report_missing(trainer)
            return
        self._has_evaluated = True
        if self.controller is not None:
            self.controller.evaluate(float(val_loss))
        elif self.manual is not None and self.manual.last is not None:
            self.manual.run.evaluate(self.manual.last, float(val_loss), trigger="SCHEDULE")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note why the training ended. The run ends after all other callbacks, which may save."""
        if self.controller is None and self.manual is None:
            return
        message = lightning_setup.stop_message(trainer)
        if self.stop_reason is None and message is not None:
            self.stop_reason = (STOPPED_EARLY, message)
        # Lightning calls the strategy after the callbacks, and calls the callbacks that save last.
        end = functools.partial(self._end_training, trainer.strategy.on_train_end)
        self._patches.replace(trainer.strategy, "on_train_end", end)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the module. A run that the callback has opened records how it ended."""
        self._leave_training()
        if self._opens_run and self.run is not None:
            self.run.__exit__(type(exception), exception, exception.__traceback__)

    @contextlib.contextmanager
    def batch(self, loss: torch.Tensor, *, tokens: int | None = None, micro_steps: int = 1) -> Any:
        """Context manager around the backward pass and the step of a batch under manual optimization.

            with self.ockham.batch(loss) as batch:
                if batch.updated:
                    self.manual_backward(loss)
                if batch.takes_step:
                    batch.clip_gradients(self.parameters())
                    optimizer.step()
                    optimizer.zero_grad()

        Args:
            loss: Mean loss in nats per token.
            tokens: Number of its tokens. With several processes it weights their losses.
            micro_steps: Number of micro-batches of the step.

        Raises:
            BadInputError: If no training under manual optimization is running.

        """
        manual = self.manual
        if manual is None:
            raise BadInputError(
                "OckhamCallback.batch: no training under manual optimization is running; "
                "call it in training_step with automatic_optimization = False"
            )
        batch: ManualBatch
        with manual.batch(float(loss.detach()), tokens=tokens, micro_steps=micro_steps) as batch:
            yield batch
        if batch.ctx.halt:
            decision = manual.run.explain_decision("halt")
            self.stop_reason = ("HALTED_BY_POLICY", f"halted by decision {decision}")
        elif manual.run.stop_requested:
            self.stop_reason = (STOPPED_BY_USER, manual.run.stop_message)

    def _enter_run(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, Any]:
        """Open a run if none is open. Return the facts that its first batch has to record."""
        if self.run is not None and not self.run.attempt.is_open:
            raise BadInputError("the run is not open; use `with ockham.Run(...) as run:`")
        request = self._checkpoints.take_request()
        if self.controller is not None:
            require_same_block(request, self.controller.iter_num)
        facts = lightning_setup.read_facts(trainer, module)
        given = self._facts if self.run is None else self.run.facts
        require_equal_facts(given, facts, "the Trainer")
        is_new = self.run is None or self._on_run_finish not in self.run.finish_hooks
        if self.run is None:
            self.run = self._open_run(trainer, {**facts, **given}, request)
            facts = {}
        self._point = require_continued(self.run, request, trainer.global_step) if is_new else None
        if self._on_run_finish not in self.run.finish_hooks:
            self.run.finish_hooks.append(self._on_run_finish)
        return {name: value for name, value in facts.items() if not given.get(name)}

    def _open_run(self, trainer: pl.Trainer, facts: Mapping[str, Any], request: ResumeRequest | None) -> Run:
        """Open a run, or continue the run of a checkpoint as another attempt."""
        settings = lightning_setup.read_settings(trainer)
        options: dict[str, Any] = {**self._options, "facts": facts, "settings": settings}
        if request is not None and request.point is not None:
            options |= {"run_id": request.point.run_id, "resumed": request.point}
        run = Run.distributed(**options)
        if request is not None and request.point is None:
            message = describe_late_start(request, trainer.global_step)
            warnings.warn(
                f"a new run begins at iteration {trainer.global_step}: {message}", OckhamWarning, stacklevel=2
            )
            run.begin_at(trainer.global_step, message)
        return run.start()

    def _write_state(self, path: Path) -> dict[str, Any] | None:
        """Write the state of the run next to a checkpoint. Return None inside of an optimizer step."""
        controller, manual = self.controller, self.manual
        is_between_steps = controller is not None and controller.is_between_steps
        if manual is not None:
            is_between_steps = manual.is_between_steps
        if self.run is None or not is_between_steps:
            return None
        return write_run_state(self.run, controller if manual is None else None, path)

    def _attach_controller(
        self, run: Run, trainer: pl.Trainer, module: pl.LightningModule, facts: Mapping[str, Any]
    ) -> None:
        optimizer = trainer.optimizers[0]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if self.controller is not None and self.controller.model is module:
            self.controller.stop_reason = None
            self.controller.attach(optimizer, scaler)
        else:
            self.controller = StepController(
                run,
                module,
                optimizer,
                save_checkpoints=self.save_checkpoints,
                scaler=scaler,
                facts=facts,
            )
            if self._point is not None:
                restore_run_state(run, self.controller, self._point)
        self._clip_value = None
        if self.controller.is_active:
            is_value = trainer.gradient_clip_algorithm == "value"
            self._clip_value = trainer.gradient_clip_val if is_value else None
            self._patches.replace(trainer, "gradient_clip_val", self._clip_value)

    def _on_run_finish(self, ended: dict[str, Any]) -> None:
        """Complete the data of `run.finished`, and restore the module."""
        if ended["reason_code"] == "COMPLETED" and self.run is not None:
            ended.setdefault("val_loss", self.run.val_loss)
            if self.stop_reason is not None:
                ended["reason_code"], ended["message"] = self.stop_reason
        self._leave_training()
        self.controller = None
        if self._opens_run:
            self.run = None

    def _end_training(self, on_train_end: Callable[[], None]) -> None:
        """Restore the module. End the run if the callback has opened it."""
        self._leave_training()
        if self._opens_run and self.run is not None:
            self.run.finish()
        on_train_end()

    def _leave_training(self) -> None:
        """Restore everything that was changed for a training. Calling it again has no effect."""
        self._patches.restore()
        if self.manual is not None:
            self.manual.close()
            self.manual = None
        if self.controller is not None:
            # The other ranks may have ended, so only a single process completes its log.
            if self.controller.run.peers.world_size == 1:
                with contextlib.suppress(OckhamError):
                    self.controller.abandon_batch()
            self.controller.detach()

    def _wrap_training_step(self, trainer: pl.Trainer, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            out = step(*args, **kwargs)
            controller = self.controller
            if controller is None or not trainer.training or not torch.is_grad_enabled():
                return out
            loss = out.get("loss") if isinstance(out, Mapping) else out
            if self._accepts is None:
                tokens = self.count_tokens(args[0]) if self.count_tokens is not None else None
                controller.micro_steps = lightning_setup.count_micro_steps(trainer, self._started)
                rows = self.data_position(args[0]) if self.data_position is not None else None
                value = _read_loss(loss)
                self._accepts = controller.start_batch(value, self._limit, tokens=tokens, data=rows)
            if self._accepts or loss is None:
                return out
            return {**out, "loss": detach_loss(loss)} if isinstance(out, Mapping) else detach_loss(loss)

        return training_step

    def _report_missing(self, trainer: pl.Trainer) -> None:
        """Report a validation that did not log the loss. The first one raises an error."""
        names = ", ".join(sorted(trainer.callback_metrics)) or "none"
        message = f"OckhamCallback: validation after step {trainer.global_step} did not log {self.monitor!r}"
        if not self._has_evaluated:
            raise BadInputError(f"{message}; logged: {names}; pass one of them as monitor=...")
        warnings.warn(f"{message}; no evaluation is recorded", OckhamWarning, stacklevel=2)


def _read_loss(loss: Any) -> float:
    """Return a loss as a Python float. Without a loss it is NaN, so the batch is skipped."""
    return math.nan if loss is None else float(loss.detach())
