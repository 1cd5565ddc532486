"""`ockham adapt`: go on learning while serving."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

import ockham
from ockham import nano
from ockham.cli.adapt_loop import adapt_loop, enable_adapter
from ockham.cli.checkpoint_lookup import find_checkpoint
from ockham.cli.options import RunsOption, resolve_run_id
from ockham.cli.summary import print_complete, print_summary
from ockham.errors import BadInputError, CheckpointError, DataError, RunError
from ockham.policy.document import read_policy

if TYPE_CHECKING:
    from ockham import ResumePoint, Run
    from ockham.nano import Adaptation, Corpus

EXIT_STATUS = {"COMPLETED": 0, "HALTED_BY_POLICY": 1, "INTERRUPTED": 130}
PRESET = "adapt"
TEXT_KINDS = ("new", "familiar")


class AdaptRequest(NamedTuple):
    """What is adapted to what, as it stands in the run's settings."""

    from_run: str
    checkpoint: str
    data: str
    familiar: str | None
    share: float
    lora: list[str]
    rank_of_adapter: int


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(adapt)


def adapt(
    base_run: Annotated[str, typer.Option("--from", metavar="RUN", help="Run whose checkpoint is adapted: ID, or a unique beginning.")] = "",
    data: Annotated[Path | None, typer.Option(help="New text: a file, a folder of text, or a folder with train.bin.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint of that run; default: the newest accepted one.")] = "",
    familiar: Annotated[Path | None, typer.Option(help="Familiar text; default: what the run was trained on. Its validation text is used.")] = None,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of batches that are new text.")] = 0.15,
    z: Annotated[float | None, typer.Option(help="The dial of forgetting, --set gate.z: greater skips more and forgets more.", show_default=False)] = None,
    lora: Annotated[str, typer.Option(metavar="LAYERS", help="Train a low-rank adapter on these linear layers alone, by commas, with wildcards: h.2.*,h.3.*")] = "",
    rank: Annotated[int, typer.Option(min=1, help="Of the adapter.")] = 4,
    policy: Annotated[str, typer.Option("--policy", "--preset", help="Preset by name, or policy file; default: adapt.")] = "",
    run: Annotated[str, typer.Option(help="Run ID; default: made from the time.")] = "",
    settings: Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="Setting of the trainer (learning_rate=3e-4) or of the policy (gate.z=2).")] = [],  # noqa: B006 - typer's way
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --run from its newest checkpoint.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "",
    runs: RunsOption = Path("runs"),
) -> None:  # fmt: skip
    """Adapt a checkpoint to new text while it is served.

    A gate updates where the text is not familiar. It is calibrated on familiar text first: mean + z standard deviations of the batch loss. Every batch of the
    stream is predicted and scored before it may update, at a constant learning rate, without weight decay. With
    --lora the weights stay as they are and an adapter is trained, which is taken off in well under a millisecond.

    Examples:
      ockham adapt --from night-1 --data my_cpp/ --z 1

      ockham adapt --from night-1 --data my_cpp/ --lora "h.2.*,h.3.*" --rank 4 --set learning_rate=1e-3
    """
    if resume and not run:
        raise BadInputError("--resume goes on with a run: say which one with --run ID")
    start = ockham.find_resume_point(runs, run) if resume else None
    if start is not None:
        asked = _request_from_settings(run, start.settings)
    elif base_run and data is not None:
        layers = [name.strip() for name in lora.split(",") if name.strip()]
        asked = AdaptRequest(
            resolve_run_id(runs, base_run),
            checkpoint,
            str(data),
            str(familiar) if familiar else None,
            share,
            layers,
            rank,
        )
    else:
        raise BadInputError("adapt takes --from RUN, which is adapted, and --data PATH, the new text")
    asked = _resolve_checkpoint(runs, asked)
    ours, policys = nano.split_overrides([*settings, *([f"device={device}"] if device else [])])
    policys += [] if z is None else [f"gate.z={z!r}"]
    adaptation = _adaptation(runs, asked, ours, start)
    measured = _measure_baseline(adaptation, policy or PRESET, policys) if start is None else {}
    told = {
        **(start.settings if start else {}), **asdict(adaptation.trainer.settings), **asked._asdict(), **measured,
        "threads": adaptation.trainer.threads,
        "weights_sha256": adaptation.base_sha256,
    }  # fmt: skip
    attempt = ockham.Run(
        policy or (None if start else PRESET), overrides=[*_settings_of(measured), *policys], runs=runs,
        run_id=run or None, settings=told, facts=adaptation.trainer.facts(), data=adaptation.stream.metadata, resumed=start,
    )  # fmt: skip
    if start and start.is_complete(adaptation.trainer.settings.max_iters):
        print_complete(run, start.iter_num)
        return
    raise typer.Exit(_run(attempt, adaptation, start))


def _run(run: Run, adaptation: Adaptation, start: ResumePoint | None) -> int:
    """Serve the stream to its end, record and tell it; returns the exit status."""
    trainer = adaptation.trainer
    trainer.required_measurements, trainer.pull_mode = (
        run.chain.required_measurements(),
        run.policy.hyperparameters["pull"],
    )
    first = start.iter_num if start else 0
    with nano.InterruptFlag() as interrupted, run:
        if start and start.path:
            trainer.restore(start.path, start.state)
            run.load_state_dict(start.state["run"])
        else:
            trainer.move_anchor(-1)
        enable_adapter(run, adaptation, first)
        with nano.ProgressLine(first, trainer.settings.max_iters, trainer.tokens_per_step) as line:
            reason, message = adapt_loop(run, adaptation, first, line, lambda: bool(interrupted))
        saved = trainer.meter.savings()
        run.finish(reason, message, val_loss=run.val_loss, backward_over_forward=saved.backward_over_forward,
                   compute_saved=saved.measured)  # fmt: skip
    print_summary(run, reason, message, saved, "adapt")
    _print_losses(run.state_dict()["custom"], run.settings)
    return EXIT_STATUS[reason]


def _resolve_checkpoint(runs: Path, asked: AdaptRequest) -> AdaptRequest:
    """The same with the checkpoint's whole ID; only an accepted one is taken unasked."""
    saved = find_checkpoint(runs, asked.from_run, asked.checkpoint)
    if saved.kind != "accepted" and not asked.checkpoint:
        raise RunError(
            f"run {asked.from_run!r} has no accepted checkpoint: its memory accepted none; "
            f"another one is taken by its ID: --checkpoint {saved.snapshot_id}"
        )
    return asked._replace(checkpoint=saved.snapshot_id)


def _adaptation(
    runs: Path, asked: AdaptRequest, overrides: Sequence[str], start: ResumePoint | None
) -> Adaptation:
    base = nano.load_base(ockham.RunFolder(runs, asked.from_run).checkpoint(asked.checkpoint))
    chosen = nano.adaptation_settings(base, overrides, start.settings if start else None)
    with nano.reading_progress(asked.data) as progress:
        new = nano.load_corpus(asked.data, base.vocab_size, progress)
    known = _load_familiar(runs, asked, base.vocab_size)
    made = nano.Adaptation(base, chosen, known, new, asked.share, asked.lora, asked.rank_of_adapter)
    if start and start.settings["weights_sha256"] != made.base_sha256:
        raise CheckpointError(f"{base.path}: has other weights than when the run was started from it")
    return made


def _request_from_settings(run: str, recorded: Mapping[str, Any]) -> AdaptRequest:
    """What a run that goes on was asked."""
    missing = [name for name in AdaptRequest._fields if name not in recorded]
    if missing:
        raise RunError(
            f"run {run!r} was not made by `ockham adapt`: `ockham train --run {run} --resume` goes on with it"
        )
    return AdaptRequest(**{name: recorded[name] for name in AdaptRequest._fields})


def _load_familiar(runs: Path, asked: AdaptRequest, vocab_size: int) -> Corpus:
    """The familiar text: named, or what the run was trained on, byte for byte."""
    if asked.familiar is not None:
        return nano.load_corpus(asked.familiar, vocab_size)
    before = ockham.find_resume_point(runs, asked.from_run)
    try:
        corpus = nano.load_corpus(before.settings.get("data"), vocab_size)
    except DataError as error:
        raise DataError(f"{error}; other familiar text is named by --familiar PATH") from None
    if corpus.metadata["sha256"] != before.data.get("sha256"):
        raise DataError(
            f"{corpus.metadata['name']} is not the text that run {asked.from_run!r} was trained on (another digest): "
            "name familiar text by --familiar PATH"
        )
    return corpus


def _measure_baseline(adaptation: Adaptation, policy: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Held-out losses of the checkpoint, and what each gate of the policy that wants it is calibrated to."""
    plugins = read_policy(policy, overrides).plugins
    gates = [
        name
        for name, own in plugins.items()
        if own.get("use", name) == "gate" and own.get("mode") == "calibrated"
    ]
    found = adaptation.stream.calibrate(adaptation.trainer.model)._asdict() if gates else {}
    losses = zip(TEXT_KINDS, adaptation.evaluate(), strict=True)
    return {"calibration": dict.fromkeys(gates, found), **{f"{name}_loss": one.loss for name, one in losses}}


def _settings_of(measured: Mapping[str, Any]) -> list[str]:
    """The calibration as settings of the policy: from there it decides, and replays."""
    gates = measured.get("calibration", {})
    return [
        f"{name}.familiar_{key}={found[key]!r}" for name, found in gates.items() for key in ("mean", "sd")
    ]


def _print_losses(custom: Mapping[str, float], before: Mapping[str, Any]) -> None:
    """Loss of new and familiar text: held out before and after, and as it was served."""
    table = Table("nats/token", "held out, before", "after", "as served", box=None)
    for name in TEXT_KINDS:
        values = before[f"{name}_loss"], custom.get(f"{name}_loss"), custom.get(f"served_{name}_loss")
        table.add_row(name, *["" if value is None else f"{value:.4f}" for value in values])
    table.add_row("stream", "", "", f"{custom.get('served_loss', math.nan):.4f}")
    console = Console(highlight=False)
    console.print()
    console.print(table)
