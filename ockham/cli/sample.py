"""`ockham sample`, `weights` and `tokenize`: text from a checkpoint, weights for other tools, token files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ockham.cli.options import DEFAULT_RUNS, DeviceOption, RunArgument, RunsOption, resolve_run_id
from ockham.cli.output import is_quiet, pluralize, print_note
from ockham.errors import BadInputError
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SKIPPED_FILES = 3
CheckpointOption = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        metavar="ID",
        help="Checkpoint ID, or a unique prefix of it; default: the newest accepted one.",
        show_default=False,
    ),
]
NewFolderOption = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="New folder.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (sample, weights, tokenize):
        app.command()(command)


def sample(
    run: RunArgument,
    checkpoint: CheckpointOption = "",
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="TEXT", help="Text to continue.", show_default="a line break")
    ] = "\n",
    tokens: Annotated[
        int, typer.Option("--tokens", min=1, max=1_000_000, help="Number of tokens to generate.")
    ] = 500,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            min=0.0,
            max=100.0,
            help="Higher values give more varied text. 0 always takes the most likely token.",
        ),
    ] = 0.8,
    top_k: Annotated[
        int, typer.Option("--top-k", min=0, help="Sample from the N most likely tokens. 0: from all.")
    ] = 200,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="The same seed gives the same text.")
    ] = 1337,
    tokenizer: Annotated[
        str,
        typer.Option(
            "--tokenizer",
            metavar="NAME_OR_DIR",
            help="As --encoding of `ockham tokenize`; default: the tokenizer of the run's data.",
            show_default=False,
        ),
    ] = "",
    device: DeviceOption = "auto",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Generate text with a checkpoint.

    Stderr reports which checkpoint it is, which decision accepted it, and its loss. The files must be
    byte-identical to those in the log.

    Examples:
      ockham sample night-1 --prompt "def " --tokens 200

      ockham sample night-1 --checkpoint resume-00000599 --temperature 0 > text
    """
    from ockham.cli.checkpoint_lookup import find_checkpoint
    from ockham.nano.sample import decode_stream, generate_tokens, load_checkpoint, make_codec
    from ockham.record.checkpoints import read_signed_run_json
    from ockham.record.run_folder import RunFolder

    run_id = resolve_run_id(runs, run)
    found = find_checkpoint(runs, run_id, checkpoint)
    metadata = read_signed_run_json(RunFolder(runs, run_id), found.evidence)
    codec = make_codec(metadata["data"], metadata["settings"].get("data"), tokenizer)
    prompt_tokens = codec.tokens(prompt)
    if not prompt_tokens:
        raise BadInputError("--prompt: empty; pass at least one character")
    model, _ = load_checkpoint(found.folder, device)
    if max(prompt_tokens) >= model.vocab_size:
        raise BadInputError(
            f"--prompt: token {max(prompt_tokens)} is not in the vocabulary of {model.vocab_size}; "
            "pass the tokenizer of the run's data with --tokenizer"
        )
    print_note(found.describe())
    generated = generate_tokens(
        model,
        prompt_tokens,
        tokens,
        vocab_limit=min(codec.vocab_size, model.vocab_size),
        temperature=temperature,
        top_k=top_k,
        seed=seed,
    )
    _write_stream(prompt, decode_stream(generated, codec))


def _write_stream(prompt: str, parts: Iterable[str]) -> None:
    """Write the prompt and the generated text; without control characters on a terminal."""
    is_terminal = sys.stdout.isatty()
    sys.stdout.write(prompt)
    for text in parts:
        sys.stdout.write("\n".join(map(format_cell, text.split("\n"))) if is_terminal else text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def weights(
    run: RunArgument,
    output: NewFolderOption,
    checkpoint: CheckpointOption = "",
    runs: RunsOption = DEFAULT_RUNS,
) -> None:
    """Write a checkpoint's weights as a Hugging Face folder.

    `GPT2LMHeadModel.from_pretrained` reads it.

    Examples:
      ockham weights night-1 -o night-1-gpt2
    """
    from ockham.cli.checkpoint_lookup import find_checkpoint
    from ockham.nano.sample import export_checkpoint
    from ockham.record.checkpoints import write_checkpoint

    found = find_checkpoint(runs, resolve_run_id(runs, run), checkpoint)
    if output.exists():
        raise BadInputError(f"{output}: exists already; pass a new folder with -o")
    write_checkpoint(output.absolute(), export_checkpoint(found.folder))
    print_note(f"{output}: {found.describe()}")


def tokenize(
    text: Annotated[Path, typer.Argument(metavar="PATH", help="Text file, or folder of text files.")],
    output: NewFolderOption,
    encoding: Annotated[
        str,
        typer.Option(
            "--encoding",
            metavar="NAME_OR_DIR",
            help="gpt2, r50k_base, p50k_base or p50k_edit of tiktoken; or a folder of Hugging Face or of "
            "this command, such as ./gpt2.",
        ),
    ] = "gpt2",
) -> None:
    """Convert text to token files.

    Writes train.bin and val.bin in nanoGPT's format, and the tokenizer. `ockham train --data DIR` reads
    the folder.

    Nothing is downloaded: gpt2 is read from $TIKTOKEN_CACHE_DIR, or from a folder with vocab.json and
    merges.txt. Every tenth file is used for validation; with fewer than ten files, the last tenth of the
    text.

    Examples:
      ockham tokenize my_texts/ -o my_tokens

      ockham tokenize my_texts/ -o my_tokens --encoding gpt2/
    """
    from ockham.nano import reading_progress
    from ockham.nano.token_files import find_text, require_empty_target, require_text
    from ockham.nano.token_files import tokenize as write_tokens
    from ockham.nano.tokenizer import load_tokenizer

    # Report errors that need no work first.
    require_text(text)
    require_empty_target(output)
    tokenizer = load_tokenizer(encoding)
    source = find_text(text)
    if source.skipped:
        more = len(source.skipped) - MAX_SKIPPED_FILES
        suffix = f" and {more} more" if more > 0 else ""
        names = ", ".join(source.skipped[:MAX_SKIPPED_FILES]) + suffix
        print_note(f"skipped, not UTF-8 text: {ascii(names)[1:-1]}")
    with reading_progress(text, quiet=is_quiet()) as progress:
        summary = write_tokens(source, output, tokenizer, text.resolve().name, progress)
    bytes_per_token = source.size / summary["train_tokens"]
    train_tokens, val_tokens = summary["train_tokens"], summary["val_tokens"]
    print_note(
        f"{output}: {train_tokens:,} training tokens and {val_tokens:,} validation tokens "
        f"from {pluralize(len(source.files), 'files')}, {bytes_per_token:.2f} bytes per token; "
        f"vocabulary {summary['vocab_size']}"
    )
