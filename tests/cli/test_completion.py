"""Completion in the shell: the same call that bash makes when the Tab key is pressed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import typer

from ockham.catalog.views import question_names
from ockham.cli import build_app
from ockham.cli.completion import find_completer
from ockham.odr.codes import CODES
from ockham.resources import VIEWS
from tests.helpers import forked_cli
from tests.helpers.runs import make_run

# The word after the last blank is completed. `{0}` is the folder of the test.
CASES = [
    ("why ", ["night-1", "night-2"]),
    ("why night-2", ["night-2"]),
    ("--runs {0}/runs why n", ["night-1", "night-2"]),
    ("why --runs {0}/other ", ["morning"]),
    ("--runs {0}/runs why --runs {0}/other ", ["morning"]),
    ("compare night-1 ", ["night-1", "night-2"]),
    ("query --run ", ["night-1", "night-2"]),
    ("roi night-1 --against night-", ["night-1", "night-2"]),
    ("ask update", ["update_rate"]),
    ("schema gate", ["gate_decisions"]),
    ("train --policy t", ["tight"]),
    ("whatif night-1 --policy ob", ["observe"]),
    ("odr explain ODR51", [code for code in CODES if code.startswith("ODR51")]),
    ("odr check --select ODR514", ["ODR514"]),
    ("odr show ", ["ODR-0001", "ODR-0012"]),
    ("odr show 1", ["1", "12"]),
    ("odr show 00", ["0001", "0012"]),
    ("odr status 1 acc", ["accepted"]),
    ("odr supersede 1 --by ODR-", ["ODR-0001", "ODR-0012"]),
    ("show n", ["night-1", "night-2"]),
    ("show ODR", ["ODR-0001", "ODR-0012"]),
    ("sample night-1 --checkpoint accepted-000000", None),
    ("train --run night-1 --resume-from accepted-000000", None),
    ("verify night-1 --format j", ["json", "jsonl"]),
    ("ask --engine s", ["spark"]),
    ("veri", ["verify"]),
    ("why nosuch", []),
    ("why --runs {0}/nosuch ", []),
    ("odr show --odr-dir {0}/nosuch ", []),
    ("sample nosuch --checkpoint ", []),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    for run_id in ("night-1", "night-2"):
        make_run(folder / "runs", run_id, batches=60)
    make_run(folder / "other", "morning", batches=5)
    (folder / "odr").mkdir()
    for name in ("0001-use-a-gate.md", "0012-[bold]use-b.md", "0012-use-b.md", "README.md"):
        (folder / "odr" / name).write_text("---\nid: ODR-0001\n---\n")
    return folder


def complete(folder, line, **environment):
    """Return the completions of the last word, as the function in the bash script gets them."""
    words = f"ockham {line}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OCKHAM_")}
    typed = {
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "_OCKHAM_COMPLETE": "complete_bash",
    }
    done = forked_cli.run("ockham", env={**inherited, **typed, **environment}, cwd=folder)
    assert done.returncode == 0
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.mark.parametrize(("line", "expected"), CASES, ids=[line for line, _ in CASES])
def test_last_word_is_completed(folder, line, expected):
    """Run IDs, questions, views, presets, records, codes and checkpoints."""
    if expected is None:
        saved = sorted(path.name for path in (folder / "runs/night-1/checkpoints").iterdir())
        expected = [name for name in saved if name.startswith("accepted-000000")]
        assert expected
    assert complete(folder, line.format(folder)) == sorted(expected)


def test_all_questions_and_views_are_completed(folder):
    """Views that the user cannot read are not completed."""
    assert complete(folder, "ask ") == question_names()
    views = set(complete(folder, "schema "))
    assert {name for name in VIEWS if not name.startswith("raw_")} < views
    assert {"odrs", "odr_evidence", "data_dictionary", "settings"} < views


def test_environment_names_the_folders(folder, tmp_path):
    """The folders of $OCKHAM_RUNS and $OCKHAM_ODR are used."""
    assert complete(folder, "why ", OCKHAM_RUNS=str(folder / "other")) == ["morning"]
    assert complete(folder, "odr show ", OCKHAM_ODR=str(tmp_path)) == []


def walk(command, path=()):
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


def test_every_parameter_with_a_known_metavar_is_completed():
    """A new command that takes a RUN needs no code for this."""
    number = 0
    for name, command in walk(typer.main.get_command(build_app())):
        for parameter in command.params:
            if find_completer(parameter.metavar) is not None:
                number += 1
                assert parameter._custom_shell_complete is not None, (name, parameter.name)
    assert number > 40


# The `ockham` of the tested package, and a terminal in which the Tab key is pressed.
COMMAND = """#!{python}
import sys
sys.argv[0] = "ockham"
from ockham.cli import main
main()
"""
BASH = """
eval "$(ockham --show-completion bash)"
COMP_WORDS=(ockham ask refu)
COMP_CWORD=2
_ockham_completion ockham
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_script_in_bash_completes_a_question(folder, tmp_path):
    """The script of `ockham --show-completion bash` is loaded, and its function is called."""
    command = tmp_path / "ockham"
    command.write_text(COMMAND.format(python=sys.executable))
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == ["refusals"], done.stderr
