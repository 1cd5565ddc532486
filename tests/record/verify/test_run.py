"""Verify: sound runs are sound, crashes are crashes, and nothing that was changed passes."""

from __future__ import annotations

import random
import shutil

import orjson
import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.repair import rebuild
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.record.verify.run import load_verifier_keys, verify_run
from ockham.run import Run
from tests.helpers.events import lines
from tests.helpers.resumed_run import resumed_run
from tests.helpers.runs import made_run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    made_run(folder, "a", batches=40, nan_at=7)
    return folder / "a"


@pytest.fixture
def run(original, tmp_path):
    shutil.copytree(original, tmp_path / "a")
    return RunFolder(tmp_path, "a")


def segment_of(run):
    return run.segments(1, 0)[0]


def kinds(run, **kwargs):
    report = verify_run(run, **kwargs)
    return {kind for kind in report.counts if kind not in ("key not pinned", "not pinned")}


def rewrite(run, change):
    """Change the lines of the log and leave everything else."""
    path = segment_of(run)
    found = path.read_bytes().splitlines()
    path.write_bytes(b"".join(line + b"\n" for line in change(found)))


def edited(line, **data):
    event = orjson.loads(line)
    event["data"].update(data)
    return orjson.dumps(event)


def find(found, kind, nth=0):
    return [i for i, line in enumerate(found) if orjson.loads(line)["type"] == f"ockham.{kind}.v1"][nth]


def test_an_honest_run_is_sound(run):
    """Everything is looked at, and nothing is found but what nobody could know."""
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


def test_a_given_key_and_a_pin_say_how_far(run):
    """With both there is not even a note."""
    assert verify_run(run, pins=[make_pin(run)]).counts == {}
    report = verify_run(run, keys=[load_or_create_signer().verifier], pins=[make_pin(run)])
    assert report.counts == {}
    assert report.logs[0].pinned == report.logs[0].events


def test_every_sampled_byte_counts(run):
    """One bit anywhere: log, tiles, heads, policy, Parquet, run.json, checkpoints."""
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


def test_a_changed_observed_value_is_tampering(run):
    """A well-formed line that is not the signed one, named by its sequence."""

    def change(found):
        at = find(found, "decision.made")
        found[at] = edited(found[at], observed=1.0)
        return found

    rewrite(run, change)
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
def test_what_was_signed_must_be_there(run, attack):
    """Dropped, swapped, doubled: tampering, whatever is left."""
    rewrite(run, attack)
    assert "tampering" in kinds(run, parquet=False)


def test_a_line_of_another_run_is_not_at_home(run, tmp_path):
    """Spliced lines say where they come from."""
    other = made_run(tmp_path / "other", "b", batches=5)
    foreign = lines(other.folder)[4]
    rewrite(run, lambda found: [*found[:4], foreign, *found[5:]])
    assert "tampering" in kinds(run, parquet=False)


def test_signing_again_with_another_key_shows(run, tmp_path, monkeypatch):
    """Whoever rewrites the log needs the key: the auditor's key does not fit the new signature."""
    auditors = load_or_create_signer().verifier
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "other-key"))
    forged = made_run(tmp_path / "forged", "a", batches=40)
    assert verify_run(forged.folder).sound
    report = verify_run(forged.folder, keys=[auditors])
    assert "tampering" in report.counts


def test_writing_it_all_anew_shows_against_a_pin(run, tmp_path):
    """Key and machine in the same hands: only a pin that was kept elsewhere can tell."""
    pin = make_pin(run)
    again = made_run(tmp_path / "again", "a", batches=60)
    assert verify_run(again.folder).sound
    assert "tampering" in verify_run(again.folder, pins=[pin]).counts


@pytest.mark.parametrize("tail", [b'{"specversion":"1.0","id":"01', b"\0" * 300, b"x"])
def test_a_crash_is_called_a_crash(run, tail):
    """An unfinished or zero-filled tail is no tampering, and the run is sound."""
    with segment_of(run).open("ab") as file:
        file.write(tail)
    assert kinds(run, parquet=False) == {"crash tail"}
    assert verify_run(run, parquet=False).sound


def test_whole_lines_behind_the_last_head_are_not_signed(tmp_path):
    """A process killed between sync and signature: the lines count, and a note says that nobody vouches for them."""
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


def test_garbage_in_the_middle_is_corruption(run):
    """Bytes that are no event."""
    rewrite(run, lambda found: [*found[:5], b"\xff\xfe garbage", *found[6:]])
    assert "corruption" in kinds(run, parquet=False)


def test_a_key_twice_is_refused(run):
    """Two readers could believe two things."""
    rewrite(run, lambda found: [found[0][:-1] + b',"specversion":"1.0"}', *found[1:]])
    assert "tampering" in kinds(run, parquet=False)


def test_a_policy_that_is_not_there_or_another(run):
    """Named by its revision."""
    path = next((run.path / "policies").glob("*.json"))
    path.write_bytes(path.read_bytes().replace(b"0.6", b"0.7", 1))
    assert "policy missing" in kinds(run)
    path.unlink()
    assert "policy missing" in kinds(run)


def test_a_policy_of_two_attempts_is_counted_once(tmp_path):
    """One file, however many logs name it."""
    resumed_run(tmp_path)
    assert verify_run(RunFolder(tmp_path, "a")).checked["policies"] == 1


def test_derived_files_are_derived(run):
    """A changed Parquet file or tile is to be rebuilt, and rebuilding makes the run sound again."""
    parquet = next((run.path / "decisions").rglob("*.parquet"))
    data = bytearray(parquet.read_bytes())
    data[len(data) // 2] ^= 1
    parquet.write_bytes(bytes(data))
    next(p for p in (run.log_dir(1, 0) / "tile").rglob("*") if p.is_file()).unlink()
    assert kinds(run) == {"derived"}
    before = segment_of(run).read_bytes()
    rebuild(run)
    assert kinds(run) == set()
    assert segment_of(run).read_bytes() == before


def test_parquet_that_lies_with_its_sidecar_is_found(run):
    """Both files rewritten to agree with each other still do not hold what the lines hold."""
    import hashlib

    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = next((run.path / "decisions").rglob("*.parquet"))
    table = pq.read_table(parquet, partitioning=None)
    at = table.schema.get_field_index("action")
    table = table.set_column(at, table.schema.field(at), pa.array(["UPDATE"] * table.num_rows))
    pq.write_table(table, parquet)
    sidecar = parquet.with_suffix(".json")
    about = orjson.loads(sidecar.read_bytes())
    sidecar.write_bytes(orjson.dumps({**about, "sha256": hashlib.sha256(parquet.read_bytes()).hexdigest()}))
    assert kinds(run) == {"derived"}


def test_parquet_that_would_unfold_into_all_memory_is_not_unfolded(run, monkeypatch):
    """A hundred thousand equal rows are a few bytes, and so are a billion: a row group of ours has 60,000 at most."""
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


def test_parquet_with_a_time_that_is_no_date(run):
    """One flipped bit makes such: it is a finding and no traceback."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = next((run.path / "events").rglob("*.parquet"))
    table = pq.read_table(parquet, partitioning=None)
    at = table.schema.get_field_index("time")
    times = pa.array([2**62] * table.num_rows, pa.int64()).cast(table.schema.field(at).type)
    pq.write_table(table.set_column(at, table.schema.field(at), times), parquet)
    assert kinds(run) == {"derived"}


def test_checkpoint_files(run):
    """Missing or changed files of a checkpoint that was recorded."""
    path = next(run.checkpoints.glob("accepted-*")) / "weights.bin"
    path.write_bytes(b"other")
    assert kinds(run) == {"checkpoint"}
    path.unlink()
    assert kinds(run) == {"checkpoint"}


def resigned(tmp_path, change):
    """A log whose writer itself lied: changed lines, written and signed by the real writer's key."""
    from ockham.record.tlog.note import load_or_create_signer as users
    from ockham.record.tlog.tree_head import HeadWriter, origin

    run = made_run(tmp_path, "a", batches=60)
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


def test_a_knob_that_nobody_turned_is_a_contradiction(tmp_path):
    """Even well signed: the value after the last plugin is the value used."""

    def change(found):
        at = find(found, "context.recorded", 15)
        left = {**orjson.loads(found[at])["data"]["left"], "learning_rate": 0.5}
        found[at] = edited(found[at], left=left)
        return found

    assert "contradiction" in kinds(resigned(tmp_path, change), parquet=False)


def test_a_turn_from_a_value_it_never_had_is_a_contradiction(tmp_path):
    """after of plugin i = before of plugin i+1."""

    def change(found):
        for at in range(len(found)):
            event = orjson.loads(found[at])
            if event["type"] == "ockham.decision.made.v1" and event["data"]["changes"]:
                event["data"]["changes"][0]["before"] = 12.5
                found[at] = orjson.dumps(event)
                return found
        raise AssertionError("no turn in this run")

    assert "contradiction" in kinds(resigned(tmp_path, change), parquet=False)


def test_a_checkpoint_without_its_decision(tmp_path):
    """An accepted checkpoint names the decision that accepted it."""

    def change(found):
        at = find(found, "checkpoint.saved")
        found[at] = edited(found[at], decision_id="01a20da1-7999-7cd9-80fb-585900000013")
        return found

    assert "checkpoint" in kinds(resigned(tmp_path, change), parquet=False)


def test_other_keys_and_pins_are_refused_by_name(run, original, tmp_path):
    """A pin of another run, a key that is none, a run without a log."""
    other = made_run(tmp_path / "x", "other", batches=3)
    with pytest.raises(BadInputError, match="ockham/runs/other/1-0"):
        verify_run(run, pins=[make_pin(other.folder)])
    with pytest.raises(BadInputError, match="no verifier key"):
        load_verifier_keys(["nonsense"])
    with pytest.raises(UnverifiableError, match="no log"):
        verify_run(RunFolder(tmp_path, "nothing"))
    assert original.exists()


def test_every_length_but_the_whole_is_noticed(run):
    """The tail dropped at every line: the size was signed."""
    path = segment_of(run)
    found = path.read_bytes().splitlines(keepends=True)
    for kept in range(len(found)):
        path.write_bytes(b"".join(found[:kept]))
        assert "tampering" in verify_run(run, parquet=False).counts, kept


def test_a_pinned_log_that_is_gone_is_tampering(tmp_path):
    """A whole attempt removed: the run is sound by its own word, and the pin remembers."""
    folder = made_run(tmp_path, batches=20).folder
    from ockham.record.checkpoints import find_resume_point

    start = find_resume_point(tmp_path, "a")
    with Run(runs=tmp_path, run_id="a", resumed=start, data=start.data) as again:
        again.end_batch(again.start_batch(0, 3.0))
    pin = make_pin(folder)
    assert verify_run(folder, pins=[pin]).sound
    shutil.rmtree(folder.log_dir(2, 0))
    report = verify_run(folder, pins=[pin], parquet=False)
    assert any(f.kind == "tampering" and f.place == "log/2-0" for f in report.findings)


def test_a_rank_that_is_gone_is_a_gap(tmp_path):
    """Two ranks began; the log of one is not there, and the other one says so."""
    with Run(plugins=[], runs=tmp_path, run_id="a", world_size=2) as run:
        with Run(plugins=[], runs=tmp_path, run_id="a", rank=1, world_size=2) as other:
            other.end_batch(other.start_batch(0, 3.0))
        run.end_batch(run.start_batch(0, 3.0))
    assert verify_run(run.folder).sound
    shutil.rmtree(run.folder.log_dir(1, 1))
    report = verify_run(run.folder, parquet=False)
    assert [(f.kind, f.place) for f in report.findings if f.kind == "gap"] == [("gap", "log/1-1")]


def test_an_old_head_put_back_is_noticed(tmp_path):
    """The newest signatures stay in the history, so an older `checkpoint` beside it does not pass."""
    from ockham.record.tlog.tree_head import split_history

    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        for i in range(3):
            run.end_batch(run.start_batch(i, 3.0))
            run.flush()
    log = run.folder.log_dir(1, 0)
    notes, _ = split_history((log / "checkpoints").read_bytes())
    assert len(notes) > 2
    (log / "checkpoint").write_bytes(notes[0])
    assert "tampering" in kinds(run.folder, parquet=False)


def test_two_heads_of_one_size_are_a_fork(run):
    """The same key, the same size, another root: the writer showed two histories."""
    from ockham.record.tlog.tree_head import TreeHead, checkpoint_body, origin

    own = load_or_create_signer()
    with (run.log_dir(1, 0) / "checkpoints").open("ab") as file:
        file.write(own.sign(checkpoint_body(origin("a", 1, 0), TreeHead(len(lines(run)), bytes(32)))) + b"\n")
    assert any("two signed tree heads" in f.message for f in verify_run(run, parquet=False).findings)


def test_a_head_of_a_giant_tree_is_judged_at_once(run):
    """2^63 - 1 events signed: gone, and no loop over them."""
    from ockham.record.tlog.tree_head import TreeHead, checkpoint_body, origin

    with (run.log_dir(1, 0) / "checkpoints").open("ab") as file:
        file.write(
            load_or_create_signer().sign(checkpoint_body(origin("a", 1, 0), TreeHead(2**63 - 1, bytes(32))))
            + b"\n"
        )
    assert any("are gone" in f.message for f in verify_run(run, parquet=False).findings)


def test_a_tile_that_was_being_written_is_a_crash(run):
    """A kill between write and rename leaves its temporary file."""
    (run.log_dir(1, 0) / "tile" / "0" / ".007.tmp").write_bytes(bytes(31))
    assert kinds(run, parquet=False) == {"crash tail"}
