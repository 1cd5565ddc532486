"""Filters of `ockham runs`, and the columns of names and tags that the ledger contains."""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ockham.errors import BadInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from ockham.record.run_labels import RunLabels

TagFilter = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Runs with this tag; may be repeated.", show_default=False),
]
StateFilter = Annotated[
    str,
    typer.Option(
        "--state", metavar="STATE", help="Runs in this state, such as UNFINISHED.", show_default=False
    ),
]
PolicyFilter = Annotated[
    str, typer.Option("--policy", metavar="NAME", help="Runs under this policy.", show_default=False)
]
MatchFilter = Annotated[
    str,
    typer.Option(
        "--match",
        metavar="PATTERN",
        help="Runs whose ID or name matches, such as 'night-*'.",
        show_default=False,
    ),
]
SinceFilter = Annotated[
    str,
    typer.Option(
        "--since", metavar="DATE", help="Runs created on this day (UTC) or later.", show_default=False
    ),
]
ArchivedFilter = Annotated[bool, typer.Option("--archived", help="List archived runs too.")]


class RunFilters(NamedTuple):
    """Conditions that a listed run meets. Empty conditions are ignored."""

    tags: Sequence[str] = ()
    state: str = ""
    policy: str = ""
    pattern: str = ""
    since: str = ""
    archived: bool = False

    def first_day(self) -> dt.datetime | None:
        """Return the start of the first day.

        Raises:
            BadInputError: If the text is not a date.

        """
        try:
            return dt.datetime.fromisoformat(self.since) if self.since else None
        except ValueError:
            raise BadInputError(f"--since {self.since!r:.40}: not a date; write it as YYYY-MM-DD") from None


def filter_runs(table: pa.Table, labels: Mapping[str, RunLabels], filters: RunFilters) -> pa.Table:
    """Return the rows that meet all filters, with the columns `name`, `tags` and `archived`.

    Args:
        table: Runs with `run_id`, `created`, `state` and `policy`.
        labels: Labels by run ID.
        filters: Conditions.

    Raises:
        BadInputError: If a filter is not valid.

    """
    import pyarrow as pa

    from ockham.record.run_labels import RunLabels

    first_day = filters.first_day()
    columns = table.select(["run_id", "created", "state", "policy"]).to_pylist()
    found = [labels.get(row["run_id"], RunLabels()) for row in columns]
    kept = [_matches(row, label, filters, first_day) for row, label in zip(columns, found, strict=True)]
    names = pa.array([label.name for label in found], pa.string())
    tags = pa.array([sorted(label.tags) for label in found], pa.list_(pa.string()))
    archived = pa.array([label.archived for label in found], pa.bool_())
    labelled = table.append_column("name", names).append_column("tags", tags)
    return labelled.append_column("archived", archived).filter(pa.array(kept, pa.bool_()))


def _matches(
    row: Mapping[str, Any], labels: RunLabels, filters: RunFilters, first_day: dt.datetime | None
) -> bool:
    names = [row["run_id"], *([labels.name] if labels.name else [])]
    return (
        set(filters.tags) <= labels.tags
        and filters.state.upper() in ("", row["state"])
        and filters.policy in ("", row["policy"])
        and (not filters.pattern or any(fnmatch.fnmatchcase(name, filters.pattern) for name in names))
        and (
            first_day is None
            or (row["created"] is not None and row["created"].replace(tzinfo=None) >= first_day)
        )
        and (filters.archived or not labels.archived)
    )
