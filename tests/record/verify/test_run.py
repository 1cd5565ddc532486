"""Verification of runs: valid runs have no finding, crashes are notes, and every change is reported."""

from __future__ import annotations

import random
import shutil

import orjson
import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.parquet.coverage import sidecar_path
from ockham.record.repair import rebuild
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers.events import lines
from tests.helpers.log_edits import find_line, replace_data, rewrite_lines, sign_log
from tests.helpers.resumed_run import resumed_run
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    make_run(folder, "a", batches=40, nan_at=7)
    return folder / "a"


@pytest.fixture
def run(original, tmp_path):
    shutil.copytree(original, tmp_path / "a")
    return RunFolder(tmp_path, "a")


def kinds(run, **kwargs):
    report = verify_run(run, **kwargs)
    return {kind for kind in report.counts if kind not in ("key not pinned", "not pinned")}


def test_honest_run_is_sound(run):
    """Everything is checked."""
    report = verify_run(run)
    assert report.sound
    assert set(report.counts) == {"key not pinned", "not pinned"}
    assert report.checked["events"] == len(lines(run))
    assert {
        "tiles",
        "Parquet files",
        "checkpoint files",
        "policies",
        "key frames",
        "signed tree heads",
    } <= report.checked.keys()
    assert report.logs[0].signed == report.logs[0].events


def test_key_and_pin_remove_all_notes(run):
    """Both extend what is known."""
    assert verify_run(run, pins=[make_pin(run)]).counts == {}
    report = verify_run(run, keys=[load_or_create_signer().verifier], pins=[make_pin(run)])
    assert report.counts == {}
    assert report.logs[0].pinned == report.logs[0].events


def test_every_sampled_bit_flip_is_reported(run):
    """Log, tiles, heads, policy, Parquet, run.json and checkpoints."""
    draw = random.Random(3)
    files = [p for p in sorted(run.path.rglob("*")) if p.is_file() and p.name != "lock"]
    assert len(files) > 12
    missed = []
    for path in files:
        data = path.read_bytes()
        for at in sorted(draw.sample(range(len(data)), min(6, len(data)))):
            changed = bytearray(data)
            changed[at] ^= 1 << draw.randrange(8)
            path.write_bytes(bytes(changed))
            try:
                if verify_run(run, keys=[load_or_create_signer().verifier]).sound:
                    missed.append((str(path.relative_to(run.path)), at))
            except UnverifiableError:
                pass
        path.write_bytes(data)
    assert missed == []


def test_changed_observed_value_is_tampering(run):
    """The finding names the sequence number."""

    def change(found):
        at = find_line(found, "decision.made")
        found[at] = replace_data(found[at], observed=1.0)
        return found

    rewrite_lines(run, change)
    report = verify_run(run, parquet=False)
    assert "tampering" in report.counts
    assert any(
        "event 3 differs" in f.message or "differs from its tile" in f.message for f in report.findings
    )


@pytest.mark.parametrize(
    "attack",
    [
        lambda found: found[:-1],
        lambda found: found[: len(found) // 2],
        lambda found: [*found[:10], *found[11:]],
        lambda found: [*found[:10], found[11], found[10], *found[12:]],
        lambda found: [*found[:10], found[10], *found[10:]],
        lambda found: found[1:],
        lambda found: [],
    ],
    ids=[
        "last dropped",
        "half dropped",
        "one dropped",
        "two swapped",
        "one doubled",
        "first dropped",
        "all dropped",
    ],
)
def test_missing_swapped_or_doubled_line_is_tampering(run, attack):
    """The signature covers the order."""
    rewrite_lines(run, attack)
    assert "tampering" in kinds(run, parquet=False)


def test_line_of_another_run_is_reported(run, tmp_path):
    """The finding names its origin."""
    other = make_run(tmp_path / "other", "b", batches=5)
    foreign = lines(other.folder)[4]
    rewrite_lines(run, lambda found: [*found[:4], foreign, *found[5:]])
    assert "tampering" in kinds(run, parquet=False)


def test_signature_of_another_key_is_reported(run, tmp_path, monkeypatch):
    """The given key decides."""
    auditors = load_or_create_signer().verifier
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "other-key"))
    forged = make_run(tmp_path / "forged", "a", batches=40)
    assert verify_run(forged.folder).sound
    report = verify_run(forged.folder, keys=[auditors])
    assert "tampering" in report.counts


def test_rewritten_log_contradicts_a_pin(run, tmp_path):
    """Only a pin reveals a rewrite with the key."""
    pin = make_pin(run)
    again = make_run(tmp_path / "again", "a", batches=60)
    assert verify_run(again.folder).sound
    assert "tampering" in verify_run(again.folder, pins=[pin]).counts


@pytest.mark.parametrize("tail", [b'{"specversion":"1.0","id":"01', b"\0" * 300, b"x"])
def test_crash_tail_is_not_tampering(run, tail):
    """The run is sound."""
    with run.segments(1, 0)[0].open("ab") as file:
        file.write(tail)
    assert kinds(run, parquet=False) == {"crash tail"}
    assert verify_run(run, parquet=False).sound


def test_lines_after_the_last_head_are_not_signed(tmp_path):
    """A note reports them."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 2.0))
        size = run.flush().size
        log = run.folder.log_dir(1, 0)
        shutil.copytree(log, tmp_path / "then")
        run.end_batch(run.start_batch(1, 2.0))
    for name in ("checkpoint", "checkpoints"):
        shutil.copy(tmp_path / "then" / name, log / name)
    shutil.rmtree(log / "tile")
    shutil.copytree(tmp_path / "then" / "tile", log / "tile")
    report = verify_run(run.folder)
    assert report.sound
    assert report.logs[0].signed == size < report.logs[0].events
    assert "not signed" in report.counts


def test_invalid_bytes_in_the_middle_are_corruption_only_if_signed(run):
    """They are not an event. Lines that no matching head covers are not parsed."""
    rewrite_lines(run, lambda found: [*found[:5], b"\xff\xfe garbage", *found[6:]])
    assert not {"corruption", "contradiction"} & set(kinds(run, parquet=False))
    assert "tampering" in kinds(run, parquet=False)
    sign_log(run)
    assert "corruption" in kinds(run, parquet=False)


def test_duplicate_json_key_is_refused(run):
    """Two readers could read two values."""
    rewrite_lines(run, lambda found: [found[0][:-1] + b',"specversion":"1.0"}', *found[1:]])
    assert "tampering" in kinds(run, parquet=False)


def test_missing_or_changed_policy_is_reported(run):
    """The finding names its revision."""
    path = next((run.path / "policies").glob("*.json"))
    path.write_bytes(path.read_bytes().replace(b"0.6", b"0.7", 1))
    assert "policy missing" in kinds(run)
    path.unlink()
    assert "policy missing" in kinds(run)


def test_policy_of_two_attempts_is_counted_once(tmp_path):
    """It is one file."""
    resumed_run(tmp_path)
    assert verify_run(RunFolder(tmp_path, "a")).checked["policies"] == 1


def test_changed_derived_files_can_be_rebuilt(run):
    """The run is sound afterwards."""
    parquet = next((run.path / "decisions").rglob("*.parquet"))
    data = bytearray(parquet.read_bytes())
    data[len(data) // 2] ^= 1
    parquet.write_bytes(bytes(data))
    next(p for p in (run.log_dir(1, 0) / "tile").rglob("*") if p.is_file()).unlink()
    assert kinds(run) == {"derived"}
    before = run.segments(1, 0)[0].read_bytes()
    rebuild(run)
    assert kinds(run) == set()
    assert run.segments(1, 0)[0].read_bytes() == before


def test_parquet_and_sidecar_that_agree_are_compared_with_lines(run):
    """Both files were rewritten."""
    import hashlib

    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = next((run.path / "decisions").rglob("*.parquet"))
    table = pq.read_table(parquet, partitioning=None)
    at = table.schema.get_field_index("action")
    table = table.set_column(at, table.schema.field(at), pa.array(["UPDATE"] * table.num_rows))
    pq.write_table(table, parquet)
    sidecar = sidecar_path(parquet)
    about = orjson.loads(sidecar.read_bytes())
    sidecar.write_bytes(orjson.dumps({**about, "sha256": hashlib.sha256(parquet.read_bytes()).hexdigest()}))
    assert kinds(run) == {"derived"}


def test_parquet_bomb_is_not_expanded(run, monkeypatch):
    """A row group has at most 60,000 rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = next((run.path / "decisions").rglob("*.parquet"))
    row = pq.read_table(parquet, partitioning=None).slice(0, 1)
    pq.write_table(row.take(pa.array([0] * 100_000)), parquet, row_group_size=10**9)
    assert parquet.stat().st_size < 100_000
    read = pq.ParquetFile.read_row_group
    unfolded = []
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda *at: [unfolded.append(found := read(*at)), found][1]
    )
    assert "decisions" in next(f.place for f in verify_run(run).findings if f.kind == "derived")
    assert max(group.num_rows for group in unfolded) < 1_000


def test_parquet_with_an_invalid_time_is_a_finding(run):
    """The report contains a finding, and no exception is raised."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = next((run.path / "events").rglob("*.parquet"))
    table = pq.read_table(parquet, partitioning=None)
    at = table.schema.get_field_index("time")
    times = pa.array([2**62] * table.num_rows, pa.int64()).cast(table.schema.field(at).type)
    pq.write_table(table.set_column(at, table.schema.field(at), times), parquet)
    assert kinds(run) == {"derived"}


def test_changed_or_missing_checkpoint_files_are_reported(run):
    """They were recorded."""
    path = next(run.checkpoints.glob("accepted-*")) / "weights.bin"
    path.write_bytes(b"other")
    assert kinds(run) == {"checkpoint"}
    path.unlink()
    assert kinds(run) == {"checkpoint"}


def resigned(tmp_path, change):
    """Write a log with changed lines, and sign it with the key of the writer."""
    from ockham.record.tlog.note import load_or_create_signer as users
    from ockham.record.tlog.tree_head import HeadWriter, origin

    run = make_run(tmp_path, "a", batches=60)
    path = run.folder.segments(1, 0)[0]
    found = change(path.read_bytes().splitlines())
    log = run.folder.log_dir(1, 0)
    shutil.rmtree(log)
    log.mkdir()
    path.write_bytes(b"".join(line + b"\n" for line in found))
    import hashlib

    heads = HeadWriter(log, origin("a", 1, 0), users())
    heads.ingest(path, path.stat().st_size, hashlib.sha256(path.read_bytes()).digest())
    heads.sign()
    return run.folder


def test_unexplained_knob_change_is_a_contradiction(tmp_path):
    """The signature is valid."""

    def change(found):
        at = find_line(found, "context.recorded", 15)
        left = {**orjson.loads(found[at])["data"]["left"], "learning_rate": 0.5}
        found[at] = replace_data(found[at], left=left)
        return found

    assert "contradiction" in kinds(resigned(tmp_path, change), parquet=False)


def test_change_from_a_wrong_value_is_a_contradiction(tmp_path):
    """The value after plugin i is the one before i+1."""

    def change(found):
        for at in range(len(found)):
            event = orjson.loads(found[at])
            if event["type"] == "ockham.decision.made.v1" and event["data"]["changes"]:
                event["data"]["changes"][0]["before"] = 12.5
                found[at] = orjson.dumps(event)
                return found
        raise AssertionError("no turn in this run")

    assert "contradiction" in kinds(resigned(tmp_path, change), parquet=False)


def test_accepted_checkpoint_without_its_decision_is_reported(tmp_path):
    """It must name the accepting decision."""

    def change(found):
        at = find_line(found, "checkpoint.saved")
        found[at] = replace_data(found[at], decision_id="01a20da1-7999-7cd9-80fb-585900000013")
        return found

    assert "checkpoint" in kinds(resigned(tmp_path, change), parquet=False)


def test_other_keys_and_pins_are_bad_input(run, original, tmp_path):
    """A pin of another run, and a run without a log."""
    other = make_run(tmp_path / "x", "other", batches=3)
    with pytest.raises(BadInputError, match="ockham/runs/other/1-0"):
        verify_run(run, pins=[make_pin(other.folder)])
    with pytest.raises(UnverifiableError, match="no log"):
        verify_run(RunFolder(tmp_path, "nothing"))
    assert original.exists()


def test_every_truncation_is_reported(run):
    """The signature covers the size."""
    path = run.segments(1, 0)[0]
    found = path.read_bytes().splitlines(keepends=True)
    for kept in range(len(found)):
        path.write_bytes(b"".join(found[:kept]))
        assert "tampering" in verify_run(run, parquet=False).counts, kept


def test_pinned_log_that_is_missing_is_tampering(tmp_path):
    """Without the pin the run is sound."""
    folder = make_run(tmp_path, batches=20).folder
    from ockham.record.checkpoints import find_resume_point

    start = find_resume_point(tmp_path, "a")
    with Run(runs=tmp_path, run_id="a", resumed=start, data=start.data) as again:
        again.end_batch(again.start_batch(0, 3.0))
    pin = make_pin(folder)
    assert verify_run(folder, pins=[pin]).sound
    shutil.rmtree(folder.log_dir(2, 0))
    report = verify_run(folder, pins=[pin], parquet=False)
    assert any(f.kind == "tampering" and f.place == "log/2-0" for f in report.findings)


def test_missing_log_of_a_rank_is_a_gap(tmp_path):
    """The other rank recorded the number of ranks."""
    with Run(plugins=[], runs=tmp_path, run_id="a", world_size=2) as run:
        with Run(plugins=[], runs=tmp_path, run_id="a", rank=1, world_size=2) as other:
            other.end_batch(other.start_batch(0, 3.0))
        run.end_batch(run.start_batch(0, 3.0))
    assert verify_run(run.folder).sound
    shutil.rmtree(run.folder.log_dir(1, 1))
    report = verify_run(run.folder, parquet=False)
    assert [(f.kind, f.place) for f in report.findings if f.kind == "gap"] == [("gap", "log/1-1")]


def test_older_head_put_back_has_no_effect(tmp_path):
    """The history contains newer ones, which cover the same lines."""
    from ockham.record.tlog.tree_head import split_history

    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        for i in range(3):
            run.end_batch(run.start_batch(i, 3.0))
            run.flush()
    log = run.folder.log_dir(1, 0)
    notes, _ = split_history((log / "checkpoints").read_bytes())
    assert len(notes) > 2
    (log / "checkpoint").write_bytes(notes[0])
    report = verify_run(run.folder, parquet=False)
    assert report.sound
    assert report.logs[0].signed == report.logs[0].events


def test_two_heads_of_one_size_are_reported(run):
    """The same key signed two roots."""
    from ockham.record.tlog.tree_head import TreeHead, checkpoint_body, origin

    own = load_or_create_signer()
    with (run.log_dir(1, 0) / "checkpoints").open("ab") as file:
        file.write(own.sign(checkpoint_body(origin("a", 1, 0), TreeHead(len(lines(run)), bytes(32)))) + b"\n")
    assert any("two signed tree heads" in f.message for f in verify_run(run, parquet=False).findings)


def test_head_of_a_huge_tree_is_handled_quickly(run):
    """No loop runs over 2^63 events."""
    from ockham.record.tlog.tree_head import TreeHead, checkpoint_body, origin

    with (run.log_dir(1, 0) / "checkpoints").open("ab") as file:
        file.write(
            load_or_create_signer().sign(checkpoint_body(origin("a", 1, 0), TreeHead(2**63 - 1, bytes(32))))
            + b"\n"
        )
    assert any("are missing" in f.message for f in verify_run(run, parquet=False).findings)


def test_unfinished_tile_is_a_crash(run):
    """A kill leaves the temporary file."""
    (run.log_dir(1, 0) / "tile" / "0" / ".007.tmp").write_bytes(bytes(31))
    assert kinds(run, parquet=False) == {"crash tail"}
