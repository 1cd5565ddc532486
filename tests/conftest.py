"""Every test signs with a key of its own session and reads no setting of the user's."""

from __future__ import annotations

import os

import hypothesis
import pytest

# The same examples every time, and no clock: a shared machine may take a second for what took a millisecond.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory):
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OCKHAM_")}
    os.environ["OCKHAM_KEY_DIR"] = str(tmp_path_factory.mktemp("keys"))
    yield
    os.environ.pop("OCKHAM_KEY_DIR")
    os.environ.update(kept)


@pytest.fixture
def written(tmp_path):
    """Writes a policy file and gives its path."""

    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
