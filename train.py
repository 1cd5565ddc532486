"""Train a GPT under a policy; every decision on the way is logged.

    python train.py                                   the standard library's own sources, preset balanced
    python train.py --data shakespeare.txt --preset tight --run night-1 --set max_iters=5000
    python train.py --set gate.target=0.3             a setting with a dot is the policy's
    python train.py --run night-1 --resume            go on where night-1 stopped
    torchrun --nproc-per-node 4 -m ockham train       four ranks, one run

The same command is `ockham train`. Read this file first: it is the whole loop, and uses public names only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import ockham
from ockham import cli, nano

if TYPE_CHECKING:
    from ockham import OccamContext, Policy, ResumePoint, Run
    from ockham.nano import DistributedRanks, ProgressLine, Trainer

EXIT_STATUS = {"COMPLETED": 0, "HALTED_BY_POLICY": 1, "NO_ANCHOR": 1, "INTERRUPTED": 130}
EndReason = tuple[str, str | None]  # reason code and, for people, a sentence


def start_batch(
    run: Run, trainer: Trainer, iter_num: int, micro_step: int, task_loss: float
) -> Callable[[], OccamContext]:
    """A verdict, and what it asks for; returns what ends the batch.

    The optimizer steps after the last micro-batch, on what the accepted ones left.
    """
    with trainer.meter.stage("chain"):
        ctx = run.start_batch(iter_num, task_loss, micro_step, **trainer.context_fields(iter_num, micro_step))
    trainer.backward(ctx)
    last = micro_step == trainer.settings.gradient_accumulation_steps - 1
    measured = trainer.step_async() if last else lambda: (False, {})
    stages = trainer.meter.finish_batch(updated=ctx.updated)

    def end() -> OccamContext:
        stepped, gauges = measured()
        seconds = stages()
        with trainer.meter.stage("chain"):
            return run.end_batch(
                ctx, stepped=stepped, applied={"updated": stepped}, seconds=seconds, **gauges
            )

    return end


def after_step(run: Run, trainer: Trainer, ctx: OccamContext, *, evaluation_due: bool) -> EndReason | None:
    """What may follow a step: evaluation, an accepted checkpoint, a new anchor, a rollback, the end."""
    if evaluation_due or ctx.consolidating:
        found = trainer.evaluate()
        trigger = "SCHEDULE" if evaluation_due else "CONSOLIDATION"
        run.evaluate(ctx, found.loss, standard_error=found.standard_error, tokens=found.tokens,
                     seconds=found.seconds, trigger=trigger)  # fmt: skip
        if ctx.accepted:
            run.save_checkpoint(ctx, "accepted", trainer.make_checkpoint_files)
        if ctx.consolidating:
            run.record_consolidation(ctx, drift=trainer.move_anchor(ctx.iter_num))
    if ctx.rollback:
        if trainer.anchor is None:
            return "NO_ANCHOR", "a rollback was asked for before there was an anchor"
        anchor_iter, drift, seconds = trainer.roll_back()
        run.record_rollback(ctx, anchor_iter_num=anchor_iter, drift=drift, seconds=seconds)
    return ("HALTED_BY_POLICY", f"halted by decision {run.decision_id('halt')}") if ctx.halt else None


def train(
    run: Run, trainer: Trainer, first: int, progress_line: ProgressLine, interrupted: Callable[[], bool]
) -> EndReason:
    """The loop, from iteration `first`; returns why it ended.

    On a GPU (`trainer.late`) a batch ends after the next one's loss has been read: its gauges are there by then, and
    nothing waits. It ends at once where something is due after it, and everywhere on a CPU. Order and values are the same.
    """
    total, micro_steps = trainer.settings.max_iters, trainer.settings.gradient_accumulation_steps
    evaluate_every = max(1, total // run.policy.hyperparameters["evaluations"])
    keep_every = trainer.settings.checkpoint_every or max(1, total // 5)

    def finish(
        end: Callable[[], OccamContext],
        *,
        is_last_micro_step: bool,
        evaluation_due: bool,
        checkpoint_due: bool,
    ) -> EndReason | None:
        ctx = end()
        if not is_last_micro_step:
            return None
        ended = after_step(run, trainer, ctx, evaluation_due=evaluation_due)
        progress_line.show(ctx.iter_num, ctx.task_loss, ctx.update_rate, ctx.val_loss)
        if interrupted() and ended is None:
            ended = "INTERRUPTED", None
        if ended or checkpoint_due:
            trainer.discard_forward()
            run.save_checkpoint(ctx, "resume", trainer.make_checkpoint_files)
        return ended

    pending_batch: Callable[[], EndReason | None] | None = None
    for done in range(first * micro_steps, total * micro_steps):
        iter_num, micro_step = divmod(done, micro_steps)
        task_loss = trainer.forward(iter_num, micro_step)
        if pending_batch is not None:
            ended, pending_batch = pending_batch(), None
            if ended is not None:
                return ended
            if not trainer.has_pending_loss:  # a rollback threw the forward away
                task_loss = trainer.forward(iter_num, micro_step)
        is_last_micro_step = micro_step == micro_steps - 1
        evaluation_due = is_last_micro_step and (iter_num + 1) % evaluate_every == 0
        checkpoint_due = is_last_micro_step and ((iter_num + 1) % keep_every == 0 or iter_num == total - 1)
        end = start_batch(run, trainer, iter_num, micro_step, task_loss)
        pending_batch = partial(
            finish,
            end,
            is_last_micro_step=is_last_micro_step,
            evaluation_due=evaluation_due,
            checkpoint_due=checkpoint_due,
        )
        if not trainer.deferred_metrics or evaluation_due or checkpoint_due or interrupted():
            ended, pending_batch = pending_batch(), None
            if ended:
                return ended
    return "COMPLETED", None


def main(
    preset: Annotated[str, typer.Option(help="Policy by name: tight, balanced, exploratory, observe.")] = "",
    policy: Annotated[Path | None, typer.Option(help="Policy of your own, a YAML file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Text file, folder of text, or folder with train.bin; default: the standard library's sources.")] = None,
    size: Annotated[str, typer.Option(help="Model by name: demo, nano (the default), micro, gpt2, gpt2-medium, gpt2-large, gpt2-xl.")] = "",
    recipe: Annotated[str, typer.Option(help="Mathematics by name: nanogpt (the default), or fast (Muon, rotary positions and more).")] = "",
    init_from: Annotated[str, typer.Option(metavar="FOLDER", help="Hugging Face folder of a GPT-2 (safetensors) to start from.")] = "",
    run: Annotated[str, typer.Option("--run", "--run-id", help="Run ID; default: made from the time. Under torchrun, which takes --run for its own: --run-id.")] = "",
    settings: Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="Setting of the trainer (max_iters=600) or of the policy (gate.target=0.3).")] = [],  # noqa: B006 - typer's way
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --run from its newest checkpoint.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "",
    runs: cli.RunsOption = Path("runs"),
) -> None:  # fmt: skip
    """Train a GPT under a policy that logs every decision.

    Without --data it reads the Python standard library's own sources. Ctrl-C ends after the step, valid and resumable.

    Examples:
      ockham train --preset tight --set max_iters=600

      ockham train --data my_texts/ --run night-1 --set gate.target=0.55

      ockham train --init-from gpt2/ --data my_tokens/ --set max_iters=200

      ockham train --run night-1 --resume
    """
    if preset and policy:
        raise ockham.BadInputError(
            f"--preset {preset} and --policy {policy} name a policy each: give one of them"
        )
    typed = {"device": device, "init_from": init_from}
    changed = [*settings, *(f"{name}={text}" for name, text in typed.items() if text)]
    with nano.DistributedRanks() as ranks:
        with ranks.raise_on_all():
            trainer_overrides, policy_overrides = nano.split_overrides(changed)
            start = find_resume_point(ranks, runs, run, resume=resume)
            policy_to_use: Policy | None = None  # on resume the one that the run was last under
            if start is None or policy or preset:
                policy_to_use = ockham.load_policy(policy or preset or "balanced", policy_overrides)
            recorded = start.settings if start else {}
            resolved_settings = nano.build_settings(size, trainer_overrides, recorded or None, recipe=recipe)
        resolved_settings, run = (
            ranks.init_groups(resolved_settings),
            run or ranks.broadcast(ockham.new_run_id()),
        )
        with ranks.raise_on_all():
            source = data or recorded.get("data")
            with nano.reading_progress(source, quiet=ranks.rank > 0) as progress:
                corpus = nano.load_corpus(source, resolved_settings.vocab_size, progress)
            trainer = nano.make_trainer(resolved_settings, corpus, ranks)
            if resolved_settings.init_from and not (start and start.path):
                nano.init_from_pretrained(trainer)
            recorded_settings = {
                **asdict(trainer.settings),
                "threads": trainer.threads,
                "data": source and str(source),
            }
            recorded_run = ockham.Run(
                policy_to_use, overrides=policy_overrides, runs=runs, run_id=run, settings=recorded_settings,
                facts=trainer.facts(), data=corpus.metadata, resumed=start, rank=ranks.rank,
                world_size=ranks.world_size, all_gather=ranks.all_gather,
            )  # fmt: skip
        if start and start.is_complete(resolved_settings.max_iters):
            if ranks.rank == 0:
                cli.print_complete(run, start.iter_num)
            return
        run_training(recorded_run, trainer, ranks, start)


def run_training(run: Run, trainer: Trainer, ranks: DistributedRanks, start: ResumePoint | None) -> None:
    """Take up the state where there is one, train, end the run, tell; leaves with the exit status."""
    trainer.required_measurements, trainer.pull_mode = (
        run.chain.required_measurements(),
        run.policy.hyperparameters["pull"],
    )
    first = start.iter_num if start else 0
    if start and start.path:
        trainer.restore(start.path, start.state)
    elif trainer.settings.effective_warmup_iters == 0:
        trainer.move_anchor(-1)
    with nano.InterruptFlag() as ranks.interrupt, run, ranks.with_timeout_watchdog(run.finish):
        if start and start.path:
            run.load_state_dict(start.state["run"])
        steps = trainer.settings.max_iters
        peak = nano.peak_tokens_per_second(
            trainer.device_name, trainer.model.training_flops(1), ranks.world_size
        )
        with nano.ProgressLine(
            first, steps, trainer.tokens_per_step, quiet=ranks.rank > 0, peak=peak
        ) as progress_line:
            reason, message = train(run, trainer, first, progress_line, lambda: ranks.stop_requested)
        saved = trainer.meter.savings()
        run.finish(reason, message, val_loss=run.val_loss, backward_over_forward=saved.backward_over_forward,
                   compute_saved=saved.measured)  # fmt: skip
    if ranks.rank == 0:
        cli.print_summary(run, reason, message, saved)
    raise typer.Exit(EXIT_STATUS[reason])


def find_resume_point(ranks: DistributedRanks, runs: Path, run: str, *, resume: bool) -> ResumePoint | None:
    """Where to go on; None for a new run. What torchrun starts again goes on by itself, if it may."""
    if resume and not run:
        raise ockham.BadInputError("--resume goes on with a run: say which one with --run ID")
    if ranks.max_restarts and not resume:
        raise ockham.BadInputError(
            "torchrun --max-restarts starts this again after a failure: give --run-id ID --resume, "
            "which begins the run the first time and goes on with it after that"
        )
    if not resume or (ranks.max_restarts and not ockham.RunFolder(runs, run).exists()):
        return None
    return ockham.find_resume_point(runs, run, rank=ranks.rank, world_size=ranks.world_size)


if __name__ == "__main__":
    cli.run(main)
