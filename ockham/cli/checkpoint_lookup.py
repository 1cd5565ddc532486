"""A checkpoint of a run by name, or its newest accepted one, and the check of its files against the log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from ockham.errors import BadInputError, CheckpointError

_SAVED = """
select c.snapshot_id, c.kind, c.iter_num, c.decision_id, c.weights_sha256, c.pruned, d.reason_code,
    (select max_by(e.val_loss, e.sequence) from evaluations e
        where e.attempt = c.attempt and e.rank = c.rank and e.iter_num = c.iter_num and e.sequence < c.sequence) as val_loss,
    (select s.data -> '$.files' from events s
        where s.attempt = c.attempt and s.rank = c.rank and s.sequence = c.sequence) as files
from checkpoints c left join decisions d on d.decision_id = c.decision_id
where case when $name = '' then not c.superseded and not c.pruned else starts_with(c.snapshot_id, $name) end
order by c.kind = 'accepted' desc, c.attempt desc, c.sequence desc
"""


class CheckpointInfo(NamedTuple):
    """A checkpoint as the log tells of it, and its folder."""

    folder: Path
    snapshot_id: str
    kind: str
    iter_num: int
    decision_id: str | None
    reason_code: str | None
    val_loss: float | None
    weights_sha256: str

    def describe(self) -> str:
        """One sentence: which checkpoint, who accepted it, its loss, its digest."""
        by = f"of kind {self.kind}, no decision accepted it"
        if self.decision_id:
            by = f"accepted by decision {self.decision_id} because {self.reason_code}"
        loss = (
            "no loss was measured there"
            if self.val_loss is None
            else f"validation loss {self.val_loss:.4f} nats/token"
        )
        return f"checkpoint {self.snapshot_id} (iteration {self.iter_num}): {by}; {loss}; weights sha256 {self.weights_sha256[:16]}..., as logged"  # fmt: skip


def find_checkpoint(runs: Path, run_id: str, name: str = "") -> CheckpointInfo:
    """The checkpoint whose ID begins with `name`; without one the newest accepted, or where none was, the newest.

    Its files are those that the log names, byte for byte.

    Raises:
        BadInputError: if there is none, or more than one.
        CheckpointError: if a file is missing or is not what the log says.

    """
    from ockham.catalog import Catalog
    from ockham.record.run_folder import RunFolder

    found = Catalog(runs, run_ids=[run_id]).rows(_SAVED, {"name": name})
    exact = [row for row in found if row["snapshot_id"] == name]
    if not found:
        told = f"whose ID begins with {name!r:.100}" if name else "yet"
        raise BadInputError(f"run {run_id!r} has no checkpoint {told}")
    if name and not exact and len(found) > 1:
        raise BadInputError(
            f"{name!r} is the beginning of more than one checkpoint: {', '.join(row['snapshot_id'] for row in found[:8])}"
        )
    row = (exact or found)[0]
    folder = RunFolder(runs, run_id).checkpoint(row["snapshot_id"])
    if row["pruned"]:
        raise CheckpointError(f"{folder}: deleted again, because newer ones are kept")
    for file in json.loads(row["files"]):
        _check(folder, file)
    return CheckpointInfo(folder, *(row[name] for name in CheckpointInfo._fields[1:]))


def _check(folder: Path, file: dict[str, Any]) -> None:
    path = folder / Path(file["name"]).name
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    if digest != file["sha256"]:
        raise CheckpointError(
            f"{path} is not what the log names: its sha256 is {digest}, and {file['sha256']} was saved"
        )
