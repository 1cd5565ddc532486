"""Evidence archive: everything that a third party needs to check a run, with a verifier in one file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import orjson

from ockham import resources
from ockham.errors import BadInputError, RunError
from ockham.record.durable_io import atomic_path
from ockham.record.evidence import read_evidence
from ockham.record.path_safety import reject_special_files
from ockham.record.run_folder import RunFolder, read_regular_file
from ockham.record.verify.archive_reader import NAME
from ockham.record.verify.run import own_keys

# The same run gives the same archive, whenever it is packed.
_FUTURE = "from __future__ import annotations\n"
# Files that verify.py contains before the verifier, and all imports between them.
_VERIFIER_PARTS = ("archive_signatures", "archive_people", "archive_reader")
_PART_IMPORT = re.compile(rf"from ockham\.record\.verify\.(?:{'|'.join(_VERIFIER_PARTS)}) import .+\n")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_README = """Evidence of run {run_id}.

    pip install cryptography
    python verify.py . --key '<the verifier key that you know>'

log/        the lines, one event each; the signed tree heads (checkpoint, checkpoints) and the Merkle tiles
policies/   the policies that events name by the SHA-256 of these bytes
schemas/    what each event must look like (JSON Schema 2020-12)
run.json    who, when, code and package versions, data digest, seeds
blobs/      plugin state that was too big for a line
manifest.json  events, signed events and root of each log; lines after the signed ones are not evidence
"""


def write_archive(folder: RunFolder, to: Path, progress: Callable[[int, int], None] = lambda *_: None) -> int:
    """Write the archive (zip, deflated, deterministic) one file at a time. Return the number of files.

    Args:
        folder: The run.
        to: Path of the archive. It must not exist.
        progress: Called with the number of files written and the total.

    Raises:
        BadInputError: If `to` exists or cannot be written.
        RunError: If the run does not exist, or contains a link or a file with an unknown name.

    """
    folder.require_exists()
    if to.exists():
        raise BadInputError(f"{to}: file exists; name a new file")
    files: dict[str, Path | bytes] = {**_log_files(folder), **_verifier_files(folder)}
    for attempt, rank in folder.logs():
        name = f"log/{attempt}-{rank}/"
        if not any(other.startswith(name) for other in files):
            # The log of a run that was killed before its first tree head.
            files[name] = b""
    try:
        with (
            atomic_path(to) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
        ):
            for at, (name, content) in enumerate(sorted(files.items(), key=itemgetter(0))):
                progress(at, len(files))
                data = content if isinstance(content, bytes) else read_regular_file(content)
                method = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, method)
    except OSError as error:
        raise BadInputError(f"cannot write {to}: {error.strerror}") from None
    finally:
        progress(len(files), len(files))
    return len(files)


def _log_files(folder: RunFolder) -> dict[str, Path]:
    parts = [folder.path / part for part in ("log", "policies", "blobs")]
    # The archive is given to third parties.
    reject_special_files(folder.run_json, *parts)
    kept = (path for part in parts for path in part.rglob("*") if path.is_file())
    files = [folder.run_json, *(path for path in kept if path.name not in ("lock", "reserve"))]
    named = {str(path.relative_to(folder.path)): path for path in files}
    if odd := [name for name in named if not NAME.fullmatch(name)]:
        raise RunError(f"{odd[0]!r:.120} is not a file of a run; remove it from the folder first")
    return named


def make_manifest(folder: RunFolder) -> bytes:
    """Return a JSON object with the number of events and of signed events of each log, and the signed root.

    No signature covers it. `verify.py` computes the same numbers from the lines.

    Raises:
        UnverifiableError: If a log cannot be read.

    """
    evidence = read_evidence(folder, own_keys(folder))
    logs = [
        {"log": log.name, "events": log.events, "signed": log.signed, "root": log.root.hex()}
        for log in evidence.logs.values()
    ]
    # Problems contain paths of this machine.
    problems = [problem.removeprefix(f"{folder.path}/") for problem in evidence.problems]
    about = {"run_id": folder.run_id, "logs": logs, "problems": problems}
    return orjson.dumps(about, option=orjson.OPT_INDENT_2)


def _verifier_files(folder: RunFolder) -> dict[str, bytes]:
    """Return the files that a third party needs in addition to the record."""
    schemas = {f"schemas/{path.name}": path.read_bytes() for path in resources.schemas_dir().glob("*.json")}
    readme = _README.format(run_id=folder.run_id)
    return {
        **schemas,
        "manifest.json": make_manifest(folder),
        "verify.py": verifier_source(),
        "README": readme.encode(),
    }


def verifier_source() -> bytes:
    """Return verify.py: the standalone verifier with its parts in place of their imports."""
    folder = Path(__file__).with_name("verify")
    sources = [folder.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in _VERIFIER_PARTS]
    # Only the first statement of a file can import from __future__.
    parts = [_PART_IMPORT.sub("", source.partition(_FUTURE)[2]).strip() for source in sources]
    verifier = folder.joinpath("standalone.py").read_text(encoding="utf-8")
    before, *others = _PART_IMPORT.split(verifier)
    if len(others) != len(_VERIFIER_PARTS) or not all(parts):
        raise RunError("the packed verifier has no place for its parts")
    content = "\n\n\n".join(parts)
    return f"{before}{content}\n\n{''.join(others).lstrip()}".encode()
