"""`ockham dashboard`: what the server gets from the command line."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import BadInputError
from ockham.record.tlog.note import load_or_create_signer


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
