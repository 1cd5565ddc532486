"""`ockham adapt`: adapt a checkpoint to new text while it is served."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

import ockham
from ockham import nano
from ockham.cli.adapt_loop import adapt_loop, enable_adapter
from ockham.cli.checkpoint_lookup import find_checkpoint
from ockham.cli.options import (
    DEFAULT_RUNS,
    DeviceOption,
    KeyFileOption,
    KeyOption,
    ResumeFromOption,
    RunsOption,
    TrustKeyOption,
    read_trusted_keys,
    resolve_run_id,
)
from ockham.cli.output import is_quiet
from ockham.cli.summary import print_complete, print_skipped_checkpoints, print_summary
from ockham.errors import BadInputError, CheckpointError, DataError, RunError

if TYPE_CHECKING:
    from ockham import ResumePoint, Run
    from ockham.nano import Adaptation, Corpus
    from ockham.record.tlog.note import VerifierKey

EXIT_STATUS = {"COMPLETED": 0, "HALTED_BY_POLICY": 1, "STOPPED_BY_USER": 4, "INTERRUPTED": 130}
DEFAULT_POLICY = "adapt"
TEXT_KINDS = ("new", "familiar")


class AdaptRequest(NamedTuple):
    """Model and text of an adaptation, as stored in the settings of the run."""

    from_run: str
    checkpoint: str
    data: str
    familiar: str | None
    share: float
    lora: list[str]
    rank_of_adapter: int


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(adapt)


def adapt(
    base_run: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Run whose checkpoint is adapted: ID, or a unique prefix. Required without --resume.",
            show_default=False,
        ),
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="New text: a file, a folder of text, or a folder with train.bin. Required without --resume.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint",
            metavar="ID",
            help="Checkpoint of that run; default: the newest accepted one.",
            show_default=False,
        ),
    ] = "",
    familiar: Annotated[
        Path | None,
        typer.Option(
            "--familiar",
            metavar="PATH",
            help="Familiar text; default: the training data of the run. Its validation text is used.",
            show_default=False,
        ),
    ] = None,
    share: Annotated[
        float, typer.Option("--share", min=0.0, max=1.0, help="Share of batches that are new text.")
    ] = 0.15,
    z: Annotated[
        float | None,
        typer.Option(
            "--z",
            help="Threshold in standard deviations above the familiar loss (gate.z). Higher values skip more "
            "batches and forget more.",
            show_default=False,
        ),
    ] = None,
    lora: Annotated[
        str,
        typer.Option(
            "--lora",
            metavar="LAYER,LAYER,...",
            help="Train only a low-rank adapter on these linear layers, with wildcards: h.2.*,h.3.*",
            show_default=False,
        ),
    ] = "",
    rank: Annotated[int, typer.Option("--rank", min=1, help="Rank of the adapter.")] = 4,
    policy: Annotated[
        str,
        typer.Option(
            "--policy",
            metavar="NAME_OR_FILE",
            help="Preset, or policy file such as ./mine.yaml.",
            show_default="adapt",
        ),
    ] = "",
    run: Annotated[
        str,
        typer.Option(
            "--run", metavar="RUN", help="Run ID; default: created from the time.", show_default=False
        ),
    ] = "",
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Setting of the trainer (learning_rate=3e-4) or of the policy (gate.z=2); may be repeated. "
            "`ockham schema settings` lists them.",
        ),
    ] = [],  # noqa: B006 - Typer copies the default
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue --run from its newest checkpoint.")
    ] = False,
    resume_from: ResumeFromOption = "",
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    trust_key: TrustKeyOption = None,
    device: DeviceOption = "",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Adapt a checkpoint to new text while it is served.

    The gate updates where the text is not familiar. First it is calibrated on familiar text: mean and
    standard deviation of the batch loss. Every batch is predicted and scored before it may update. The
    learning rate is constant, without weight decay. With --lora the weights do not change and an adapter
    is trained, which is disabled in less than a millisecond.

    Examples:
      ockham adapt --from night-1 --data my_cpp/ --z 1

      ockham adapt --from night-1 --data my_cpp/ --lora "h.2.*,h.3.*" --rank 4 --set learning_rate=1e-3
    """
    start = None
    if resume or resume_from:
        start = _find_resume_point(runs, run, resume_from, read_trusted_keys(key, key_file))
    if start is not None:
        request = _request_from_settings(run, start.settings)
    elif base_run and data is not None:
        layers = [name.strip() for name in lora.split(",") if name.strip()]
        familiar_path = str(familiar) if familiar else None
        run_id = resolve_run_id(runs, base_run)
        request = AdaptRequest(run_id, checkpoint, str(data), familiar_path, share, layers, rank)
    else:
        raise BadInputError("adapt requires --from RUN and --data PATH, or --resume with --run ID")
    device_settings = [f"device={device}"] if device else []
    trainer_overrides, policy_overrides = nano.split_overrides([*settings, *device_settings])
    if z is not None:
        policy_overrides = [*policy_overrides, f"gate.z={z!r}"]
    request = _resolve_checkpoint(runs, request)
    adaptation = _load_adaptation(runs, request, trainer_overrides, start)
    request_keys = read_trusted_keys(trust_key, None)
    attempt = _prepare_run(request, adaptation, runs, run, policy, policy_overrides, start, request_keys)
    if start and start.is_complete(adaptation.trainer.settings.max_iters):
        print_complete(run, start.iter_num)
        return
    raise typer.Exit(_serve(attempt, adaptation, start))


def _find_resume_point(runs: Path, run: str, resume_from: str, keys: Sequence[VerifierKey]) -> ResumePoint:
    if not run:
        raise BadInputError("--resume and --resume-from require --run ID")
    start = ockham.find_resume_point(runs, run, snapshot_id=resume_from, keys=keys)
    print_skipped_checkpoints(start)
    return start


def _prepare_run(
    request: AdaptRequest,
    adaptation: Adaptation,
    runs: Path,
    run: str,
    policy: str,
    policy_overrides: list[str],
    start: ResumePoint | None,
    request_keys: Sequence[VerifierKey],
) -> Run:
    """Measure the baseline of a new run, and return the Run that records the adaptation."""
    baseline: dict[str, Any] = {}
    if start is None:
        baseline = _measure_baseline(adaptation, policy or DEFAULT_POLICY, policy_overrides)
    recorded_settings = {
        **(start.settings if start else {}),
        **adaptation.trainer.recorded_settings(),
        **request._asdict(),
        **baseline,
        "weights_sha256": adaptation.base_sha256,
    }
    default_policy = None if start else DEFAULT_POLICY
    return ockham.Run(
        policy or default_policy,
        overrides=[*_calibration_overrides(baseline), *policy_overrides],
        runs=runs,
        run_id=run or None,
        settings=recorded_settings,
        facts=adaptation.trainer.facts(),
        data=adaptation.stream.metadata,
        resumed=start,
        request_keys=request_keys,
    )


def _serve(run: Run, adaptation: Adaptation, start: ResumePoint | None) -> int:
    """Serve the stream to its end, print the summary, and return the exit status."""
    trainer = adaptation.trainer
    trainer.required_measurements = run.chain.required_measurements()
    trainer.pull_mode = run.policy.hyperparameters["pull"]
    first_iter = start.iter_num if start else 0
    with nano.InterruptFlag() as interrupted, run:
        if start and start.path:
            trainer.restore(start.path, start.state)
            run.load_state_dict(start.state["run"])
        else:
            trainer.move_anchor(-1)
        enable_adapter(run, adaptation, first_iter)
        steps = trainer.settings.max_iters
        with nano.ProgressLine(first_iter, steps, trainer.tokens_per_step, quiet=is_quiet()) as line:
            reason, message = adapt_loop(run, adaptation, first_iter, line, lambda: bool(interrupted))
        run.finish(reason, message, val_loss=run.val_loss)
    print_summary(run, reason, message, "adapt")
    _print_losses(run.state_dict()["custom"], run.settings)
    return EXIT_STATUS[reason]


def _resolve_checkpoint(runs: Path, request: AdaptRequest) -> AdaptRequest:
    """Return the request with the full checkpoint ID. Without --checkpoint only an accepted one is used."""
    found = find_checkpoint(runs, request.from_run, request.checkpoint)
    if found.kind != "accepted" and not request.checkpoint:
        raise RunError(
            f"run {request.from_run!r} has no accepted checkpoint; "
            f"pass another one with --checkpoint {found.snapshot_id}"
        )
    return request._replace(checkpoint=found.snapshot_id)


def _load_adaptation(
    runs: Path, request: AdaptRequest, overrides: Sequence[str], start: ResumePoint | None
) -> Adaptation:
    base = nano.load_base(ockham.RunFolder(runs, request.from_run).checkpoint(request.checkpoint))
    settings = nano.adaptation_settings(base, overrides, start.settings if start else None)
    with nano.reading_progress(request.data, quiet=is_quiet()) as progress:
        new_text = nano.load_corpus(request.data, base.vocab_size, progress)
    familiar_text = _load_familiar(runs, request, base.vocab_size)
    adaptation = nano.Adaptation(
        base, settings, familiar_text, new_text, request.share, request.lora, request.rank_of_adapter
    )
    if start and start.settings["weights_sha256"] != adaptation.base_sha256:
        raise CheckpointError(f"{base.path}: the weights changed since the run started from them")
    return adaptation


def _request_from_settings(run: str, recorded: Mapping[str, Any]) -> AdaptRequest:
    """Return the request of a run that is resumed."""
    missing = [name for name in AdaptRequest._fields if name not in recorded]
    if missing:
        raise RunError(
            f"run {run!r} was not started by `ockham adapt`; "
            f"continue it with `ockham train --run {run} --resume`"
        )
    return AdaptRequest(**{name: recorded[name] for name in AdaptRequest._fields})


def _load_familiar(runs: Path, request: AdaptRequest, vocab_size: int) -> Corpus:
    """Load the familiar text: that of --familiar, or the unchanged training data of the run."""
    if request.familiar is not None:
        return nano.load_corpus(request.familiar, vocab_size)
    # Only settings and data are needed, whatever the state of the checkpoints.
    from ockham.record.verify.run import own_keys

    keys = own_keys(ockham.RunFolder(runs, request.from_run))
    base_run = ockham.find_resume_point(runs, request.from_run, snapshot_id="start", keys=keys)
    try:
        corpus = nano.load_corpus(base_run.settings.get("data"), vocab_size)
    except DataError as error:
        raise DataError(f"{error}; pass other familiar text with --familiar PATH") from None
    if corpus.metadata["sha256"] != base_run.data.get("sha256"):
        raise DataError(
            f"{corpus.metadata['name']}: not the training data of run {request.from_run!r} "
            "(the digest differs); "
            "pass familiar text with --familiar PATH"
        )
    return corpus


def _measure_baseline(adaptation: Adaptation, policy: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the validation losses of the checkpoint, and the calibration of each calibrated gate."""
    from ockham.policy.document import read_policy

    plugins = read_policy(policy, overrides).plugins
    gates = [
        name
        for name, settings in plugins.items()
        if settings.get("use", name) == "gate" and settings.get("mode") == "calibrated"
    ]
    calibration = adaptation.stream.calibrate(adaptation.trainer.model)._asdict() if gates else {}
    evaluations = zip(TEXT_KINDS, adaptation.evaluate(), strict=True)
    losses = {f"{kind}_loss": evaluation.loss for kind, evaluation in evaluations}
    return {"calibration": dict.fromkeys(gates, calibration), **losses}


def _calibration_overrides(baseline: Mapping[str, Any]) -> list[str]:
    """Return the calibration as settings of the policy, so that a replay has it too."""
    return [
        f"{gate}.familiar_{key}={calibration[key]!r}"
        for gate, calibration in baseline.get("calibration", {}).items()
        for key in ("mean", "sd")
    ]


def _print_losses(custom: Mapping[str, float], baseline: Mapping[str, Any]) -> None:
    """Print the losses on new and familiar text: validation before and after, and as served."""
    from rich.console import Console
    from rich.table import Table

    table = Table("nats/token", "validation before", "after", "as served", box=None)
    for kind in TEXT_KINDS:
        values = baseline[f"{kind}_loss"], custom.get(f"{kind}_loss"), custom.get(f"served_{kind}_loss")
        table.add_row(kind, *["" if value is None else f"{value:.4f}" for value in values])
    table.add_row("stream", "", "", f"{custom.get('served_loss', math.nan):.4f}")
    console = Console(highlight=False)
    console.print()
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        console.print(line.rstrip(), markup=False)
