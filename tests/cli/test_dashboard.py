"""`ockham dashboard`: what the server gets from the command line."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import BadInputError
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from tests.helpers.runs import make_run


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Function that runs the command, and returns its result and the environment of the server."""

    def run(*words):
        environments = []
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(os, "execve", lambda _program, _words, env: environments.append(env))
        result = CliRunner().invoke(build_app(), ["--runs", str(tmp_path), "dashboard", *words])
        return result, environments

    return run


def test_trusted_keys_are_passed_to_the_server(start):
    """The background verification uses them."""
    key = str(load_or_create_signer().verifier)
    _, [env] = start("--key", key)
    assert env["OCKHAM_TRUSTED_KEYS"] == key
    _, [env] = start()
    assert env["OCKHAM_TRUSTED_KEYS"] == ""


def test_text_that_is_not_a_key_is_refused_before_the_server_starts(start):
    """The message names the option and what it accepts."""
    result, environments = start("--key", "nobody")
    assert isinstance(result.exception, BadInputError)
    assert "--key 'nobody': not a verifier key" in str(result.exception)
    assert environments == []


def test_pins_are_passed_to_the_server_as_absolute_paths(start, tmp_path):
    """A folder of pins is passed as it is, because pins may be added to it."""
    make_run(tmp_path, "a", batches=12)
    pin = tmp_path / "a.pin"
    pin.write_bytes(make_pin(RunFolder(tmp_path, "a")))
    (tmp_path / "pins").mkdir()
    _, [env] = start("--pin", "a.pin", "--pin", "pins")
    assert env["OCKHAM_PINS"].splitlines() == [str(pin), str(tmp_path / "pins")]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.pin", "cannot be read"), ("empty.pin", "without a tree head"), ("-", "pass a file")],
)
def test_pin_that_cannot_be_used_is_refused_before_the_server_starts(start, tmp_path, name, message):
    """A missing pin would verify less than was requested."""
    (tmp_path / "empty.pin").touch()
    result, environments = start("--pin", name)
    assert isinstance(result.exception, BadInputError)
    assert message in str(result.exception)
    assert environments == []
