"""Text that names something: a file or folder of that name in the working folder does not replace it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import hypothesis
import pytest
import typer.main
from hypothesis import strategies

from ockham import resources
from ockham.cli import build_app
from ockham.errors import DataError, PolicyError
from ockham.nano.token_files import find_text, tokenize
from ockham.nano.tokenizer import load_tokenizer
from ockham.policy import load_policy
from ockham.policy.yaml_loader import preset_names
from ockham.text_safety import is_path_text
from tests.helpers import forked_cli
from tests.helpers.cli_parser import list_commands
from tests.helpers.runs import make_run
from tests.helpers.tiny_tokenizer import tiny_tokenizer, write_texts

# Options that accept a name or a path. A new one needs a test here.
NAME_OR_PATH = {
    ("ockham train", "policy"),
    ("ockham adapt", "policy"),
    ("ockham ablate", "policy"),
    ("ockham whatif", "policy"),
    ("ockham tokenize", "encoding"),
    ("ockham sample", "tokenizer"),
}
ENCODINGS = ("gpt2", "r50k_base", "p50k_base", "p50k_edit")
NAMES = strategies.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True)
# Commands that name a run, a view, a question, a code or a record, and the names.
COMMANDS = [
    (["show", "demo"], "demo"),
    (["verify", "demo"], "demo"),
    (["ask", "bands"], "bands"),
    (["schema", "settings"], "settings"),
    (["schema", "decisions"], "decisions"),
    (["odr", "explain", "ODR304"], "ODR304"),
    (["odr", "show", "1"], "1"),
    (["odr", "show", "ODR-0001"], "ODR-0001"),
    (["query", "select 1 as a"], "select 1 as a"),
]


def test_options_that_take_a_name_or_a_path_are_listed_and_documented():
    """The help shows how to write a path."""
    found = {}
    for name, command in list_commands(typer.main.get_command(build_app())):
        for parameter in command.params:
            if str(parameter.metavar or "").startswith("NAME_OR_"):
                found[name, parameter.name] = parameter.help
    assert found.keys() == NAME_OR_PATH
    assert [place for place, text in found.items() if not re.search(r"\./\w|As --encoding", text)] == []


@pytest.mark.parametrize("text", ["./gpt2", "gpt2/", "a/b", "mine.yaml", "/", ".", "..", "../x", "/tmp/x"])
def test_text_with_a_separator_or_an_extension_is_a_path(text):
    """These texts can name nothing else."""
    assert is_path_text(text)


@hypothesis.given(name=strategies.one_of(NAMES, strategies.sampled_from([*ENCODINGS, *preset_names()])))
def test_other_text_is_a_name(name):
    """This holds for every known name and for unknown ones."""
    assert not is_path_text(name)


@pytest.fixture
def decoys(tmp_path, monkeypatch):
    """Working folder, in which a test writes files with the names of other things."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", preset_names())
def test_preset_is_not_replaced_by_a_file(decoys, name):
    """A file of that name is read as ./NAME. This also holds for `extends`."""
    # The gate of `adapt` has no default for what `ockham adapt` measures.
    overrides = ["gate.familiar_mean=1", "gate.familiar_sd=1"] if name == "adapt" else []
    preset = load_policy(name, overrides)
    (decoys / name).write_text("extends: observe\nname: decoy\n")
    (decoys / "mine.yaml").write_text(f"extends: {name}\n")
    assert load_policy(name, overrides).canonical == preset.canonical
    assert load_policy("mine.yaml", overrides).content["plugins"] == preset.content["plugins"]
    assert load_policy(f"./{name}").name == load_policy(Path(name)).name == "decoy"


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(name=NAMES.filter(lambda name: name not in (*preset_names(), *ENCODINGS)))
def test_unknown_name_is_an_error_although_a_file_exists(decoys, name):
    """The error shows how to write the path."""
    preset = (resources.presets_dir() / "tight.yaml").read_bytes()
    (decoys / name).write_bytes(preset)
    try:
        with pytest.raises(PolicyError, match=rf"no preset '{name}'.*; write a file as \./{name}$"):
            load_policy(name)
        with pytest.raises(DataError, match=rf"not an encoding.*; write a folder as \./{name};"):
            load_tokenizer(name)
        assert load_policy(f"./{name}").content == load_policy("tight").content
    finally:
        (decoys / name).unlink()


@pytest.mark.parametrize("name", ENCODINGS)
def test_encoding_is_not_replaced_by_a_folder(decoys, monkeypatch, name):
    """Without tiktoken's cache the name is an error. The folder is read as ./NAME."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(decoys / "cache"))
    tokenize(
        find_text(write_texts(decoys / "texts")), decoys / name, tiny_tokenizer(), "texts", lambda *_: None
    )
    with pytest.raises(DataError, match=f"encoding '{name}': .* is not in tiktoken's cache"):
        load_tokenizer(name)
    assert load_tokenizer(f"./{name}").name == load_tokenizer(f"{name}/").name == "tiny"


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize(("words", "name"), COMMANDS, ids=str)
def test_command_reads_the_named_thing(tmp_path, words, name, is_folder):
    """Output and status are the same with a file or a folder of that name."""
    make_run(tmp_path / "runs", "demo", batches=2)
    records = Path(__file__).parents[2] / "odr"
    env = {**os.environ, "OCKHAM_ODR": str(records)}
    before = forked_cli.ockham(tmp_path / "runs", *words, cwd=tmp_path, env=env)
    if is_folder:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("select 2 as b")
    after = forked_cli.ockham(tmp_path / "runs", *words, cwd=tmp_path, env=env)
    assert before.returncode == 0, before.stderr
    assert (after.returncode, after.stdout, after.stderr) == (0, before.stdout, before.stderr)
