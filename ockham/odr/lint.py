"""Lint: all rules that need no log, over all records of a folder, in one go."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path

from ockham.odr.codes import Finding
from ockham.odr.record import DecisionRecord
from ockham.odr.record_rules import check_record
from ockham.odr.records_folder import read_folder
from ockham.odr.schema_check import check_schema
from ockham.odr.supersession import check_relations


def lint_folder(folder: Path, today: dt.date | None = None) -> list[DecisionRecord]:
    """All records of a folder with what was found in each.

    Raises:
        UnverifiableError: if there is no such folder.

    """
    return lint(read_folder(folder), today or dt.datetime.now(dt.UTC).date())


def lint(records: list[DecisionRecord], today: dt.date) -> list[DecisionRecord]:
    """The same records, with what is wrong in each and between them noted."""
    for record in records:
        check_schema(record)
        check_record(record, today)
    check_relations(records)
    return records


def sorted_findings(records: Iterable[DecisionRecord]) -> list[Finding]:
    """All findings, by file, line, column and code."""
    return sorted(finding for record in records for finding in record.findings)


def filter_findings(
    findings: Sequence[Finding], select: frozenset[str], ignore: frozenset[str]
) -> list[Finding]:
    """The findings that were asked for: all where `select` is empty, without those of `ignore`."""
    return [f for f in findings if (not select or f.code in select) and f.code not in ignore]
