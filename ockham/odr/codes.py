"""All finding codes with title, explanation and fix.

The hundreds are groups: 0 the file, 1 the schema, 2 the body, 3 relations between records, 4 evidence, 5
constraints, 6 the outcome, 7 the life cycle, 8 files generated from records.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ockham.errors import BadInputError, suggest_name

Severity = Literal["error", "warning"]
# `claim`: a warning while the record is a draft or proposed, an error from the day it claims to hold.
SeverityRule = Literal["error", "warning", "claim"]


class Code(NamedTuple):
    """One finding code."""

    code: str
    weight: SeverityRule
    title: str
    help: str
    fixable: bool = False


class Finding(NamedTuple):
    """One finding in one record. `line` and `column` count from 1. `--fix` fixes it if `fixable` is true."""

    path: str
    line: int
    column: int
    code: str
    severity: Severity
    message: str
    odr_id: str = ""
    constraint_id: str = ""
    fixable: bool = False


_TABLE = (
    Code(
        "ODR001",
        "error",
        "no closed front matter",
        "A record starts with `---`, YAML, and `---`. `ockham odr upgrade FILE` converts a legacy record.",
    ),
    Code("ODR002", "error", "byte order mark", "Save the file as UTF-8 without BOM.", fixable=True),
    Code("ODR003", "error", "not UTF-8", "Save the file as UTF-8; the message names the first invalid byte."),
    Code(
        "ODR004",
        "error",
        "front matter is not YAML 1.2",
        "A syntax error, a duplicate key, an anchor, a tag, or a second document.",
    ),
    Code("ODR005", "error", "front matter is not a mapping", "Write it as `key: value` lines."),
    Code(
        "ODR006",
        "error",
        "file name and id differ",
        "A record is `NNNN-slug.md`, and NNNN is the number in its id. `ockham odr renumber` changes both.",
    ),
    Code("ODR007", "error", "file cannot be read", "It is not a regular file, too large, or not readable."),
    Code("ODR101", "error", "key missing", "The schema requires it: schemas/odr.v1.schema.json."),
    Code(
        "ODR102",
        "error",
        "unknown key",
        "The schema allows no other keys, so that a misspelt key is reported.",
    ),
    Code("ODR103", "error", "wrong type", "For example a number in quotes."),
    Code("ODR104", "error", "not one of the accepted values", "The message lists them."),
    Code("ODR105", "error", "wrong form", "An ID, run, decision or digest in a wrong form."),
    Code("ODR106", "error", "invalid date", "Write an existing date as YYYY-MM-DD."),
    Code("ODR109", "error", "schema", "Another violation of the schema."),
    Code(
        "ODR201",
        "error",
        "section missing",
        "Problem, Proposed Change, Occam Constraints, Outcome: each once, in this order, as `## `.",
    ),
    Code("ODR202", "error", "duplicate section", "Merge the two."),
    Code("ODR203", "error", "section out of order", "Problem, Proposed Change, Occam Constraints, Outcome."),
    Code("ODR204", "error", "heading differs from id and title", "`# ODR-0001: Title`.", fixable=True),
    Code(
        "ODR205",
        "error",
        "checkbox without a constraint",
        "Each line `- [ ] C1 ...` of the section names one constraint, and each constraint once.",
    ),
    Code(
        "ODR206",
        "error",
        "Outcome line malformed",
        "`OQ delta: +0.4 → KEEP`, with `none` in place of a number if no efficiency is claimed.",
        fixable=True,
    ),
    Code(
        "ODR207",
        "error",
        "line differs from its constraint",
        "The line `- [ ] C1 ...` repeats the text of the constraint. A named constraint generates the text.",
        fixable=True,
    ),
    Code(
        "ODR208",
        "claim",
        "text of the template",
        "`ockham odr new` wrote this sentence as a placeholder. Replace it with the problem or the change.",
    ),
    Code("ODR301", "error", "two records have the same id", "`ockham odr renumber` assigns the next number."),
    Code("ODR302", "error", "link to a record that does not exist", "Name a record of this folder."),
    Code("ODR303", "error", "record supersedes itself", "Name the older record."),
    Code(
        "ODR304",
        "error",
        "link in one record only",
        "`superseded_by` of the other record is derived from `supersedes`.",
        fixable=True,
    ),
    Code(
        "ODR305",
        "error",
        "superseded without a successor",
        "Another record must name it in `supersedes`: `ockham odr supersede OLD --by NEW`.",
    ),
    Code("ODR306", "error", "records supersede each other in a cycle", "The message lists the cycle."),
    Code(
        "ODR401",
        "claim",
        "no evidence",
        "Name a candidate run (and a baseline), and pin the log with `through_sequence`.",
    ),
    Code("ODR402", "claim", "run is not in the log", "It is neither in --runs nor packed in odr/evidence/."),
    Code(
        "ODR403", "claim", "decision is not in the log", "The ID is unknown, or its prefix matches several."
    ),
    Code(
        "ODR404", "claim", "evidence is beyond the end of the log", "The log ends before `through_sequence`."
    ),
    Code("ODR405", "claim", "decision belongs to another run", "Name it on the side of its run."),
    Code(
        "ODR406",
        "warning",
        "run has not finished",
        "Values up to `through_sequence` are final; the run can continue.",
    ),
    Code(
        "ODR407",
        "claim",
        "no evaluation with an Occam Quotient",
        "Cite runs whose memory measured a quotient, and a baseline, or set `oq_delta` to null.",
    ),
    Code(
        "ODR408",
        "error",
        "evidence no longer verifies",
        "The lines do not have the root in the record, or are not a log. They are not evaluated.",
    ),
    Code(
        "ODR409",
        "claim",
        "registration is not in the ledger",
        "It is neither in runs/_ledger nor packed in odr/evidence/registrations/, or is of another record.",
    ),
    Code("ODR410", "claim", "decision is after through_sequence", "Pin a later position, or cite another."),
    Code(
        "ODR411",
        "claim",
        "constraint differs from the registered one",
        "The registration fixed the criterion before the data; write a new record for another one.",
    ),
    Code(
        "ODR412",
        "claim",
        "registration is not proven to precede the run",
        "The registration must be part of the ledger that the first event of the candidate names.",
    ),
    Code(
        "ODR413",
        "claim",
        "run is not one of the registered candidates",
        "The registration fixed the runs, or the rule that selects them; cite exactly these.",
    ),
    Code(
        "ODR414",
        "error",
        "runs form no pairs",
        "Name each run once, and one baseline for all candidates or one for each.",
    ),
    Code(
        "ODR416",
        "warning",
        "sides differ in more than the policy",
        "Compare equal runs, or name in `evidence.varies` the settings that differ on purpose.",
    ),
    Code(
        "ODR417",
        "claim",
        "registration that the record does not name",
        "The ledger contains it for this id. Restore `registered`; another question is another record. "
        "A record of another project with this id needs another folder of runs.",
    ),
    Code(
        "ODR418",
        "error",
        "registered record is missing",
        "Restore the file. A record that is given up stays as rejected. A record of another project needs "
        "another folder of runs.",
    ),
    Code("ODR501", "error", "two constraints have the same id", "Number them C1, C2, ..."),
    Code("ODR502", "error", "number is not finite", "NaN and infinity cannot be compared."),
    Code("ODR503", "error", "SQL cannot be parsed", "The message names the position."),
    Code("ODR504", "error", "not exactly one SELECT", "A constraint is one SELECT statement."),
    Code("ODR505", "claim", "SQL fails on this log", "The message is that of the database."),
    Code(
        "ODR506",
        "claim",
        "result is not one row with `value`",
        "Return one row with a numeric column `value` and optionally a column `n`.",
    ),
    Code("ODR507", "claim", "value is unknown", "It is NULL, NaN or infinite. Unknown is never a pass."),
    Code("ODR508", "claim", "too few observations", "`n` is below `min_n`. Unknown is never a pass."),
    Code("ODR509", "error", "SQL never reads the log", "A constant proves nothing."),
    Code("ODR510", "claim", "constraint fails", "The message contains the measured value."),
    Code(
        "ODR511",
        "claim",
        "checkbox differs from the result",
        "A box is checked if its constraint passes.",
        fixable=True,
    ),
    Code(
        "ODR512",
        "error",
        "SQL is not allowed",
        "Only audit views can be read: no other table, file, function or statement.",
    ),
    Code("ODR513", "claim", "SQL did not end in time", "The query was stopped. Unknown is never a pass."),
    Code(
        "ODR514",
        "error",
        "SQL depends on more than the log",
        "No clock, time zone, random number or sample: the same log must give the same verdict on each day.",
    ),
    Code(
        "ODR515",
        "error",
        "named constraint cannot be used",
        "The name or a parameter is not accepted. `ockham odr constraints` lists names and parameters.",
    ),
    Code(
        "ODR516",
        "claim",
        "interval contains the limit",
        "The mean over the pairs is not known well enough: add pairs, or set `judge: mean`. Unknown is "
        "never a pass.",
    ),
    Code(
        "ODR517",
        "error",
        "SQL is not restricted to the runs of the evidence",
        "Each view needs a condition that holds for all its rows, in WHERE, JOIN or FILTER. Compare run_id "
        "by = or IN: with $baseline and $candidate for one pair, or with $baselines and $candidates for all "
        "runs. With one pair, the ID of a run of the evidence is accepted too.",
    ),
    Code("ODR601", "error", "no outcome", "An accepted or rejected record has an OQ delta and a verdict."),
    Code(
        "ODR602",
        "claim",
        "claimed OQ delta differs",
        "The message contains the claimed and the recomputed value.",
    ),
    Code("ODR603", "claim", "OQ delta cannot be recomputed", "A side has no comparable Occam Quotient."),
    Code(
        "ODR604",
        "claim",
        "claimed verdict differs",
        "The message contains the claimed and the recomputed value.",
    ),
    Code(
        "ODR605",
        "error",
        "Outcome line differs from the front matter",
        "One of the two was changed.",
        fixable=True,
    ),
    Code(
        "ODR606",
        "claim",
        "claimed value differs",
        "The message contains the claimed and the recomputed value.",
    ),
    Code(
        "ODR607",
        "error",
        "status and verdict contradict each other",
        "Accepted requires KEEP, rejected requires REVERT or INCONCLUSIVE.",
    ),
    Code(
        "ODR608",
        "claim",
        "OQ delta of the start of a run",
        "At iteration 0 nothing was learned: the quotients differ only in parameters and cost. Train both "
        "runs to a later evaluation, or set `oq_delta` to null.",
    ),
    Code(
        "ODR702",
        "error",
        "edited after acceptance",
        "Only status, superseded_by, review_by and waivers can change. Write a new record.",
    ),
    Code("ODR703", "warning", "waiver has expired", "Its constraint counts again."),
    Code(
        "ODR705",
        "warning",
        "review is due",
        "`review_by` has passed: check the record, then change the date.",
    ),
    Code(
        "ODR706",
        "warning",
        "decided without a lock",
        "`ockham odr status` and `lint --fix` write it.",
        fixable=True,
    ),
    Code("ODR707", "error", "waiver for a constraint that does not exist", "Name one of the constraints."),
    Code("ODR801", "error", "index is out of date", "`ockham odr index` writes it."),
)
CODES = {row.code: row for row in _TABLE}
_FIXED_IN_TEXT = frozenset({"ODR204", "ODR206", "ODR207", "ODR605"})
DECIDED = frozenset({"accepted", "superseded", "retired"})


def severity(code: str, status: str = "") -> Severity:
    """Return the severity of a code in a record of this status."""
    weight = CODES[code].weight
    if weight == "claim":
        return "error" if status in DECIDED or status == "rejected" else "warning"
    return weight


def is_fixable(code: str, *, status: str = "", locked: bool = False, has_outcome: bool = True) -> bool:
    """Return True if `--fix` fixes a finding of this code.

    Args:
        code: Code of the finding.
        status: Status of the record. Only drafts and proposals get their boxes ticked.
        locked: True if the record has a lock, which covers its text.
        has_outcome: True if the front matter has the outcome that the Outcome line repeats.

    """
    if code == "ODR511":
        return status in {"draft", "proposed"}
    if code in _FIXED_IN_TEXT:
        return not locked and (has_outcome or code not in {"ODR206", "ODR605"})
    return CODES[code].fixable


def explain(code: str) -> str:
    """Return the explanation of a code as text.

    Raises:
        BadInputError: If the code does not exist.

    """
    row = CODES.get(code.upper())
    if row is None:
        raise BadInputError(f"no code {code!r}{suggest_name(code.upper(), CODES)}")
    weight = {"claim": "warning in draft and proposed, error from then on"}.get(row.weight, row.weight)
    fix = "\n`ockham odr lint --fix` (or `check --fix`) fixes it." if row.fixable else ""
    return f"{row.code}: {row.title} ({weight})\n{row.help}{fix}"


def expand_codes(selected: Iterable[str]) -> frozenset[str]:
    """Return all codes with the given prefixes. `ODR5` selects the five hundreds.

    Raises:
        BadInputError: If a prefix matches no code.

    """
    found: set[str] = set()
    for text in selected:
        fitting = [code for code in CODES if code.startswith(text.upper())]
        if not text or not fitting:
            raise BadInputError(f"no code begins with {text!r}{suggest_name(text.upper(), CODES)}")
        found.update(fitting)
    return frozenset(found)
