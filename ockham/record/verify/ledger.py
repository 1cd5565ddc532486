"""Verifying the ledger: whole in itself, and the one that runs name which began under it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import filterfalse, islice
from pathlib import Path
from typing import NamedTuple

import orjson

from ockham.record.ledger import read_entries
from ockham.record.run_folder import RunFolder, list_runs, open_regular_file
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.verify.report import MAX_FINDINGS_PER_CLASS, VerificationReport

_CAUSE = "what runs say of the ledger"


class LedgerReference(NamedTuple):
    """What the first event of a run says of the ledger as it was then."""

    run_id: str
    size: int
    root: str


def check_ledger(ledger: RunFolder, report: VerificationReport) -> None:
    """No saying is missing between others, and each run that began under the ledger began under this one.

    Sayings are logs of one line each, so that whoever deletes the last ones leaves a shorter ledger that is whole: what
    speaks against it is the head that later runs name, or a pin.
    """
    attempts = {attempt for attempt, _ in ledger.logs()}
    numbers = range(1, max(attempts, default=0))  # the name of a folder may be a billion
    for missing in islice(filterfalse(attempts.__contains__, numbers), MAX_FINDINGS_PER_CLASS):
        report.add("gap", f"log/{missing}-0", "is missing, and later ones are there", cause="missing sayings")
    named = list(_named(ledger.runs))
    roots = _roots(ledger.runs, {each.size for each in named})
    count = max(roots)
    for each in named:
        report.count("heads that runs name")
        if each.size > count:
            said = f"run {each.run_id} began when it had {each.size} lines, and {count} are there"
            report.add("tampering", "log", said, cause=_CAUSE)
        elif roots.get(each.size) != each.root:
            said = f"its first {each.size} lines are not those that run {each.run_id} began under"
            report.add("tampering", "log", said, cause=_CAUSE)


def _roots(runs: Path, wanted: set[int]) -> dict[int, str]:
    """The root of the tree over the ledger's lines at each wanted size, and at the end."""
    frontier, found = CompactRange(), {}
    lines = read_entries(runs)
    for size, line in enumerate(lines, 1):
        frontier.append(leaf_hash(line))
        if size in wanted or size == len(lines):
            found[size] = frontier.root().hex()
    return found or {0: ""}


def _named(runs: Path) -> Iterator[LedgerReference]:
    for run_id in list_runs(runs):
        for segment in RunFolder(runs, run_id).segments(1, 0)[:1]:
            try:
                with open_regular_file(segment) as file:
                    ledger = orjson.loads(file.readline())["data"]["ledger"]
                yield LedgerReference(run_id, int(ledger["size"]), str(ledger["root"]))
            except (OSError, ValueError, KeyError, TypeError, OverflowError):
                continue  # it began under none, or is no event: verify of that run says so
