"""Hugging Face Trainer: a callback that lets the chain decide about each batch.

    trainer = transformers.Trainer(model, arguments, callbacks=[OckhamCallback(policy="balanced")], ...)
    trainer.train()

The chain receives the loss that the Trainer is about to differentiate, because the callback wraps
`trainer.compute_loss`. So it works with every subclass, such as those of TRL, and with every loss. The loss
of a skipped batch has no graph. The backward pass then computes no gradient, and the optimizer changes
neither weights nor moments.
"""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ockham.errors import BadInputError, OckhamError, OckhamWarning
from ockham.integrations import huggingface_checkpoints, huggingface_facts, huggingface_ranks
from ockham.integrations.huggingface_evaluation import NamedEvaluations, evaluate_apart, other_losses
from ockham.integrations.huggingface_loss import LossScale, replace_loss
from ockham.integrations.loss_scaler import unwrap_optimizer
from ockham.integrations.patches import Patches
from ockham.integrations.run_facts import require_equal_facts, require_one_source
from ockham.integrations.step_controller import StepController, detach_loss
from ockham.integrations.trainer_state import (
    ResumeRequest,
    describe_late_start,
    require_continued,
    require_same_block,
    restore_run_state,
)
from ockham.policy import Policy
from ockham.run import Run

# The Trainer ended before its last step, for a reason of its own such as early stopping.
STOPPED_EARLY = "STOPPED_EARLY"


class OckhamCallback(TrainerCallback):
    """Applies the chain's verdicts to each batch, in one process or with DistributedDataParallel.

    With an open run, several trainings and evaluations in its block are recorded, and the block ends it.
    Without one, each training is a run: the callback opens and ends it.

    Each checkpoint of the Trainer contains the state of the run. `train(resume_from_checkpoint=...)`
    continues its run as a new attempt, if the files are those of a signed event.

    During training, the Trainer's `max_grad_norm` is the base of the chain's `grad_clip`, which replaces it.

    Args:
        run: An open run (`with ockham.Run(...) as run`). None opens a run for each training.
        policy: Policy of a run that the callback opens. None uses `balanced`.
        overrides: Settings such as `"gate.target=0.3"`.
        runs: Folder of all runs.
        run_id: ID of the run. None makes one from the time.
        facts: Facts that the Trainer does not know, such as `inference_flops`.
        metric: Name of the validation loss that plugins receive, such as `eval_loss`. None takes the
            Trainer's `metric_for_best_model` if it is a loss, else `eval_loss`.
        save_checkpoints: Save accepted weights as checkpoints of the run.
        record_rows: Record a digest of the `input_ids` of each micro-batch.

    Raises:
        BadInputError: When training starts, if it is not supported, or if facts differ from the Trainer's.
            At the first evaluation without this loss.
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
        metric: str | None = None,
        save_checkpoints: bool = True,
        record_rows: bool = True,
    ) -> None:
        require_one_source(run, policy, overrides, run_id, facts)
        self.run = run
        self.metric = metric
        self.save_checkpoints = save_checkpoints
        self.record_rows = record_rows
        self.controller: StepController | None = None
        self._opens_run = run is None
        # A resumed run keeps its policy unless one is named here.
        self._policy = "balanced" if policy is None and overrides else policy
        self._run_options: dict[str, Any] = {"overrides": overrides, "runs": runs}
        self._runs, self._run_id = (runs, run_id) if run is None else (run.folder.runs, run.run_id)
        self._checkpoints = huggingface_checkpoints.TrainerCheckpoints()
        self._facts = dict(facts or {})
        self._patches = Patches()
        self._watches_train = False
        self._trainer: Any = None
        self._evaluations: NamedEvaluations | None = None
        self._loss_scale: LossScale | None = None
        self._max_grad_norm = 0.0
        self._norm: torch.Tensor | None = None
        self._ranks: huggingface_ranks.TrainerRanks | None = None
        self._tokens_seen = 0
        # Verdict on the present micro-batch. None before it.
        self._accepts: bool | None = None

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Wrap `trainer.train`, so that everything is restored after any exception."""
        trainer = huggingface_facts.find_trainer(self)
        if trainer is not None:
            trainer.train = self._wrap_train(trainer, trainer.train)
            self._watches_train = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the run if the callback does that, and wrap the Trainer's loss."""
        trainer = huggingface_facts.find_trainer(self)
        if trainer is None:
            raise BadInputError(
                "OckhamCallback: no Trainer calls it; pass it as callbacks=[...] of a Trainer"
            )
        self._leave_training(is_retry=True)
        huggingface_ranks.require_one_device(args)
        self._enter_run(trainer, state.max_steps)
        assert self.controller is not None
        if self.controller.is_active and huggingface_facts.is_policy_gradient(trainer):
            raise BadInputError(
                f"{type(trainer).__name__}: its loss is an objective near zero, not the surprise of a batch; "
                "use policy='observe'"
            )
        self._trainer = trainer
        self._evaluations = NamedEvaluations(trainer, self.metric)
        self._loss_scale = LossScale(trainer)
        self._ranks = huggingface_ranks.TrainerRanks(trainer, self.controller, self._patches)
        self._max_grad_norm = args.max_grad_norm
        self._accepts = None
        self._norm = None
        replace = self._patches.replace
        replace(trainer, "compute_loss", functools.partial(self._compute_loss, trainer.compute_loss))
        accelerator = trainer.accelerator
        clip = functools.partial(self._clip_grad_norm, accelerator.clip_grad_norm_)
        replace(accelerator, "clip_grad_norm_", clip)
        replace(trainer, "save_model", functools.partial(self._save_model, trainer.save_model))
        if self.controller.is_active:
            replace(args, "max_grad_norm", 0.0)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Pass on an evaluation that did not report all datasets."""
        self._evaluate_pending()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Prepare the gradients of the step."""
        if self.controller is not None and self._ranks is not None:
            self._ranks.average_gradients(ends_step=True)
            self.controller.before_step(self._norm)
            self._norm = None

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Record the batch. Stop if the policy requires it."""
        self._accepts = None
        if self.controller is not None:
            self.controller.end_batch()
            control.should_training_stop |= self.controller.stop_reason is not None
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Record the last micro-batch of a step, and evaluate if the policy requests a new anchor."""
        self._accepts = None
        if self.controller is None or self._evaluations is None:
            return control
        ctx = self.controller.end_batch()
        control.should_training_stop |= self.controller.stop_reason is not None
        has_data = args.eval_strategy != "no" and self._trainer.eval_dataset is not None
        if ctx is not None and ctx.consolidating and has_data and not control.should_evaluate:
            # The Trainer's own evaluation would count for early stopping and for the best model.
            val_loss = evaluate_apart(self._trainer, self._evaluations)
            if val_loss is not None:
                self.controller.evaluate(val_loss)
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Pass the main validation loss to memory and anchor, and record the others."""
        metrics = kwargs.get("metrics") or {}
        if self._evaluations is None or self.controller is None:
            return
        evaluations = self._evaluations
        evaluations.add(metrics, state.global_step)
        self.controller.record_losses(other_losses(metrics, evaluations.metric))
        if evaluations.is_complete:
            self._evaluate_pending()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the files of the Trainer's checkpoint."""
        if self.controller is not None:
            self._checkpoints.sign(self.controller.run)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the Trainer. End the run if the callback has opened it."""
        controller = self.controller
        if controller is None:
            return
        self._evaluate_pending()
        if controller.stop_reason is None and state.global_step < state.max_steps:
            message = f"the Trainer stopped after step {state.global_step} of {state.max_steps}"
            controller.stop_reason = (STOPPED_EARLY, message)
        self._leave_training()
        if self._opens_run and self.run is not None:
            self.run.finish()

    def _enter_run(self, trainer: Any, max_steps: int) -> None:
        """Open a run if none is open, and create its step controller or attach it to this training."""
        request = self._checkpoints.take_request()
        optimizer = unwrap_optimizer(trainer.optimizer)
        scaler = trainer.accelerator.scaler
        if self.controller is not None:
            if self.controller.model is not trainer.model:
                raise BadInputError("the run records the training of another model; start another run")
            require_same_block(request, self.controller.iter_num)
            self.controller.stop_reason = None
            self.controller.attach(optimizer, scaler)
            return
        facts = huggingface_facts.read_facts(trainer, max_steps)
        given = self._facts if self.run is None else self.run.facts
        require_equal_facts(given, facts, "the Trainer")
        if self.run is not None:
            huggingface_ranks.require_replicas(trainer, self.run)
        else:
            self.run = self._open_run(trainer, {**facts, **given}, request)
            facts = {}
        point = require_continued(self.run, request, trainer.state.global_step)
        self.controller = StepController(
            self.run,
            trainer.model,
            optimizer,
            save_checkpoints=self.save_checkpoints,
            scaler=scaler,
            facts={name: value for name, value in facts.items() if not given.get(name)},
        )
        self._tokens_seen = 0
        if point is not None:
            self._tokens_seen = restore_run_state(self.run, self.controller, point)["tokens_seen"]
        self.run.finish_hooks.append(self._on_run_finish)

    def _open_run(self, trainer: Any, facts: Mapping[str, Any], request: ResumeRequest | None) -> Run:
        if not self._watches_train:
            raise BadInputError(
                "OckhamCallback cannot end its run after an exception if it is added to an existing Trainer; "
                "pass callbacks=[OckhamCallback(...)] to the Trainer, or use OckhamCallback(run)"
            )
        settings = huggingface_facts.read_settings(trainer.args)
        data = huggingface_ranks.shared_data(huggingface_facts.read_data(trainer.train_dataset))
        point = None if request is None else request.point
        run_id = self._run_id if point is None else point.run_id
        known: dict[str, Any] = {"facts": facts, "settings": settings, "data": data, "resumed": point}
        run = Run.distributed(self._policy, run_id=run_id, **self._run_options, **known)
        huggingface_ranks.require_replicas(trainer, run)
        if point is not None:
            huggingface_ranks.require_resumable(trainer)
        steps = trainer.state.global_step
        if steps and request is not None and point is None:
            message = describe_late_start(request, steps)
            warnings.warn(f"a new run begins at iteration {steps}: {message}", OckhamWarning, stacklevel=2)
            run.begin_at(steps, message)
        return run.start()

    def _on_run_finish(self, ended: dict[str, Any]) -> None:
        """Complete the data of `run.finished`, and restore the Trainer."""
        controller = self.controller
        if controller is None or self.run is None:
            return
        if ended["reason_code"] == "COMPLETED":
            self._evaluate_pending()
            ended.setdefault("val_loss", self.run.val_loss)
            if controller.stop_reason is not None:
                ended["reason_code"], ended["message"] = controller.stop_reason
        self._leave_training()
        self.controller = None
        self._evaluations = None
        if self._opens_run:
            self.run = None

    def _leave_training(self, *, is_retry: bool = False) -> None:
        """Restore everything that was changed for a training. Calling it again has no effect."""
        self._patches.restore()
        if self.controller is not None:
            # After an exception the other ranks may have ended. Every rank begins a retry.
            if is_retry or self.controller.run.peers.world_size == 1:
                with contextlib.suppress(OckhamError):
                    self.controller.abandon_batch()
            self.controller.detach()

    def _wrap_train(self, trainer: Any, train: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(train)
        def watched_train(*args: Any, **kwargs: Any) -> Any:
            try:
                args, kwargs = self._checkpoints.choose(
                    trainer, args, kwargs, runs=self._runs, run_id=self._run_id
                )
                return train(*args, **kwargs)
            except BaseException as error:
                self._leave_training()
                if self._opens_run and self.run is not None:
                    self.run.__exit__(type(error), error, error.__traceback__)
                raise

        return watched_train

    def _compute_loss(
        self, compute_loss: Callable[..., Any], model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Compute a loss and let the chain decide about it. The loss of a skipped batch has no graph."""
        controller, scale, ranks = self.controller, self._loss_scale, self._ranks
        is_training = model.training and torch.is_grad_enabled()
        if controller is None or scale is None or ranks is None or not is_training:
            return compute_loss(model, inputs, *args, **kwargs)
        if args:
            # Positions of compute_loss(model, inputs, return_outputs, num_items_in_batch).
            kwargs |= dict(zip(("return_outputs", "num_items_in_batch"), args, strict=False))
        items = scale.count_items(inputs, kwargs.get("num_items_in_batch"))
        tokens = huggingface_ranks.count_tokens(inputs)
        predicted = scale.count_predicted(inputs) if ranks.is_distributed else None
        if items is not None:
            kwargs["num_items_in_batch"] = items.step
        with scale.watch(items):
            result = compute_loss(model, inputs, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if self._accepts is None:
            controller.micro_steps = getattr(self._trainer, "current_gradient_accumulation_steps", 1)
            self._accepts = controller.start_batch(
                scale.micro_batch_loss(loss, items),
                self._max_grad_norm or math.inf,
                tokens_seen=self._tokens_seen,
                tokens=None if predicted is None else int(predicted),
                data=huggingface_facts.digest_inputs(inputs) if self.record_rows else None,
            )
            self._tokens_seen += ranks.sum_tokens(tokens)
        return result if self._accepts else replace_loss(result, detach_loss(loss))

    def _save_model(self, save_model: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Save the weights. In a checkpoint, add the state of the run."""
        # All ranks exchange the evaluation, and only one saves.
        self._evaluate_pending()
        if self.controller is None:
            return save_model(*args, **kwargs)
        write = huggingface_checkpoints.make_writer(
            self.controller, lambda: {"tokens_seen": self._tokens_seen}
        )
        return self._checkpoints.save_model(save_model, write, *args, **kwargs)

    def _clip_grad_norm(self, clip_grad_norm: Callable[..., Any], parameters: Any, *args: Any) -> Any:
        """Measure the norm once, for the Trainer and the chain. An active chain clips by itself."""
        controller = self.controller
        if controller is None or self._ranks is None:
            return clip_grad_norm(parameters, *args)
        controller.check_skip()
        self._ranks.average_gradients()
        if controller.is_active:
            self._trainer.accelerator.unscale_gradients()
            self._norm = controller.measure_norm()
        else:
            self._norm = clip_grad_norm(parameters, *args)
        return self._norm

    def _evaluate_pending(self) -> None:
        """Pass the main loss of the present evaluation to memory and anchor, if there is one."""
        val_loss = None if self._evaluations is None else self._evaluations.take()
        if val_loss is not None and self.controller is not None:
            self.controller.evaluate(val_loss)
