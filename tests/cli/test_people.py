"""`ockham note`, `intervene`, `stop`, `approve` and `waive`, on live runs and on ended ones."""

from __future__ import annotations

import os
import time

import pytest

from ockham.record.log_status import is_locked
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.note import load_or_create_signer
from tests.helpers import forked_cli
from tests.helpers.events import events
from tests.helpers.odr_cli import run_odr
from tests.helpers.ranks import start_ranks
from tests.helpers.train_command import build_environment, run_train, start_train

LIMIT_SECONDS = 60


def event_data(kind, folder, attempt=1):
    return [event["data"] for event in events(folder, attempt) if event["type"] == f"ockham.{kind}.v1"]


def command(folder, *words, status=0):
    done = forked_cli.ockham(folder / "runs", *words, env=build_environment(folder))
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def live(tmp_path):
    """A training that runs until it is stopped."""
    process = start_train(tmp_path, "--run", "night-1", "--set", "max_iters=100000")
    lock = RunFolder(tmp_path / "runs", "night-1").log_dir(1, 0) / "lock"
    end = time.monotonic() + LIMIT_SECONDS
    while not is_locked(lock):
        assert time.monotonic() < end
        time.sleep(0.05)
    yield tmp_path, process
    process.kill()
    process.join()


def test_live_run_is_noted_changed_and_stopped(live):
    """Each command waits for its event. The training ends with status 4, and a resume continues it."""
    tmp_path, process = live
    wait = ("--wait", str(LIMIT_SECONDS))
    assert "recorded in its log" in command(tmp_path, "note", "night-1", "looks good", "--by", "bob", *wait)
    changed = command(
        tmp_path, "intervene", "night", "--set", "gate.target=0.9", "--reason", "harder data", *wait
    )
    assert "gate.target 0.6 -> 0.9" in changed
    refused = command(
        tmp_path, "intervene", "night-1", "--set", "gate.target=7", "--reason", "x", *wait, status=1
    )
    assert "refused, NOT_ACCEPTED" in refused
    assert "--resume continues it" in command(tmp_path, "stop", "night-1", "--reason", "enough", *wait)
    process.join(LIMIT_SECONDS)
    assert process.exitcode == 4
    folder = RunFolder(tmp_path / "runs", "night-1")
    assert event_data("run.finished", folder)[0]["reason_code"] == "STOPPED_BY_USER"
    stopped = event_data("stop.requested", folder)[0]["iter_num"]
    assert event_data("note.added", folder)[0]["by"] == "bob"
    resumed = run_train(tmp_path, "--run", "night-1", "--resume", "--set", f"max_iters={stopped + 3}")
    assert resumed.returncode == 0, resumed.stderr
    assert event_data("run.resumed", folder, 2)[0]["iter_num"] == stopped + 1
    changed = event_data("intervention.applied", folder)[0]
    contexts = event_data("context.recorded", folder, 2)
    assert {context["policy_revision"] for context in contexts} == {changed["policy_revision"]}
    assert "valid" in command(tmp_path, "verify", "night-1")
    assert "IDENTICAL" in command(tmp_path, "replay", "night-1")
    iteration = str(changed["iter_num"])
    explained = command(tmp_path, "why", "night-1", iteration)
    assert "intervention.applied gate.target: 0.6 -> 0.9 by" in explained


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run that has ended, with an accepted checkpoint."""
    folder = tmp_path_factory.mktemp("ended")
    done = run_train(folder, "--run", "night-1", "--set", "max_iters=40")
    assert done.returncode == 0, done.stderr
    return folder


def test_note_on_an_ended_run_is_in_the_ledger(ended):
    """`why`, `show` and the view contain it, and verify accepts it."""
    written = command(ended, "note", "night-1", "the loss was fine here", "--iter", "12", "--by", "bob")
    assert "of the ledger" in written
    line = "note.added by bob: the loss was fine here, in the ledger"
    assert line in command(ended, "why", "night-1", "12")
    assert line in command(ended, "show", "night-1", "-v")
    rows = command(ended, "query", "select person, recorded_in, signed from people where iter_num = 12")
    assert "bob\tledger\ttrue" in rows
    assert "1 request" in command(ended, "verify", LEDGER)


def test_approval_is_shown_by_lineage_and_show(ended):
    """The event names the digest of the weights."""
    folder = RunFolder(ended / "runs", "night-1")
    saved = event_data("checkpoint.saved", folder)[-1]
    name = saved["snapshot_id"]
    command(ended, "approve", f"night-1/{name}", "--by", "carol", "--reason", "tested")
    entry = [data for data in _ledger_events(ended) if data.get("snapshot_id") == name][-1]
    assert entry["weights_sha256"] == saved["weights_sha256"]
    file = str(folder.checkpoint(name) / "model.safetensors")
    assert "approved by carol on" in command(ended, "lineage", file)
    assert "carol" in command(ended, "show", name)


def _ledger_events(folder):
    ledger = RunFolder(folder / "runs", LEDGER)
    return [event["data"] for attempt, _ in ledger.logs() for event in events(ledger, attempt)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("stop", "night-1", "--reason", "x"), "not running"),
        (("intervene", "night-1", "--set", "gate.target=0.5", "--reason", "x"), "not running"),
        (("intervene", "night-1", "--set", "gate", "--reason", "x"), "plugin.setting=value"),
        (("note", "night-1", "two\nlines"), "printable characters"),
        (("note", "nothing", "x"), "run not found"),
        (("approve", "night-1", "--reason", "x"), "RUN/CHECKPOINT"),
        (("approve", "night-1/zzz", "--reason", "x"), "no signed checkpoint"),
        (("waive", "1", "C1", "--until", "soon", "--reason", "x"), "YYYY-MM-DD"),
        (("note", "night-1", "x", "--by", ""), "--by '': use one line"),
        (("note", "night-1", "x", "--by", "  "), "--by '  ': use one line"),
        (("note", "night-1", "x", "--by", "eve\nroot"), "--by 'eve\\nroot': use one line"),
        (("note", "night-1", "x\x1b[31m"), "printable characters"),
        (("note", "night-1", "x" * 2_001), "1 to 2,000 printable"),
        (("note", "night-1", "x", "--iter", "-1"), "--iter: -1 is out of range"),
        (("note", "night-1", "x", "--iter", "nan"), "--iter: 'nan' is not a whole number"),
        (("note", "night-1", "x", "--iter", "9" * 30), "--iter: " + "9" * 30 + " is out of range"),
        (("note", "night-1", "x", "--wait", "nan"), "--wait: nan is out of range"),
        (("note", "../night-1", "x"), "run not found"),
        (("stop", "night-1"), "--reason: missing"),
        (("stop", "night-1", "--reason", ""), "use one line"),
        (("intervene", "night-1", "--set", "gate.target=0.5", "--reason", "\u202ex"), "printable"),
        (("intervene", "night-1", "--reason", "x"), "--set: missing"),
        (("approve", "night-1/resume-00000039", "--reason", "a\nb"), "use one line"),
        (("approve", "../night-1/x", "--reason", "x"), "run not found"),
    ],
)
def test_bad_input_is_one_error_with_status_2(ended, words, message):
    """No file of the log, of the ledger or of the requests changes."""
    before = _read_recorded(ended)
    printed = command(ended, *words, status=2)
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert printed.rstrip("\n").isprintable()
    assert _read_recorded(ended) == before


def _read_recorded(folder):
    """Return the bytes of all files of the ledger, the log and the requests by path."""
    parts = [folder / "runs" / LEDGER, *(folder / "runs/night-1" / name for name in ("log", "requests"))]
    files = [path for part in parts for path in part.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files if path.name != "lock"}


def test_hung_run_is_not_waited_for_longer_than_asked(ended):
    """A locked log whose loop does not read leaves the request for its next step."""
    from filelock import FileLock

    folder = RunFolder(ended / "runs", "night-1")
    with FileLock(str(folder.log_dir(1, 0) / "lock")):
        printed = command(ended, "stop", "night-1", "--reason", "x", "--wait", "0.2", status=1)
        assert "has not read the request yet" in printed
    [file] = os.listdir(folder.path / "requests")
    (folder.path / "requests" / file).unlink()


def test_waiver_is_signed_in_the_ledger_and_written_into_the_record(tmp_path, monkeypatch):
    """The waiver covers the constraint until its date, and a second one replaces it."""
    monkeypatch.chdir(tmp_path)
    odr = tmp_path / "odr"
    template = run_odr("new", "Skip more", "--odr-dir", str(odr), "--owner", "alice").output.strip()
    assert template.endswith(".md")
    record = next(odr.glob("0001-*.md"))
    text = record.read_text()
    (tmp_path / "runs").mkdir()
    constraint = (
        "constraints:\n"
        "  - {id: C1, text: 'The loss is low', sql: 'select 1 as value', op: '<=', threshold: 0.5}\n"
    )
    head, _, tail = text.partition("\n---\n")
    lines = [line for line in head.splitlines() if not line.startswith(("constraints:", "  -"))]
    record.write_text("\n".join(lines) + "\n" + constraint + "---\n" + tail)
    words = ("waive", "1", "C1", "--odr-dir", str(odr), "--by", "alice")
    for until in ("2027-03-31", "2027-04-30"):
        command(tmp_path, *words, "--until", until, "--reason", "one seed runs")
    entries = _ledger_events(tmp_path)
    assert [entry["waived"] for entry in entries] == [["C1 until 2027-03-31"], ["C1 until 2027-04-30"]]
    assert {entry["odr_id"] for entry in entries} == {"ODR-0001"}
    from ockham.odr.record import read_record

    [waiver] = read_record(record).claims.waivers
    assert (waiver.constraint, waiver.until) == ("C1", "2027-04-30")
    missing = command(
        tmp_path, "waive", "1", "C9", *words[3:], "--until", "2027-01-01", "--reason", "x", status=2
    )
    assert "existing constraints: C1" in missing
    assert len(_ledger_events(tmp_path)) == 2


def test_key_of_another_person_needs_trust_key(tmp_path):
    """`--trust-key` is recorded in the first event."""
    key = str(load_or_create_signer().verifier)
    done = run_train(tmp_path, "--run", "a", "--set", "max_iters=3", "--trust-key", key)
    assert done.returncode == 0, done.stderr
    assert event_data("run.started", RunFolder(tmp_path / "runs", "a"))[0]["request_keys"] == [key]
    bad = run_train(tmp_path, "--run", "b", "--trust-key", "nonsense")
    assert bad.returncode == 2
    assert "not a verifier key" in bad.stderr


def test_stop_ends_two_ranks_after_the_same_step(tmp_path):
    """Two processes, as torchrun starts them. Rank 0 reads the request."""
    processes = start_ranks(tmp_path, 2, "--run", "two", "--set", "max_iters=100000")
    folder = RunFolder(tmp_path / "runs", "two")
    end = time.monotonic() + LIMIT_SECONDS
    while not all(is_locked(folder.log_dir(1, rank) / "lock") for rank in (0, 1)):
        assert time.monotonic() < end
        time.sleep(0.05)
    command(tmp_path, "stop", "two", "--reason", "enough", "--wait", str(LIMIT_SECONDS))
    for process in processes:
        process.join(LIMIT_SECONDS)
    assert [process.exitcode for process in processes] == [4, 4]
    lasts = [events(folder, 1, rank)[-1] for rank in (0, 1)]
    ends = [last["data"] for last in lasts]
    assert {last["type"] for last in lasts} == {"ockham.run.finished.v1"}
    assert {ended["reason_code"] for ended in ends} == {"STOPPED_BY_USER"}
    assert ends[0]["iter_num"] == ends[1]["iter_num"]
    assert "valid" in command(tmp_path, "verify", "two")
