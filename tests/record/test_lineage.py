"""Lineage from a weights file to the decisions that produced it. Any change of the file is reported."""

from __future__ import annotations

import hashlib
import shutil

import orjson
import pytest
from typer.testing import CliRunner

import tests.helpers.runs
from ockham.cli import build_app
from ockham.errors import BadInputError, RunError
from ockham.record.checkpoints import CheckpointFiles
from ockham.record.evidence import check_signed_prefix
from ockham.record.lineage import find_weights_file, lineage, read_claims
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import split_history
from ockham.record.verify.run import verify_run
from tests.helpers.runs import make_run
from tests.helpers.safetensors_file import make_safetensors
from tests.helpers.signatures import sign_again


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lineage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tests.helpers.runs,
            "pack",
            lambda recorded, _: CheckpointFiles({"model.safetensors": make_safetensors(recorded)}, "ab" * 32),
        )
        run = make_run(folder, batches=60)
    assert verify_run(run.folder).sound
    return folder


def accepted(runs):
    return max((runs / "a" / "checkpoints").glob("accepted-*"))


def asked(path, runs):
    return lineage(find_weights_file(path), runs, [load_or_create_signer().verifier])


def test_lineage_of_a_checkpoint_finds_its_decisions(runs, tmp_path):
    """Folder, file and a renamed copy give the same result."""
    copy = tmp_path / "downloaded"
    shutil.copy(accepted(runs) / "model.safetensors", copy)
    for path in (accepted(runs), accepted(runs) / "model.safetensors", copy):
        found = asked(path, runs)
        assert found.problems == ()
        assert found.checkpoint_event["snapshot_id"] == accepted(runs).name
        assert found.signed >= found.metadata["log_size"]


def test_lineage_command_lists_accepting_and_earlier_decisions(runs):
    """It prints text or rows."""
    run = CliRunner()
    recorded = run.invoke(build_app(), ["lineage", str(accepted(runs)), "--runs", str(runs)])
    assert recorded.exit_code == 0, recorded.output
    assert "accepted at iteration" in recorded.output
    assert recorded.stdout.splitlines()[0].endswith(": confirmed by the log")
    rows = run.invoke(build_app(), ["lineage", str(accepted(runs)), "--runs", str(runs), "-f", "jsonl"])
    listed = [orjson.loads(line) for line in rows.stdout.splitlines()]
    size = asked(accepted(runs), runs).metadata["log_size"]
    log = (runs / "a" / "log" / "1-0" / "000000000000.jsonl").read_bytes().splitlines()[:size]
    assert [row["decision_id"] for row in listed] == [
        orjson.loads(line)["id"] for line in log if b'"ockham.decision.made.v1"' in line
    ]


def test_lineage_of_changed_bytes_reports_problems(runs, tmp_path):
    """Weights, metadata or the log can be changed."""
    path = tmp_path / "w.safetensors"
    data = (accepted(runs) / "model.safetensors").read_bytes()
    path.write_bytes(data[:-1] + b"\1")
    assert any("no signed event" in problem for problem in asked(path, runs).problems)
    recorded = asked(accepted(runs), runs).metadata
    path.write_bytes(make_safetensors({**recorded, "log_size": recorded["log_size"] - 1}))
    assert any("never had the root" in problem for problem in asked(path, runs).problems)
    shutil.copytree(runs / "a", tmp_path / "a")
    segment = tmp_path / "a" / "log" / "1-0" / "000000000000.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"observed":2', b'"observed":3', 1))
    assert any(
        "differ from the signed ones" in problem for problem in asked(accepted(runs), tmp_path).problems
    )
    done = CliRunner().invoke(build_app(), ["lineage", str(path), "--runs", str(runs)])
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0].endswith(": NOT CONFIRMED")


def test_lineage_with_a_key_that_signed_nothing_reports_it(runs):
    """Unsigned decisions have no author."""
    found = lineage(find_weights_file(accepted(runs)), runs, [])
    assert any("no known key has signed" in problem for problem in found.problems)


def test_lineage_of_other_files_is_an_error(runs, tmp_path):
    """Examples are an empty folder and a file of another program."""
    with pytest.raises(BadInputError, match="a safetensors file or a folder"):
        find_weights_file(tmp_path)
    path = tmp_path / "x"
    for data, message in (
        (b"short", "foreign file, not written by a run"),
        (make_safetensors({"format": "pt"}), "not written by a run of Ockham: its metadata"),
    ):
        path.write_bytes(data)
        with pytest.raises(BadInputError, match=message):
            lineage(path, runs, [])


def test_lineage_of_a_missing_file_or_run_is_an_error(runs, tmp_path):
    """The error names it."""
    with pytest.raises(BadInputError, match=r"cannot read .*/none: No such file"):
        read_claims(tmp_path / "none")
    copy = shutil.copy(accepted(runs) / "model.safetensors", tmp_path / "w")
    with pytest.raises(RunError, match="no run 'a'"):
        lineage(copy, tmp_path, [])
    for name in ("x.safetensors", "y.safetensors"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(BadInputError, match=r"there: x\.safetensors, y\.safetensors"):
        find_weights_file(tmp_path)


@pytest.mark.parametrize("missing", ["run_id", "attempt", "rank", "log_size", "log_root"])
def test_lineage_requires_every_metadata_field(runs, tmp_path, missing):
    """Each field has a required type."""
    recorded = asked(accepted(runs), runs).metadata
    for other in (
        {**recorded, missing: [1]},
        {name: value for name, value in recorded.items() if name != missing},
    ):
        (tmp_path / "w").write_bytes(make_safetensors(other))
        with pytest.raises(BadInputError, match=f"its metadata has no {missing}$"):
            read_claims(tmp_path / "w")


def rewritten(runs, tmp_path, change):
    """Copy the run, and replace each line by `change(line)`."""
    shutil.copytree(runs / "a", tmp_path / "a")
    segment = tmp_path / "a" / "log" / "1-0" / "000000000000.jsonl"
    whole = [change(line) for line in segment.read_bytes().splitlines()]
    segment.write_bytes(b"".join(line + b"\n" for line in whole))
    return tmp_path


def test_lineage_of_weights_of_an_unsigned_event_is_not_confirmed(runs, tmp_path):
    """The event after the newest tree head needs no key, so it proves nothing."""
    shutil.copytree(runs / "a", tmp_path / "a")
    path = tmp_path / "forged.safetensors"
    data = (accepted(runs) / "model.safetensors").read_bytes()
    path.write_bytes(data[:-1] + b"\1")
    segment = tmp_path / "a" / "log" / "1-0" / "000000000000.jsonl"
    digests = [hashlib.sha256(content).hexdigest().encode() for content in (data, path.read_bytes())]
    saved = next(line for line in segment.read_bytes().splitlines() if digests[0] in line)
    with segment.open("ab") as file:
        file.write(saved.replace(*digests) + b"\n")
    assert any("no signed event" in problem for problem in asked(path, tmp_path).problems)


def test_lineage_reports_an_event_with_another_tree_head(runs, tmp_path):
    """File and signed log disagree about the position."""
    size = f'"log_size":{asked(accepted(runs), runs).metadata["log_size"]},'.encode()
    odd = rewritten(runs, tmp_path, lambda line: line.replace(size, b'"log_size":1,'))
    sign_again(RunFolder(odd, "a"))
    assert "the event that names these bytes names another tree head" in asked(accepted(runs), odd).problems


def test_lineage_ignores_lines_that_are_not_checkpoint_events(runs, tmp_path):
    """The bytes count as unknown."""
    for number, odd in enumerate(
        (
            b'x "ockham.checkpoint.saved.v1"',
            b'["ockham.checkpoint.saved.v1"]',
            b'{"type":"x","a":"ockham.checkpoint.saved.v1"}',
        )
    ):
        (to := tmp_path / str(number)).mkdir()
        rewritten(runs, to, lambda line, odd=odd: odd if b'"ockham.checkpoint.saved.v1"' in line else line)
        sign_again(RunFolder(to, "a"))
        assert any("no signed event" in problem for problem in asked(accepted(runs), to).problems)


def test_lineage_accepts_the_root_of_the_whole_log_only(runs, tmp_path):
    """A size beyond the log is reported."""
    folder = RunFolder(runs, "a")
    recorded = asked(accepted(runs), runs).metadata
    head = check_signed_prefix(folder, 1, 0, [load_or_create_signer().verifier]).head
    for more, known in ((0, True), (1, False)):
        (tmp_path / "w").write_bytes(
            make_safetensors({**recorded, "log_size": head.size + more, "log_root": head.root.hex()})
        )
        problems = asked(tmp_path / "w", runs).problems
        assert any("never had the root" in problem for problem in problems) is not known


def test_lineage_reports_decisions_signed_too_late(runs, tmp_path):
    """A signature over fewer events does not cover the weights."""
    odd = rewritten(runs, tmp_path, lambda line: line)
    log = odd / "a" / "log" / "1-0"
    size = asked(accepted(runs), runs).metadata["log_size"]
    notes, _ = split_history((log / "checkpoints").read_bytes())
    kept = [note for note in notes if int(note.split(b"\n")[1]) < size]
    (log / "checkpoints").write_bytes(b"".join(note + b"\n" for note in kept))
    (log / "checkpoint").unlink()
    assert asked(accepted(runs), odd).problems == (
        "no known key has signed the decisions before these weights; give one with --key",
        "no signed event of log 1-0 names these bytes",
    )
