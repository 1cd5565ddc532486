"""Options and arguments that several commands share, and the lookup of what they name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ockham.cli.output import print_note
from ockham.errors import BadInputError, RunError

if TYPE_CHECKING:
    from ockham.record.run_folder import RunFolder
    from ockham.record.tlog.note import VerifierKey

RUNS_VARIABLE = "OCKHAM_RUNS"
ODR_DIR_VARIABLE = "OCKHAM_ODR"
DEFAULT_RUNS = Path("runs")
DEFAULT_ODR_DIR = Path("odr")
MAX_LISTED_NAMES = 8
MAX_LISTED_IDS = 2
# Extra of the distribution -> packages that it installs.
EXTRAS = {
    "train": ("torch", "numpy", "safetensors"),
    "dashboard": ("streamlit", "altair"),
    "spark": ("pyspark",),
    "s3": ("s3fs",),
    "tiktoken": ("tiktoken",),
}
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run ID, or a unique prefix of it.")]
RunsOption = Annotated[
    Path,
    typer.Option(
        "--runs", metavar="DIR", envvar=RUNS_VARIABLE, help="Folder of all runs.", show_default=True
    ),
]
GlobalRunsOption = Annotated[
    Path | None,
    typer.Option("--runs", metavar="DIR", help="Folder of all runs, before or after the command."),
]
RunOption = Annotated[
    str,
    typer.Option("--run", metavar="RUN", help="Only this run: ID, or a unique prefix.", show_default=False),
]
KeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Trusted verifier key as text; may be repeated.",
        show_default=False,
    ),
]
KeyFileOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--key-file",
        metavar="FILE",
        help="File that contains a trusted verifier key; may be repeated.",
        show_default=False,
    ),
]
TrustKeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-key",
        metavar="KEY",
        help="Verifier key of a person who may change or stop the run; may be repeated. The own key may.",
        show_default=False,
    ),
]
OdrDirOption = Annotated[
    Path,
    typer.Option(
        "--odr-dir",
        metavar="DIR",
        envvar=ODR_DIR_VARIABLE,
        help="Folder of the decision records.",
        show_default=True,
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.", show_default="auto")
]
ResumeFromOption = Annotated[
    str,
    typer.Option(
        "--resume-from",
        metavar="ID",
        help="Continue --run from this checkpoint, or from `start`. Implies --resume.",
        show_default=False,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Write no notes and no progress to stderr.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Write more details.")]


def read_trusted_keys(keys: list[str] | None, key_files: list[Path] | None) -> list[VerifierKey]:
    """Return the keys of --key and --key-file. The text of --key is never the name of a file.

    Raises:
        BadInputError: If a text or the content of a file is not a verifier key.

    """
    from ockham.record.tlog.note import parse_key, read_key_file

    trusted = []
    for text in keys or []:
        try:
            trusted.append(parse_key(text))
        except BadInputError:
            raise BadInputError(
                f"--key {text!r:.120}: not a verifier key; pass the line that `ockham keygen` prints, "
                "or a file that contains it with --key-file"
            ) from None
    return trusted + [read_key_file(path) for path in key_files or []]


def resolve_verifier_keys(keys: list[str] | None, key_files: list[Path] | None) -> list[VerifierKey]:
    """Return the keys of --key and --key-file, else the key of this machine.

    A note names the machine's key, because it authenticates only logs that were signed here.

    Raises:
        BadInputError: If a key is invalid, or if no key exists.

    """
    from ockham.record.tlog.note import local_verifier_key

    if trusted := read_trusted_keys(keys, key_files):
        return trusted
    local_key = local_verifier_key()
    if local_key is None:
        raise BadInputError(
            "--key: missing, and this machine has no key; pass the verifier key that you trust, "
            "or a file that contains it with --key-file"
        )
    print_note(f"checked with the key of this machine, {local_key.name}; pass a trusted key with --key")
    return [local_key]


def read_run_keys(folder: RunFolder) -> list[VerifierKey]:
    """Return the key in run.json and the key of this machine, for commands without --key.

    A note names the key if only run.json contains it, because everyone can write that file.
    """
    from ockham.record.tlog.note import local_verifier_key
    from ockham.record.verify.run import own_keys

    keys = own_keys(folder)
    if keys and keys[0] != local_verifier_key():
        print_note(
            f"only the run itself names the key that signs it: {keys[0]}; "
            f"check it with `ockham verify {folder.run_id} --key KEY`"
        )
    return keys


def resolve_run_id(runs: Path, prefix: str) -> str:
    """Return the run with this ID or name, or the run ID that starts with *prefix*.

    Raises:
        RunError: If no run or more than one run matches.

    """
    from ockham.record.run_folder import LEDGER, list_runs

    check_local_folder(runs)
    run_ids = list_runs(runs)
    if prefix == LEDGER:
        raise RunError(
            f"{LEDGER}: not a run but the ledger of attestations; check it with `ockham verify {LEDGER}`"
        )
    if prefix in run_ids:
        return prefix
    if named := find_run_by_name(runs, prefix):
        return named
    matches = [run_id for run_id in run_ids if run_id.startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RunError(f"{prefix}: matches more than one run; type more characters of: {list_names(matches)}")
    if not runs.is_dir():
        raise RunError(f"{prefix}: run not found; the folder {runs} does not exist, --runs names another")
    raise RunError(f"{prefix}: run not found in {runs}; existing runs: {list_names(run_ids) or 'none'}")


def find_run_by_name(runs: Path, name: str) -> str | None:
    """Return the run that `ockham rename` gave a name. Without a ledger no run has one."""
    from ockham.record.run_folder import LEDGER

    if not (runs / LEDGER).is_dir():
        return None
    from ockham.record.run_labels import find_named_run

    return find_named_run(runs, name)


def check_local_folder(runs: Path) -> None:
    """Raise RunError if --runs is the address of an object store, which this command cannot read."""
    scheme, separator, rest = str(runs).partition(":/")
    if separator and scheme in ("s3", "gs", "file", "http", "https"):
        raise RunError(
            f"--runs {scheme}://{rest.lstrip('/')}: not a local folder; copy the runs to a local folder first"
        )


def list_names(names: list[str], limit: int = MAX_LISTED_NAMES) -> str:
    """Return up to *limit* names and the number of the others."""
    more = len(names) - limit
    shown = ", ".join(names[:limit])
    return f"{shown} and {more} more" if more > 0 else shown


def run_filter(runs: Path, prefix: str) -> list[str] | None:
    """Return the run IDs to read, as `Catalog` takes them; None, which means all, for an empty *prefix*.

    Raises:
        RunError: If no run or more than one run matches.

    """
    return [resolve_run_id(runs, prefix)] if prefix else None


def odr_tables(runs: Path) -> dict[str, Any]:
    """Return the records of ./odr, or of $OCKHAM_ODR, as tables, with the results in the ledger of *runs*.

    Empty if the folder does not exist.
    """
    from ockham.odr.arrow_tables import load_odr_tables

    return load_odr_tables(Path(os.environ.get(ODR_DIR_VARIABLE, str(DEFAULT_ODR_DIR))), runs=runs)


def read_pin(path: Path) -> bytes:
    """Return the content of a pin file, or of stdin for `-`.

    Raises:
        BadInputError: If it cannot be read, or contains no tree head.

    """
    from ockham.record.tlog.pin import MAX_PIN_BYTES, parse_pin

    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_PIN_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_PIN_BYTES + 1)
    except OSError as error:
        raise BadInputError(f"pin {path}: cannot be read: {error.strerror}") from None
    try:
        parse_pin(data)
    except BadInputError as error:
        raise BadInputError(f"{path}: {error}") from None
    return data


def read_bytes(path: Path) -> bytes:
    """Return the content of a file of the user.

    Raises:
        BadInputError: If the file cannot be read.

    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror}") from None
