import os

import pytest

from ockham.catalog.views import load_views
from ockham.odr.constraint_sql import VIEWS
from tests.odr.bad_records import BAD, GOOD_TOO, changed
from tests.odr.record_samples import GOOD, codes, judgement, lint, put


@pytest.mark.parametrize("name", BAD)
def test_bad_record_gives_its_code_only(tmp_path, name):
    """Other files do not matter."""
    text, expected = BAD[name]
    put(tmp_path / "odr", text)
    put(tmp_path / "odr", judgement(2), "0002-keep-it.md")

    assert codes(tmp_path / "odr") == expected
    assert all(
        1 <= f.line <= r.data.count(b"\n") + r.data.count(b"\r") + 1
        for r in lint(tmp_path / "odr")
        for f in r.findings
    )


@pytest.mark.parametrize("name", GOOD_TOO)
def test_good_record_gives_no_finding(tmp_path, name):
    """Unusual but valid records are accepted."""
    put(tmp_path / "odr", GOOD_TOO[name])

    assert codes(tmp_path / "odr") == []


def test_views_of_lint_are_those_of_the_catalog():
    """Lint needs no database."""
    assert {view.name for view in load_views()} == set(VIEWS)


def test_findings_have_their_line(tmp_path):
    """Keys, SQL problems and headings."""
    text = GOOD.replace("threshold: 0.5", "treshold: 0.5").replace("FROM gate_decisions", "FROM nothing FROM")
    file = put(tmp_path / "odr", text.replace("## Problem", "## Trouble"))
    lines = file.read_text().split("\n")

    found = {f.code: lines[f.line - 1].strip() for r in lint(tmp_path / "odr") for f in r.findings}
    assert found["ODR102"] == "treshold: 0.5"
    assert found["ODR101"] == "- id: C1"
    assert found["ODR503"].startswith("FROM nothing FROM")


def test_unknown_key_suggests_the_nearest(tmp_path):
    """The key was misspelt."""
    put(tmp_path / "odr", changed("tags:", "tagz:"))

    assert "did you mean 'tags'?" in lint(tmp_path / "odr")[0].findings[0].message


def test_all_findings_are_reported_in_one_run(tmp_path):
    """Schema, body, SQL and outcome."""
    text = (
        GOOD.replace("tags:", "tagz:")
        .replace("## Problem\n", "")
        .replace("FROM gate_decisions", "FROM secrets")
    )
    put(tmp_path / "odr", text.replace("OQ delta: +0.4 →", "OQ delta: +0.9 →"))

    assert codes(tmp_path / "odr") == ["ODR102", "ODR201", "ODR512", "ODR605"]


def test_claims_are_warnings_in_a_draft(tmp_path):
    """They are errors in a decided record."""
    text = GOOD[: GOOD.index("evidence:")] + GOOD[GOOD.index("constraints:") :]
    put(tmp_path / "odr", text.replace("status: accepted", "status: proposed"))
    assert [f.severity for r in lint(tmp_path / "odr") for f in r.findings] == ["warning"]

    put(tmp_path / "odr", text)
    assert [f.severity for r in lint(tmp_path / "odr") for f in r.findings if f.code == "ODR401"] == ["error"]


def test_duplicate_number_is_reported(tmp_path):
    """Two branches were merged."""
    put(tmp_path / "odr", judgement(1), "0001-a.md")
    put(tmp_path / "odr", judgement(1), "0001-b.md")

    assert codes(tmp_path / "odr") == ["ODR301"]


def test_cycle_of_records_is_reported_once(tmp_path):
    """The message lists the cycle."""
    for number, old in ((1, 3), (2, 1), (3, 2)):
        put(tmp_path / "odr", judgement(number, "accepted", f"ODR-{old:04d}"), f"000{number}-a.md")

    circles = [f.message for r in lint(tmp_path / "odr") for f in r.findings if f.code == "ODR306"]
    assert circles == ["supersedes in a circle: ODR-0001 -> ODR-0003 -> ODR-0002 -> ODR-0001"]


def test_supersession_needs_both_records(tmp_path):
    """With both there is no finding."""
    put(tmp_path / "odr", judgement(2, "accepted", "ODR-0001"), "0002-new.md")
    put(tmp_path / "odr", judgement(1), "0001-old.md")
    assert codes(tmp_path / "odr") == ["ODR304", "ODR305"]

    put(tmp_path / "odr", judgement(1, "superseded", "", "ODR-0002"), "0001-old.md")
    assert codes(tmp_path / "odr") == []


def test_draft_does_not_supersede_yet(tmp_path):
    """The old record stays in force."""
    put(tmp_path / "odr", judgement(2, "draft", "ODR-0001"), "0002-new.md")
    put(tmp_path / "odr", judgement(1), "0001-old.md")

    assert codes(tmp_path / "odr") == []


def test_special_files_are_findings(tmp_path):
    """Links, pipes, folders and huge files are never opened."""
    folder = tmp_path / "odr"
    put(folder, GOOD)
    (tmp_path / "secret").write_text(GOOD)
    (folder / "0002-link.md").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "0003-pipe.md")
    (folder / "0004-folder.md").mkdir()
    put(folder, b"---\n" + b"a" * 600_000, "0005-huge.md")
    put(folder, judgement(6), "6-six.md")
    put(folder, judgement(7), "0007_\udcff.md")
    put(folder, "no record", "README.md")

    assert codes(folder) == ["ODR006", "ODR006", "ODR007", "ODR007", "ODR007", "ODR007"]
    assert all(f.path.isprintable() for r in lint(folder) for f in r.findings)


def test_billion_laughs_are_refused_at_once(tmp_path):
    """The first alias is an error."""
    contents = ["lol", *(", ".join([f"*a{i}"] * 9) for i in range(11))]
    laughs = "\n".join([f"a{i}: &a{i} [{content}]" for i, content in enumerate(contents)])
    put(tmp_path / "odr", f"---\n{laughs}\n---\n")

    assert "ODR004" in codes(tmp_path / "odr")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "front",
    [
        "[" * 250_000,
        "a: " * 150_000,
        "{" * 250_000 + "}" * 250_000,
        "- " * 200_000,
        "? " * 200_000,
        "a: |\n" + " x\n" * 150_000,
        "\n".join(f"k{i}: 1" for i in range(40_000)),
    ],
    ids=[
        "open lists",
        "nested keys",
        "flow mappings",
        "nested sequences",
        "complex keys",
        "long text",
        "many keys",
    ],
)
def test_huge_front_matter_ends_in_seconds(tmp_path, front):
    """Half a megabyte of hostile YAML."""
    put(tmp_path / "odr", f"---\n{front}\n---\n")

    assert codes(tmp_path / "odr")


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body", ["> " * 100_000, "- " * 100_000, "`" * 200_000, "[" * 200_000, "# " * 90_000], ids=repr
)
def test_huge_body_ends_in_seconds(tmp_path, body):
    """Half a megabyte of hostile Markdown."""
    put(tmp_path / "odr", GOOD + body)

    assert isinstance(codes(tmp_path / "odr"), list)
