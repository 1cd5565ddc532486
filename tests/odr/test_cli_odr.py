import json
import re

import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.odr.codes import CODES
from ockham.odr.constraint_library import load_library
from tests.helpers.odr_cli import run_odr
from tests.odr.record_samples import PROPOSED, fill_template, judgement, put


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return tmp_path / "odr"


def test_lint_of_a_clean_folder_exits_0(folder):
    """One line on stderr, nothing on stdout."""
    put(folder, PROPOSED)
    result = run_odr("lint")
    assert (result.stdout, result.stderr) == ("", "1 record: 0 errors, 0 warnings\n")


def test_lint_of_an_empty_folder_exits_0_and_reports_it(folder):
    """It states that there are no records."""
    folder.mkdir()
    assert "nothing to check" in run_odr("lint").stderr


def test_lint_of_a_missing_folder_exits_3(folder):
    """Nothing can be checked."""
    with pytest.raises(UnverifiableError, match="No such file"):
        run_odr("lint")


def test_findings_are_printed_with_location_and_code(folder):
    """One line per finding, exit status 1."""
    put(folder, PROPOSED.replace("tags:", "tagz:"))
    result = run_odr("lint", status=1)
    assert result.stdout == "odr/0001-enable.md:8:1: ODR102 unknown key 'tagz'; did you mean 'tags'?\n"


def test_warnings_fail_with_fail_on_warning(folder):
    """Otherwise the exit status is 0."""
    put(folder, PROPOSED.replace("tags:", "review_by: 2020-01-01\ntags:"))
    assert "ODR705 [warning]" in run_odr("lint").stdout
    run_odr("lint", "--fail-on", "warning", status=1)


def test_select_and_ignore_accept_code_prefixes(folder):
    """An unknown prefix is an error."""
    put(folder, PROPOSED.replace("tags:", "tagz:").replace("## Problem", "## Trouble"))
    assert "ODR201" not in run_odr("lint", "--select", "ODR1", status=1).stdout
    assert "ODR102" not in run_odr("lint", "--ignore", "ODR1", status=1).stdout
    with pytest.raises(BadInputError, match="no code begins with 'ODR9'"):
        run_odr("lint", "--select", "ODR9")


def test_lint_accepts_one_record_by_any_name(folder):
    """Number, ID, file name or path."""
    put(folder, PROPOSED.replace("tags:", "tagz:"))
    put(folder, judgement(2), "0002-b.md")
    run_odr("lint", "odr/0002-b.md")
    run_odr("lint", "2")
    for name in ("odr/0001-enable.md", "0001-enable.md", "1", "odr-0001"):
        run_odr("lint", name, status=1)
    with pytest.raises(BadInputError, match=r"no record 'elsewhere\.md'"):
        run_odr("lint", "elsewhere.md")
    with pytest.raises(BadInputError, match="in this folder: give its folder by --odr-dir"):
        run_odr("check", "other/0001-enable.md")


def test_lint_json_is_strict(folder):
    """Every field of a finding is present."""
    put(folder, PROPOSED.replace("threshold: 0.5", "threshold: .nan"))
    document = json.loads(
        run_odr("lint", "-f", "json", status=1).stdout, parse_constant=lambda _: pytest.fail("not JSON")
    )
    assert document["findings"][0]["code"] == "ODR502"
    assert document["findings"][0]["constraint_id"] == "C1"


def test_explain_prints_every_code():
    """One code prints its help."""
    assert run_odr("explain", "ODR").stdout.count("\nODR") > 50
    assert "one word" not in run_odr("explain", "odr304").stdout
    assert run_odr("explain", "odr304").stdout.startswith("ODR304: link in one record only")


REPAIR = (
    "Add|Change|Check|Cite|Compare|Correct|Extend|Make|Merge|Name|Number|Pin|Put|Read|Register|Reject|Remove"
    "|Replace|Restore|Return|Save|Sort|Train|Use|Write"
)


@pytest.mark.parametrize("code", CODES)
def test_each_code_names_its_repair(code):
    """A sentence in the imperative, or a command of ockham."""
    text = run_odr("explain", code).stdout
    assert re.search(rf"(^|[.:] )({REPAIR})\b|`ockham odr [a-z]+", text, re.MULTILINE), text


def test_explanations_cover_every_cause():
    """The codes whose findings have several causes name each."""
    for code, words in {
        "ODR507": ("no row", "n=0", "NULL", "NaN", "no run is cited", "Cite a run", "change the SQL"),
        "ODR516": ("95 % interval", "neither passes nor fails", "Cite more pairs", "judge: mean"),
        "ODR607": ("accepted", "KEEP", "rejected", "without constraints", "`ockham odr check`"),
        "ODR506": ("`value`", "`n`"),
    }.items():
        text = " ".join(run_odr("explain", code).stdout.split())
        assert [word for word in words if word not in text] == []


def test_record_commands_cover_the_life_cycle(folder):
    """Lint is clean at every step."""
    for title in ("Use A & B", "Use C"):
        assert run_odr("new", title, "--owner", "alice", "--tag", "house").stdout.startswith("odr/000")
    for number in ("1", "2"):
        file = folder / ("0001-use-a-b.md" if number == "1" else "0002-use-c.md")
        text = file.read_text().replace("---\n\n#", "outcome: {oq_delta: null, verdict: null}\n---\n\n#")
        file.write_text(text)
        assert "ODR206 section" not in run_odr("lint", status=1).stdout
        file.write_text(text.replace("Open.", "OQ delta: none -> not measured"))
        fill_template(file)
        run_odr("status", number, "proposed")
        run_odr("status", number, "accepted")
    run_odr("supersede", "1", "--by", "2")
    run_odr("lint", "--fail-on", "warning")
    assert [row.split("\t")[:3] for row in run_odr("list").stdout.splitlines()[1:]] == [
        ["ODR-0001", "superseded", "-"],
        ["ODR-0002", "accepted", "-"],
    ]
    assert run_odr("list", "--status", "draft").stdout == "id\tstatus\tverdict\tdate\ttitle\n"
    run_odr("index", "--check", status=1)
    run_odr("index")
    run_odr("index", "--check")
    assert "ODR_0002 -->|supersedes| ODR_0001" in run_odr("graph").stdout
    assert run_odr("show", "2").stdout.startswith("---\nodr: 1\n")


@pytest.mark.parametrize("title", ["", " ", "a\nb", "x" * 121, "\x1b[31m"])
def test_invalid_title_writes_nothing(folder, title):
    """A title is one line of text."""
    with pytest.raises(BadInputError, match="one line of 1 to 120"):
        run_odr("new", title)
    assert not folder.exists()


def test_lint_fix_fixes_and_reports_the_rest(folder):
    """The written files are named on stderr."""
    put(folder, PROPOSED.replace("# ODR-0001: Enable", "# Enable").replace("tags:", "tagz:"))
    result = run_odr("lint", "--fix", status=1)
    assert "fixed odr/0001-enable.md" in result.stderr
    assert [row.split(" ")[1] for row in result.stdout.splitlines()] == ["ODR102"]


def test_record_with_an_error_is_not_accepted(folder):
    """The file keeps every byte."""
    file = put(folder, PROPOSED.replace("## Problem", "## Trouble"))
    before = file.read_bytes()
    assert "ODR201" in run_odr("status", "1", "accepted", status=1).stdout
    assert file.read_bytes() == before


def test_unknown_status_is_an_error(folder):
    """An empty list would be misleading."""
    put(folder, PROPOSED)
    assert "\nODR-0001\t" in run_odr("list", "--status", "proposed").stdout
    with pytest.raises(BadInputError, match="did you mean 'accepted'"):
        run_odr("list", "--status", "acepted")


def test_lint_reports_an_old_index(folder):
    """A folder without an index has no finding."""
    put(folder, PROPOSED)
    run_odr("lint")
    run_odr("index")
    run_odr("lint")
    put(folder, judgement(2, "draft"), "0002-keep-it.md")
    assert run_odr("lint", status=1).stdout == (
        "odr/README.md:3:1: ODR801 index is out of date: `ockham odr index` writes it\n"
    )
    run_odr("lint", "2")
    run_odr("index")
    run_odr("lint")


def test_schema_is_written_and_named_by_new_records(folder):
    """An editor completes keys with it."""
    run_odr("new", "First", "--owner", "a")
    assert run_odr("schema").stdout == "odr/odr.v1.schema.json\n"
    run_odr("new", "Second", "--owner", "a")
    line = "# yaml-language-server: $schema=odr.v1.schema.json"
    assert line not in (folder / "0001-first.md").read_text()
    assert (folder / "0002-second.md").read_text().split("\n")[1] == line
    assert json.loads((folder / "odr.v1.schema.json").read_text())["$id"] == "urn:ockham:odr.v1"
    run_odr("lint")


def test_new_writes_named_constraints(folder):
    """Each one is one line of YAML, and its line in the text is generated."""
    result = run_odr(
        "new",
        "T",
        "--owner",
        "a",
        "--constraint",
        "update_rate_between=0.5..0.7",
        "--constraint",
        "no_rollbacks",
    )
    text = (folder / "0001-t.md").read_text()
    assert (
        "  - {id: C1, name: update_rate_between, low: 0.5, high: 0.7}\n  - {id: C2, name: no_rollbacks}\n"
        in text
    )
    assert "- [ ] C1 Between 50 % and 70 % of the batches with a finite loss are updated\n" in text
    assert "C1 Between 50 % and 70 % of the batches with a finite loss are updated\n" in result.stderr
    run_odr("lint")
    with pytest.raises(BadInputError, match="did you mean 'no_rollbacks'"):
        run_odr("new", "U", "--constraint", "no_rollback")


def test_constraints_are_listed(folder):
    """With an example and its sentence."""
    rows = run_odr("constraints").stdout.splitlines()
    assert "no_rollbacks\tThe weights are never rolled back to the anchor" in rows
    assert len(rows) == len(load_library()) + 1


def test_suggestions_name_what_was_meant(folder):
    """Not the nearest spelling."""
    put(folder, PROPOSED.replace('op: "<="', 'op: "=<"').replace("status: proposed", "status: aproved"))
    result = run_odr("lint", status=1).stdout
    assert "did you mean '<='?" in result
    assert "did you mean 'accepted'?" in result
