"""Options that many verbs share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.errors import BadInputError, RunError

if TYPE_CHECKING:
    from ockham.record.tlog.note import VerifierKey

RUNS_VARIABLE = "OCKHAM_RUNS"
# Extra of the distribution -> packages that it installs.
EXTRAS = {
    "train": ("torch", "numpy", "safetensors"),
    "dashboard": ("streamlit", "altair"),
    "spark": ("pyspark",),
    "s3": ("s3fs",),
    "tiktoken": ("tiktoken",),
}
RunsOption = Annotated[
    Path, typer.Option("--runs", envvar=RUNS_VARIABLE, help="Folder of all runs.", show_default=True)
]

RunOption = Annotated[
    str, typer.Option("--run", help="Look at this run only (a unique beginning will do).", show_default=False)
]
KeyOption = Annotated[
    list[str] | None,
    typer.Option("--key", help="Verifier key that you trust, or a file that holds it.", show_default=False),
]


def trusted_keys(keys: list[str] | None) -> list[VerifierKey]:
    """The keys that were given, else this machine's own: then it is said, because it vouches for no one else.

    Raises:
        BadInputError: if one is no key, or there is none.

    """
    from ockham.record.tlog.note import local_verifier_key
    from ockham.record.verify.run import load_verifier_keys

    if keys:
        return load_verifier_keys(keys)
    own = local_verifier_key()
    if own is None:
        raise BadInputError("there is no key to check with: give the one you trust with --key")
    typer.echo(
        f"note: checked with this machine's own key, {own.name}; give the one you trust with --key", err=True
    )
    return [own]


def resolve_run_id(runs: Path, prefix: str) -> str:
    """The run ID that begins so.

    Raises:
        RunError: if none or more than one does.

    """
    from ockham.record.run_folder import LEDGER, list_runs

    known = list_runs(runs)
    if prefix == LEDGER:
        raise RunError(
            f"{LEDGER} is no run, it holds what was said about runs from outside: `ockham verify {LEDGER}` checks it"
        )
    if prefix in known:
        return prefix
    found = [name for name in known if name.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    told = (
        f"more than one run begins so: {', '.join(found[:8])}"
        if found
        else f"there: {', '.join(known[:8]) or 'none'}"
    )
    raise RunError(f"no run {prefix!r} in {runs}; {told}")


def run_filter(runs: Path, prefix: str) -> list[str] | None:
    """The one run to look at, as `Catalog` takes it; None, which is all, where none is named.

    Raises:
        RunError: if none or more than one begins so.

    """
    return [resolve_run_id(runs, prefix)] if prefix else None


def odr_tables() -> dict[str, Any]:
    """The records of ./odr, or of $OCKHAM_ODR, as tables; none where there is no such folder."""
    from ockham.odr.arrow_tables import load_odr_tables

    return load_odr_tables(Path(os.environ.get("OCKHAM_ODR", "odr")))


def read_bytes(path: Path) -> bytes:
    """A file that the user named."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror}") from None
