"""Files in a run folder that no signed event names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ockham.record.checkpoint_evidence import TRAINER_KIND
from ockham.record.disk_reserve import RESERVE
from ockham.record.run_folder import PARQUET_TABLES, SIDECARS, RunFolder, is_unfinished_file
from ockham.record.tlog.tree_head import CHECKPOINT, HISTORY
from ockham.record.verify.log import LogVerifier
from ockham.record.verify.report import VerificationReport

# Tiles are compared with the lines elsewhere.
_LOG_FILE = re.compile(rf"(?:{CHECKPOINT}|{HISTORY}|{RESERVE}|lock|tile/.+|[0-9]{{12}}\.jsonl)")


@dataclass
class _NamedFiles:
    """Names in signed events, relative to the run folder."""

    logs: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)

    def __contains__(self, name: str) -> bool:
        part, _, rest = name.partition("/")
        if part == "log":
            log, _, file = rest.partition("/")
            return name in self.files or (log in self.logs and bool(_LOG_FILE.fullmatch(file)))
        return name in self.files or (part in (*PARQUET_TABLES, SIDECARS) and bool(rest))


def check_foreign_files(
    folder: RunFolder, checks: Mapping[tuple[int, int], LogVerifier], report: VerificationReport
) -> None:
    """Add a note for each file that no signed event names. Parquet files are compared elsewhere."""
    named = _NamedFiles(files={"run.json"})
    for (attempt, rank), check in checks.items():
        summary = check.summary
        named.logs.add(f"{attempt}-{rank}")
        named.files |= {f"policies/{revision.removeprefix('sha256:')}.json" for revision in summary.policies}
        named.files |= {f"blobs/{digest}" for digest in summary.blobs}
        named.files |= summary.cut_files
        for saved, _ in summary.checkpoints():
            if saved["kind"] == TRAINER_KIND:
                continue
            names = (file["name"] for file in saved["files"])
            named.files |= {f"checkpoints/{saved['snapshot_id']}/{name}" for name in names}
    for name in _file_names(folder.path):
        if name in named:
            continue
        if is_unfinished_file(name):
            report.add("crash tail", name, "a file that was being written")
        else:
            report.add("foreign", name, "no signed event names this file", cause=name.partition("/")[0])


def _file_names(root: Path) -> Iterator[str]:
    """Yield the names of all entries that are no folder, relative to the run folder, in order."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        inside = Path(folder).relative_to(root)
        # A link to a folder is not followed, and is listed.
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        yield from sorted(str(inside / name) for name in (*files, *links))
