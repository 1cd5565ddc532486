"""Evidence archives: a third party verifies them in a process without the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile

import orjson
import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import BadInputError
from ockham.record import evidence_archive
from ockham.record.evidence_archive import write_archive
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify import standalone
from ockham.run import Run
from tests.helpers.requests import ask
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    run = make_run(folder / "runs", batches=40)
    write_archive(run.folder, folder / "a.zip")
    with zipfile.ZipFile(folder / "a.zip") as archive:
        archive.extractall(folder / "out")
    return folder


def judge(folder, archive, *words):
    """Run the verify.py of the archive in isolated mode, without the ockham package."""
    return subprocess.run(
        [sys.executable, "-I", str(folder / "out" / "verify.py"), str(archive), *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
    )


def test_standalone_verifier_accepts_archive_and_folder(packed):
    """Without a known key it prints a note."""
    for archive in (packed / "a.zip", packed / "out"):
        done = judge(packed, archive, "--key", str(load_or_create_signer().verifier))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "sound"
    assert "run's own word" in judge(packed, packed / "a.zip").stdout


def test_standalone_verifier_imports_nothing_of_the_package(packed):
    """It is readable as one file."""
    source = (packed / "out" / "verify.py").read_text()
    assert "import ockham" not in source
    assert "from ockham" not in source


@pytest.mark.parametrize(
    "metadata",
    [b'"world_size":9007199254740991', b'"world_size":2.0', b'"world_size":[]', b'"run_json_sha256":1'],
)
@pytest.mark.timeout(120)
def test_standalone_verifier_reports_a_hostile_first_event(packed, tmp_path, metadata):
    """Large numbers cause neither a long loop nor a traceback."""
    shutil.copytree(packed / "out", tmp_path / "out")
    segment = tmp_path / "out" / "log" / "1-0" / "000000000000.jsonl"
    name = metadata.split(b":")[0]
    first, newline, rest = segment.read_bytes().partition(b"\n")
    segment.write_bytes(re.sub(name + b':(?:[0-9]+|"[^"]*")', metadata, first) + newline + rest)
    assert judge(packed, tmp_path / "out").returncode == 1


def test_archive_of_equal_runs_has_equal_bytes(packed, tmp_path):
    """An existing file is never overwritten."""
    write_archive(RunFolder(packed / "runs", "a"), tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == (packed / "a.zip").read_bytes()
    with pytest.raises(BadInputError, match="exists"):
        write_archive(RunFolder(packed / "runs", "a"), tmp_path / "b.zip")


def test_archive_in_an_unwritable_folder_is_an_error(packed, tmp_path):
    """The error names the reason. No partial archive remains."""
    (tmp_path / "file").write_bytes(b"")
    for to in (tmp_path / "none" / "a.zip", tmp_path / "file" / "a.zip"):
        with pytest.raises(BadInputError, match=r"cannot write .*a\.zip: "):
            write_archive(RunFolder(packed / "runs", "a"), to)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_archive_on_a_full_disk_leaves_no_file(packed, tmp_path, monkeypatch):
    """The partial archive is removed."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(BadInputError, match="No space left"):
        write_archive(RunFolder(packed / "runs", "a"), tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_archive_of_a_folder_with_links_is_refused(packed, tmp_path):
    """A link can point to any file of the machine."""
    shutil.copytree(packed / "runs", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs", "a")
    (tmp_path / "secret").write_text("{}")
    folder.run_json.unlink()
    folder.run_json.symlink_to(tmp_path / "secret")
    with pytest.raises(BadInputError, match="is a link"):
        write_archive(folder, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("place", ["log", "blobs", "policies/x", "log/1-0/tile/y"])
def test_archive_refuses_linked_folders(packed, tmp_path, place):
    """The files below a linked folder are not links themselves."""
    shutil.copytree(packed / "runs", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs", "a")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "id_ed25519").write_text("secret")
    shutil.rmtree(folder.path / place, ignore_errors=True)
    (folder.path / place).symlink_to(tmp_path / "home")
    with pytest.raises(BadInputError, match="is a link"):
        write_archive(folder, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_archive_refuses_names_that_the_verifier_rejects(packed, tmp_path):
    """Such a name can be a path on another system."""
    shutil.copytree(packed / "runs", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs", "a")
    (folder.path / "policies" / "..\\..\\x").write_text("")
    with pytest.raises(BadInputError, match="is not a file of a run"):
        write_archive(folder, tmp_path / "a.zip")


def test_archive_is_written_one_file_at_a_time(packed, tmp_path, monkeypatch):
    """A long run is not held in memory. An interrupted archive is removed."""
    folder = RunFolder(packed / "runs", "a")
    metadata: list[tuple[int, int]] = []
    read: list[int] = []
    plainly = evidence_archive.read_regular_file
    monkeypatch.setattr(
        evidence_archive, "read_regular_file", lambda path: (read.append(len(metadata)), plainly(path))[1]
    )
    count = write_archive(folder, tmp_path / "a.zip", lambda *at: metadata.append(at))
    assert metadata == [(at, count) for at in range(count + 1)]
    assert len(set(read)) == len(read) > 3
    assert (tmp_path / "a.zip").read_bytes() == (packed / "a.zip").read_bytes()

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(folder, tmp_path / "b.zip", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_export_command_warns_about_an_invalid_run(packed, tmp_path):
    """The archive is written unchanged."""
    shutil.copytree(packed / "runs", tmp_path / "runs")
    segment = RunFolder(tmp_path / "runs", "a").segments(1, 0)[0]

    def export(name):
        words = ["export", "--evidence", "--run", "a", "-o", str(tmp_path / name)]
        done = CliRunner().invoke(build_app(), ["--runs", str(tmp_path / "runs"), *words])
        assert (done.exit_code, (tmp_path / name).is_file()) == (0, True)
        return done.stderr

    assert "verify;" not in export("good.zip")
    segment.write_bytes(segment.read_bytes().replace(b'"iter_num":7', b'"iter_num":8', 1))
    assert "the run does not verify and was packed unchanged" in export("changed.zip")


def test_manifest_states_the_signed_size_of_each_log(tmp_path, capsys):
    """The numbers are the ones of verify.py. A damaged run is packed with its problem."""
    run = make_run(tmp_path / "runs", batches=10)
    segment = run.folder.segments(1, 0)[0]
    signed = len(segment.read_bytes().splitlines())
    with segment.open("ab") as file:
        file.write(b"unsigned\n")
    for damage, size, problems in (
        (lambda data: data, signed, []),
        (lambda data: data[data.index(b"\n") + 1 :], 0, ["events differ from the signed ones"]),
    ):
        segment.write_bytes(damage(segment.read_bytes()))
        target = tmp_path / f"{size}.zip"
        write_archive(run.folder, target)
        with zipfile.ZipFile(target) as archive:
            manifest = orjson.loads(archive.read("manifest.json"))
        [log] = manifest["logs"]
        assert (log["log"], log["events"], log["signed"]) == ("1-0", signed + (1 if size else 0), size)
        assert [words in problem for words, problem in zip(problems, manifest["problems"], strict=False)] == [
            True for _ in problems
        ]
        assert str(tmp_path) not in str(manifest)
        key = standalone.parse_key(str(load_or_create_signer().verifier))
        standalone.verify_archive(standalone.load(target), "a", key, known=True)
        assert f"log 1-0: {log['events']} events, signed to {size}, " in capsys.readouterr().out


def test_archive_of_a_changed_policy_contains_both_and_is_sound(packed, tmp_path):
    """The verifier needs the policies before and after an intervention."""
    with Run("balanced", runs=tmp_path, run_id="b", facts={"max_iters": 30}) as run:
        for iter_num in range(6):
            if iter_num == 2:
                ask(run.folder, "INTERVENE", settings=("gate.target=0.9",))
            run.end_batch(run.start_batch(iter_num, 3.0))
    write_archive(run.folder, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert sum(name.startswith("policies/") for name in archive.namelist()) == 2
    done = judge(packed, tmp_path / "b.zip", "--key", str(load_or_create_signer().verifier))
    assert done.returncode == 0, done.stdout + done.stderr
