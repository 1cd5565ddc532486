"""Evidence: one archive with everything that a stranger needs to judge a run, and a verifier that is one file."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path

from ockham import shipped
from ockham.errors import BadInputError
from ockham.record.folder import RunFolder, read_file

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same run gives the same archive, whenever it is packed
_README = """Evidence of run {run_id}.

    pip install cryptography
    python verify.py . --key '<the verifier key that you know>'

log/        the lines, one event each; the signed tree heads (checkpoint, checkpoints) and the Merkle tiles
policies/   the policies that events name by the SHA-256 of these bytes
schemas/    what each event must look like (JSON Schema 2020-12)
run.json    who, when, code and package versions, data digest, seeds
blobs/      plugin state that was too big for a line
"""


def pack(folder: RunFolder, to: Path) -> int:
    """Write the archive (zip, deflated, deterministic); returns the number of files.

    Raises:
        BadInputError: if `to` exists or can't be written.
        RunError: if there is no such run.

    """
    folder.require()
    if to.exists():
        raise BadInputError(f"{to} exists; an archive goes to a new place")
    files = _files(folder)
    temporary = to.with_name(f".{to.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, data in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
        temporary.rename(to)
    except OSError as error:
        with contextlib.suppress(OSError):  # where there is no folder there is no file in it either
            temporary.unlink(missing_ok=True)
        raise BadInputError(f"cannot write {to}: {error.strerror}") from None
    return len(files)


def _files(folder: RunFolder) -> dict[str, bytes]:
    if (
        folder.run_json.is_symlink()
    ):  # it may point to anything on this machine, and the archive goes to strangers
        raise BadInputError(f"{folder.run_json} is a link; nothing is packed from behind one")
    kept = ["run.json"]
    for part in ("log", "policies", "blobs"):
        kept += [
            str(p.relative_to(folder.path))
            for p in (folder.path / part).rglob("*")
            if p.is_file() and not p.is_symlink()
        ]
    files = {name: read_file(folder.path / name) for name in kept if not name.endswith(("/lock", "/reserve"))}
    for schema in sorted(shipped.schemas().glob("*.json")):
        files[f"schemas/{schema.name}"] = schema.read_bytes()
    files["verify.py"] = Path(__file__).with_name("standalone.py").read_bytes()
    files["README"] = _README.format(run_id=folder.run_id).encode()
    return files
