"""What a run has learnt: sample, and its weights for others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ockham.cli.options import RunsOption

RUNS = Path("runs")
CheckpointOption = Annotated[str, typer.Option("--checkpoint", metavar="ID", help="Checkpoint, or a unique beginning of its ID; default: the newest accepted one.")]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    for verb in (sample, weights):
        app.command()(verb)


def sample(
    run: Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")],
    checkpoint: CheckpointOption = "",
    prompt: Annotated[str, typer.Option(help="Text to go on from.", show_default="a line end")] = "\n",
    tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many to draw.")] = 500,
    temperature: Annotated[float, typer.Option(min=0.0, max=100.0, help="Above 1: bolder, below: safer; 0: always the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Draw among so many of the likeliest tokens; 0: among all.")] = 200,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same text.")] = 1337,
    tokenizer: Annotated[str, typer.Option(metavar="NAME|DIR", help="As --encoding of `ockham tokenize`; default: what lies beside the run's data.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    runs: RunsOption = RUNS,
) -> None:  # fmt: skip
    """Write text with a checkpoint.

    Which one it was, who accepted it and its loss are told on stderr. The files must be those that the log names, byte for byte.

    Examples:
      ockham sample night-1 --prompt "def " --tokens 200

      ockham sample night-1 --checkpoint resume-00000599 --temperature 0 > text
    """
    from ockham.cli.checkpoint_lookup import find_checkpoint
    from ockham.cli.options import resolve_run_id
    from ockham.errors import BadInputError
    from ockham.formatting import format_cell
    from ockham.nano.sample import decode_stream, generate_tokens, load_checkpoint, make_codec
    from ockham.record.run_folder import RunFolder

    run_id = resolve_run_id(runs, run)
    saved = find_checkpoint(runs, run_id, checkpoint)
    about = json.loads(RunFolder(runs, run_id).run_json.read_bytes())
    codec = make_codec(about["data"], about["settings"].get("data"), tokenizer)
    begin = codec.tokens(prompt)
    if not begin:
        raise BadInputError("--prompt is empty: give at least one letter, or a newline")
    model, _ = load_checkpoint(saved.folder, device)
    if max(begin) >= model.vocab_size:
        raise BadInputError(
            f"the prompt has token {max(begin)}, and the model knows {model.vocab_size}; another --tokenizer?"
        )
    typer.echo(saved.describe(), err=True)
    terminal = sys.stdout.isatty()
    drawn = generate_tokens(model, begin, tokens, vocab_limit=min(codec.vocab_size, model.vocab_size), temperature=temperature, top_k=top_k,
                 seed=seed)  # fmt: skip
    sys.stdout.write(prompt)
    for text in decode_stream(drawn, codec):
        parts = text.split("\n")
        sys.stdout.write("\n".join(map(format_cell, parts)) if terminal else text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def weights(
    run: Annotated[str, typer.Argument(help="Run ID, or a unique beginning.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="New folder.")],
    checkpoint: CheckpointOption = "",
    runs: RunsOption = RUNS,
) -> None:
    """Write a checkpoint's weights as a Hugging Face folder.

    `GPT2LMHeadModel.from_pretrained` reads it.

    Examples:
      ockham weights night-1 --to night-1-gpt2
    """
    from dataclasses import asdict

    from ockham.cli.checkpoint_lookup import find_checkpoint
    from ockham.cli.options import resolve_run_id
    from ockham.errors import BadInputError
    from ockham.nano.pretrained import export_hf_files
    from ockham.nano.sample import load_checkpoint
    from ockham.record.checkpoints import write_checkpoint

    saved = find_checkpoint(runs, resolve_run_id(runs, run), checkpoint)
    if to.exists():
        raise BadInputError(f"{to} is there already; give --to a new folder")
    model, settings = load_checkpoint(saved.folder, "cpu")
    write_checkpoint(
        to.absolute(), export_hf_files(dict(model.named_parameters()), asdict(settings), model.vocab_size)
    )
    typer.echo(f"{to}: {saved.describe()}", err=True)
