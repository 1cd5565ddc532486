"""The files that events name: what a checkpoint holds, and which tree head it says that it was made under."""

from __future__ import annotations

import io
import json

import pytest

import tests.made
from ockham.record.checkpoints import Packed
from ockham.record.log import LogWriter
from ockham.record.note import signer
from ockham.record.verify import verify_run
from ockham.record.verify_files import MOST_HEADER_BYTES, metadata_of
from tests.made import made_run
from tests.odr.runs import FINISHED
from tests.record.test_lineage import safetensors
from tests.samples import REVISION, decision, run_folder


def found_in(tmp_path, monkeypatch, data_of):
    """What verify says of a run whose checkpoints hold what `data_of` makes of their metadata."""
    monkeypatch.setattr(
        tests.made, "pack", lambda told, _: Packed({"model.safetensors": data_of(told)}, "ab" * 32)
    )
    run = made_run(tmp_path, batches=40)
    report = verify_run(run.folder, keys=[signer().verifier], derived=False)
    assert report.checked["checkpoint files"] >= 1
    return {(f.kind, f.message) for f in report.findings if f.kind != "not pinned"}, run.folder


def test_weights_that_name_their_tree_head(tmp_path, monkeypatch):
    """As the trainer writes them, and as somebody does who writes no metadata: nothing is found."""
    assert found_in(tmp_path / "1", monkeypatch, safetensors)[0] == set()
    assert found_in(tmp_path / "2", monkeypatch, lambda _: safetensors({}))[0] == set()


@pytest.mark.parametrize(
    ("data_of", "said"),
    [
        (lambda told: safetensors({**told, "log_size": told["log_size"] - 1}), "names another tree head than the log does"),
        (lambda told: safetensors({**told, "log_root": "00" * 32}), "names another tree head than the log does"),
        (lambda told: safetensors({"log_size": told["log_size"]}), "names another tree head than the log does"),
        (lambda _: b"weights", "is no safetensors file"),
        (lambda _: b"", "is no safetensors file"),
    ],
)  # fmt: skip
def test_weights_that_say_something_else(tmp_path, monkeypatch, data_of, said):
    """Recorded with their digest, and yet not what the log says."""
    assert found_in(tmp_path, monkeypatch, data_of)[0] == {("checkpoint", said)}


def test_weights_that_are_others_or_gone(tmp_path, monkeypatch):
    """Named by file, with the event that recorded them."""
    _, folder = found_in(tmp_path, monkeypatch, safetensors)
    path = next(folder.checkpoints.glob("accepted-*")) / "model.safetensors"
    for data, said in (
        (path.read_bytes() + b"\0", "has other bytes than recorded"),
        (None, "is missing, or no regular file"),
    ):
        path.unlink() if data is None else path.write_bytes(data)
        [found] = [f for f in verify_run(folder, derived=False).findings if f.kind == "checkpoint"]
        assert (found.place, found.message) == (f"checkpoints/{path.parent.name}/model.safetensors", said)
        assert found.sequence > 0


@pytest.mark.parametrize(
    ("told", "pending"), [((), 0), (("on_batch_start",), 1), (("on_batch_start", "on_batch_end"), 2)]
)
def test_decisions_at_the_end_that_belong_to_no_context(tmp_path, told, pending):
    """An end that was written in peace leaves none."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    for hook in told:
        writer.append("decision.made", decision(0, hook=hook), iter_num=0)
    writer.append("run.finished", FINISHED)
    writer.close()
    report = verify_run(folder, keys=[signer().verifier], derived=False)
    found = [f.message for f in report.findings if "belong to no context" in f.message]
    assert found == ([f"{pending} decisions at the end belong to no context"] if pending else [])


def header(value, size=None):
    data = json.dumps(value).encode()
    return (len(data) if size is None else size).to_bytes(8, "little") + data


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (header({}), {}),
        (header({"__metadata__": {}}), {}),
        (header({"__metadata__": None}), {}),
        (header({"__metadata__": {"a": "1", "b": '{"c":[]}'}}) + bytes(8), {"a": 1, "b": {"c": []}}),
    ],
)
def test_metadata_of_a_safetensors_file(data, told):
    """Each value is JSON of its own."""
    assert metadata_of(io.BytesIO(data)) == told


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a safetensors header of 0 bytes"),
        (header({}, 0), "a safetensors header of 0 bytes"),
        (header({}, MOST_HEADER_BYTES + 1), "a safetensors header of 100000001 bytes"),
        (header([]), "a safetensors header is an object"),
        (header({"__metadata__": []}), "text by name"),
        (header({"__metadata__": {"a": 1}}), "text by name"),
        (header({"__metadata__": {"a": "{"}}), "unexpected end of data"),
        (header({}, 1), "unexpected end of data"),
    ],
)
def test_what_is_no_safetensors_file(data, said):
    """One kind of error, and no more is read than a header may have."""
    with pytest.raises(ValueError, match=said):
        metadata_of(io.BytesIO(data))
