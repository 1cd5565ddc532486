"""Lookup of a checkpoint by its ID, and the check of its files against the log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from ockham.cli.options import list_names
from ockham.errors import BadInputError, CheckpointError

_CHECKPOINTS = """
select c.snapshot_id, c.kind, c.iter_num, c.decision_id, c.weights_sha256, c.pruned, d.reason_code,
    (select max_by(e.val_loss, e.sequence) from evaluations e
        where e.attempt = c.attempt and e.rank = c.rank
        and e.iter_num = c.iter_num and e.sequence < c.sequence) as val_loss,
    (select s.data -> '$.files' from events s
        where s.attempt = c.attempt and s.rank = c.rank and s.sequence = c.sequence) as files
from checkpoints c left join decisions d on d.decision_id = c.decision_id
where case when $name = '' then not c.superseded and not c.pruned else starts_with(c.snapshot_id, $name) end
order by c.kind = 'accepted' desc, c.attempt desc, c.sequence desc
"""


class CheckpointInfo(NamedTuple):
    """A checkpoint as the log records it, and its folder."""

    folder: Path
    snapshot_id: str
    kind: str
    iter_num: int
    decision_id: str | None
    reason_code: str | None
    val_loss: float | None
    weights_sha256: str

    def describe(self) -> str:
        """Return one sentence with the ID, the accepting decision, the loss and the digest."""
        acceptance = f"kind {self.kind}, not accepted by a decision"
        if self.decision_id:
            acceptance = f"accepted by decision {self.decision_id} because {self.reason_code}"
        loss = "no validation loss"
        if self.val_loss is not None:
            loss = f"validation loss {self.val_loss:.4f} nats/token"
        return (
            f"checkpoint {self.snapshot_id} (iteration {self.iter_num}): {acceptance}; {loss}; "
            f"weights sha256 {self.weights_sha256[:16]}..., as logged"
        )


def find_checkpoint(runs: Path, run_id: str, name: str = "") -> CheckpointInfo:
    """Return the checkpoint whose ID starts with *name*, and check its files against the log.

    Args:
        runs: Folder of all runs.
        run_id: Full run ID.
        name: Unique prefix of the ID. Empty selects the newest accepted checkpoint, or the newest one if
            none was accepted.

    Raises:
        BadInputError: If no checkpoint or more than one matches.
        CheckpointError: If a file is missing or differs from the log.

    """
    from ockham.catalog import Catalog
    from ockham.record.run_folder import RunFolder

    catalog = Catalog(runs, run_ids=[run_id])
    rows = catalog.rows(_CHECKPOINTS, {"name": name})
    exact = [row for row in rows if row["snapshot_id"] == name]
    if not rows and name:
        existing = [
            row["snapshot_id"] for row in catalog.rows("select distinct snapshot_id from checkpoints")
        ]
        raise BadInputError(
            f"run {run_id!r} has no checkpoint {name[:100]!r}; "
            f"existing checkpoints: {list_names(existing) or 'none'}"
        )
    if not rows:
        raise BadInputError(f"run {run_id!r} has no checkpoint yet")
    if name and not exact and len(rows) > 1:
        raise BadInputError(
            f"{name!r}: matches more than one checkpoint: {list_names([row['snapshot_id'] for row in rows])}"
        )
    row = (exact or rows)[0]
    folder = RunFolder(runs, run_id).checkpoint(row["snapshot_id"])
    if row["pruned"]:
        raise CheckpointError(f"{folder}: deleted by the run, which keeps only newer checkpoints")
    for file in json.loads(row["files"]):
        _check_file(folder, file)
    return CheckpointInfo(folder, *(row[field] for field in CheckpointInfo._fields[1:]))


def _check_file(folder: Path, file: dict[str, Any]) -> None:
    path = folder / Path(file["name"]).name
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    if digest != file["sha256"]:
        raise CheckpointError(
            f"{path}: differs from the log: its sha256 is {digest}, the log has {file['sha256']}"
        )
