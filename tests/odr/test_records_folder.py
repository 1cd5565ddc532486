"""The folder of records: its findings, and records that are written completely or not at all."""

import os

import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.odr.records_folder import find_record, read_folder, record_files, write_record
from tests.odr.record_samples import judgement, put


def test_duplicate_id_names_both_records(tmp_path):
    """A file name is unambiguous."""
    put(tmp_path, judgement(1), "0001-a.md")
    put(tmp_path, judgement(1), "0001-b.md")
    records = read_folder(tmp_path)
    with pytest.raises(BadInputError, match=r"ODR-0001 is the id of several records: 0001-a\.md, 0001-b\.md"):
        find_record(records, "1")
    assert find_record(records, "0001-b.md").file.name == "0001-b.md"


def test_existing_file_is_not_overwritten(tmp_path):
    """No partial file remains."""
    put(tmp_path, "mine", "0001-a.md")
    with pytest.raises(BadInputError, match=r"0001-a\.md exists"):
        write_record(tmp_path / "0001-a.md", "other", new=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("0001-a.md", "mine")]


@pytest.mark.parametrize(("new", "message"), [(True, ".*/file is no folder"), (False, "Not a directory")])
def test_unwritable_folder_is_named(tmp_path, new, message):
    """With the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=rf"file/0001-a\.md cannot be written: {message}"):
        write_record(tmp_path / "file" / "0001-a.md", "text", new=new)


def test_full_disk_keeps_the_old_record(tmp_path, monkeypatch):
    """Writing is atomic."""
    file = put(tmp_path, "old", "0001-a.md")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for new, name in ((False, "0001-a.md"), (True, "0002-b.md")):
        with pytest.raises(BadInputError, match="No space left"):
            write_record(tmp_path / name, "new", new=new)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(file.name, "old")]


def test_missing_folder_is_an_error(tmp_path):
    """Nothing can be checked."""
    with pytest.raises(UnverifiableError, match="No such file"):
        record_files(tmp_path / "none")
