import json
import os
import re
import xml.etree.ElementTree as ET

import pytest

from ockham.errors import BadInputError, RunError
from ockham.odr.record import read_record
from tests.helpers import forked_cli
from tests.helpers.odr_cli import run_odr
from tests.odr.record_samples import JUDGEMENT, fill_template, put
from tests.odr.small_runs import LAST, make_run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with two runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("OCKHAM_RUNS", raising=False)
    make_run(tmp_path / "runs", "base", loss=2.0)
    make_run(tmp_path / "runs", "cand", loss=1.8)
    return tmp_path


def begin(place):
    """Create a record from the two runs, and write its outcome."""
    run_odr("new", "Use it", "--baseline", "base", "--candidate", "cand", "--owner", "alice")
    file = place / "odr" / "0001-use-it.md"
    text = file.read_text().replace("---\n\n#", "outcome: {oq_delta: +0.111, verdict: KEEP}\n---\n\n#")
    file.write_text(text.replace("Open.", "OQ delta: +0.111 → KEEP"))
    fill_template(file)
    return file


def test_commands_lead_from_two_runs_to_an_accepted_record(place):
    """Changed numbers and bytes are reported."""
    file = begin(place)
    record = read_record(file)
    assert [
        (side.run, side.through, len(side.root), len(side.decisions)) for side in record.claims.sides
    ] == [
        ("base", LAST, 64, 1),
        ("cand", LAST, 64, 1),
    ]
    assert record.claims.constraints[0].measured == -0.1
    run_odr("lint")
    run_odr("check", "--fix")
    run_odr("status", "1", "proposed")
    run_odr("status", "1", "accepted")
    result = run_odr("check", "--fail-on", "warning")
    assert result.stdout.startswith(
        "ODR-0001 Use it: KEEP\n"
        "  OQ delta pass: +0.1111 at iteration 42, claimed > 0\n"
        "  C1 pass: -0.1 ratio (n=3), claimed <= 0.01 ratio\n"
    )

    good = file.read_text()
    file.write_text(re.sub(r"measured: [-.0-9]*", "measured: -0.3", good))
    assert "claimed -0.3, recomputed -0.1" in (message := run_odr("check", status=1).stdout)
    assert {"ODR606", "ODR702"} <= {
        row.split(" ")[1] for row in message.splitlines() if row.startswith("odr/")
    }
    file.write_text(good)
    segment = place / "runs" / "cand" / "log" / "1-0" / "000000000000.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"q":0.25', b'"q":0.35', 1))
    assert "ODR408" in run_odr("check", status=1).stdout


def test_packed_evidence_replaces_the_runs(place):
    """The result of check is the same."""
    begin(place)
    assert run_odr("pack").stdout.splitlines() == [
        "odr/evidence/base.1-0.jsonl.gz",
        "odr/evidence/cand.1-0.jsonl.gz",
    ]
    before = run_odr("check", "--ignore", "ODR511").stdout
    (place / "runs").rename(place / "gone")
    assert run_odr("check", "--ignore", "ODR511").stdout == before


def test_log_cited_by_two_records_is_reported_once(place):
    """It is one packed file."""
    begin(place)
    run_odr("new", "Again", "--owner", "a", "--baseline", "base", "--candidate", "cand")
    packed = run_odr("pack").stdout.splitlines()
    assert len(packed) == len(set(packed)) == 2


def test_pack_rejects_another_log(place):
    """Nothing is packed."""
    file = begin(place)
    before, _, candidate = file.read_text().partition("  candidate:")
    file.write_text(f"{before}  candidate:" + candidate.replace('root: "', 'root: "' + "0" * 64 + '" #', 1))
    with pytest.raises(BadInputError, match="pins root"):
        run_odr("pack")
    assert not (place / "odr" / "evidence").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--baseline", "base"), BadInputError, "--baseline needs --candidate"),
        (("--baseline", "base", "--candidate", "base"), BadInputError, "name different runs"),
        (("--baseline", "base", "--candidate", "cant"), RunError, "no run 'cant'"),
        (("--candidate", "../base"), RunError, "not valid"),
    ],
)
def test_new_rejects_wrong_runs_and_writes_nothing(place, arguments, error, message):
    """Missing runs, or the same run twice."""
    with pytest.raises(error, match=message):
        run_odr("new", "T", *arguments)
    assert not (place / "odr").exists()


def test_check_prints_json_junit_sarif_and_annotations(place):
    """Values and positions are part of JSON."""
    begin(place)
    document = json.loads(run_odr("check", "-f", "json").stdout)
    judged = document["judgements"][0]
    assert (judged["verdict"], judged["constraints"][0]["state"], judged["evidence"][1]["size"]) == (
        "KEEP",
        "pass",
        LAST + 1,
    )
    assert [suite.get("tests") for suite in ET.fromstring(run_odr("check", "-f", "junit").stdout)] == ["2"]
    assert json.loads(run_odr("check", "-f", "sarif").stdout)["runs"][0]["results"][0]["ruleId"] == "ODR511"
    assert run_odr("check", "-f", "github").stdout.startswith("::warning file=odr/0001-use-it.md,line=")


def test_check_appends_findings_to_the_github_summary(place, monkeypatch):
    """The variable names the file."""
    begin(place)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    run_odr("check", "-f", "github")
    assert (place / "summary.md").read_text().startswith("| place | code | finding |\n")


def test_check_writes_output_to_a_file(place):
    """An unwritable folder is an error."""
    begin(place)
    run_odr("check", "-f", "sarif", "-o", "out.sarif")
    assert json.loads((place / "out.sarif").read_text())["version"] == "2.1.0"
    with pytest.raises(BadInputError, match="cannot be written"):
        run_odr("check", "-o", "/proc/none/out")


def test_upgrade_command_converts_a_legacy_record(place):
    """An unreadable one is named."""
    (place / "old.md").write_text(
        "# ODR-007: T\n## Problem\n## Proposed Change\n## Occam Constraints\n- [ ] X < 5 ms\n## Outcome\n"
    )
    assert run_odr("upgrade", "old.md").stdout == "odr/0007-t.md\n"
    assert "nothing to check" in run_odr("check").stdout
    with pytest.raises(BadInputError, match=r"none.md: cannot be read"):
        run_odr("upgrade", "none.md")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["odr", "lint"],
            3,
            "ockham: records folder odr: No such file or directory; create it with `ockham odr new TITLE`",
        ),
        (["odr", "show", "9", "--odr-dir", "two"], 2, "ockham: no record '9'; did you mean 'ODR-0001'"),
        (["odr", "lint", "--odr-dir", "two"], 0, "1 record: 0 errors, 0 warnings"),
        (["odr", "check", "--odr-dir", "two"], 0, "1 record: 0 errors, 0 warnings"),
        (["odr", "explain", "ODR9"], 2, "ockham: 'ODR9': not a code"),
        (["odr", "lint", "--format", "xml"], 2, "ockham: --format: 'xml' is not accepted"),
    ],
)
def test_check_command_has_documented_exit_statuses(tmp_path, arguments, status, message):
    """0 clean, 2 bad input, 3 not verifiable; one line on stderr."""
    put(
        tmp_path / "two",
        JUDGEMENT.format(number=1, title="T", status="draft", supersedes="", superseded_by=""),
        "0001-t.md",
    )
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    done = forked_cli.run("ockham", *arguments, cwd=tmp_path, env=environment)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (status, True, False), (
        done.stderr
    )


def test_check_fix_leaves_decided_records(place):
    """The finding remains."""
    file = begin(place)
    run_odr("check", "--fix")
    run_odr("status", "1", "proposed")
    run_odr("status", "1", "accepted")
    file.write_text(file.read_text().replace("- [x] C1", "- [ ] C1"))
    before = file.read_bytes()
    result = run_odr("check", "--fix", status=1)
    # The lock covers the text, so the finding is not marked as fixable.
    assert "ODR511 C1" in result.stdout
    assert "fixable" not in result.stderr
    assert file.read_bytes() == before
