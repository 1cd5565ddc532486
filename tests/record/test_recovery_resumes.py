"""Resumes after a killed resume: earlier logs, their reserves, and files that were being written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ockham.record.checkpoints import find_resume_point
from ockham.record.parquet.builder import remove_parquet
from ockham.record.recovery import recover_log
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import load_or_create_signer, open_note
from ockham.record.tlog.tiles import rebuild_tiles
from ockham.record.tlog.tree_head import TreeHead, checkpoint_body, origin, parse_head
from ockham.record.verify.report import NOTE_CLASSES
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers.events import events, lines
from tests.helpers.tree_files import write_history


def resume_and_lose_the_opening(runs, kept_events):
    """Resume a run, and keep only the first signed lines of the new attempt, as a kill leaves it."""
    reserves = list(runs.glob("a/log/*/reserve"))
    with Run(runs=runs, run_id="a", resumed=find_resume_point(runs, "a")) as run:
        attempt = run.attempt.number
    log = run.folder.log_dir(attempt, 0)
    kept = lines(run.folder, attempt)[:kept_events]
    run.folder.segments(attempt, 0)[0].write_bytes(b"".join(line + b"\n" for line in kept))
    frontier = CompactRange()
    for line in kept:
        frontier.append(leaf_hash(line))
    head = TreeHead(len(kept), frontier.root())
    note = load_or_create_signer().sign(checkpoint_body(origin("a", attempt, 0), head))
    write_history(log, note, newest=note)
    rebuild_tiles(log, [leaf_hash(line) for line in kept])
    remove_parquet(run.folder, attempt, 0)
    for reserve in (log / "reserve", *reserves):
        reserve.write_bytes(b"")


@pytest.mark.parametrize("kept_events", [0, 1, 2])
@pytest.mark.parametrize("resumes", [1, 2])
def test_killed_resume_hides_no_cut_and_no_gap(tmp_path, kept_events, resumes):
    """The next resume records what no signed event records, and each fact once."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
    # Without an end and without a reserve, the writer has stopped itself.
    resume_and_lose_the_opening(tmp_path, 2)
    (run.folder.log_dir(2, 0) / "reserve").unlink()
    with run.folder.segments(2, 0)[0].open("ab") as file:
        file.write(b"not signed\ntorn")
    for _ in range(resumes):
        resume_and_lose_the_opening(tmp_path, kept_events)
    with Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")):
        pass
    seen = [event for attempt in range(3, 4 + resumes) for event in events(run.folder, attempt)]
    cuts = [event["data"] for event in seen if event["type"] == "ockham.log.recovered.v1"]
    assert [(cut["cut_events"], cut["cut_bytes"]) for cut in cuts] == [(1, 15)]
    gaps = [event["data"] for event in seen if event["type"] == "ockham.log.gap.v1"]
    assert [(gap["from_attempt"], gap["reason_code"]) for gap in gaps] == [(2, "WRITER_FAILED")]
    report = verify_run(run.folder)
    assert report.counts.keys() - NOTE_CLASSES == {"gap"}
    assert "foreign" not in report.counts


def test_resume_removes_reserves_after_its_opening_is_signed(tmp_path, monkeypatch):
    """Otherwise a kill in between would make the next resume report a gap."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        pass
    reserve = run.folder.log_dir(1, 0) / "reserve"
    reserve.write_bytes(b"")
    signed = []
    unlink = os.unlink

    def remove(path, *rest, **options):
        if Path(path) == reserve:
            note = (run.folder.log_dir(2, 0) / "checkpoint").read_bytes()
            text, _ = open_note(note, [load_or_create_signer().verifier])
            signed.append(parse_head(text)[1].size)
        unlink(path, *rest, **options)

    monkeypatch.setattr(os, "unlink", remove)
    with Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")):
        pass
    kinds = [event["type"] for event in events(run.folder, 2)]
    assert len(signed) == 1
    assert signed[0] > kinds.index("ockham.policy.loaded.v1")
    assert not reserve.exists()


DIGEST = "ab" * 32
# Names that the writer makes for unfinished files, and names that it does not make.
UNFINISHED = [
    "log/1-0/.checkpoint.77.tmp",
    "log/1-0/tile/0/000.p/.9.77.tmp",
    "log/1-0/tile/0/x001/.234.77.tmp",
    "log/1-0/torn/.000000000000.1306.77.tmp",
    f"policies/.{DIGEST}.json.77.tmp",
    f"blobs/.{DIGEST}.77.tmp",
    "checkpoints/.resume-00000004.2.77.tmp/state.json",
]
OTHERS = [
    "log/1-0/.checkpoint.tmp",
    "log/1-0/.notes.77.tmp",
    "log/1-0/checkpoint.77.tmp",
    "log/.checkpoint.77.tmp",
    "log/other/.checkpoint.77.tmp",
    "policies/.mine.json.77.tmp",
    f"policies/.{DIGEST}.json.x.tmp",
    "blobs/.ab.77.tmp",
    f"blobs/sub/.{DIGEST}.77.tmp",
    "checkpoints/.My-weights.77.tmp/w",
    "checkpoints/.resume-00000004.tmp/w",
    ".run.json.77.tmp",
]


def test_resume_removes_only_files_that_the_writer_was_writing(tmp_path):
    """Afterwards the verification has no note about them. All other files remain and are listed."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 3.0))
    for name in UNFINISHED + OTHERS:
        path = run.folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    link = run.folder.path / f"policies/.{DIGEST}.json.78.tmp"
    link.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"x")
    report = verify_run(run.folder)
    noted = {finding.place for finding in report.findings if finding.kind == "crash tail"}
    assert noted >= set(UNFINISHED)
    with Run(runs=tmp_path, run_id="a", resumed=find_resume_point(tmp_path, "a")):
        pass
    assert [name for name in UNFINISHED if (run.folder.path / name).exists()] == []
    assert [name for name in OTHERS if not (run.folder.path / name).exists()] == []
    assert link.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"x"
    report = verify_run(run.folder)
    assert report.sound
    left = [finding.place for finding in report.findings if finding.kind == "crash tail"]
    assert left == [str(link.relative_to(run.folder.path))]
    assert {each.place for each in report.findings if each.kind == "foreign"} >= set(OTHERS)


def test_new_run_keeps_unfinished_folders_of_other_runs(tmp_path):
    """Run IDs can contain dots. Another process may be creating such a run."""
    left = {name: tmp_path / f".{name}.77.tmp" for name in ("a", "a.b", "a.7")}
    for path in left.values():
        path.mkdir()
    with Run(plugins=[], runs=tmp_path, run_id="a"):
        pass
    assert [name for name, path in left.items() if path.exists()] == ["a.b", "a.7"]


def test_cut_bytes_are_durable_before_the_log_is_truncated(tmp_path, monkeypatch):
    """Afterwards the truncation is durable too. Otherwise, a power loss brings the lines back."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        pass
    log, segment = run.folder.log_dir(1, 0), run.folder.segments(1, 0)[0]
    with segment.open("ab") as file:
        file.write(b"not signed\n")
    (log / "000000000099.jsonl").write_bytes(b"not signed either\n")
    calls = []

    def record(name, locate):
        function = getattr(os, name)

        def call(first, *rest):
            calls.append((name, locate(first).name))
            return function(first, *rest)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "ftruncate"):
        record(name, lambda descriptor: Path(f"/proc/self/fd/{descriptor}").readlink())
    for name in ("rename", "unlink"):
        record(name, Path)
    cut = recover_log(run.folder, 1, 0, [load_or_create_signer().verifier])
    saved = f".{Path(cut['cut_file']).name}.{os.getpid()}.tmp"
    steps = [
        ("fsync", saved),
        ("rename", saved),
        ("fsync", "torn"),
        ("unlink", "000000000099.jsonl"),
        ("ftruncate", segment.name),
        ("fsync", segment.name),
        ("fsync", log.name),
    ]
    assert [call for call in calls if call in steps][-len(steps) :] == steps
