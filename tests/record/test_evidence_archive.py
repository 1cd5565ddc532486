"""The archive convinces someone who has nothing of ours: another process, without the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import BadInputError
from ockham.record import evidence_archive
from ockham.record.evidence_archive import write_archive
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from tests.helpers.runs import made_run


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    run = made_run(folder / "runs", batches=40)
    write_archive(run.folder, folder / "a.zip")
    with zipfile.ZipFile(folder / "a.zip") as archive:
        archive.extractall(folder / "out")
    return folder


def judge(folder, archive, *words):
    """The packed verify.py, isolated: no site of the checkout, no ockham."""
    return subprocess.run(
        [sys.executable, "-I", str(folder / "out" / "verify.py"), str(archive), *words],
        capture_output=True, text=True, timeout=60, cwd=folder,
    )  # fmt: skip


def test_the_single_file_judges_archive_and_folder(packed):
    """Sound with the known key, from the zip and unpacked; a note where the key is the run's own word."""
    for archive in (packed / "a.zip", packed / "out"):
        done = judge(packed, archive, "--key", str(load_or_create_signer().verifier))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "sound"
    assert "run's own word" in judge(packed, packed / "a.zip").stdout


def test_it_imports_nothing_of_ours(packed):
    """It can be read alone."""
    source = (packed / "out" / "verify.py").read_text()
    assert "import ockham" not in source
    assert "from ockham" not in source


@pytest.mark.parametrize(
    "told",
    [b'"world_size":9007199254740991', b'"world_size":2.0', b'"world_size":[]', b'"run_json_sha256":1'],
)
@pytest.mark.timeout(60)
def test_a_hostile_first_event_is_found(packed, tmp_path, told):
    """Not counted out to the end of days, no traceback: something was found."""
    shutil.copytree(packed / "out", tmp_path / "out")
    segment = tmp_path / "out" / "log" / "1-0" / "000000000000.jsonl"
    name = told.split(b":")[0]
    first, newline, rest = segment.read_bytes().partition(b"\n")
    segment.write_bytes(re.sub(name + b':(?:[0-9]+|"[^"]*")', told, first) + newline + rest)
    assert judge(packed, tmp_path / "out").returncode == 1


def test_the_same_run_packs_to_the_same_bytes(packed, tmp_path):
    """Deterministic, and never over something that is there."""
    write_archive(RunFolder(packed / "runs", "a"), tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == (packed / "a.zip").read_bytes()
    with pytest.raises(BadInputError, match="exists"):
        write_archive(RunFolder(packed / "runs", "a"), tmp_path / "b.zip")


def test_a_place_that_cannot_be_written(packed, tmp_path):
    """Named with the reason, and no half of an archive stays."""
    (tmp_path / "file").write_bytes(b"")
    for to in (tmp_path / "none" / "a.zip", tmp_path / "file" / "a.zip"):
        with pytest.raises(BadInputError, match=r"cannot write .*a\.zip: "):
            write_archive(RunFolder(packed / "runs", "a"), to)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_fills_up_leaves_nothing(packed, tmp_path, monkeypatch):
    """What was written of the archive goes again."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(BadInputError, match="No space left"):
        write_archive(RunFolder(packed / "runs", "a"), tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_packed_from_behind_a_link(packed, tmp_path):
    """The archive goes to strangers, and a link in a run folder may point to anything on this machine."""
    shutil.copytree(packed / "runs", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs", "a")
    (tmp_path / "secret").write_text("{}")
    folder.run_json.unlink()
    folder.run_json.symlink_to(tmp_path / "secret")
    with pytest.raises(BadInputError, match="is a link"):
        write_archive(folder, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("place", ["log", "blobs", "policies/x", "log/1-0/tile/y"])
def test_nor_from_behind_the_link_of_a_folder(packed, tmp_path, place):
    """Its files are no links themselves."""
    shutil.copytree(packed / "runs", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs", "a")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "id_ed25519").write_text("secret")
    shutil.rmtree(folder.path / place, ignore_errors=True)
    (folder.path / place).symlink_to(tmp_path / "home")
    with pytest.raises(BadInputError, match="is a link"):
        write_archive(folder, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_no_name_that_the_verifier_refuses_is_packed(packed, tmp_path):
    """On another system it may be a path."""
    shutil.copytree(packed / "runs", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs", "a")
    (folder.path / "policies" / "..\\..\\x").write_text("")
    with pytest.raises(BadInputError, match="is no file of a run"):
        write_archive(folder, tmp_path / "a.zip")


def test_one_file_at_a_time_is_read_and_told(packed, tmp_path, monkeypatch):
    """Before a file is read, those before it are in the archive: a long run is not held in memory. Stopped, it leaves nothing."""
    folder = RunFolder(packed / "runs", "a")
    told: list[tuple[int, int]] = []
    read: list[int] = []
    plainly = evidence_archive.read_regular_file
    monkeypatch.setattr(
        evidence_archive, "read_regular_file", lambda path: (read.append(len(told)), plainly(path))[1]
    )
    count = write_archive(folder, tmp_path / "a.zip", lambda *at: told.append(at))
    assert told == [(at, count) for at in range(count + 1)]
    assert len(set(read)) == len(read) > 3
    assert (tmp_path / "a.zip").read_bytes() == (packed / "a.zip").read_bytes()

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(folder, tmp_path / "b.zip", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_the_verb_says_that_a_run_does_not_verify(packed, tmp_path):
    """It is packed as it is: whoever packs knows it before the stranger does."""
    shutil.copytree(packed / "runs", tmp_path / "runs")
    segment = RunFolder(tmp_path / "runs", "a").segments(1, 0)[0]

    def export(name):
        words = ["export", "--evidence", "--run", "a", "--to", str(tmp_path / name)]
        done = CliRunner().invoke(build_app(), ["--runs", str(tmp_path / "runs"), *words])
        assert (done.exit_code, (tmp_path / name).is_file()) == (0, True)
        return done.stderr

    assert "verify;" not in export("good.zip")
    segment.write_bytes(segment.read_bytes().replace(b'"iter_num":7', b'"iter_num":8', 1))
    assert "run a does not verify; packed as it is" in export("changed.zip")
