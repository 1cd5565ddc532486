"""The archive convinces someone who has nothing of ours: another process, without the package."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from ockham.errors import BadInputError
from ockham.record.evidence import pack
from ockham.record.note import signer
from tests.made import made_run


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    run = made_run(folder / "runs", batches=40)
    pack(run.folder, folder / "a.zip")
    with zipfile.ZipFile(folder / "a.zip") as archive:
        archive.extractall(folder / "out")
    return folder


def judge(folder, evidence, *words):
    """The packed verify.py, isolated: no site of the checkout, no ockham."""
    return subprocess.run(
        [sys.executable, "-I", str(folder / "out" / "verify.py"), str(evidence), *words],
        capture_output=True, text=True, timeout=60, cwd=folder,
    )  # fmt: skip


def test_the_single_file_judges_archive_and_folder(packed):
    """Sound with the known key, from the zip and unpacked; a note where the key is the run's own word."""
    for evidence in (packed / "a.zip", packed / "out"):
        done = judge(packed, evidence, "--key", str(signer().verifier))
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "sound"
    assert "run's own word" in judge(packed, packed / "a.zip").stdout


def test_it_imports_nothing_of_ours(packed):
    """It can be read alone."""
    source = (packed / "out" / "verify.py").read_text()
    assert "import ockham" not in source
    assert "from ockham" not in source


@pytest.mark.parametrize(
    "name",
    [
        "log/1-0/000000000000.jsonl",
        "log/1-0/checkpoints",
        "log/1-0/checkpoint",
        "log/1-0/tile",
        "run.json",
        "policies",
    ],
)
def test_it_finds_one_changed_byte(packed, tmp_path, name):
    """In the log, in a signature, in run.json, in a policy."""
    import shutil

    shutil.copytree(packed / "out", tmp_path / "out")
    path = tmp_path / "out" / name
    path = next(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else path
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at] = data[at] ^ 1 if chr(data[at] ^ 1).isprintable() else data[at] ^ 2
    path.write_bytes(bytes(data))
    done = judge(packed, tmp_path / "out", "--key", str(signer().verifier))
    assert done.returncode in (1, 2), done.stdout


def test_another_key_is_not_believed(packed):
    """The key that an auditor knows decides."""
    other = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert judge(packed, packed / "a.zip", "--key", other).returncode == 1


def test_the_same_run_packs_to_the_same_bytes(packed, tmp_path):
    """Deterministic, and never over something that is there."""
    from ockham.record.folder import RunFolder

    pack(RunFolder(packed / "runs", "a"), tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == (packed / "a.zip").read_bytes()
    with pytest.raises(BadInputError, match="exists"):
        pack(RunFolder(packed / "runs", "a"), tmp_path / "b.zip")


@pytest.mark.parametrize("name", ["log/1-0/000000000000.jsonl", "log/1-0/checkpoints", "run.json"])
def test_whatever_is_in_it_the_answer_is_a_line(packed, tmp_path, name):
    """Cut, emptied, nested without end, not UTF-8: a status and no traceback."""
    import shutil

    for number, data in enumerate(
        (b"", b"\n\n", b"[" * 100_000 + b"\n", b"\xff\xfe\n", b"{}\n", b"x\n\ny\n\n")
    ):
        out = tmp_path / str(number)
        shutil.copytree(packed / "out", out)
        (out / name).write_bytes(data)
        done = judge(packed, out, "--key", str(signer().verifier))
        assert done.returncode in (1, 2), done.stdout
        assert "Traceback" not in done.stderr


def test_a_torn_tail_is_a_note(packed, tmp_path):
    """As a crash leaves it: said, and no finding."""
    import shutil

    shutil.copytree(packed / "out", tmp_path / "out")
    with (tmp_path / "out" / "log/1-0/000000000000.jsonl").open("ab") as file:
        file.write(b'{"specversion"')
    done = judge(packed, tmp_path / "out", "--key", str(signer().verifier))
    assert done.returncode == 0
    assert "note: 14 bytes behind the last whole line" in done.stdout
