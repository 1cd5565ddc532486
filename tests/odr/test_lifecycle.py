import subprocess

import pytest

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.lifecycle import new_record, renumber, set_status, supersede, write_records
from ockham.odr.record import read_record
from ockham.odr.records_folder import find_record, next_number, read_folder, slugify
from ockham.odr.template import DEFAULT_CONSTRAINTS, NewRecord, render_record
from tests.odr.record_samples import GOOD, TODAY, codes, judgement, lint, put


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "odr"


@pytest.mark.parametrize(
    "title",
    [
        "Use A & B",
        "X|Y",
        'Say "no" # here',
        "{id} and {title}",
        "- not a list",
        "a: b",
        "null",
        "12",
        "\\d+ 100 %",
        "Größe →",
        "'",
    ],
)
def test_draft_with_any_title_is_clean(folder, title):
    """The title is unchanged."""
    file = new_record(
        folder,
        title,
        lambda i: render_record(NewRecord(i, title, ['O\'Neil "x"'], TODAY, constraints=DEFAULT_CONSTRAINTS)),
    )

    assert read_record(file).claims.title == title
    assert [f.code for r in lint(folder) for f in r.findings if f.severity == "error"] == []


def test_next_number_follows_the_highest(folder):
    """Gaps are not filled, because numbers can be cited."""
    put(folder, judgement(7), "0007-a.md")
    file = new_record(folder, "Next", lambda i: render_record(NewRecord(i, "Next", ["a"], TODAY)))
    assert file.name == "0008-next.md"
    with pytest.raises(BadInputError, match="four digits"):
        next_number([9999])


def test_used_number_is_refused(folder):
    """The existing file keeps every byte."""
    put(folder, judgement(1), "0001-a.md")
    with pytest.raises(BadInputError, match="taken"):
        new_record(folder, "B", lambda i: render_record(NewRecord(i, "B", ["a"], TODAY)), number=1)
    assert [path.name for path in folder.iterdir()] == ["0001-a.md"]


def test_numbers_on_other_branches_are_used(tmp_path):
    """Two branches get different numbers."""
    folder = tmp_path / "odr"
    git = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", *words],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    git("init", "-b", "main")
    put(folder, judgement(1), "0001-a.md")
    git("add", ".")
    git("commit", "-m", "a")
    git("checkout", "-b", "other")
    put(folder, judgement(2), "0002-b.md")
    git("add", ".")
    git("commit", "-m", "b")
    git("checkout", "main")

    assert (
        new_record(folder, "C", lambda i: render_record(NewRecord(i, "C", ["a"], TODAY))).name == "0003-c.md"
    )


def test_slug_is_a_plain_file_name():
    """Any title gives one."""
    assert slugify("Use A & B") == "use-a-b"
    assert slugify("Größe → 1") == "groe-1" or slugify("Größe → 1") == "gro-e-1"
    assert slugify("日本") == "record"
    assert len(slugify("word " * 100)) <= 60


def test_status_changes_follow_the_life_cycle(folder):
    """Draft, proposed, accepted; no step is skipped or reversed."""
    put(folder, judgement(1, "draft"))
    for status in ("proposed", "accepted"):
        record = read_record(folder / "0001-enable.md")
        write_records({record.file: set_status(record, status, TODAY)})
    record = read_record(folder / "0001-enable.md")

    assert (record.claims.status, record.claims.date) == ("accepted", "2026-11-24")
    assert record.claims.lock == edit.compute_lock(record)
    assert lint(folder)[0].findings == []
    with pytest.raises(BadInputError, match="superseded, retired"):
        set_status(record, "draft", TODAY)


def test_accepting_requires_the_verdict_keep(folder):
    """A record with REVERT is refused."""
    put(folder, GOOD.replace("status: accepted", "status: proposed").replace("KEEP", "REVERT"))
    with pytest.raises(BadInputError, match="needs the verdict KEEP or null, it has REVERT"):
        set_status(read_record(folder / "0001-enable.md"), "accepted", TODAY)


@pytest.mark.parametrize(
    ("text", "way"),
    [
        (
            GOOD.replace("outcome: {oq_delta: +0.4, verdict: KEEP}\n", ""),
            "`ockham odr check ODR-0001 --fix` measures it",
        ),
        (
            render_record(NewRecord("ODR-0001", "A", ["a"], TODAY)).replace(
                "status: draft", "status: proposed"
            ),
            "outcome: {oq_delta: null, verdict: null}",
        ),
    ],
)
def test_missing_outcome_is_explained(folder, text, way):
    """The hint depends on the constraints."""
    file = put(folder, text.replace("status: accepted", "status: proposed"))
    with pytest.raises(BadInputError, match="it has no outcome") as caught:
        set_status(read_record(file), "accepted", TODAY)
    assert way in str(caught.value)


def test_edit_after_acceptance_is_reported(folder):
    """Status, review and waivers can change."""
    put(folder, judgement(1, "proposed"))
    record = read_record(folder / "0001-enable.md")
    text = set_status(record, "accepted", TODAY)

    put(folder, text.replace("status: accepted", "status: accepted\nreview_by: 2027-01-01"))
    assert codes(folder) == []
    put(folder, text.replace("\nP.\n", "\nP!\n"))
    assert codes(folder) == ["ODR702"]
    put(folder, text.replace("owners: [alice]", "owners: [mallory]"))
    assert codes(folder) == ["ODR702"]


def test_supersede_writes_both_records(folder):
    """Lint is clean afterwards."""
    for number in (1, 2):
        file = put(folder, judgement(number, "proposed"), f"000{number}-a.md")
        write_records({file: set_status(read_record(file), "accepted", TODAY)})
    old, new = read_folder(folder)
    write_records(supersede(old, new, TODAY))

    old, new = lint(folder)
    assert (old.claims.status, old.claims.superseded_by) == ("superseded", ("ODR-0002",))
    assert new.claims.supersedes == ("ODR-0001",)
    assert old.findings == new.findings == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("draft", "accepted", "only an accepted record can be"),
        ("accepted", "draft", "only an accepted record supersedes"),
    ],
)
def test_supersede_requires_records_in_force(folder, old, new, message):
    """Nothing is written otherwise."""
    put(folder, judgement(1, old), "0001-a.md")
    put(folder, judgement(2, new), "0002-a.md")
    with pytest.raises(BadInputError, match=message):
        supersede(*read_folder(folder), TODAY)


def test_renumber_changes_name_id_heading_and_links(folder):
    """Two branches used one number."""
    put(folder, judgement(1), "0001-a.md")
    put(folder, judgement(1, "draft"), "0001-b.md")
    first, second = read_folder(folder)
    with pytest.raises(BadInputError, match="renumber the other"):
        renumber(first, [first, second], 2)
    write_records(renumber(second, [first, second], 2))
    second.file.unlink()

    assert codes(folder) == []
    assert [r.claims.id for r in read_folder(folder)] == ["ODR-0001", "ODR-0002"]


def test_links_follow_a_renumbered_record(folder):
    """A draft names the new ID."""
    put(folder, judgement(1, "draft"), "0001-a.md")
    put(folder, judgement(2, "draft", "ODR-0001"), "0002-b.md")
    first, second = read_folder(folder)
    write_records(renumber(first, [first, second], 3))

    assert read_record(folder / "0002-b.md").claims.supersedes == ("ODR-0003",)


def test_find_record_accepts_id_number_and_name(folder):
    """A wrong name gets a suggestion."""
    put(folder, GOOD)
    records = read_folder(folder)
    assert {
        find_record(records, n).claims.id
        for n in ("ODR-0001", "odr-0001", "1", "0001", "0001-enable.md", str(folder / "0001-enable.md"))
    } == {"ODR-0001"}
    with pytest.raises(BadInputError, match="did you mean 'ODR-0001'"):
        find_record(records, "ODR-0011")


@pytest.mark.parametrize("text", ["x", "---\n- a\n---\n", "---\nodr: [\n---\n", "---\n", ""])
def test_unreadable_record_is_not_edited(folder, text):
    """The message names the file."""
    put(folder, text, "0001-a.md")
    put(folder, judgement(2), "0002-b.md")
    bad, good = read_folder(folder)
    for act in (
        lambda: set_status(bad, "proposed", TODAY),
        lambda: supersede(bad, good, TODAY),
        lambda: renumber(bad, [bad, good], 3),
    ):
        with pytest.raises(BadInputError, match=r"0001-a.md cannot be read"):
            act()


def test_record_can_be_superseded_by_two_records(folder):
    """Status and date are those of the first time."""
    put(folder, judgement(1), "0001-a.md")
    put(folder, judgement(2, "accepted", "ODR-0001"), "0002-a.md")
    put(folder, judgement(3), "0003-a.md")
    old, second, third = read_folder(folder)
    texts = supersede(old, second, TODAY)
    # The newer record already contains the reference.
    assert list(texts) == [old.file]
    write_records(texts)
    write_records(supersede(read_record(old.file), third, TODAY.replace(year=2027)))
    old, _, third = read_folder(folder)
    assert (old.claims.status, old.claims.date) == ("superseded", "2026-11-24")
    assert old.claims.superseded_by == ("ODR-0002", "ODR-0003")
    assert (third.claims.supersedes, third.claims.lock) == (("ODR-0001",), "")


def test_record_cannot_supersede_itself(folder):
    """By any of its names."""
    put(folder, judgement(1))
    [record] = read_folder(folder)
    with pytest.raises(BadInputError, match="ODR-0001 cannot supersede itself"):
        supersede(record, record, TODAY)


def test_broken_lock_is_not_renewed(folder):
    """That would hide an edit."""
    for number in (1, 2):
        file = put(folder, judgement(number, "proposed"), f"000{number}-a.md")
        write_records({file: set_status(read_record(file), "accepted", TODAY)})
    file.write_text(file.read_text().replace("\nP.\n", "\nP!\n"))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        BadInputError, match="ODR-0002 was edited after its acceptance; `ockham odr explain ODR702`"
    ):
        supersede(*read_folder(folder), TODAY)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
