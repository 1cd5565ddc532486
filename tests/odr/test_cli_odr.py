import json

import pytest
from typer.testing import CliRunner

from ockham.cli.odr import app
from ockham.errors import BadInputError, UnverifiableError
from tests.odr.record_samples import PROPOSED, judgement, put


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return tmp_path / "odr"


def run(*arguments: str, status: int = 0):
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def test_clean_folder_says_so(folder):
    """No finding: nothing on stdout, one line on stderr, exit status 0."""
    put(folder, PROPOSED)
    result = run("lint")
    assert (result.stdout, result.stderr) == ("", "1 record: 0 errors, 0 warnings\n")


def test_empty_folder_is_clean_and_says_so(folder):
    """No records are no finding, but it is said that nothing was checked."""
    folder.mkdir()
    assert "nothing to check" in run("lint").stderr


def test_missing_folder_cannot_be_judged(folder):
    """Without the folder nothing is judged."""
    with pytest.raises(UnverifiableError, match="No such file"):
        run("lint")


def test_findings_have_place_and_code(folder):
    """One line a finding, on stdout; exit status 1."""
    put(folder, PROPOSED.replace("tags:", "tagz:"))
    result = run("lint", status=1)
    assert result.stdout == "odr/0001-enable.md:8:1: ODR102 unknown key 'tagz'; did you mean 'tags'?\n"


def test_warnings_count_if_asked(folder):
    """A warning alone is status 0, and 1 with --fail-on warning."""
    put(folder, PROPOSED.replace("tags:", "review_by: 2020-01-01\ntags:"))
    assert "ODR705 [warning]" in run("lint").stdout
    run("lint", "--fail-on", "warning", status=1)


def test_codes_are_chosen_by_their_beginning(folder):
    """--select and --ignore take codes and beginnings; an unknown one is refused."""
    put(folder, PROPOSED.replace("tags:", "tagz:").replace("## Problem", "## Trouble"))
    assert "ODR201" not in run("lint", "--select", "ODR1", status=1).stdout
    assert "ODR102" not in run("lint", "--ignore", "ODR1", status=1).stdout
    with pytest.raises(BadInputError, match="no code begins with 'ODR9'"):
        run("lint", "--select", "ODR9")


def test_one_record_of_many(folder):
    """Findings of the named record alone, by number, id, name or path as `check` takes them; a file from elsewhere is refused."""
    put(folder, PROPOSED.replace("tags:", "tagz:"))
    put(folder, judgement(2), "0002-b.md")
    run("lint", "odr/0002-b.md")
    run("lint", "2")
    for name in ("odr/0001-enable.md", "0001-enable.md", "1", "odr-0001"):
        run("lint", name, status=1)
    with pytest.raises(BadInputError, match=r"no record 'elsewhere\.md'"):
        run("lint", "elsewhere.md")
    with pytest.raises(BadInputError, match="in this folder: give its folder by --dir"):
        run("check", "other/0001-enable.md")


def test_json_is_strict(folder):
    """JSON without NaN, with every field of a finding."""
    put(folder, PROPOSED.replace("threshold: 0.5", "threshold: .nan"))
    document = json.loads(
        run("lint", "-f", "json", status=1).stdout, parse_constant=lambda _: pytest.fail("not JSON")
    )
    assert document["findings"][0]["code"] == "ODR502"
    assert document["findings"][0]["constraint_id"] == "C1"


def test_explain_names_every_code():
    """`explain ODR` prints each code; one code prints its help."""
    assert run("explain", "ODR").stdout.count("\nODR") > 50
    assert "one word" not in run("explain", "odr304").stdout
    assert run("explain", "odr304").stdout.startswith("ODR304: link on one side only")


def test_a_record_from_new_to_superseded(folder):
    """The whole life by verbs alone; lint is clean at every step, and the index is made and checked."""
    for title in ("Use A & B", "Use C"):
        assert run("new", title, "--owner", "alice", "--tag", "house").stdout.startswith("odr/000")
    for number in ("1", "2"):
        file = folder / ("0001-use-a-b.md" if number == "1" else "0002-use-c.md")
        text = file.read_text().replace("---\n\n#", "outcome: {oq_delta: null, verdict: null}\n---\n\n#")
        file.write_text(text)
        assert "ODR206 section" not in run("lint", status=1).stdout
        file.write_text(text.replace("Open.", "OQ delta: none -> not measured"))
        run("status", number, "proposed")
        run("status", number, "accepted")
    run("supersede", "1", "--by", "2")
    run("lint", "--fail-on", "warning")
    assert [row.split("\t")[:3] for row in run("list").stdout.splitlines()] == [
        ["ODR-0001", "superseded", "-"],
        ["ODR-0002", "accepted", "-"],
    ]
    assert run("list", "--status", "draft").stdout == ""
    run("index", "--check", status=1)
    run("index")
    run("index", "--check")
    assert "ODR_0002 -->|supersedes| ODR_0001" in run("graph").stdout
    assert run("show", "2").stdout.startswith("---\nodr: 1\n")


@pytest.mark.parametrize("title", ["", " ", "a\nb", "x" * 121, "\x1b[31m"])
def test_bad_titles_write_nothing(folder, title):
    """A title that is no line is refused before anything is written."""
    with pytest.raises(BadInputError, match="one line of 1 to 120"):
        run("new", title)
    assert not folder.exists()


def test_fix_then_lint(folder):
    """--fix mends, names the files on stderr, and what is left is reported."""
    put(folder, PROPOSED.replace("# ODR-0001: Enable", "# Enable").replace("tags:", "tagz:"))
    result = run("lint", "--fix", status=1)
    assert "mended odr/0001-enable.md" in result.stderr
    assert [row.split(" ")[1] for row in result.stdout.splitlines()] == ["ODR102"]


def test_a_record_with_an_error_is_not_locked(folder):
    """Accepting asks lint first; the message names place and code, and the file keeps every byte."""
    file = put(folder, PROPOSED.replace("## Problem", "## Trouble"))
    before = file.read_bytes()
    with pytest.raises(BadInputError, match="ODR201"):
        run("status", "1", "accepted")
    assert file.read_bytes() == before


def test_an_unknown_status_is_refused(folder):
    """A list of nothing would say that there is none."""
    put(folder, PROPOSED)
    assert run("list", "--status", "proposed").stdout.startswith("ODR-0001")
    with pytest.raises(BadInputError, match="did you mean 'accepted'"):
        run("list", "--status", "acepted")
