"""Every code that a finding can have: what it says, why it matters, and how to mend it.

The hundreds say what is wrong: 0 the file, 1 the schema, 2 the body, 3 relations between records, 4 evidence,
5 constraints, 6 the outcome, 7 the life of a record, 8 files made from records.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ockham.errors import BadInputError, suggest_name

Severity = Literal["error", "warning"]
# `claim`: a warning while the record is a draft or proposed, an error from the day it claims to hold.
SeverityRule = Literal["error", "warning", "claim"]


class Code(NamedTuple):
    """One row of the table."""

    code: str
    weight: SeverityRule
    title: str
    help: str
    fixable: bool = False


class Finding(NamedTuple):
    """One thing found in one record; `line` and `column` count from 1."""

    path: str
    line: int
    column: int
    code: str
    severity: Severity
    message: str
    odr_id: str = ""
    constraint_id: str = ""

    @property
    def fixable(self) -> bool:
        """Whether `--fix` mends it."""
        return CODES[self.code].fixable


_TABLE = (
    Code("ODR001", "error", "no closed front matter",
         "A record begins with `---`, YAML, and `---`. `ockham odr upgrade FILE` makes one from a bare record."),
    Code("ODR002", "error", "byte order mark", "Save the file as UTF-8 without BOM.", fixable=True),
    Code("ODR003", "error", "not UTF-8", "Save the file as UTF-8; the message names the first byte that is not."),
    Code("ODR004", "error", "front matter is no YAML 1.2",
         "A syntax error, a key that stands twice, an anchor, a tag, or a second document."),
    Code("ODR005", "error", "front matter is no mapping", "It is a list of `key: value` lines."),
    Code("ODR006", "error", "file name and id differ",
         "A record is `NNNN-slug.md`, and NNNN is the number in its id. `ockham odr renumber` moves both."),
    Code("ODR007", "error", "file cannot be read", "It is no ordinary file, too big, or may not be read."),
    Code("ODR101", "error", "key missing", "The schema asks for it: schemas/odr.v1.schema.json."),
    Code("ODR102", "error", "unknown key", "The schema is closed, so that a misspelt key is not lost in silence."),
    Code("ODR103", "error", "wrong type", "For example a number in quotes."),
    Code("ODR104", "error", "not one of the accepted values", "The message lists them."),
    Code("ODR105", "error", "wrong form", "An id, run, decision or digest that does not look like one."),
    Code("ODR106", "error", "no such date", "Dates are YYYY-MM-DD, and the day exists."),
    Code("ODR109", "error", "schema", "Anything else that the schema forbids."),
    Code("ODR201", "error", "section missing",
         "Problem, Proposed Change, Occam Constraints, Outcome: each once, in this order, as `## `."),
    Code("ODR202", "error", "section stands twice", "Join the two."),
    Code("ODR203", "error", "section out of order", "Problem, Proposed Change, Occam Constraints, Outcome."),
    Code("ODR204", "error", "heading differs from id and title", "`# ODR-0001: Title`.", fixable=True),
    Code("ODR205", "error", "constraint and checkbox do not match",
         "Each constraint has one line `- [ ] C1 ...` in its section, and each line a constraint."),
    Code("ODR206", "error", "Outcome line malformed",
         "`OQ delta: +0.4 → KEEP`, with `none` in place of a number where no efficiency is claimed.", fixable=True),
    Code("ODR301", "error", "two records have one id", "`ockham odr renumber` gives one of them the next number."),
    Code("ODR302", "error", "link to a record that does not exist", "Name a record of this folder."),
    Code("ODR303", "error", "record supersedes itself", "Name the older record."),
    Code("ODR304", "error", "link on one side only",
         "`supersedes` is the edge; `superseded_by` of the other record is written from it.", fixable=True),
    Code("ODR305", "error", "superseded, but by nothing",
         "Some record must name it in `supersedes`: `ockham odr supersede OLD --by NEW`."),
    Code("ODR306", "error", "records supersede each other in a circle", "The message prints the way round."),
    Code("ODR401", "claim", "no evidence",
         "Name a candidate run (and a baseline), and pin the log with `through_sequence`."),
    Code("ODR402", "claim", "run is not in the log", "Neither in --runs nor packed in odr/evidence/."),
    Code("ODR403", "claim", "decision is not in the log", "The ID is unknown, or its beginning fits several."),
    Code("ODR404", "claim", "evidence lies beyond the log", "The log ends before `through_sequence`."),
    Code("ODR405", "claim", "decision belongs to another run", "Name it on its own side."),
    Code("ODR406", "warning", "run has not finished", "Numbers up to `through_sequence` hold; the run may go on."),
    Code("ODR407", "claim", "no single accepting decision with an Occam Quotient",
         "Each side cites exactly one ACCEPT of the memory, or neither side any and `oq_delta` is null."),
    Code("ODR408", "error", "evidence no longer verifies",
         "The lines do not have the root that the record names, or are no log. Nothing is judged from them."),
    Code("ODR409", "claim", "registration is not in the ledger",
         "Neither in runs/_ledger nor packed in odr/evidence/registrations/, or it registers another record."),
    Code("ODR410", "claim", "decision lies behind through_sequence", "Pin a later position, or cite another."),
    Code("ODR411", "claim", "constraint differs from the registered one",
         "What had to hold was fixed before the data; another criterion is another record."),
    Code("ODR412", "claim", "not shown that the registration came first",
         "The candidate run names the ledger as it was when it began; the registration must stand in it."),
    Code("ODR501", "error", "two constraints have one id", "Number them C1, C2, ..."),
    Code("ODR502", "error", "number is not finite", "NaN and infinity compare with nothing."),
    Code("ODR503", "error", "SQL cannot be read", "The message says where the parser stopped."),
    Code("ODR504", "error", "not exactly one SELECT", "A constraint is one SELECT statement."),
    Code("ODR505", "claim", "SQL fails on this log", "The message is the database's."),
    Code("ODR506", "claim", "result is not one row with `value`",
         "One row, a numeric column `value`, and if wanted a column `n`."),
    Code("ODR507", "claim", "value is unknown", "NULL, NaN or infinite: unknown is never a pass."),
    Code("ODR508", "claim", "too few observations", "`n` is below `min_n`: unknown is never a pass."),
    Code("ODR509", "error", "SQL never reads the log", "A constant proves nothing."),
    Code("ODR510", "claim", "constraint fails", "The message holds the measured value."),
    Code("ODR511", "claim", "tick disagrees with the result", "A box is ticked if its constraint passes.", fixable=True),
    Code("ODR512", "error", "SQL may not do this",
         "Only the audit views may be read, and nothing written: no other table, file, function or statement."),
    Code("ODR513", "claim", "SQL did not end in time", "The query was killed: unknown is never a pass."),
    Code("ODR601", "error", "no outcome", "An accepted or rejected record says its OQ delta and verdict."),
    Code("ODR602", "claim", "claimed OQ delta differs", "The message holds what was claimed and recomputed."),
    Code("ODR603", "claim", "OQ delta cannot be recomputed", "A side has no comparable Occam Quotient."),
    Code("ODR604", "claim", "claimed verdict differs", "The message holds what was claimed and recomputed."),
    Code("ODR605", "error", "Outcome line differs from the front matter", "One of the two was edited.", fixable=True),
    Code("ODR606", "claim", "claimed value differs", "The message holds what was claimed and recomputed."),
    Code("ODR607", "error", "status and verdict contradict each other",
         "Accepted goes with KEEP, rejected with REVERT or INCONCLUSIVE."),
    Code("ODR702", "error", "edited after acceptance",
         "From then on only status, superseded_by, review_by and waivers may change: write a new record."),
    Code("ODR703", "warning", "waiver has expired", "Its constraint counts in full again."),
    Code("ODR705", "warning", "review is due", "`review_by` has passed: check the record, then move the date."),
    Code("ODR706", "warning", "decided without a lock", "`ockham odr status` and `lint --fix` write it.", fixable=True),
    Code("ODR707", "error", "waiver for a constraint that does not exist", "Name one of the constraints."),
    Code("ODR801", "error", "index is out of date", "`ockham odr index` writes it.", fixable=True),
)  # fmt: skip
CODES = {row.code: row for row in _TABLE}
DECIDED = frozenset({"accepted", "superseded", "retired"})


def severity(code: str, status: str = "") -> Severity:
    """How much a finding weighs in a record of this status."""
    weight = CODES[code].weight
    if weight == "claim":
        return "error" if status in DECIDED or status == "rejected" else "warning"
    return weight


def explain(code: str) -> str:
    """What a code means, as text.

    Raises:
        BadInputError: if there is no such code.

    """
    row = CODES.get(code.upper())
    if row is None:
        raise BadInputError(f"no code {code!r}{suggest_name(code.upper(), CODES)}")
    weight = {"claim": "warning in draft and proposed, error from then on"}.get(row.weight, row.weight)
    fix = "\nockham odr lint --fix (or check --fix) mends it." if row.fixable else ""
    return f"{row.code}: {row.title} ({weight})\n{row.help}{fix}"


def expand_codes(selected: Iterable[str]) -> frozenset[str]:
    """Codes that begin with what was given: `ODR5` means all of the five hundreds.

    Raises:
        BadInputError: if one fits no code.

    """
    found: set[str] = set()
    for text in selected:
        fitting = [code for code in CODES if code.startswith(text.upper())]
        if not text or not fitting:
            raise BadInputError(f"no code begins with {text!r}{suggest_name(text.upper(), CODES)}")
        found.update(fitting)
    return frozenset(found)
