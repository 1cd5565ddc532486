"""Untrusted proofs, pins, tiles, archives and headers: a typed error or the correct result."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.errors import BadInputError
from ockham.record.evidence_archive import write_archive
from ockham.record.proofs import prove_inclusion
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.inclusion import verify_inclusion_proof
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin, parse_pin
from ockham.record.tlog.tree_head import split_history
from ockham.record.verify import standalone
from ockham.record.verify.files import read_safetensors_metadata
from ockham.record.verify.run import verify_run
from tests.helpers.log_edits import sign_log
from tests.helpers.runs import make_run

FEW = settings(max_examples=60)
JUNK = st.binary(max_size=300)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("decoders"), batches=12).folder


@pytest.fixture(scope="module")
def copied(run, tmp_path_factory):
    """A copy of the run. A test that changes its files restores them."""
    copy = RunFolder(tmp_path_factory.mktemp("copied"), "a")
    shutil.copytree(run.path, copy.path)
    return copy


def edited(data, draw):
    """Return the bytes with one part replaced by random bytes."""
    at = draw.draw(st.integers(0, len(data)))
    return data[:at] + draw.draw(JUNK) + data[at + draw.draw(st.integers(0, 40)) :]


@FEW
@given(data=st.data())
def test_changed_inclusion_proof_is_refused_or_equal(run, data):
    """A proof never proves another line."""
    good = prove_inclusion(run, 1, 0, 5)
    proven = verify_inclusion_proof(good, [load_or_create_signer().verifier])
    with contextlib.suppress(BadInputError):
        assert (
            verify_inclusion_proof(edited(good, data), [load_or_create_signer().verifier])[:2] == proven[:2]
        )


@FEW
@given(data=JUNK)
def test_random_inclusion_proof_is_refused(data):
    """No random bytes are accepted."""
    with pytest.raises(BadInputError):
        verify_inclusion_proof(
            b"c2sp.org/tlog-proof@v1\nextra YQ==\nindex 0\n\n" + data, [load_or_create_signer().verifier]
        )


@FEW
@given(data=st.data())
def test_changed_pin_is_refused_or_matches_the_log(run, data):
    """A pin is of this run, or refused."""
    pin = edited(make_pin(run), data)
    with contextlib.suppress(BadInputError):
        report = verify_run(run, keys=[load_or_create_signer().verifier], pins=[pin], parquet=False)
        assert report.sound


@FEW
@given(data=JUNK)
def test_split_notes_lose_no_byte(data):
    """Every note of a pin ends in a newline. A pin without a note is an error."""
    notes, torn = split_history(data)
    assert b"".join(note + b"\n" for note in notes) + torn == data or not notes
    try:
        assert all(note.endswith(b"\n") for note in parse_pin(data))
    except BadInputError:
        assert not data.strip()


@FEW
@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40), data=JUNK
)
def test_unknown_file_among_tiles_is_reported(copied, name, data):
    """Its name does not matter."""
    path = copied.log_dir(1, 0) / "tile" / "0" / name
    if path.exists() or name in (".", "..") or len(name.encode("utf-8", "ignore")) > 200:
        return
    try:
        path.write_bytes(data)
    except (OSError, UnicodeEncodeError):
        return
    try:
        report = verify_run(copied, keys=[load_or_create_signer().verifier], parquet=False)
        assert report.counts.keys() & {"derived", "crash tail"}
    finally:
        path.unlink()


@FEW
@given(data=JUNK | st.builds(lambda head: len(head).to_bytes(8, "little") + head, JUNK))
def test_safetensors_header_of_any_length_is_handled(data):
    """The content can be anything."""
    with contextlib.suppress(ValueError):
        assert isinstance(read_safetensors_metadata(io.BytesIO(data)), dict)


@pytest.mark.parametrize("head", [b"[]", b'{"__metadata__":[]}', b'{"__metadata__":{"a":1}}'])
def test_safetensors_header_of_another_shape_is_an_error(head):
    """The JSON is not a header."""
    with pytest.raises(ValueError, match=r".+"):
        read_safetensors_metadata(io.BytesIO(len(head).to_bytes(8, "little") + head))
    with pytest.raises(ValueError, match="header of"):
        read_safetensors_metadata(io.BytesIO(b"\xff" * 8))


@pytest.fixture(scope="module")
def archive(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "a.zip"
    write_archive(run, path)
    return path.read_bytes()


def judged(path, monkeypatch, capsys):
    """Return the exit status of the packed verifier, run in this process."""
    monkeypatch.setattr("sys.argv", ["verify.py", str(path), "--key", str(load_or_create_signer().verifier)])
    status = standalone.main()
    capsys.readouterr()
    return status


def test_changed_archive_is_reported_or_equal(archive, tmp_path, monkeypatch, capsys):
    """Changed bytes without a meaning, such as dates, are accepted."""
    path = tmp_path / "a.zip"
    path.write_bytes(archive)
    assert judged(path, monkeypatch, capsys) == 0
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        before = {name: packed.read(name) for name in packed.namelist()}
    for at in range(0, len(archive), 97):
        changed = bytearray(archive)
        changed[at] ^= 1
        path.write_bytes(bytes(changed))
        if judged(path, monkeypatch, capsys) == 0:
            with zipfile.ZipFile(path) as packed:
                now = {name: packed.read(name) for name in packed.namelist()}
            # No signature covers these files, and the verifier reports that.
            unsigned = (
                "schemas/",
                "README",
                "manifest.json",
                "verify.py",
            )
            same = {name for name, data in before.items() if now.get(name) == data}
            assert {name for name in before if not name.startswith(unsigned)} <= same, at


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "log/1-0/../../evil", "C:evil"])
def test_archive_with_paths_outside_of_it_is_bad_input(archive, tmp_path, monkeypatch, capsys, name):
    """Nothing is written."""
    path = tmp_path / "a.zip"
    path.write_bytes(archive)
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr(name, b"{}")
    before = sorted(tmp_path.rglob("*"))
    assert judged(path, monkeypatch, capsys) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_replaced_schema_does_not_change_the_result(run, tmp_path):
    """Schemas are not read from the run."""
    copy = RunFolder(tmp_path, "a")
    shutil.copytree(run.path, copy.path)
    (copy.path / "schemas").mkdir()
    (copy.path / "schemas" / "decision.made.v1.schema.json").write_text("{}", encoding="utf-8")
    segment = copy.segments(1, 0)[0]
    segment.write_bytes(
        segment.read_bytes().replace(b'"hook":"on_batch_start"', b'"hook":"on_lunch_start"', 1)
    )
    assert "tampering" in verify_run(copy, parquet=False).counts
    sign_log(copy)
    assert "corruption" in verify_run(copy, parquet=False).counts


def test_replaced_tail_is_reported(run, tmp_path):
    """The signed root differs."""
    copy = RunFolder(tmp_path, "a")
    shutil.copytree(run.path, copy.path)
    segment = copy.segments(1, 0)[0]
    found = segment.read_bytes().splitlines(keepends=True)
    again = [json.loads(line) for line in found[-4:]]
    for event in again:
        event["time"] = "2031" + event["time"][4:]
    tail = [json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in again]
    segment.write_bytes(b"".join([*found[:-4], *tail]))
    assert "tampering" in verify_run(copy, parquet=False).counts
