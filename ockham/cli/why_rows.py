"""Rows of one batch that `ockham why --rows` prints: text that is read from the training data again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ockham.cli.output import is_verbose, pluralize
from ockham.errors import BadInputError, DataError
from ockham.event import from_json_value
from ockham.formatting import format_cell

if TYPE_CHECKING:
    from ockham.nano.data import Corpus
    from ockham.nano.sample import Codec

# Without --verbose.
MAX_ROWS = 16
MAX_ROW_CHARACTERS = 160
ROW_COLUMNS = ("attempt", "rank", "micro_step", "position", "digest", "row", "text", "tokens")
_NEEDED = ("block_size", "batch_size", "seed", "vocab_size", "data")
_BATCHES = """
select attempt, rank, micro_step, data_position, data_digest from contexts
where run_id = $run and iter_num = $iter and hook = 'batch' order by attempt, rank, sequence
"""
_SETTINGS = """
select attempt, data ->> '$.settings' as settings from events
where run_id = $run and rank = 0 and type in ('ockham.run.started.v1', 'ockham.run.resumed.v1')
"""


class BatchRows(NamedTuple):
    """Rows of one micro-batch of one rank. `texts` is None if the tokenizer of the data is missing."""

    attempt: int
    rank: int
    micro_step: int
    position: int
    digest: str
    tokens: list[list[int]]
    texts: list[str] | None


def read_rows(catalog: Any, run_id: str, iter_num: int) -> list[BatchRows]:
    """Read the rows of all micro-batches of an iteration from the data that run.json names.

    Args:
        catalog: Catalog of the run.
        run_id: The run, written by `ockham train`.
        iter_num: The iteration.

    Raises:
        BadInputError: If the run is not one of `ockham train`, or recorded no data positions.
        DataError: If the data is missing or has changed, or if its rows differ from the record.

    """
    parameters = {"run": run_id, "iter": iter_num}
    batches = catalog.rows(_BATCHES, parameters)
    settings = _read_settings(catalog, run_id)
    first = settings[min(settings)] if settings else {}
    if not all(name in first for name in _NEEDED) or "from_run" in first:
        raise BadInputError(
            f"run {run_id!r}: its rows cannot be read again; --rows accepts runs of `ockham train`"
        )
    if not batches or any(None in (row["data_position"], row["data_digest"]) for row in batches):
        raise BadInputError(f"run {run_id!r}: no data position is recorded for iteration {iter_num}")
    corpus = _load_same_data(catalog, run_id, first["data"], int(first["vocab_size"]))
    codec = _make_codec(corpus, first["data"])
    return [_read_batch(corpus, codec, settings[batch["attempt"]], batch, iter_num) for batch in batches]


def format_rows(rows: Sequence[BatchRows]) -> Iterator[str]:
    """Yield lines with the rows. The number of lines and their length are limited without --verbose."""
    shown = 0
    total = sum(len(batch.tokens) for batch in rows)
    for batch in rows:
        yield (
            f"  rows of rank {batch.rank}, micro-step {batch.micro_step} (attempt {batch.attempt}): "
            f"position {batch.position}, digest {batch.digest}, equal to the recorded one"
        )
        for number, tokens in enumerate(batch.tokens):
            if shown == MAX_ROWS and not is_verbose():
                yield f"    ... and {pluralize(total - shown, 'further rows')} (-v shows all)"
                return
            text = " ".join(map(str, tokens)) if batch.texts is None else _quote(batch.texts[number])
            yield f"    {number}: {_cut(text)}"
            shown += 1


def list_rows(rows: Sequence[BatchRows]) -> list[list[Any]]:
    """Return one table row for each row of the batches, with the columns `ROW_COLUMNS`."""
    return [
        [*batch[:5], number, None if batch.texts is None else batch.texts[number], tokens]
        for batch in rows
        for number, tokens in enumerate(batch.tokens)
    ]


def _read_settings(catalog: Any, run_id: str) -> dict[int, dict[str, Any]]:
    """Return the recorded settings of the trainer for each attempt."""
    rows = catalog.rows(_SETTINGS, {"run": run_id})
    return {row["attempt"]: dict(from_json_value(json.loads(row["settings"] or "{}"))) for row in rows}


def _load_same_data(catalog: Any, run_id: str, path: str | None, vocab_size: int) -> Corpus:
    from ockham.nano.data import load_corpus

    recorded = catalog.rows("select data_sha256 from runs where run_id = $run", {"run": run_id})
    expected = recorded[0]["data_sha256"]
    name = "the sources of Python's standard library" if path is None else repr(path)
    try:
        corpus = load_corpus(path, vocab_size)
    except DataError as error:
        raise DataError(
            f"run {run_id!r}: {error}; --rows reads the training data, {name}, again from the present folder"
        ) from None
    if corpus.metadata["sha256"] != expected:
        raise DataError(
            f"run {run_id!r}: the data has changed: {name} has digest {corpus.metadata['sha256']}, "
            f"and run.json names {expected}"
        )
    return corpus


def _make_codec(corpus: Corpus, path: str | None) -> Codec | None:
    """Return the codec of the data. None if the data has tokens and no tokenizer."""
    from ockham.nano.sample import make_codec

    has_tokenizer = corpus.metadata["kind"] == "bytes" or "tokenizer" in corpus.metadata
    return make_codec(corpus.metadata, path) if has_tokenizer else None


def _read_batch(
    corpus: Corpus, codec: Codec | None, settings: Mapping[str, Any], batch: Mapping[str, Any], iter_num: int
) -> BatchRows:
    from ockham.nano.data import Batches, digest_window

    shape = int(settings["batch_size"]), int(settings["block_size"]), int(settings["seed"])
    batches = Batches(corpus, *shape, rank=batch["rank"])
    window = batches.sample_window(batch["data_position"], batch["micro_step"])
    digest = digest_window(window)
    if digest != batch["data_digest"]:
        raise DataError(
            f"iteration {iter_num}, rank {batch['rank']}, micro-step {batch['micro_step']}: the rows at "
            f"position {batch['data_position']} have digest {digest}, "
            f"and the log records {batch['data_digest']}"
        )
    tokens = [[int(token) for token in row] for row in window.tolist()]
    texts = None if codec is None else [_decode(codec, row) for row in tokens]
    return BatchRows(
        batch["attempt"], batch["rank"], batch["micro_step"], batch["data_position"], digest, tokens, texts
    )


def _decode(codec: Codec, tokens: Sequence[int]) -> str:
    return b"".join(map(codec.token_bytes, tokens)).decode("utf-8", "replace")


def _quote(text: str) -> str:
    """Return a text in quotes. Line breaks and other control characters are escaped."""
    return format_cell(json.dumps(text, ensure_ascii=False))


def _cut(text: str) -> str:
    if is_verbose() or len(text) <= MAX_ROW_CHARACTERS:
        return text
    return f"{text[:MAX_ROW_CHARACTERS]}..."
