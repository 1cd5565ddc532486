"""The pre-commit hook of docs/decide.md, in a temporary repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ockham import resources

ROOT = resources.data_root()
SNIPPET = re.compile(r"```yaml\n(- repo: local\n.*?)```", re.DOTALL)
RECORD = "0001-the-log-is-the-record.md"


def read(text):
    return YAML(typ="safe").load(text)


@pytest.fixture
def snippet():
    (found,) = SNIPPET.findall((ROOT / "docs" / "decide.md").read_text(encoding="utf-8"))
    return found


def test_local_and_shipped_hook_are_equal(snippet):
    """The docs and the repository define one hook."""
    (local,) = read(snippet)[0]["hooks"]
    (offered,) = read((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    for key in ("id", "name", "entry", "files", "pass_filenames"):
        assert local[key] == offered[key]


@pytest.fixture
def commit(tmp_path, snippet):
    """Function that commits files with the hook installed, and returns the output of git and the hook."""
    pytest.importorskip("pre_commit", reason="pre-commit is not installed")
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PRE_COMMIT_HOME": str(tmp_path / "home"),
        **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    place = tmp_path / "repository"
    place.mkdir()

    def run(*words):
        return subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, timeout=60)

    def committed(**files):
        for name, text in {f.replace("__", "/"): text for f, text in files.items()}.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(text, encoding="utf-8")
        run("git", "add", ".")
        return run("git", "commit", "-m", "one")

    run("git", "init", "-q", ".")
    (place / ".pre-commit-config.yaml").write_text("repos:\n" + snippet, encoding="utf-8")
    installed = run(sys.executable, "-m", "pre_commit", "install")
    assert installed.returncode == 0, installed.stderr
    return committed


def test_broken_record_blocks_the_commit(commit):
    """The location and code are printed."""
    good = (ROOT / "odr" / RECORD).read_text(encoding="utf-8")
    done = commit(**{f"odr__{RECORD}": good})
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"ockham odr lint\.+Passed", done.stderr)
    broken = commit(
        **{f"odr__{RECORD}": good.replace("an audit has to rest", "").replace("Problem", "Porblem")}
    )
    assert broken.returncode == 1
    assert re.search(rf"odr/{RECORD}:\d+:\d+: ODR\d+", broken.stderr + broken.stdout)


def test_hook_runs_for_records_only(commit):
    """Other files do not start it."""
    done = commit(readme="no record")
    assert done.returncode == 0
    assert "(no files to check)Skipped" in done.stderr
