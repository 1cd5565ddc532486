"""From a file of weights to the decisions that made it, wherever the file lies; and whatever was changed shows."""

from __future__ import annotations

import json
import shutil

import orjson
import pytest
from typer.testing import CliRunner

import tests.made
from ockham.cli import application
from ockham.errors import BadInputError
from ockham.record.checkpoints import Packed
from ockham.record.lineage import lineage, weights_file
from ockham.record.note import signer
from ockham.record.verify import verify_run
from tests.made import made_run


def safetensors(metadata):
    """One number, and the metadata as the trainer writes it: each value as JSON."""
    told = {key: json.dumps(value) for key, value in metadata.items()}
    header = json.dumps(
        {"__metadata__": told, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lineage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tests.made, "pack", lambda told, _: Packed({"model.safetensors": safetensors(told)}, "ab" * 32)
        )
        run = made_run(folder, batches=60)
    assert verify_run(run.folder).sound
    return folder


def accepted(runs):
    return max((runs / "a" / "checkpoints").glob("accepted-*"))


def asked(path, runs):
    return lineage(weights_file(path), runs, [signer().verifier])


def test_a_checkpoint_leads_to_its_decisions(runs, tmp_path):
    """From the folder, the file, and a copy of the file under another name elsewhere."""
    copy = tmp_path / "downloaded"
    shutil.copy(accepted(runs) / "model.safetensors", copy)
    for path in (accepted(runs), accepted(runs) / "model.safetensors", copy):
        found = asked(path, runs)
        assert found.problems == ()
        assert found.saved["snapshot_id"] == accepted(runs).name
        assert found.signed >= found.told["log_size"]


def test_the_command_tells_who_accepted_them_and_lists_every_decision(runs):
    """In words, and as rows: all decisions of the log before the tree head that the file names."""
    run = CliRunner()
    told = run.invoke(application(), ["lineage", str(accepted(runs)), "--runs", str(runs)])
    assert told.exit_code == 0, told.output
    assert "accepted at iteration" in told.output
    assert "the log vouches for these bytes" in told.output
    rows = run.invoke(application(), ["lineage", str(accepted(runs)), "--runs", str(runs), "-f", "jsonl"])
    listed = [orjson.loads(line) for line in rows.stdout.splitlines()]
    size = asked(accepted(runs), runs).told["log_size"]
    log = (runs / "a" / "log" / "1-0" / "000000000000.jsonl").read_bytes().splitlines()[:size]
    assert [row["decision_id"] for row in listed] == [
        orjson.loads(line)["id"] for line in log if b'"ockham.decision.made.v1"' in line
    ]


def test_other_bytes_are_not_vouched_for(runs, tmp_path):
    """A weight changed; metadata that claims another place in the log; a log that was changed behind it."""
    path = tmp_path / "w.safetensors"
    data = (accepted(runs) / "model.safetensors").read_bytes()
    path.write_bytes(data[:-1] + b"\1")
    assert "no event of that log says that these bytes were saved" in asked(path, runs).problems
    told = asked(accepted(runs), runs).told
    path.write_bytes(safetensors({**told, "log_size": told["log_size"] - 1}))
    assert any("never had the root" in problem for problem in asked(path, runs).problems)
    shutil.copytree(runs / "a", tmp_path / "a")
    segment = tmp_path / "a" / "log" / "1-0" / "000000000000.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"observed":2', b'"observed":3', 1))
    assert any(
        "are not those that were signed" in problem for problem in asked(accepted(runs), tmp_path).problems
    )
    done = CliRunner().invoke(application(), ["lineage", str(path), "--runs", str(runs)])
    assert done.exit_code == 1
    assert "NOT VOUCHED FOR" in done.output


def test_a_key_that_has_signed_nothing_is_said(runs):
    """Decisions that no known key has signed are nobody's."""
    found = lineage(weights_file(accepted(runs)), runs, [])
    assert any("no known key has signed" in problem for problem in found.problems)


def test_what_is_no_file_of_weights(runs, tmp_path):
    """An empty folder, another file, a safetensors file of somebody else."""
    with pytest.raises(BadInputError, match="a safetensors file or a folder"):
        weights_file(tmp_path)
    path = tmp_path / "x"
    for data, said in ((b"short", "no safetensors file"), (safetensors({"format": "pt"}), "no run of ours")):
        path.write_bytes(data)
        with pytest.raises(BadInputError, match=said):
            lineage(path, runs, [])
