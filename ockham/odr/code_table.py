"""All finding codes with title, and with an explanation that contains the repair.

The hundreds are groups: 0 the file, 1 the schema, 2 the body, 3 relations between records, 4 evidence, 5
constraints, 6 the outcome, 7 the life cycle, 8 files generated from records.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

# `claim`: a warning while the record is a draft or proposed, an error from the day it claims to hold.
SeverityRule = Literal["error", "warning", "claim"]


class Code(NamedTuple):
    """One finding code."""

    code: str
    weight: SeverityRule
    title: str
    help: str
    fixable: bool = False


CODE_TABLE = (
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
        "It has a syntax error, a duplicate key, an anchor, a tag, or a second document. Correct the line.",
    ),
    Code("ODR005", "error", "front matter is not a mapping", "Write it as `key: value` lines."),
    Code(
        "ODR006",
        "error",
        "file name and id differ",
        "A record is `NNNN-slug.md`, and NNNN is the number in its id. `ockham odr renumber` changes both.",
    ),
    Code(
        "ODR007",
        "error",
        "file cannot be read",
        "It is not a regular file, too large, or not readable. Remove it, or change its permissions.",
    ),
    Code(
        "ODR101",
        "error",
        "key missing",
        "Add the key. `ockham odr schema` writes the schema into the folder.",
    ),
    Code(
        "ODR102",
        "error",
        "unknown key",
        "Correct or remove it. The schema allows no other keys, so that a misspelt key is reported.",
    ),
    Code(
        "ODR103",
        "error",
        "wrong type",
        "Write a value of the type in the message, such as 0.4 without quotes.",
    ),
    Code("ODR104", "error", "not one of the accepted values", "Write one of those in the message."),
    Code(
        "ODR105",
        "error",
        "wrong form",
        "An ID, run, decision or digest is malformed. Write it in the form in the message.",
    ),
    Code("ODR106", "error", "invalid date", "Write an existing date as YYYY-MM-DD."),
    Code("ODR109", "error", "schema", "Change the value as the message describes."),
    Code(
        "ODR201",
        "error",
        "section missing",
        "Write Problem, Proposed Change, Occam Constraints, Outcome: each once, in this order, as `## `.",
    ),
    Code("ODR202", "error", "duplicate section", "Merge the two."),
    Code(
        "ODR203",
        "error",
        "section out of order",
        "Write Problem, Proposed Change, Occam Constraints, Outcome.",
    ),
    Code("ODR204", "error", "heading differs from id and title", "Write `# ODR-0001: Title`.", fixable=True),
    Code(
        "ODR205",
        "error",
        "checkbox without a constraint",
        "Name one constraint in each line `- [ ] C1 ...` of the section, and each constraint once.",
    ),
    Code(
        "ODR206",
        "error",
        "Outcome line malformed",
        "Write `OQ delta: +0.4 → KEEP`, with `none` in place of a number if no efficiency is claimed. The"
        " line may contain waivers as `ockham odr check` prints them: `KEEP (1 waived until 2027-01-31)`.",
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
    Code("ODR306", "error", "records supersede each other in a cycle", "Remove one link of the cycle."),
    Code(
        "ODR401",
        "claim",
        "no evidence",
        "Name a candidate run (and a baseline), and pin the log with `through_sequence`.",
    ),
    Code(
        "ODR402",
        "claim",
        "run is not in the log",
        "It is neither in --runs nor packed in odr/evidence/. Name its folder with `--runs`, or copy it "
        "there with `ockham odr pack` on a machine that has the run.",
    ),
    Code(
        "ODR403",
        "claim",
        "decision is not in the log",
        "The ID is unknown, or its prefix matches several. Write a complete ID of this run.",
    ),
    Code(
        "ODR404",
        "claim",
        "evidence is beyond the end of the log",
        "The log ends before `through_sequence`. Restore the complete log, or run `ockham odr evidence` "
        "again.",
    ),
    Code("ODR405", "claim", "decision belongs to another run", "Name it on the side of its run."),
    Code(
        "ODR406",
        "warning",
        "run has not finished",
        "Values up to `through_sequence` are final. Run `ockham odr evidence` again to cite its end.",
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
        "The lines do not have the root in the record, or are not a log. They are not evaluated. Restore "
        "the original log, or cite another run.",
    ),
    Code(
        "ODR409",
        "claim",
        "registration is not in the ledger",
        "It is neither in runs/_ledger nor packed in odr/evidence/registrations/, or is of another "
        "record. Restore the ledger, or register again before a new run.",
    ),
    Code("ODR410", "claim", "decision is after through_sequence", "Pin a later position, or cite another."),
    Code(
        "ODR411",
        "claim",
        "constraint differs from the registered one",
        "The registration fixed the criterion before the data. Write a new record for another one.",
    ),
    Code(
        "ODR412",
        "claim",
        "registration is not proven to precede the run",
        "The first event of the candidate does not name a ledger that contains the registration. Register"
        " the record first, then train a new run.",
    ),
    Code(
        "ODR413",
        "claim",
        "run is not one of the registered candidates",
        "The registration fixed the runs, or the rule that selects them. Cite exactly these.",
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
        "Restore `registered`. Another question is another record, another project another folder of runs.",
    ),
    Code(
        "ODR418",
        "error",
        "registered record is missing",
        "Restore the file. A record that is given up stays as rejected. Another project has another folder.",
    ),
    Code("ODR501", "error", "two constraints have the same id", "Number them C1, C2, ..."),
    Code(
        "ODR502",
        "error",
        "number is not finite",
        "Write a finite number. NaN and infinity cannot be compared.",
    ),
    Code("ODR503", "error", "SQL cannot be parsed", "Correct the SQL at the position in the message."),
    Code("ODR504", "error", "not exactly one SELECT", "Write a constraint as one SELECT statement."),
    Code(
        "ODR505",
        "claim",
        "SQL fails on this log",
        "The message is that of the database. Correct the SQL; `ockham query` runs it too.",
    ),
    Code(
        "ODR506",
        "claim",
        "result is not one row with `value` and `n`",
        "Return one row with a numeric column `value`, and a column `n` with the number of observations.",
    ),
    Code(
        "ODR507",
        "claim",
        "value is unknown",
        "The query gave no row, no observation (n=0), NULL, NaN or infinity, or no run is cited. Cite a "
        "run that measured the value, or change the SQL; `ockham query` shows what it gives. Unknown is "
        "never a pass.",
    ),
    Code(
        "ODR508",
        "claim",
        "too few observations",
        "`n` is below `min_n`. Cite longer runs, or lower `min_n`. Unknown is never a pass.",
    ),
    Code("ODR509", "error", "SQL never reads the log", "Read a view in FROM. A constant proves nothing."),
    Code(
        "ODR510",
        "claim",
        "constraint fails",
        "The message contains the measured value. Reject the record, cite other runs, or add a waiver.",
    ),
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
        "Read only audit views: no other table, file, function or statement is allowed.",
    ),
    Code(
        "ODR513",
        "claim",
        "SQL did not end in time",
        "The query was stopped. Make it read fewer rows. Unknown is never a pass.",
    ),
    Code(
        "ODR514",
        "error",
        "SQL depends on more than the log",
        "Use no clock, time zone, random number or sample: the same log must give the same verdict.",
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
        "The 95 % interval over the pairs contains the limit, so the constraint neither passes nor fails."
        " Cite more pairs, claim another limit, or set `judge: mean`, which compares only the mean. "
        "Unknown is never a pass.",
    ),
    Code(
        "ODR517",
        "error",
        "SQL is not restricted to the runs of the evidence",
        "Each view needs a condition that holds for all its rows, in WHERE, JOIN or FILTER. Compare run_id "
        "by = or IN: with $baseline and $candidate for one pair, or with $baselines and $candidates for all "
        "runs. With one pair, the ID of a run of the evidence is accepted too.",
    ),
    Code("ODR601", "error", "no outcome", "Add the `outcome` that `ockham odr check` computes."),
    Code(
        "ODR602",
        "claim",
        "claimed OQ delta differs",
        "The message contains both values. Write the recomputed one, or add it to `corrections` of a "
        "decided record.",
    ),
    Code(
        "ODR603",
        "claim",
        "OQ delta cannot be recomputed",
        "A side has no comparable Occam Quotient. Cite other runs, or set `oq_delta` to null.",
    ),
    Code(
        "ODR604",
        "claim",
        "claimed verdict differs",
        "The message contains both. Write the recomputed verdict, or change the claims. If the record is "
        "decided, write a new one.",
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
        "The message contains both values. Write the recomputed one, with no more digits than must be equal.",
    ),
    Code(
        "ODR607",
        "error",
        "status and verdict contradict each other",
        "An accepted record needs KEEP, a rejected one REVERT or INCONCLUSIVE. Null is for a record "
        "without constraints, and such a record cannot have KEEP or REVERT. Write the verdict that "
        "`ockham odr check` prints, or change the status.",
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
    Code(
        "ODR703",
        "warning",
        "waiver has expired",
        "Extend `until`, or write a new record. Its constraint counts again.",
    ),
    Code(
        "ODR705",
        "warning",
        "review is due",
        "`review_by` has passed. Check the record, then change the date.",
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
