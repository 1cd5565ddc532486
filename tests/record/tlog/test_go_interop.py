"""Notes, tiles and proofs, read by the independent Go package golang.org/x/mod/sumdb.

On Debian: `apt install golang-go golang-golang-x-mod-dev`. Without these packages the tests are skipped.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ockham.record import attempt
from ockham.record.log_writer import LogWriter
from ockham.record.proofs import prove_inclusion
from ockham.record.tlog.merkle import consistency_proof, inclusion_proof, leaf_hash
from ockham.record.tlog.note import load_or_create_signer
from tests.helpers.events import lines
from tests.helpers.runs import make_run

# Debian installs Go packages in this folder.
GOPATH = Path("/usr/share/gocode")
SUMDB = GOPATH / "src" / "golang.org" / "x" / "mod" / "sumdb"
pytestmark = pytest.mark.skipif(
    shutil.which("go") is None or not SUMDB.is_dir(),
    reason="no Go with golang.org/x/mod here: apt install golang-go golang-golang-x-mod-dev",
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The Go program, built without network access from the Debian package of the library."""
    folder = tmp_path_factory.mktemp("go")
    env = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": str(GOPATH),
        "GOFLAGS": "-p=1",
        "GOCACHE": str(folder / "cache"),
    }
    source = Path(__file__).parent / "go" / "tlog.go"
    done = subprocess.run(
        ["go", "build", "-o", str(folder / "tlog"), str(source)],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder / "tlog"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with three full tiles and a partial tile, in several segments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "LogWriter", functools.partial(LogWriter, segment_events=500))
        patch.setattr(attempt.Attempt, "_derive_in_background", lambda *_: None)
        return make_run(tmp_path_factory.mktemp("run"), batches=280).folder


def read(reader, log, key=None):
    words = [str(reader), str(key or load_or_create_signer().verifier), str(log)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_go_reads_notes_and_tiles_and_builds_equal_proofs(reader, run):
    """Origin, size, root and every hash are equal."""
    done = read(reader, run.log_dir(1, 0))
    assert done.returncode == 0, done.stderr
    metadata = json.loads(done.stdout)
    hashes = [leaf_hash(line) for line in lines(run)]
    assert (metadata["origin"], metadata["size"]) == ("ockham/runs/a/1-0", len(hashes))
    assert len(hashes) > 3 * 256
    for name, proof in metadata["proofs"].items():
        kind, at = name.split()
        ours = inclusion_proof(hashes, int(at)) if kind == "inclusion" else consistency_proof(hashes, int(at))
        assert [base64.b64decode(text) for text in proof] == ours, name
    assert len(metadata["proofs"]) > 15


def test_proof_file_contains_the_hashes_of_go(reader, run):
    """These are the hashes of `ockham prove`."""
    metadata = json.loads(read(reader, run.log_dir(1, 0)).stdout)
    file = prove_inclusion(run, 1, 0, 97).decode()
    head, _, note = file.partition("\n\n")
    assert head.split("\n")[3:] == metadata["proofs"]["inclusion 97"]
    assert note == (run.log_dir(1, 0) / "checkpoint").read_text(encoding="utf-8")


@pytest.mark.parametrize("what", ["line", "tile", "note", "key"])
def test_go_refuses_changed_input(reader, run, tmp_path, what):
    """One byte of a line, a tile or the note, or another key."""
    log = tmp_path / "log"
    shutil.copytree(run.log_dir(1, 0), log)
    if what == "key":
        other = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        assert (
            "no matching signatures" in read(reader, log, other).stderr or read(reader, log, other).returncode
        )
        return
    path = {"line": run.segments(1, 0)[0].name, "tile": "tile/0/001", "note": "checkpoint"}[what]
    data = bytearray((log / path).read_bytes())
    data[len(data) // 2] ^= 1
    (log / path).write_bytes(bytes(data))
    assert read(reader, log).returncode == 1
