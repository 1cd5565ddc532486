"""Pins: tree heads stored elsewhere, their parser, and their comparison with the run."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.merkle import EMPTY
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin, parse_pin, write_git_tag
from ockham.record.tlog.tree_head import TreeHead, checkpoint_body
from ockham.record.verify.pins import pinned_heads
from ockham.record.verify.report import VerificationReport
from tests.helpers.events import log_folder, run_folder


def sign_head(size=3, origin="ockham/runs/a/1-0", root=EMPTY):
    return load_or_create_signer().sign(checkpoint_body(origin, TreeHead(size, root)))


def pinned(folder, *pins):
    report = VerificationReport(folder.run_id)
    return pinned_heads(folder, pins, [load_or_create_signer().verifier], report), report.findings


def test_pin_contains_the_newest_head_of_each_log(tmp_path):
    """Logs without a head are skipped."""
    folder = log_folder(tmp_path)
    heads = [(folder.log_dir(1, 0) / "checkpoint").read_bytes(), sign_head(7, "ockham/runs/a/3-0")]
    for attempt in (2, 3):
        shutil.copytree(folder.log_dir(1, 0), folder.log_dir(attempt, 0))
    (folder.log_dir(2, 0) / "checkpoint").unlink()
    (folder.log_dir(3, 0) / "checkpoint").write_bytes(heads[1])
    assert make_pin(folder) == b"\n".join(heads)
    assert parse_pin(make_pin(folder)) == heads


def test_pin_of_a_run_without_a_head_is_an_error(tmp_path):
    """The error names the run."""
    with pytest.raises(UnverifiableError, match="run 'a' has no signed tree head yet"):
        make_pin(run_folder(tmp_path))
    with pytest.raises(Exception, match="no run 'b'"):
        make_pin(RunFolder(tmp_path, "b"))


def change_root(note):
    return note.replace(note.split(b"\n")[2], sign_head().split(b"\n")[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_root, "the signature of .* does not fit"),
        (lambda note: note[:-20], "each line ended"),
        (lambda note: b"\n", "empty, not a tree head"),
        (lambda note: sign_head(3, "ockham/runs/a/2-0"), "a tree head of another log: 'ockham/runs/a/2-0'"),
    ],
)
def test_pin_of_a_changed_head_is_refused(tmp_path, change, message):
    """Verify would refuse the pin later, when the original head may be lost."""
    folder = log_folder(tmp_path)
    keys = [load_or_create_signer().verifier]
    path = folder.log_dir(1, 0) / "checkpoint"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UnverifiableError, match=rf"1-0/checkpoint: .*{message}.*nothing was pinned"):
        make_pin(folder, keys)


def test_pin_contains_heads_of_unknown_keys_unchecked(tmp_path):
    """The run may be that of someone else, whose key the reader of the pin knows."""
    folder = log_folder(tmp_path)
    other_key = load_or_create_signer(tmp_path / "other").verifier
    assert make_pin(folder, [other_key]) == make_pin(folder) != b""


def test_pinned_heads_are_assigned_to_their_logs(tmp_path):
    """Order and empty lines do not matter."""
    folder = log_folder(tmp_path)
    shutil.copytree(folder.log_dir(1, 0), folder.log_dir(2, 1))
    other = sign_head(9, "ockham/runs/a/2-1")
    found, findings = pinned(folder, sign_head(3) + b"\n" + other + b"\n\n", sign_head(2))
    assert {log: [head.size for head in heads] for log, heads in found.items()} == {
        (1, 0): [3, 2],
        (2, 1): [9],
    }
    assert found[1, 0][0] == TreeHead(3, EMPTY)
    assert findings == []


def test_pinned_log_that_is_missing_is_tampering(tmp_path):
    """The finding has its location and number of events."""
    _, findings = pinned(log_folder(tmp_path), sign_head(9, "ockham/runs/a/2-0"))
    assert [(f.kind, f.place, f.message) for f in findings] == [
        ("tampering", "log/2-0", "9 events were pinned, and the whole log is gone")
    ]


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        (b"nothing\n", "not a pin signed by a known key: no note"),
        (b"a\n\nb\n", "not a pin signed by a known key"),
        (sign_head, r"this pin is of 'ockham/runs/b/1-0', and the run has: ockham/runs/a/1-0"),
    ],
)
def test_invalid_pin_is_bad_input(tmp_path, pin, expected):
    """It would prove nothing."""
    note = pin(3, "ockham/runs/b/1-0") if callable(pin) else pin
    with pytest.raises(BadInputError, match=expected):
        pinned(log_folder(tmp_path), note)


def test_pin_of_another_run_is_an_error_that_lists_the_logs(tmp_path):
    """All logs of this run are listed."""
    folder = log_folder(tmp_path)
    shutil.copytree(folder.log_dir(1, 0), folder.log_dir(2, 1))
    with pytest.raises(BadInputError, match=r"and the run has: ockham/runs/a/1-0, ockham/runs/a/2-1$"):
        pinned(folder, sign_head(3, "ockham/runs/ab/1-0"))


def test_pin_of_an_unknown_key_is_an_error(tmp_path):
    """It proves nothing."""
    folder, stranger = log_folder(tmp_path), load_or_create_signer(tmp_path / "stranger")
    note = stranger.sign(checkpoint_body("ockham/runs/a/1-0", TreeHead(3, EMPTY)))
    with pytest.raises(BadInputError, match="no known key has signed it"):
        pinned(folder, note)


def test_pin_survives_a_git_tag(tmp_path, monkeypatch):
    """A name that git refuses is an error."""
    folder = log_folder(tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    monkeypatch.chdir(repository)
    subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    write_git_tag("pins/a", make_pin(folder))
    words = ["git", "for-each-ref", "--format=%(contents)", "refs/tags/pins/a"]
    pin = subprocess.run(words, check=True, capture_output=True).stdout
    assert pin == make_pin(folder) + b"\n"
    found, _ = pinned(folder, pin)
    assert [head.size for head in found[1, 0]] == [26]
    with pytest.raises(BadInputError, match="git made no tag"):
        write_git_tag("pins/a", make_pin(folder))
    with pytest.raises(BadInputError, match="letters, digits"):
        write_git_tag("--delete", b"")


def test_missing_or_blocked_git_is_one_error(tmp_path, monkeypatch):
    """Both cases raise a BadInputError."""
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(BadInputError, match=r"git made no tag: .*No such file"):
            write_git_tag("pins/a", b"note")

    def hangs(command, **_):
        raise subprocess.TimeoutExpired(command, 20)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(BadInputError, match=r"git made no tag: .*timed out after 20 seconds"):
        write_git_tag("pins/a", b"note")


def test_git_error_text_is_shortened(monkeypatch):
    """Bytes can be invalid, and the wait is limited."""
    asked = {}

    def refuses(command, **kwargs):
        asked.update(kwargs)
        return subprocess.CompletedProcess(command, 128, b"", b"\xff" * 400 + b"\n")

    monkeypatch.setattr(subprocess, "run", refuses)
    with pytest.raises(BadInputError, match=r"^git made no tag 'pins/a': \ufffd{300}$"):
        write_git_tag("pins/a", b"note")
    assert (asked["input"], asked["timeout"]) == (b"note", 20)


@pytest.mark.parametrize("name", ["", "-d", "a b", "a..b", "/a", "x" * 201, "a\nb", "é"])
def test_invalid_tag_name_is_refused_before_git_runs(name):
    """Some names are options or leave the tag folder."""
    with pytest.raises(BadInputError, match=r"--git-tag .*letters, digits"):
        write_git_tag(name, b"note")
