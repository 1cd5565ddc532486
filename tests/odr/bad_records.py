"""Records with one error each, by finding code, and unusual records that are valid."""

from tests.odr.record_samples import GOOD, judgement


def changed(old: str, new: str) -> str:
    """Return the valid record with one part replaced. The part must exist."""
    assert old in GOOD
    return GOOD.replace(old, new, 1)


C2 = GOOD[GOOD.index("  - id: C2") : GOOD.index("outcome: {")]


def named(fields: str) -> str:
    """Return the valid record with a named constraint in place of C2."""
    return GOOD.replace(C2, f"  - {{id: C2, {fields}}}\n")


SQL = (
    "SELECT avg((NOT updated)::int) AS value, count(*) AS n\n"
    "      FROM gate_decisions WHERE run_id = $candidate"
)


def with_sql(sql: str) -> str:
    return changed(SQL, sql.replace("\n", "\n      "))


BAD = {
    # Errors of the file.
    "empty file": ("", ["ODR001"]),
    "bare record": ("# ODR-0001: Enable\n\n## Problem\n", ["ODR001"]),
    "front matter not closed": (changed("\n---\n\n#", "\n\n#"), ["ODR001"]),
    "blank line before the front matter": ("\n" + GOOD, ["ODR001"]),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), ["ODR002"]),
    "not UTF-8": (GOOD.encode().replace(b"alice", b"al\xefce"), ["ODR003"]),
    "UTF-16": (GOOD.encode("utf-16"), ["ODR003"]),
    "unclosed quote": (changed("owners: [alice]", 'owners: ["alice]'), ["ODR004"]),
    "tab for indent": (changed("  - id: C2", "\t- id: C2"), ["ODR004"]),
    "key stands twice": (changed("tags:", "title: Again\ntags:"), ["ODR004"]),
    "anchor": (changed("owners: [alice]", "owners: &a [alice]"), ["ODR004"]),
    "alias": (changed("owners: [alice]", "owners: *a"), ["ODR004"]),
    "tag": (changed("title: Enable", "title: !!python/object/apply:os.system Enable"), ["ODR004"]),
    "NUL": (changed("alice", "al\0ice"), ["ODR004"]),
    "nested too deep": (changed("[alice]", "[" * 200 + "]" * 200), ["ODR004"]),
    "list for front matter": ("---\n- a\n---\n" + GOOD[GOOD.index("# ODR") :], ["ODR005"]),
    "empty front matter": ("---\n---\n" + GOOD[GOOD.index("# ODR") :], ["ODR005"]),
    "front matter twice": (GOOD.replace("\n---\n\n#", "\n---\n\n---\nodr: 1\n---\n\n#", 1), ["ODR004"]),
    # Errors against the schema.
    "key missing": (changed("owners: [alice]\n", ""), ["ODR101"]),
    "key of a constraint missing": (changed('    op: "<="\n', ""), ["ODR101"]),
    "key misspelt": (changed("tags:", "tagz:"), ["ODR102"]),
    "key of a constraint misspelt": (
        changed("    unit: ratio\n    min_n", "    units: ratio\n    min_n"),
        ["ODR102"],
    ),
    "number in quotes": (changed("threshold: 0.5", 'threshold: "0.5"'), ["ODR103"]),
    "number for a string": (changed("title: Enable test-time adaptation", "title: 12"), ["ODR103"]),
    "boolean for a number": (changed("threshold: 0.5", "threshold: true"), ["ODR103"]),
    "string for a list": (changed("owners: [alice]", "owners: alice"), ["ODR103"]),
    "list for a mapping": (
        changed("outcome: {oq_delta: +0.4, verdict: KEEP}", "outcome: [1]"),
        ["ODR103"],
    ),
    "status misspelt": (changed("status: accepted", "status: acepted"), ["ODR104"]),
    "future format": (changed("odr: 1", "odr: 2"), ["ODR104"]),
    "unknown operator": (changed('op: "<="', 'op: "!="'), ["ODR104"]),
    "verdict in lower case": (changed("verdict: KEEP", "verdict: keep"), ["ODR104"]),
    "id of another form": (changed("id: ODR-0001", "id: ADR-1"), ["ODR006", "ODR105", "ODR204"]),
    "run that leaves the folder": (changed("run: cand", "run: ../../etc"), ["ODR105"]),
    "run with a slash": (changed("run: cand", "run: a/b"), ["ODR105"]),
    "decision ID too short": (changed("[0192f3a2]", "[0192]"), ["ODR105"]),
    "root too short": (changed("abab, decisions: [0192f3a2]", ", decisions: [0192f3a2]"), ["ODR105"]),
    "no such month": (changed("date: 2026-01-14", "date: 2026-13-45"), ["ODR106"]),
    "no such day": (changed("date: 2026-01-14", "date: 2026-02-29"), ["ODR106"]),
    "date and time": (changed("date: 2026-01-14", "date: 2026-01-14T10:00:00Z"), ["ODR106"]),
    "owner twice": (changed("[alice]", "[alice, alice]"), ["ODR109"]),
    "no owner": (changed("[alice]", "[]"), ["ODR109"]),
    "negative position": (changed("through_sequence: 250", "through_sequence: -1"), ["ODR109", "ODR401"]),
    "min_n of zero": (changed("min_n: 20", "min_n: 0"), ["ODR109"]),
    "title over two lines": (
        changed("title: Enable test-time adaptation", 'title: "Enable\\nit"'),
        ["ODR105", "ODR204"],
    ),
    "lone surrogate": (changed("[alice]", '["\\ud800"]'), ["ODR004"]),
    # Errors of the body.
    "section missing": (changed("## Problem\n", ""), ["ODR201"]),
    "section in a fence": (changed("## Problem\n", "```\n## Problem\n```\n"), ["ODR201"]),
    "section at another level": (changed("## Problem", "### Problem"), ["ODR201"]),
    "section twice": (changed("## Proposed", "## Problem\nAgain\n\n## Proposed"), ["ODR202"]),
    "section out of order": (
        changed("## Proposed Change", "## Problem2")
        .replace("## Problem\n", "## Proposed Change\n")
        .replace("Problem2", "Problem"),
        ["ODR203"],
    ),
    "heading differs": (changed("# ODR-0001: Enable test", "# ODR-0001: Disable test"), ["ODR204"]),
    "heading missing": (changed("# ODR-0001: Enable test-time adaptation\n", ""), ["ODR204"]),
    "no checkbox": (changed("- [x] C2 The validation loss improves by > 2 %\n", ""), ["ODR207"]),
    "line with another text": (changed("- [x] C1 Half", "- [x] C1 Few"), ["ODR207"]),
    "line with more text": (changed("are refused\n- [x] C2", "are refused\n  or all\n- [x] C2"), ["ODR207"]),
    "text of the template": (
        changed(
            "Adapt layers 18-24 by LoRA.", "Describe the change, and the alternatives that were not chosen."
        ),
        ["ODR208"],
    ),
    "not a constraint": (changed("- [x] C2 ", "- [x] C3 New\n- [x] C2 "), ["ODR205"]),
    "checkbox without id": (changed("- [x] C2 The", "- [x] The"), ["ODR205", "ODR207"]),
    "checkbox twice": (changed("- [x] C2 ", "- [x] C1 Again\n- [x] C2 "), ["ODR205"]),
    "no Outcome line": (changed("OQ delta: +0.4 → KEEP\n", "Fine.\n"), ["ODR206"]),
    "Outcome line without arrow": (changed("OQ delta: +0.4 → KEEP", "OQ delta: +0.4, KEEP"), ["ODR206"]),
    "Outcome line with two points": (changed("OQ delta: +0.4 →", "OQ delta: +0.4.1 →"), ["ODR206"]),
    "Outcome line with a word of its own": (changed("→ KEEP", "→ MAYBE"), ["ODR206"]),
    # Errors of named constraints.
    "named constraint misspelt": (named("name: loss_improves, value: 0.02"), ["ODR515"]),
    "parameter missing": (named("name: loss_improves_by"), ["ODR515"]),
    "parameter unknown": (named("name: loss_improves_by, value: 0.02, low: 1"), ["ODR515"]),
    "parameter out of range": (named("name: loss_improves_by, value: 2"), ["ODR515"]),
    "parameter huge": (named(f"name: drift_below, value: 1{'0' * 400}"), ["ODR502", "ODR515"]),
    "count with a fraction": (named("name: checkpoints_accepted_at_most, value: 1.5"), ["ODR515"]),
    "limits in the wrong order": (named("name: update_rate_between, low: 0.7, high: 0.5"), ["ODR515"]),
    "name and SQL": (named("name: no_rollbacks, op: '<'"), ["ODR515"]),
    "parameter in quotes": (named("name: loss_improves_by, value: '0.02'"), ["ODR103", "ODR515"]),
    # Errors of constraints.
    "constraint id twice": (changed("  - id: C2", "  - id: C1"), ["ODR205", "ODR501"]),
    "threshold NaN": (changed("threshold: 0.5", "threshold: .nan"), ["ODR502"]),
    "threshold infinite": (changed("threshold: 0.5", "threshold: -.inf"), ["ODR502"]),
    "OQ delta infinite": (changed("oq_delta: +0.4", "oq_delta: 1e999"), ["ODR502"]),
    "SQL that breaks off": (with_sql("SELECT count(* AS value FROM decisions"), ["ODR503"]),
    "SQL nested too deep": (with_sql("SELECT " + "(" * 4000 + "1" + ")" * 4000 + " AS value"), ["ODR503"]),
    "two statements": (with_sql("SELECT 1 AS value FROM runs; DROP TABLE runs"), ["ODR504"]),
    "no statement": (with_sql("-- nothing"), ["ODR504"]),
    "not a SELECT": (with_sql("DELETE FROM decisions"), ["ODR504"]),
    "COPY": (with_sql("COPY (SELECT 1 FROM runs) TO 'f.csv'"), ["ODR504"]),
    "ATTACH": (with_sql("ATTACH 'x.db'"), ["ODR504"]),
    "PRAGMA": (with_sql("PRAGMA database_list"), ["ODR504"]),
    "DELETE in a CTE": (
        with_sql("WITH d AS (DELETE FROM decisions RETURNING *) SELECT count(*) AS value, 1 AS n FROM d"),
        ["ODR512"],
    ),
    "no `value`": (with_sql("SELECT count(*) AS number, count(*) AS n FROM decisions"), ["ODR506"]),
    "no `n`": (with_sql("SELECT count(*) AS value FROM decisions"), ["ODR506"]),
    "constant": (with_sql("SELECT 1 AS value, 100 AS n"), ["ODR509"]),
    "constant that names the log": (with_sql("SELECT 1 AS value, count(*) AS n FROM decisions"), ["ODR509"]),
    "constant behind a CTE": (
        with_sql("WITH d AS (SELECT 1 AS value, 9 AS n) SELECT value, n FROM d"),
        ["ODR509"],
    ),
    "a view hidden": (
        with_sql("WITH decisions AS (SELECT 1 AS a) SELECT sum(a) AS value, 9 AS n FROM decisions"),
        ["ODR512"],
    ),
    "a file as function": (
        with_sql("SELECT sum(size) AS value, 1 AS n FROM read_text('/etc/passwd')"),
        ["ODR512"],
    ),
    "a file as table": (with_sql("SELECT count(*) AS value, 1 AS n FROM 'f.parquet'"), ["ODR512"]),
    "a function that reads the environment": (
        with_sql("SELECT max(getenv('HOME')) AS value, count(*) AS n FROM runs"),
        ["ODR512"],
    ),
    "an unknown function": (
        with_sql("SELECT max(launch(observed)) AS value, count(*) AS n FROM decisions"),
        ["ODR512"],
    ),
    "a setting": (
        with_sql("SELECT max(current_setting('threads')) AS value, count(*) AS n FROM runs"),
        ["ODR514"],
    ),
    "a sequence": (with_sql("SELECT max(nextval('s')) AS value, count(*) AS n FROM runs"), ["ODR514"]),
    "the clock": (
        with_sql("SELECT epoch(current_timestamp) AS value, 1 AS n FROM runs"),
        ["ODR514"],
    ),
    "the clock in age": (
        with_sql("SELECT epoch(age(max(time))) AS value, count(*) AS n FROM events"),
        ["ODR514"],
    ),
    "today": (with_sql("SELECT count(*) + day(today()) AS value, 1 AS n FROM events"), ["ODR514"]),
    "random": (with_sql("SELECT max(random()) AS value, 1 AS n FROM events"), ["ODR514"]),
    "uuid": (with_sql("SELECT max(length(uuid()::varchar)) AS value, 1 AS n FROM events"), ["ODR514"]),
    "a sample": (
        with_sql("SELECT count(*) AS value, 1 AS n FROM events USING SAMPLE 10%"),
        ["ODR514"],
    ),
    "another schema": (
        with_sql("SELECT count(*) AS value, 1 AS n FROM information_schema.tables"),
        ["ODR512"],
    ),
    "a table that is no view": (
        with_sql("SELECT count(*) AS value, count(*) AS n FROM decision"),
        ["ODR512"],
    ),
    "a record's own tables": (with_sql("SELECT count(*) AS value, count(*) AS n FROM odrs"), ["ODR512"]),
    "another parameter": (
        with_sql("SELECT count(*) AS value, count(*) AS n FROM decisions WHERE run_id = $run"),
        ["ODR512"],
    ),
    "a run that is no evidence": (
        with_sql("SELECT count(*) AS value, count(*) AS n FROM decisions WHERE run_id IN ('cand', 's2')"),
        ["ODR517"],
    ),
    "runs by a pattern": (
        with_sql("SELECT count(*) AS value, count(*) AS n FROM decisions WHERE starts_with(run_id, 'ca')"),
        ["ODR517"],
    ),
    "no run": (
        with_sql("SELECT avg(observed) AS value, count(*) AS n FROM gate_decisions"),
        ["ODR517"],
    ),
    "a pair and a list": (
        with_sql(
            "SELECT avg(observed) AS value, count(*) AS n FROM decisions\n"
            "WHERE run_id = $candidate OR run_id IN $baselines"
        ),
        ["ODR512"],
    ),
    "runs that form no pairs": (
        changed(
            "  candidate: {run: cand", "  baselines: [{run: base2}, {run: base3}]\n  candidate: {run: cand"
        ).replace("  baseline: {run: base,", "# {"),
        ["ODR401", "ODR401", "ODR414"],
    ),
    "one run on both sides": (changed("candidate: {run: cand", "candidate: {run: base"), ["ODR414"]),
    "$baseline without baseline": (
        "\n".join(line for line in GOOD.split("\n") if not line.startswith("  baseline:")),
        ["ODR401"],
    ),
    # Errors of evidence, outcome and life cycle.
    "no evidence": (GOOD[: GOOD.index("evidence:")] + GOOD[GOOD.index("constraints:") :], ["ODR401"]),
    "neither candidate nor candidates": (
        "\n".join(line for line in GOOD.split("\n") if not line.startswith("  candidate:")),
        ["ODR109", "ODR401"],
    ),
    "candidate and candidates": (
        changed("  candidate:", "  candidates: [{run: other}]\n  candidate:"),
        ["ODR109", "ODR401"],
    ),
    "unknown key of a run in a list": (
        changed("  candidate: {run: cand", "  candidates: [{rum: x, run: cand").replace(
            "[0192f3a2]}", "[0192f3a2]}]"
        ),
        ["ODR102"],
    ),
    "log not pinned": (
        changed("candidate: {run: cand, through_sequence: 250, ", "candidate: {run: cand, "),
        ["ODR401"],
    ),
    "no outcome": (changed("outcome: {oq_delta: +0.4, verdict: KEEP}\n", ""), ["ODR601", "ODR605"]),
    "Outcome line of another number": (changed("OQ delta: +0.4", "OQ delta: +0.5"), ["ODR605"]),
    "Outcome line of another verdict": (changed("→ KEEP", "→ REVERT"), ["ODR605"]),
    "accepted and reverted": (
        changed("verdict: KEEP", "verdict: REVERT").replace("→ KEEP", "→ REVERT"),
        ["ODR607"],
    ),
    "nothing to judge, but kept": (
        judgement(1).replace("verdict: null", "verdict: KEEP").replace("not measured", "KEEP"),
        ["ODR401", "ODR607"],
    ),
    "waiver ended": (
        changed("outcome:", "waivers: [{constraint: C1, by: bob, reason: r, until: 2026-11-23}]\noutcome:"),
        ["ODR703"],
    ),
    "waiver of nothing": (
        changed("outcome:", "waivers: [{constraint: C7, by: bob, reason: r, until: 2026-12-23}]\noutcome:"),
        ["ODR707"],
    ),
    "review is due": (changed("tags:", "review_by: 2026-11-23\ntags:"), ["ODR705"]),
    "supersedes an unknown record": (changed("supersedes: []", "supersedes: [ODR-0009]"), ["ODR302"]),
    "supersedes itself": (changed("supersedes: []", "supersedes: [ODR-0001]"), ["ODR303", "ODR306"][:1]),
    "superseded by an unknown record": (
        changed("supersedes: []", "superseded_by: [ODR-0009]"),
        ["ODR302", "ODR304"],
    ),
    "superseded by nothing": (changed("status: accepted", "status: superseded"), ["ODR305"]),
}


GOOD_TOO = {
    "a run of the evidence by its ID": with_sql(
        "SELECT avg(observed) AS value, count(*) AS n FROM decisions WHERE run_id = 'cand'"
    ),
    "lists of runs": with_sql(
        "SELECT avg(observed) AS value, count(*) AS n FROM decisions\n"
        "WHERE run_id IN $candidates OR list_contains($baselines, run_id)"
    ),
    "as it is": GOOD,
    "CRLF": GOOD.replace("\n", "\r\n"),
    "setext headings": changed("## Problem\n", "Problem\n-------\n"),
    "heading inside a fence": changed("## Proposed", "```\n## Problem\n```\n\n## Proposed"),
    "arrow of ASCII": changed("→", "->"),
    "further section": changed("## Outcome", "## Alternatives\nNone.\n\n## Outcome"),
    "box inside a fence": changed("- [x] C2", "```\n- [x] C9 no\n```\n- [x] C2"),
    "comment": changed("owners:", "# who\nowners:"),
    "as the old documents write it": changed("OQ delta: +0.4", "OQ Delta: +0.4"),
    "line over two lines": changed("at most are refused\n- [x]", "at most\n  are refused\n- [x]").replace(
        "- [x] C1 Half of the batches at most are refused\n",
        "- [x] C1 Half of the batches at most\n  are refused\n",
    ),
    "named constraint": named("name: loss_improves_by, value: 0.02").replace(
        "C2 The validation loss improves by > 2 %",
        "C2 The validation loss at the last common evaluation is more than 2 % below the baseline's",
    ),
    "warnings in a draft only": judgement(1, "draft"),
}
