"""Train a GPT under a policy, and log every decision.

    python train.py                                   on the standard library's sources, preset balanced
    python train.py --data shakespeare.txt --policy tight --run night-1 --set max_iters=5000
    python train.py --set gate.target=0.3             a name with a dot is a setting of the policy
    python train.py --run night-1 --resume            continue night-1
    torchrun --nproc-per-node 4 -m -- ockham train    four ranks, one run

The same command is `ockham train`. Read this file first: it contains the complete training loop, and uses
public names only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import ockham
from ockham import cli, nano

if TYPE_CHECKING:
    from ockham import OccamContext, Policy, ResumePoint, Run
    from ockham.nano import DistributedRanks, ProgressLine, Settings, Trainer
    from ockham.record.tlog.note import VerifierKey

EXIT_STATUS = {
    "COMPLETED": 0,
    "HALTED_BY_POLICY": 1,
    "NO_ANCHOR": 1,
    "STOPPED_BY_USER": 4,
    "INTERRUPTED": 130,
}


def train(
    run: Run, trainer: Trainer, first: int, progress_line: ProgressLine, interrupted: Callable[[], bool]
) -> tuple[str, str | None]:
    """Train from iteration `first`. Return the reason code of the end and a message for people.

    On a GPU, `finish_batch` computes the loss of the next batch before it reads the gauges of this one. So
    the GPU never waits for the host. Order and values are the same as without.
    """
    total, micro_steps = trainer.settings.max_iters, trainer.settings.gradient_accumulation_steps
    evaluation_interval = max(1, total // run.policy.hyperparameters["evaluations"])
    for iter_num in range(first, total):
        evaluation_due = (iter_num + 1) % evaluation_interval == 0
        checkpoint_due = is_checkpoint_due(trainer.settings, iter_num + 1)
        ockham.before_step(run, trainer, iter_num)
        for micro_step in range(micro_steps):
            # Forward, decide, backward. The chain sees the loss before the backward pass.
            task_loss = trainer.forward(iter_num, micro_step)
            with trainer.meter.stage("chain"):
                fields = trainer.context_fields(iter_num, micro_step)
                rows = trainer.batches.data_position(iter_num, micro_step)
                ctx = run.start_batch(iter_num, task_loss, micro_step, data=rows, **fields)
            trainer.backward(ctx)
            # Gradients: plugins see their norm before clipping and step.
            if run.acts_on_gradients and (norm := trainer.measure_gradients(ctx)) is not None:
                with trainer.meter.stage("chain"):
                    run.gradients(ctx, grad_norm=norm)
            # Step: the optimizer applies the accepted micro-batches after the last one.
            is_last = micro_step == micro_steps - 1
            must_stop = interrupted() or (is_last and (evaluation_due or checkpoint_due))
            applied, gauges, seconds = trainer.finish_batch(ctx, forward_next=not must_stop)
            # Record.
            with trainer.meter.stage("chain"):
                run.end_batch(ctx, applied=applied, seconds=seconds, **gauges)
        # Evaluate, save accepted weights, move the anchor, roll back or halt.
        evaluation = trainer.evaluate() if evaluation_due or ctx.consolidating else None
        end_reason = ockham.after_step(
            run, trainer, ctx, evaluation, trigger="SCHEDULE" if evaluation_due else "CONSOLIDATION"
        )
        progress_line.show(iter_num, ctx.task_loss, ctx.update_rate, ctx.val_loss)
        if interrupted() and end_reason is None:
            end_reason = "INTERRUPTED", None
        if end_reason or checkpoint_due:
            save_state(run, trainer, ctx)
        if end_reason:
            return end_reason
    return "COMPLETED", None


def is_checkpoint_due(settings: Settings, done: int) -> bool:
    """Return True after the last step, and after each interval of checkpoints and of states.

    A rollback returns to a state of the interval `state_every`.
    """
    total, state_interval = settings.max_iters, settings.state_every or settings.max_iters
    checkpoint_interval = settings.checkpoint_every or settings.state_every or max(1, total // 5)
    return done == total or done % checkpoint_interval == 0 or done % state_interval == 0


def save_state(run: Run, trainer: Trainer, ctx: OccamContext) -> None:
    """Save a checkpoint from which the run can be resumed, and to which it can be rolled back."""
    keep, every = trainer.settings.keep_states, trainer.settings.state_every
    run.save_checkpoint(ctx, "resume", trainer.make_checkpoint_files, keep=keep, state_every=every)


def main(
    policy: Annotated[
        str,
        typer.Option(
            metavar="NAME_OR_FILE",
            help="Preset (tight, balanced, exploratory, observe, adapt), or policy file such as ./mine.yaml.",
            show_default="balanced",
        ),
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Text file, folder of text, or folder with train.bin; "
            "default: the sources of Python's standard library.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Model size: demo, nano, micro, gpt2, gpt2-medium, gpt2-large or gpt2-xl.",
            show_default="nano",
        ),
    ] = "",
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Architecture and optimizer: nanogpt, or fast (Muon, rotary positions and more).",
            show_default="nanogpt",
        ),
    ] = "",
    init_from: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Hugging Face folder of a GPT-2 (safetensors) to start from.",
            show_default=False,
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
            help="Setting of the trainer (max_iters=600) or of the policy (gate.target=0.3); "
            "may be repeated. `ockham schema settings` lists them.",
        ),
    ] = [],  # noqa: B006 - Typer copies the default
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue --run from its newest checkpoint.")
    ] = False,
    resume_from: cli.ResumeFromOption = "",
    key: cli.KeyOption = None,
    key_file: cli.KeyFileOption = None,
    trust_key: cli.TrustKeyOption = None,
    device: cli.DeviceOption = "",
    runs: cli.RunsOption = cli.DEFAULT_RUNS,
) -> None:
    """Train a GPT under a policy and log every decision.

    Ctrl-C and `ockham stop` end the run after the current step; `--resume` continues it. With torchrun,
    write `--` after `-m`, because torchrun on Python 3.11 otherwise takes --run as one of its own options.

    Examples:
      ockham train --size demo

      ockham train --policy tight --set max_iters=600

      ockham train --data my_texts/ --run night-1 --set gate.target=0.55

      ockham train --init-from gpt2/ --data my_tokens/ --set max_iters=200

      ockham train --run night-1 --resume

      torchrun --standalone --nproc-per-node 2 -m -- ockham train --run night-2
    """
    typed = {"device": device, "init_from": init_from}
    changed = [*settings, *(f"{name}={text}" for name, text in typed.items() if text)]
    with nano.DistributedRanks() as ranks:
        with ranks.raise_on_all():
            trainer_overrides, policy_overrides = nano.split_overrides(changed)
            keys = cli.read_trusted_keys(key, key_file)
            start = find_resume_point(ranks, runs, run, keys, resume=resume, resume_from=resume_from)
            policy_to_use: Policy | None = None  # on resume the one that the run was last under
            if start is None or policy:
                policy_to_use = ockham.load_policy(policy or "balanced", policy_overrides)
            recorded = start.settings if start else {}
            resolved_settings = nano.build_settings(size, trainer_overrides, recorded or None, recipe=recipe)
        resolved_settings = ranks.init_groups(resolved_settings)
        run = run or ranks.broadcast(ockham.new_run_id())
        with ranks.raise_on_all():
            source = data or recorded.get("data")
            with nano.reading_progress(source, quiet=ranks.rank > 0 or cli.is_quiet()) as progress:
                corpus = nano.load_corpus(source, resolved_settings.vocab_size, progress)
            trainer = nano.make_trainer(resolved_settings, corpus, ranks)
            if resolved_settings.init_from and not (start and start.path):
                nano.init_from_pretrained(trainer)
            recorded_run = ockham.Run(
                policy_to_use,
                overrides=policy_overrides,
                runs=runs,
                run_id=run,
                settings={**trainer.recorded_settings(), "data": source and str(source)},
                facts=trainer.facts(),
                data=corpus.metadata,
                resumed=start,
                rank=ranks.rank,
                world_size=ranks.world_size,
                all_gather=ranks.all_gather,
                request_keys=cli.read_trusted_keys(trust_key, None),
            )
        if start and start.is_complete(resolved_settings.max_iters):
            if ranks.rank == 0:
                cli.print_complete(run, start.iter_num)
            return
        run_training(recorded_run, trainer, ranks, start)


def run_training(run: Run, trainer: Trainer, ranks: DistributedRanks, start: ResumePoint | None) -> None:
    """Restore the state of `start`, train, end the run and print a summary. Raises Exit with the status."""
    trainer.configure(
        pull=run.policy.hyperparameters["pull"], required_measurements=run.chain.required_measurements()
    )
    first = start.iter_num if start else 0
    if start and start.path:
        trainer.restore(start.path, start.state)
    elif trainer.settings.effective_warmup_iters == 0:
        trainer.move_anchor(-1)
    with nano.InterruptFlag() as ranks.interrupt, run, ranks.with_timeout_watchdog(run.finish):
        if start and start.path:
            run.load_state_dict(start.state["run"])
        flops_per_token = trainer.model.training_flops(1)
        peak = nano.peak_tokens_per_second(trainer.device_name, flops_per_token, ranks.world_size)
        with nano.ProgressLine(
            first,
            trainer.settings.max_iters,
            trainer.tokens_per_step,
            quiet=ranks.rank > 0 or cli.is_quiet(),
            peak=peak,
        ) as progress_line:
            reason, message = train(run, trainer, first, progress_line, lambda: ranks.stop_requested)
        run.finish(reason, message, val_loss=run.val_loss)
    if ranks.rank == 0:
        cli.print_summary(run, reason, message)
    raise typer.Exit(EXIT_STATUS[reason])


def find_resume_point(
    ranks: DistributedRanks,
    runs: Path,
    run: str,
    keys: list[VerifierKey],
    *,
    resume: bool,
    resume_from: str,
) -> ResumePoint | None:
    """Return where to continue, or None for a new run.

    A process that torchrun restarts continues by itself, if --resume is set.
    """
    resume = resume or bool(resume_from)
    if resume and not run:
        raise ockham.BadInputError("--resume and --resume-from require --run ID")
    if ranks.max_restarts and not resume:
        raise ockham.BadInputError(
            "torchrun --max-restarts requires --run ID --resume; "
            "the first start begins the run, and each restart continues it"
        )
    if not resume or (ranks.max_restarts and not ockham.RunFolder(runs, run).exists()):
        return None
    start = ockham.find_resume_point(
        runs, run, rank=ranks.rank, world_size=ranks.world_size, snapshot_id=resume_from, keys=keys
    )
    if ranks.rank == 0:
        cli.print_skipped_checkpoints(start)
    return start


if __name__ == "__main__":
    cli.run(main)
