"""Fixtures for all tests. Tests use a signing key of the session and no settings of the user."""

from __future__ import annotations

import os

import hypothesis
import pytest

# Hypothesis uses the same examples in every run, and no deadline, because a shared machine can be slow.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory):
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OCKHAM_")}
    os.environ["OCKHAM_KEY_DIR"] = str(tmp_path_factory.mktemp("keys"))
    os.environ["OCKHAM_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("OCKHAM_KEY_DIR")
    os.environ.pop("OCKHAM_CACHE_DIR")
    os.environ.update(kept)


@pytest.fixture
def written(tmp_path):
    """Function that writes a policy file and returns its path."""

    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
