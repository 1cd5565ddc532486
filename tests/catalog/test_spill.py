"""The folder for intermediate results is private, has a random name and is removed."""

from __future__ import annotations

import gc
import os
import stat
import tempfile
from pathlib import Path

import pytest

from ockham.catalog import Catalog

LARGE = "select count(*) as n from (select distinct on (i) i, repeat('x', 200) from range(900000) t(i))"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The temporary folder of the system, with the old fixed name created by another user."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    (folder / "ockham-duckdb").symlink_to(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def spill_dirs(folder):
    return sorted(folder.glob("ockham-duckdb-*"))


def test_spill_folder_is_private_and_has_a_random_name(tmp_path, temporary):
    """Two catalogs use two folders of mode 0700. No name existed before."""
    catalogs = [Catalog(tmp_path / "runs"), Catalog(tmp_path / "runs")]
    folders = spill_dirs(temporary)
    assert len(folders) == 2
    assert [stat.S_IMODE(path.lstat().st_mode) for path in folders] == [0o700, 0o700]
    setting = "select current_setting('temp_directory') as path"
    used = {catalog.rows(setting)[0]["path"] for catalog in catalogs}
    assert {Path(path) for path in used} == set(folders)


def test_spilling_query_writes_only_into_the_folder(tmp_path, temporary):
    """The folder is removed with its catalog."""
    catalog = Catalog(tmp_path / "runs")
    catalog.connection.execute("set memory_limit = '60MB'; set threads = 1")
    assert catalog.rows(LARGE)[0]["n"] == 900_000
    assert [path.name for path in tmp_path.iterdir()] == ["tmp"]
    catalog.close()
    del catalog
    gc.collect()
    assert spill_dirs(temporary) == []


def test_forked_process_does_not_remove_the_folder(tmp_path, temporary):
    """The folder belongs to the process that created it."""
    from ockham.catalog.spill import _remove

    catalog = Catalog(tmp_path / "runs")
    (folder,) = spill_dirs(temporary)
    _remove(str(folder), os.getpid() + 1)
    assert folder.is_dir()
    assert catalog.rows("select 1 as n") == [{"n": 1}]


def test_catalog_without_a_writable_temporary_folder_does_not_spill(tmp_path, monkeypatch):
    """Queries that fit into memory work."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert Catalog(tmp_path / "runs").rows("select 1 as n") == [{"n": 1}]
