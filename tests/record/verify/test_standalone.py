"""The single-file verifier, imported as a module: each check has a line that names the problem."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import sys
import zipfile

import orjson
import pytest

from ockham.record import attempt
from ockham.record.checkpoints import find_resume_point
from ockham.record.durable_io import atomic_write
from ockham.record.evidence_archive import write_archive
from ockham.record.log_writer import LogWriter
from ockham.record.payloads import StateRecord
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import TreeHead, checkpoint_body
from ockham.record.verify import archive_reader, standalone
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers.events import run_folder
from tests.helpers.runs import make_run

LOG = "log/1-0/000000000000.jsonl"
SECOND = "log/1-0/000000000030.jsonl"
HEADS = "log/1-0/checkpoints"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive of a run with two attempts and several segments."""
    folder = tmp_path_factory.mktemp("standalone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "LogWriter", functools.partial(LogWriter, segment_events=30))
        patch.setattr(attempt.Attempt, "_derive_in_background", lambda *_: None)
        run = make_run(folder / "runs", batches=30)
        start = find_resume_point(folder / "runs", "a")
        with Run(runs=folder / "runs", run_id="a", resumed=start, data=start.data) as again:
            again.end_batch(again.start_batch(0, 3.0))
    write_archive(run.folder, folder / "a.zip")
    return folder / "a.zip"


@pytest.fixture
def files(archive):
    return standalone.load(archive)


def known_key():
    return standalone.parse_key(str(load_or_create_signer().verifier))


@pytest.fixture
def judged(capsys):
    """Return exit status and output lines for files in memory."""

    def judge(files, run_id="a"):
        status = standalone.verify_archive(files, run_id, known_key(), known=True)
        return status, capsys.readouterr().out.splitlines()

    return judge


@pytest.fixture
def called(capsys, monkeypatch):
    """Return exit status, stdout and stderr of a command line."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["verify.py", *map(str, words)])
        status = standalone.main()
        return status, *capsys.readouterr()

    return call


def finds(judged, files, *message):
    status, lines = judged(files)
    assert status == 1
    for words in message:
        assert any(words in line for line in lines), (words, lines)


def line_changed(data, at, **metadata):
    """Return the segment with changed data of one event."""
    found = data.splitlines(keepends=True)
    event = orjson.loads(found[at])
    event["data"].update(metadata)
    found[at] = orjson.dumps(event) + b"\n"
    return b"".join(found)


def sign_again(files, name, data):
    """Return the files with another first segment of log 1-0 that the key holder has signed."""
    others = {path: each for path, each in files.items() if not path.startswith("log/1-0/")}
    lines = data.splitlines()
    note = signed(len(lines), standalone.roots_at_sizes(lines, set())[len(lines)])
    return {**others, name: data, HEADS: note, "log/1-0/checkpoint": note[:-1]}


def signed(size, root=bytes(32), origin="ockham/runs/a/1-0"):
    return load_or_create_signer().sign(checkpoint_body(origin, TreeHead(size, root))) + b"\n"


def test_standalone_accepts_a_run_of_two_attempts(archive, called, judged, files):
    """Without a known key it prints a note."""
    assert called(archive, "--key", load_or_create_signer().verifier)[0] == 0
    status, out, _ = called(archive)
    assert (status, out.splitlines()[-1]) == (0, "sound")
    assert "run's own word" in out
    assert judged(files)[1][-1] == "sound"
    assert sum(name.endswith(".jsonl") for name in files) > 3


@pytest.mark.parametrize("name", [LOG, HEADS, "log/1-0/checkpoint", "log/1-0/tile", "run.json", "policies"])
def test_standalone_reports_one_changed_byte(judged, files, name):
    """In the log, a signature, run.json or a policy."""
    name = next(one for one in sorted(files) if one.startswith(name))
    data = bytearray(files[name])
    at = len(data) // 2
    data[at] ^= 1
    assert judged({**files, name: bytes(data)})[0] == 1


def test_standalone_trusts_the_given_key_only(archive, called):
    """Another key signed nothing."""
    other = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    status, out, _ = called(archive, "--key", other)
    assert status == 1
    assert "no signed tree head of the given key" in out
    assert "a tree head that the given key has not signed" in out


@pytest.mark.parametrize(
    "key", ["x", "a+b+c", "a+00000000+AAAA", "n+00000000+" + "A" * 43 + "B", "p+c74f20a3+AA=="]
)
def test_standalone_rejects_invalid_keys(archive, called, key):
    """One line names the option."""
    status, _, err = called(archive, "--key", key)
    assert status == 2
    assert err == "verify: --key is no verifier key, name+8 hex digits+base64\n"


@pytest.mark.parametrize("name", [LOG, HEADS, "run.json"])
@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"[" * 100_000 + b"\n", b"\xff\xfe\n", b"{}\n", b"x\n\ny\n\n", b'{"data":[]}\n']
)
def test_standalone_exits_0_1_or_2_on_any_input(tmp_path, archive, called, name, data):
    """Truncated, empty, nested and non-UTF-8 files."""
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(tmp_path / "odd.zip", "w") as odd:
        for each in whole.namelist():
            odd.writestr(each, data if each == name else whole.read(each))
    # Without a complete note in the history, `checkpoint` signs the lines.
    sound = (0,) if name == HEADS and data and b"\n\ny" not in data else ()
    assert called(tmp_path / "odd.zip", "--key", load_or_create_signer().verifier)[0] in (1, 2, *sound)


def test_standalone_rejects_files_that_are_not_archives(tmp_path, archive, called, monkeypatch):
    """Missing, duplicate names, too large."""
    (tmp_path / "text.zip").write_bytes(b"no archive")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as two:
        two.writestr("run.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            two.writestr("run.json", b"[]")
    for name, message in (
        ("none.zip", "FileNotFound"),
        ("text.zip", "BadZipFile"),
        ("two.zip", "two files of one name"),
    ):
        status, _, err = called(tmp_path / name)
        assert (status, message in err) == (2, True), err
    monkeypatch.setattr(archive_reader, "MAX_BYTES", 1_000)
    assert "larger than this verifier reads" in called(archive)[2]


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "log/../../x",
        "/x",
        "C:\\x",
        "log\\..\\x",
        "log/\x1b[31m",
        "log/a\nsound",
        "..",
        "x/..",
        "./x",
        "\u202e",
    ],
)
def test_standalone_rejects_unknown_names_in_archives(tmp_path, called, name):
    """They could write outside of the folder."""
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as odd:
        odd.writestr("run.json", b"{}")
        odd.writestr(name, b"")
    status, out, err = called(tmp_path / "odd.zip")
    assert (status, out) == (2, "")
    assert "which no run gives" in err
    assert err.strip().isprintable()


def test_standalone_accepts_every_name_of_an_archive(files):
    """Tiles, policies and schemas."""
    assert all(archive_reader.NAME.fullmatch(name) for name in files)


def test_standalone_escapes_text_in_findings(judged, files):
    """An event cannot print a line `sound`."""
    evil = "sha256:x\nsound\x1b[2J\u202e"
    files = sign_again(files, LOG, line_changed(files[LOG], 5, policy_revision=evil))
    files[HEADS] += signed(3, origin="ockham/runs/\u202e/1-0")
    status, lines = judged(files)
    assert status == 1
    assert any("x\\nsound" in line for line in lines)
    assert "sound" not in lines
    assert all(line.isprintable() and line.isascii() for line in lines)


def test_standalone_rejects_lines_over_the_maximum(judged, files):
    """No writer writes them."""
    files = sign_again(files, LOG, line_changed(files[LOG], 5, ext={"x": "y" * 70_000}))
    finds(judged, files, "event 5 is not an event")


def test_standalone_limits_the_printed_findings(judged, files):
    """A segment of newlines has many."""
    status, lines = judged(sign_again(files, LOG, b"\n" * 5_000))
    assert status == 1
    assert len(lines) < standalone.MAX_FINDINGS + 20
    assert lines[-1].startswith("and ")


def test_standalone_reports_a_folder_without_a_log(tmp_path, files, called):
    """Links are not followed."""
    (tmp_path / "run.json").write_bytes(files["run.json"])
    (tmp_path / "log").symlink_to("/etc")
    status, out, _ = called(tmp_path)
    assert (status, out.splitlines()[-1]) == (3, "no log in it")


@pytest.mark.parametrize("removed", ["lines", "heads too", "all"])
def test_run_killed_before_its_first_head_is_sound_for_both_verifiers(tmp_path, called, removed):
    """Folder, archive and unpacked archive have one log with 0 events."""
    folder = run_folder(tmp_path / "runs")
    about = {"run_id": "a", "verifier_key": str(load_or_create_signer().verifier)}
    folder.run_json.write_bytes(orjson.dumps(about))
    LogWriter(folder, 1, 0, policy_revision="").close()
    for path in folder.log_dir(1, 0).iterdir():
        if removed == "all" or path.suffix == ".jsonl" or (removed == "heads too" and path.name != "lock"):
            path.unlink()
    write_archive(folder, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "again" / "a")
    for place in (folder.path, tmp_path / "a.zip", tmp_path / "again" / "a"):
        status, out, _ = called(place, "--key", load_or_create_signer().verifier)
        assert (status, out.splitlines()[-1]) == (0, "sound"), place
        assert "log 1-0: 0 events, signed to 0" in out
    for runs in (tmp_path / "runs", tmp_path / "again"):
        report = verify_run(RunFolder(runs, "a"), keys=[load_or_create_signer().verifier])
        assert (report.sound, [log.events for log in report.logs]) == (True, [0])


def test_standalone_reports_misplaced_lines(judged, files):
    """Duplicate key, another position, not an event."""
    odd = files[LOG].splitlines(keepends=True)
    odd[4] = odd[4][:-2] + b',"specversion":"1.0"}\n'
    odd[5] = b"[]\n"
    finds(
        judged,
        sign_again(files, LOG, b"".join(odd)),
        "corruption: log 1-0: event 4 is not an event, or has a duplicate key",
        "event 5 is not an event",
    )
    heads = files["log/1-0/checkpoints"].split(b"\n\nockham/")
    first = min(size for size in (int(head.split(b"\n")[1]) for head in heads) if size > 4)
    finds(judged, {**files, LOG: b"".join(odd)}, f"tampering: log 1-0: the first {first} events differ")
    other = sign_again(files, LOG, line_changed(files[LOG], 6, rank=1))
    finds(judged, other, "tampering: log 1-0: event 6 names another position")
    finds(judged, sign_again(files, LOG, b"[]\n"), "log 1-0: event 0 is not an event")


def test_standalone_reports_segments_that_do_not_follow(judged, files):
    """Bytes at the very end are a note."""
    finds(
        judged,
        {**files, LOG: files[LOG][: files[LOG].rindex(b"\n", 0, -1) + 1]},
        f"{SECOND} begins elsewhere",
    )
    finds(judged, {**files, LOG: files[LOG] + b"torn"}, "ends in 4 bytes that are not a line")
    last = max(name for name in files if name.startswith("log/2-0/") and name.endswith(".jsonl"))
    status, lines = judged({**files, last: files[last] + b"torn"})
    assert (status, lines[-1]) == (0, "sound")
    assert any(line.startswith("note: crash tail:") and "ends in 4 bytes" in line for line in lines)


def test_standalone_reports_wrong_tree_heads(judged, files):
    """Another log, two of one size, too large, unsigned, put back."""
    for added, message in (
        (signed(3, origin="ockham/runs/b/1-0"), "a tree head of another log: ockham/runs/b/1-0"),
        (signed(1) + signed(1, b"\1" * 32), "two tree heads of size 1 with different roots"),
        (signed(1), "the first 1 events differ from the signed ones"),
        (signed(10_000), "10000 events were signed, but"),
        (signed(1).replace(b"\n1\n", b"\n2\n"), "a tree head whose signature does not fit"),
        (b"a\n1\nA\n\n" + "\u2014 a b\n\n".encode(), "a tree head that the given key has not signed"),
    ):
        finds(judged, {**files, HEADS: files[HEADS] + added}, message)
    finds(judged, {**files, HEADS: b""}, "tampering: log 1-0: only one of `checkpoint` and")
    alone = {name: data for name, data in files.items() if not name.startswith("log/1-0/checkpoint")}
    finds(judged, alone, "unsigned: log 1-0: no signed tree head")


def test_standalone_accepts_one_text_per_signature(judged, files):
    """Spare bits of base64 are checked."""
    start, _, rest = files[HEADS].rpartition(b"=")
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = letters[letters.index(start[-1]) ^ 1 :][:1]
    text = start.rpartition(b" ")[2]
    assert base64.b64decode(text + b"=") == base64.b64decode(text[:-1] + other + b"=")
    finds(judged, {**files, HEADS: start[:-1] + other + b"=" + rest}, "has not signed")


def test_standalone_compares_files_with_events(judged, files):
    """Policies, run.json and tiles."""
    policy = next(name for name in files if name.startswith("policies/"))
    tile = next(name for name in files if "/tile/" in name)
    finds(judged, {**files, policy: b"{}"}, "which is missing or another one")
    finds(judged, {name: data for name, data in files.items() if name != policy}, "names policies/")
    finds(judged, {**files, "run.json": b"{}"}, "names run.json, which is missing or another one")
    finds(judged, {**files, tile: files[tile][:-1] + b"x"}, f"{tile} does not hold the hashes")
    finds(judged, {**files, "log/1-0/tile/9/000": b""}, "tile/9/000 does not hold the hashes")
    assert judged({**files, "log/1-0/tile/0/.000.tmp": b""})[0] == 0


def test_standalone_compares_a_resume_with_the_previous_log(judged, files):
    """A missing rank is reported."""
    first = sorted(name for name in files if name.startswith("log/1-0/") and name.endswith(".jsonl"))
    others = {name: data for name, data in files.items() if not name.startswith("log/1-0/")}
    finds(judged, others, "tampering: log 2-0: was resumed from another log")
    shorter = {**files, first[-1]: b"".join(files[first[-1]].splitlines(keepends=True)[:-1])}
    finds(judged, shorter, "tampering: log 2-0: was resumed from another log")
    changed = sign_again(files, LOG, line_changed(files[LOG], 0, world_size=2))
    finds(judged, changed, "log 1-0: the log of rank 1, which began with it, is not here")


def test_standalone_compares_state_blobs_with_their_digest(tmp_path, judged):
    """Large states are in blobs."""
    folder = run_folder(tmp_path, "b")
    revision = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
    atomic_write(folder.policy(revision), b"{}")
    writer = LogWriter(folder, 1, 0, policy_revision=revision)
    state = {"gate": {"history": [i + 0.123456789 for i in range(3000)]}}
    writer.append("plugin_state.recorded", StateRecord(0, 0, "START", state), iter_num=0)
    writer.close()
    files = standalone.load(folder.path)
    blob = next(name for name in files if name.startswith("blobs/"))
    assert judged(files, "b")[1][-1] == "sound"
    for odd in ({**files, blob: b"{}"}, {name: data for name, data in files.items() if name != blob}):
        status, lines = judged(odd, "b")
        assert status == 1
        assert f"event 0 names {blob}, which is missing or another one" in lines[-1]


@pytest.mark.parametrize("kind", ["log.halted", "log.gap"])
def test_standalone_reports_recorded_losses(tmp_path, judged, kind):
    """As `ockham verify` does."""
    metadata = {
        "log.halted": {"message": "full", "lost_events": 7},
        "log.gap": {"from_attempt": 1, "from_sequence": 9, "count": 7},
    }
    with Run("observe", runs=tmp_path, run_id="a") as run:
        run.emit(kind, {"reason_code": "ENOSPC", **metadata[kind]})
    write_archive(run.folder, tmp_path / "a.zip")
    status, message = judged(standalone.load(tmp_path / "a.zip"))
    assert status == 1
    assert any("records missing events: 'ENOSPC'" in line for line in message)
    assert not verify_run(run.folder).sound


@pytest.mark.parametrize(
    "name", ["log/1-0/notes.txt", "results.csv", "policies/mine.yaml", "schemas/a/b.json", "log/readme"]
)
def test_standalone_reports_files_that_no_signature_covers(files, judged, name):
    """`sound` does not include them."""
    assert judged(files)[1][-1] == "sound"
    assert not [line for line in judged(files)[1] if "foreign" in line]
    status, metadata = judged({**files, name: b"x"})
    assert (status, metadata[-1]) == (0, "sound")
    assert metadata[-2] == f"note: foreign: {name!a} is named by no signed event (1 in all)"


@pytest.fixture
def resume(files):
    """Return the names of the files of log 2-0, and the lines of its only segment."""
    names = [name for name in files if name.startswith("log/2-0/")]
    segment = next(name for name in names if name.endswith(".jsonl"))
    return names, segment, files[segment].splitlines(keepends=True)


def forge_line(line, sequence, kind, **data):
    event = orjson.loads(line)
    event["type"] = f"ockham.{kind}.v1"
    event["data"] |= {"sequence": sequence, **data}
    return orjson.dumps(event) + b"\n"


def test_standalone_reports_an_attempt_whose_segments_are_gone(judged, files, resume):
    """Its tree heads are evidence that the lines existed. The message gives the whole loss."""
    _, segment, lines = resume
    finds(
        judged,
        {name: data for name, data in files.items() if name != segment},
        f"tampering: log 2-0: {len(lines)} events were signed, but 0 exist: {len(lines)} are missing",
    )
    first = {name: data for name, data in files.items() if not re.fullmatch(r"log/1-0/.*\.jsonl", name)}
    count = sum(data.count(b"\n") for name, data in files.items() if re.fullmatch(r"log/1-0/.*\.jsonl", name))
    finds(judged, first, f"tampering: log 1-0: {count} events were signed, but 0 exist")


def test_standalone_accepts_a_log_without_a_line_and_a_head(judged, files, resume):
    """A process killed before its first line leaves it."""
    names, segment, _ = resume
    killed = {name: data for name, data in files.items() if name not in names}
    status, message = judged({**killed, segment: b"", "log/2-0/reserve": b"0"})
    assert (status, message[-1]) == (0, "sound")
    assert message[-2].startswith("log 2-0: 0 events, signed to 0")


def test_standalone_counts_unsigned_lines_and_ignores_them(judged, files, resume):
    """They are not parsed, and change no other result."""
    _, segment, lines = resume
    notes = files["log/2-0/checkpoints"].split(b"\n\n")
    short = {**files, "log/2-0/checkpoints": b"\n\n".join(notes[:2]) + b"\n\n"}
    short["log/2-0/checkpoint"] = b"\n\n".join(notes[:2]) + b"\n"
    short = {name: data for name, data in short.items() if not name.startswith("log/2-0/tile")}
    signed_lines = int(notes[0].split(b"\n")[1])
    short[segment] = b"".join(lines[: signed_lines + 1])
    for line in (lines[signed_lines], b"not an event\n", b"[" * 9_000 + b"\n"):
        short[segment] = b"".join(lines[:signed_lines]) + line
        status, message = judged(short)
        assert (status, message[-1]) == (0, "sound")
        assert f"note: not signed: log 2-0: 1 lines after event {signed_lines} are not evidence" in message


@pytest.mark.parametrize("line", [b"", b"not an event\n", b'{"type":"ockham.log.sealed.v1"}\n', b"[]\n"])
def test_standalone_reports_unsigned_lines_after_the_signed_end(judged, files, resume, line):
    """Only log.sealed can follow run.finished."""
    _, segment, lines = resume
    added = line or forge_line(lines[-1], len(lines), "evaluation.recorded", val_loss=0.1)
    message = "tampering: log 2-0: 1 unsigned lines after the signed run.finished"
    finds(judged, {**files, segment: files[segment] + added}, message)
    sealed = forge_line(lines[-1], len(lines), "log.sealed")
    assert judged({**files, segment: files[segment] + sealed})[0] == 0


def test_standalone_reports_signed_events_after_the_end(judged, files):
    """A thief of the key can append them; they contradict the end."""
    _, last = sorted(name for name in files if re.fullmatch(r"log/1-0/.*\.jsonl", name))[-2:]
    lines = files[last].splitlines(keepends=True)
    for kind, wrong in (("evaluation.recorded", 1), ("run.finished", 1), ("log.sealed", 0)):
        end = forge_line(lines[-1], 0, "run.finished") + forge_line(lines[-1], 1, kind)
        one = {name: data for name, data in files.items() if not name.startswith("log/2-0/")}
        status, message = judged(sign_again(one, LOG, end))
        assert (status, any("contradiction: log 1-0: 1 events after" in line for line in message)) == (
            wrong,
            wrong,
        )


@pytest.mark.parametrize(
    ("size", "root", "wrong"),
    [(2, None, False), (0, None, False), (2, "00" * 32, True), (9, "00" * 32, True)],
)
def test_standalone_compares_the_end_with_the_logs_of_all_ranks(judged, files, size, root, wrong):
    """run.finished names size and root of the log of each rank."""
    lines = files[LOG].splitlines()[:2]
    root = root or standalone.roots_at_sizes(lines[:size], set())[size].hex()
    one = {name: data for name, data in files.items() if not name.startswith("log/2-0/")}
    ends = [{"rank": 0, "size": size, "root": root}]
    end = forge_line(lines[1], 2, "run.finished", rank_logs=ends)
    status, message = judged(sign_again(one, LOG, b"\n".join([*lines, end])))
    assert (status, "contradiction: log 1-0: run.finished names" in message[-1]) == (int(wrong), wrong)


def test_standalone_lists_policies_and_blobs_that_no_signed_event_names(judged, files):
    """They do not make a run unsound, because a crash can leave them."""
    planted = {f"policies/{'a' * 64}.json": b"{}", f"blobs/{'b' * 64}": b"{}"}
    status, message = judged({**files, **planted})
    assert (status, message[-1]) == (0, "sound")
    assert message[-2] == f"note: foreign: 'blobs/{'b' * 64}' is named by no signed event (2 in all)"


def test_standalone_accepts_a_torn_history_and_an_older_newest_head(judged, files):
    """A crash or a copy made while the run is written leaves both. All heads are compared."""
    notes = files[HEADS].split(b"\n\n")
    torn = b"\n\n".join(notes[-3:-1])[:-9]
    assert judged({**files, HEADS: files[HEADS] + torn})[0] == 0
    assert judged({**files, HEADS: files[HEADS] + torn[:5] + bytes(9)})[0] == 0
    for other in (b"x", b"x\n", b"x\n\ny"):
        assert judged({**files, HEADS: files[HEADS] + other})[0] == 1, other
    before = b"\n\n".join(notes[-5:-3]) + b"\n"
    assert judged({**files, "log/1-0/checkpoint": before})[0] == 0
    older = b"\n\n".join(notes[-7:-5]) + b"\n"
    assert judged({**files, "log/1-0/checkpoint": older})[0] == 0
    del files["log/1-0/checkpoint"]
    finds(judged, files, "tampering: log 1-0: only one of `checkpoint` and")


def test_standalone_compares_the_checkpoints_of_a_run_folder(tmp_path, judged):
    """An archive has none; then their number is printed."""
    run = make_run(tmp_path, batches=120)
    files = standalone.load(run.folder.path)
    saved = [name for name in files if name.startswith("checkpoints/")]
    assert saved
    status, message = judged(files)
    assert (status, message[-1]) == (0, "sound")
    assert f"checkpoints that signed events name: {len(saved)}, of them pruned: 0" in message
    finds(judged, {**files, saved[0]: b"other"}, "checkpoint: log 1-0: event")
    assert judged({name: data for name, data in files.items() if name not in saved})[0] == 0


def test_standalone_reports_removed_tree_heads_of_a_resumed_log(judged, files):
    """The resume names more events than the rest of the heads sign."""
    note = signed(0, hashlib.sha256(b"").digest())
    kept = {name: data for name, data in files.items() if not name.startswith("log/1-0/tile/")}
    finds(judged, kept | {HEADS: note, "log/1-0/checkpoint": note[:-1]}, "unsigned: log 2-0: tree heads of")
