"""Pins: what is kept elsewhere, read again, and held to the run that it is of."""

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


def head_of(size=3, origin="ockham/runs/a/1-0", root=EMPTY):
    return load_or_create_signer().sign(checkpoint_body(origin, TreeHead(size, root)))


def pinned(folder, *pins):
    report = VerificationReport(folder.run_id)
    return pinned_heads(folder, pins, [load_or_create_signer().verifier], report), report.findings


def test_the_newest_head_of_each_log_with_one(tmp_path):
    """One after the other with an empty line between; a log without a head is passed over."""
    folder = log_folder(tmp_path)
    heads = [(folder.log_dir(1, 0) / "checkpoint").read_bytes(), head_of(7, "ockham/runs/a/3-0")]
    for attempt in (2, 3):
        shutil.copytree(folder.log_dir(1, 0), folder.log_dir(attempt, 0))
    (folder.log_dir(2, 0) / "checkpoint").unlink()
    (folder.log_dir(3, 0) / "checkpoint").write_bytes(heads[1])
    assert make_pin(folder) == b"\n".join(heads)
    assert parse_pin(make_pin(folder)) == heads


def test_a_run_without_a_head_has_nothing_to_pin(tmp_path):
    """Said by name."""
    with pytest.raises(UnverifiableError, match="run 'a' has no signed tree head yet"):
        make_pin(run_folder(tmp_path))
    with pytest.raises(Exception, match="no run 'b'"):
        make_pin(RunFolder(tmp_path, "b"))


def test_each_head_is_of_its_log(tmp_path):
    """All that are pinned of one log count, whatever order they come in; empty lines around them are git's."""
    folder = log_folder(tmp_path)
    shutil.copytree(folder.log_dir(1, 0), folder.log_dir(2, 1))
    other = head_of(9, "ockham/runs/a/2-1")
    found, findings = pinned(folder, head_of(3) + b"\n" + other + b"\n\n", head_of(2))
    assert {log: [head.size for head in heads] for log, heads in found.items()} == {
        (1, 0): [3, 2],
        (2, 1): [9],
    }
    assert found[1, 0][0] == TreeHead(3, EMPTY)
    assert findings == []


def test_a_pinned_log_that_is_gone(tmp_path):
    """Tampering, with its place and the number of events."""
    _, findings = pinned(log_folder(tmp_path), head_of(9, "ockham/runs/a/2-0"))
    assert [(f.kind, f.place, f.message) for f in findings] == [
        ("tampering", "log/2-0", "9 events were pinned, and the whole log is gone")
    ]


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        (b"nothing\n", "no signed tree head of a known key: no note"),
        (b"a\n\nb\n", "no signed tree head of a known key"),
        (head_of, r"this pin is of 'ockham/runs/b/1-0', and the run has: ockham/runs/a/1-0"),
    ],
)
def test_what_is_no_pin_of_this_run(tmp_path, pin, said):
    """Bad input: it would prove nothing."""
    note = pin(3, "ockham/runs/b/1-0") if callable(pin) else pin
    with pytest.raises(BadInputError, match=said):
        pinned(log_folder(tmp_path), note)


def test_a_pin_of_another_run_is_answered_with_the_logs_of_this_one(tmp_path):
    """All of them."""
    folder = log_folder(tmp_path)
    shutil.copytree(folder.log_dir(1, 0), folder.log_dir(2, 1))
    with pytest.raises(BadInputError, match=r"and the run has: ockham/runs/a/1-0, ockham/runs/a/2-1$"):
        pinned(folder, head_of(3, "ockham/runs/ab/1-0"))


def test_a_pin_of_an_unknown_key(tmp_path):
    """Is nobody's word."""
    folder, stranger = log_folder(tmp_path), load_or_create_signer(tmp_path / "stranger")
    note = stranger.sign(checkpoint_body("ockham/runs/a/1-0", TreeHead(3, EMPTY)))
    with pytest.raises(BadInputError, match="no known key has signed it"):
        pinned(folder, note)


def test_a_pin_comes_back_from_a_tag(tmp_path, monkeypatch):
    """What git prints of the tag is a pin; a name that git refuses is refused."""
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


def test_git_that_is_not_there_or_hangs(tmp_path, monkeypatch):
    """One line, no traceback."""
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(BadInputError, match=r"git made no tag: .*No such file"):
            write_git_tag("pins/a", b"note")

    def hangs(command, **_):
        raise subprocess.TimeoutExpired(command, 20)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(BadInputError, match=r"git made no tag: .*timed out after 20 seconds"):
        write_git_tag("pins/a", b"note")


def test_what_git_says_is_told_in_short(monkeypatch):
    """Whatever bytes it says it in; and it is not waited for for ever."""
    asked = {}

    def refuses(command, **kwargs):
        asked.update(kwargs)
        return subprocess.CompletedProcess(command, 128, b"", b"\xff" * 400 + b"\n")

    monkeypatch.setattr(subprocess, "run", refuses)
    with pytest.raises(BadInputError, match=r"^git made no tag 'pins/a': \ufffd{300}$"):
        write_git_tag("pins/a", b"note")
    assert (asked["input"], asked["timeout"]) == (b"note", 20)


@pytest.mark.parametrize("name", ["", "-d", "a b", "a..b", "/a", "x" * 201, "a\nb", "é"])
def test_names_that_are_no_tag(name):
    """Refused before git sees them: some are options, some leave the place of tags."""
    with pytest.raises(BadInputError, match=r"--git-tag .*letters, digits"):
        write_git_tag(name, b"note")
