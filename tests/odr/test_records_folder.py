"""The folder of records: what is found in it, and files that are written whole or not at all."""

import os

import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.odr.records_folder import find_record, read_folder, record_files, write_record
from tests.odr.record_samples import judgement, put


def test_two_records_of_one_id_are_both_named(tmp_path):
    """After a merge of two branches: by id it is unclear, by file name it is not."""
    put(tmp_path, judgement(1), "0001-a.md")
    put(tmp_path, judgement(1), "0001-b.md")
    records = read_folder(tmp_path)
    with pytest.raises(BadInputError, match=r"ODR-0001 is the id of several records: 0001-a\.md, 0001-b\.md"):
        find_record(records, "1")
    assert find_record(records, "0001-b.md").file.name == "0001-b.md"


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    """A new record never takes the place of another, and no half of it stays."""
    put(tmp_path, "mine", "0001-a.md")
    with pytest.raises(BadInputError, match=r"0001-a\.md exists"):
        write_record(tmp_path / "0001-a.md", "other", new=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("0001-a.md", "mine")]


@pytest.mark.parametrize(("new", "said"), [(True, ".*/file is no folder"), (False, "Not a directory")])
def test_a_place_that_cannot_be_written_is_named(tmp_path, new, said):
    """With the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=rf"file/0001-a\.md cannot be written: {said}"):
        write_record(tmp_path / "file" / "0001-a.md", "text", new=new)


def test_a_disk_that_fills_up_leaves_the_old_record(tmp_path, monkeypatch):
    """Whole or not at all."""
    file = put(tmp_path, "old", "0001-a.md")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for new, name in ((False, "0001-a.md"), (True, "0002-b.md")):
        with pytest.raises(BadInputError, match="No space left"):
            write_record(tmp_path / name, "new", new=new)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(file.name, "old")]


def test_a_folder_that_is_not_there_cannot_be_judged(tmp_path):
    """No verdict is given on nothing."""
    with pytest.raises(UnverifiableError, match="No such file"):
        record_files(tmp_path / "none")
