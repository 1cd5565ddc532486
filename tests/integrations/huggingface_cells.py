"""Cells of the matrix for the Hugging Face Trainer, TRL and PEFT."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from ockham.integrations.huggingface import OckhamCallback
from ockham.plugins.limiter import LimiterPlugin
from ockham.policy import Policy, policy_from_plugins
from tests.helpers.step_truth import StepTruth
from tests.integrations import huggingface_models as models
from tests.integrations import huggingface_truth as truths
from tests.integrations.trainer_matrix import Cell

STEPS = 16
BATCH = 4


@dataclass(frozen=True)
class Case:
    """How one cell trains. Fields are defaults of a plain training."""

    model: Callable[[], Any] = models.make_gpt2
    trainer: Any = transformers.Trainer
    arguments: Any = transformers.TrainingArguments
    loss: Callable[[Any], truths.TruthLoss] = lambda _: truths.causal_loss
    rows: Callable[[int], Any] = models.make_rows
    options: dict = field(default_factory=dict)
    keywords: dict = field(default_factory=dict)
    policy: str | Policy = "balanced"
    overrides: tuple[str, ...] = ()
    callback: dict = field(default_factory=dict)
    change: Callable[[Any], None] = lambda _: None
    raises: type[BaseException] | None = None
    has_reference: bool = False


def make_trainer(folder: Path, case: Case, callbacks: list) -> Any:
    """Return the Trainer of a case."""
    options = {
        "output_dir": str(folder / "hf"),
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": 0.01,
        "report_to": [],
        "save_strategy": "no",
        "eval_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "logging_steps": 1,
        "lr_scheduler_type": "linear",
        "seed": 3,
    }
    accumulation = case.options.get("gradient_accumulation_steps", 1)
    keywords = {"train_dataset": case.rows(STEPS * BATCH * accumulation), **case.keywords}
    if case.has_reference:
        keywords["ref_model"] = case.model()
    arguments = case.arguments(**{**options, **case.options})
    trainer = case.trainer(model=case.model(), args=arguments, callbacks=callbacks, **keywords)
    # The test prints nothing.
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def train_case(case: Case, folder: Path) -> StepTruth:
    """Train one case, with a run that the callback opens. Return the truth."""
    truth = StepTruth()
    expected = contextlib.nullcontext() if case.raises is None else contextlib.suppress(case.raises)
    with expected:
        make_observed_trainer(case, folder, truth).train()
    return truth


def make_observed_trainer(case: Case, folder: Path, truth: StepTruth) -> Any:
    """Return the Trainer of a case, which adds its measurements to a truth."""
    before = truths.Before(truth)
    ockham = OckhamCallback(
        policy=case.policy, overrides=case.overrides, runs=folder / "runs", run_id="a", **case.callback
    )
    trainer = make_trainer(folder, case, [before, ockham])
    after = truths.After(truth, case.loss(trainer))
    trainer.add_callback(after)
    after.install(trainer)
    case.change(trainer)
    before.is_active = case.policy != "observe"
    return trainer


class StopAfter(transformers.TrainerCallback):
    """Ends the training after a step, and after its checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop |= state.global_step == self.step
        return control


def train_and_resume(case: Case, folder: Path) -> StepTruth:
    """Train to a checkpoint, and from it to the end with new objects. Return the truth of both."""
    truth = StepTruth()
    steps = case.options.get("max_steps", STEPS) // 2
    options = {**case.options, "save_strategy": "steps", "save_steps": steps}
    case = replace(case, options=options)
    first = make_observed_trainer(case, folder, truth)
    first.add_callback(StopAfter(steps))
    first.train()
    make_observed_trainer(case, folder, truth).train(resume_from_checkpoint=True)
    return truth


def use_scaler(trainer: Any, scale: float = 1024.0) -> None:
    """Give a Trainer on a CPU the scaler that it has on a GPU. A large scale overflows at once."""
    accelerator = trainer.accelerator
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=4)
    accelerator.native_amp = True
    accelerator.state._mixed_precision = "fp16"


def make_lora() -> Any:
    """Return a GPT-2 with a LoRA adapter."""
    import peft

    config = peft.LoraConfig(r=4, target_modules=["c_attn"], lora_dropout=0.0, task_type="CAUSAL_LM")
    return peft.get_peft_model(models.make_gpt2(), config)


def make_quantized() -> Any:
    """Return a LoRA model with a frozen matrix of bytes, as QLoRA has them."""
    model = make_lora()
    matrix = torch.zeros(64, 4, dtype=torch.uint8)
    model.base_model.model.register_parameter("quantized", torch.nn.Parameter(matrix, requires_grad=False))
    return model


def _trl(name: str) -> Any:
    """Return a class of TRL when it is called, because its import takes seconds."""

    def make(*args: Any, **kwargs: Any) -> Any:
        import trl

        return getattr(trl, name)(*args, **kwargs)

    return make


def _dataset(make: Callable[[int], list], count: int) -> Any:
    import datasets

    return datasets.Dataset.from_list(make(count))


def _texts(count: int) -> list[dict]:
    return [{"text": text} for text in models.make_texts(count)]


# An acting policy that names no limit of the gradient norm.
NO_LIMITER = policy_from_plugins([LimiterPlugin(grad_norm_ceiling=None)])
ACCUMULATE = {"gradient_accumulation_steps": 4, "max_steps": 8}
PADDED = functools.partial(models.make_rows, padded=True)
SFT = {
    "trainer": _trl("SFTTrainer"),
    "arguments": _trl("SFTConfig"),
    "rows": functools.partial(_dataset, _texts),
    "options": {"max_length": 16, "bf16": False},
    "keywords": {"processing_class": models.make_tokenizer()},
}
DPO = {
    "trainer": _trl("DPOTrainer"),
    "arguments": _trl("DPOConfig"),
    "rows": functools.partial(_dataset, models.make_pairs),
    "options": {"max_length": 24, "beta": 0.1, "max_steps": 12, "bf16": False},
    "keywords": {"processing_class": models.make_tokenizer()},
    "has_reference": True,
    "loss": lambda _: truths.DPOLoss(models.make_gpt2()),
}


def _aligned(_: Any) -> truths.TruthLoss:
    return truths.aligned_loss


def _merge(base: dict, **changes: Any) -> Case:
    """Return a case with further options."""
    options = {**base.get("options", {}), **changes.pop("options", {})}
    return Case(**{**base, **changes, "options": options})


CASES: dict[tuple[str, str], Case] = {
    ("Trainer", "plain"): Case(),
    ("Trainer", "observe"): Case(policy="observe"),
    ("Trainer", "observe, clipping"): Case(policy="observe", options={"max_grad_norm": 0.3}),
    ("Trainer", "warm-up and cosine"): Case(options={"lr_scheduler_type": "cosine", "warmup_steps": 4}),
    ("Trainer", "accumulation"): Case(options=ACCUMULATE),
    ("Trainer", "accumulation, padded rows"): Case(options=ACCUMULATE, rows=PADDED),
    ("Trainer", "accumulation, observe"): Case(options=ACCUMULATE, policy="observe"),
    ("Trainer", "padded rows"): Case(rows=PADDED),
    ("Trainer", "clipping"): Case(options={"max_grad_norm": 0.3}),
    ("Trainer", "no clipping"): Case(
        options={"max_grad_norm": 0.0}, overrides=("limiter.grad_norm_ceiling=null",)
    ),
    ("Trainer", "no limiter, clipping at 5.0"): Case(options={"max_grad_norm": 5.0}, policy=NO_LIMITER),
    ("Trainer", "no limiter, clipping at 0.3"): Case(options={"max_grad_norm": 0.3}, policy=NO_LIMITER),
    ("Trainer", "no limiter, no clipping"): Case(options={"max_grad_norm": 0.0}, policy=NO_LIMITER),
    ("Trainer", "bf16"): Case(options={"bf16": True}),
    ("Trainer", "fp16"): Case(options={"fp16": True}, change=use_scaler),
    ("Trainer", "fp16, overflow"): Case(
        options={"fp16": True}, change=functools.partial(use_scaler, scale=2.0**40)
    ),
    ("Trainer", "fp16, accumulation"): Case(options={**ACCUMULATE, "fp16": True}, change=use_scaler),
    ("Trainer", "fp16, observe"): Case(options={"fp16": True}, change=use_scaler, policy="observe"),
    ("Trainer", "gradient checkpointing"): Case(options={"gradient_checkpointing": True}),
    ("Trainer", "label smoothing"): Case(
        options={"label_smoothing_factor": 0.1}, loss=lambda _: truths.smoothed_loss
    ),
    ("Trainer", "label smoothing, accumulation"): Case(
        options={"label_smoothing_factor": 0.1, **ACCUMULATE},
        loss=lambda _: truths.smoothed_loss,
        rows=PADDED,
    ),
    ("Trainer", "compute_loss_func"): Case(keywords={"compute_loss_func": models.summed_loss}),
    ("Trainer", "own compute_loss"): Case(trainer=models.LogitsTrainer),
    ("Trainer", "own compute_loss, accumulation"): Case(trainer=models.LogitsTrainer, options=ACCUMULATE),
    ("Trainer", "added loss term"): Case(trainer=models.ZLossTrainer, loss=lambda _: truths.z_loss),
    ("Trainer", "added loss term, accumulation"): Case(
        trainer=models.ZLossTrainer, loss=lambda _: truths.z_loss, options=ACCUMULATE
    ),
    ("Trainer", "two forwards"): Case(trainer=models.TwoForwardTrainer),
    ("Trainer", "T5"): Case(model=models.make_t5, loss=_aligned),
    ("Trainer", "T5, accumulation"): Case(model=models.make_t5, loss=_aligned, options=ACCUMULATE),
    ("Trainer", "classification"): Case(
        model=models.make_classifier, loss=_aligned, rows=models.make_class_rows
    ),
    ("Trainer", "classification, accumulation"): Case(
        model=models.make_classifier, loss=_aligned, rows=models.make_class_rows, options=ACCUMULATE
    ),
    ("Trainer", "model with a mean"): Case(model=models.make_mean_model),
    ("Trainer", "model with a mean, accumulation"): Case(model=models.make_mean_model, options=ACCUMULATE),
    ("Trainer", "out of memory retry"): Case(
        trainer=models.OutOfMemoryTrainer,
        options={"auto_find_batch_size": True},
        loss=lambda _: truths.no_loss,
    ),
    ("Trainer", "out of memory retry, accumulation"): Case(
        trainer=models.OutOfMemoryTrainer,
        options={"auto_find_batch_size": True, "gradient_accumulation_steps": 3, "max_steps": 8},
        loss=lambda _: truths.no_loss,
    ),
    ("PEFT", "LoRA"): Case(model=make_lora),
    ("PEFT", "LoRA, accumulation"): Case(model=make_lora, options=ACCUMULATE),
    ("PEFT", "quantized base"): Case(model=make_quantized),
    ("PEFT", "quantized base, observe"): Case(model=make_quantized, policy="observe"),
    ("TRL SFT", "plain"): _merge(SFT),
    ("TRL SFT", "accumulation"): _merge(SFT, options=ACCUMULATE),
    ("TRL SFT", "observe"): _merge(SFT, policy="observe"),
    ("TRL SFT", "LoRA"): _merge(SFT, model=make_lora),
    ("TRL DPO", "plain"): _merge(DPO),
    ("TRL DPO", "accumulation"): _merge(DPO, options=ACCUMULATE),
    ("TRL DPO", "observe"): _merge(DPO, policy="observe"),
}
RESUMED: dict[tuple[str, str], Case] = {
    ("Trainer", "resume"): Case(),
    ("Trainer", "resume, observe"): Case(policy="observe"),
    ("Trainer", "resume, accumulation"): Case(options=ACCUMULATE),
    ("Trainer", "resume, fp16"): Case(options={"fp16": True}, change=use_scaler),
    ("PEFT", "resume, LoRA"): Case(model=make_lora),
    ("TRL SFT", "resume"): _merge(SFT),
    ("TRL DPO", "resume"): _merge(DPO),
}
# Cells in which a batch must be skipped: all with an active policy.
CELLS = [
    Cell(trainer, situation, functools.partial(train, case), 1 if case.policy == "balanced" else 0)
    for train, cases in ((train_case, CASES), (train_and_resume, RESUMED))
    for (trainer, situation), case in cases.items()
]
