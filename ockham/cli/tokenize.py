"""Token files from text: tokenize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(tokenize)


def tokenize(
    text: Annotated[Path, typer.Argument(metavar="PATH", help="Text file, or folder of text.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="New folder, for `ockham train --data DIR`.")],
    encoding: Annotated[str, typer.Option(help="tiktoken's gpt2, r50k_base, p50k_base, p50k_edit; or a folder: Hugging Face's, or one that this verb wrote.")] = "gpt2",
) -> None:  # fmt: skip
    """Make token files of text.

    train.bin and val.bin as nanoGPT has them, and the tokenizer beside them.

    Nothing is fetched: gpt2 is read from $TIKTOKEN_CACHE_DIR, or from a folder with vocab.json and merges.txt. Every tenth
    file is for validation; of fewer than ten files the last tenth is.

    Examples:
      ockham tokenize my_texts/ --to my_tokens

      ockham tokenize my_texts/ --to my_tokens --encoding gpt2/
    """
    from ockham.nano.progress import reading_progress
    from ockham.nano.token_files import find_text, require_empty_target, require_text
    from ockham.nano.token_files import tokenize as write
    from ockham.nano.tokenizer import load_tokenizer

    require_text(text)  # what costs nothing to see is said first
    require_empty_target(to)
    tokenizer = load_tokenizer(encoding)
    source = find_text(text)
    if source.skipped:
        more = len(source.skipped) - 3
        shown = ", ".join(source.skipped[:3]) + (f" and {more} more" if more > 0 else "")
        typer.echo(f"passed over, no UTF-8 text: {ascii(shown)[1:-1]}", err=True)
    with reading_progress(text) as progress:
        told = write(source, to, tokenizer, text.resolve().name, progress)
    typer.echo(
        f"{to}: {told['train_tokens']:,} tokens to train on and {told['val_tokens']:,} to validate, from {len(source.files)} "
        f"files, {source.size / told['train_tokens']:.2f} bytes each; vocabulary {told['vocab_size']}",
        err=True,
    )
