"""run.json: metadata of user, code and machine, and null for unknown values."""

from __future__ import annotations

import getpass
import os
import subprocess

import pytest

from ockham.record import run_metadata
from ockham.record.run_metadata import git_state

ASKED = {"settings": {"batch_size": 4, "gain": float("inf")}, "facts": {"seed": 7}, "data": {"name": "d"}}


def metadata():
    return run_metadata.build_run_metadata(
        "a", 1_700_000_000_000_000_000, **ASKED, policy_revision="sha256:" + "0" * 64
    )


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "a")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@example.org")
    (tmp_path / "file").write_text("1")
    for words in ("init -q", "add file", "commit -qm first"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    return tmp_path


def test_git_state_has_commit_and_changed_flag(checkout):
    """Untracked files do not count as changes."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, check=True, capture_output=True, text=True
    ).stdout.strip()
    (checkout / "new").write_text("")
    assert git_state(checkout) == {"commit": commit, "changed": False}
    (checkout / "file").write_text("2")
    assert git_state(checkout) == {"commit": commit, "changed": True}


def test_git_state_outside_of_a_checkout_is_none(checkout, tmp_path_factory, monkeypatch):
    """The same holds without git."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(elsewhere.parent))
    assert git_state(elsewhere) is None
    monkeypatch.setenv("PATH", str(elsewhere))
    assert git_state(checkout) is None


def test_git_timeout_does_not_block_a_run(checkout, monkeypatch):
    """The run starts without a git state."""

    def hangs(command, **_):
        raise subprocess.TimeoutExpired(command, 5)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert git_state(checkout) is None


def test_user_without_a_name_is_a_number(monkeypatch):
    """Containers can have such users."""

    def nameless():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert metadata()["user"] == str(os.getuid())


def test_only_listed_variables_are_recorded(monkeypatch):
    """No secret gets into the record."""
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr(run_metadata, "PACKAGES", ("orjson", "no-such-package"))
    found = metadata()
    assert found["environment"]["RANK"] == "3"
    assert set(found["environment"]) <= set(run_metadata.ENVIRONMENT)
    assert list(found["packages"]) == ["orjson"]
    assert found["settings"] == {"batch_size": 4, "gain": "Infinity"}
    assert found["created"].startswith("2023-11-14T22:13:20")
