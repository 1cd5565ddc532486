"""`ockham why --rows`: text of a batch, read again from the data, or an error that names the change."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import BadInputError, DataError
from ockham.record.run_folder import RunFolder
from tests.helpers.events import events
from tests.helpers.runs import make_run
from tests.helpers.tiny_trainer import TINY

OPTIONS = [word for setting in (*TINY, "device=cpu", "max_iters=4") for word in ("--set", setting)]


def run(*words):
    """Run a command in this process and raise its error."""
    done = CliRunner().invoke(build_app(), [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def train(folder, data, *options):
    run("train", "--policy", "observe", "--data", data, "--run", "a", "--runs", folder / "runs", *options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on text with control characters, with two micro-steps."""
    folder = tmp_path_factory.mktemp("rows")
    pieces = ["plain ", "two\nlines ", "\x1b[31mred ", "caf\u00e9 ", "\u202eback ", 'quo"te ']
    text = "".join(pieces[(i * i) % 7 % 6] + str(i % 89) for i in range(700))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    train(folder, folder / "text.txt", *OPTIONS, "--set", "gradient_accumulation_steps=2")
    return folder


def recorded_rows(folder, iter_num):
    """Return the rows of an iteration, computed from the text and the log with a formula of this test."""
    content = (folder / "text.txt").read_bytes()
    tokens = content[: len(content) * 9 // 10]
    rows = []
    for event in events(RunFolder(folder / "runs", "a")):
        data = event["data"]
        if event["type"] == "ockham.context.recorded.v1" and data["iter_num"] == iter_num and "rows" in data:
            counter = [0, 0, data["micro_step"], data["rows"]["position"]]
            random = np.random.Generator(np.random.Philox(key=data["given"]["seed"] << 32, counter=counter))
            rows += [tokens[at : at + 9] for at in random.integers(0, len(tokens) - 8, size=4)]
    return rows


def test_rows_show_the_text_of_each_micro_batch(trained):
    """It is the text at the recorded position, in quotes."""
    shown = run("why", "a", 2, "--rows", "--runs", trained / "runs")
    rows = recorded_rows(trained, 2)
    assert len(rows) == 8
    for text in rows:
        decoded = text.decode("utf-8", "replace")
        if decoded.isprintable():
            assert json.dumps(decoded, ensure_ascii=False) in shown
    assert shown.count("equal to the recorded one") == 2


def test_rows_as_csv_contain_the_tokens_of_all_rows(trained):
    """The tokens are those of the text, row by row."""
    shown = run("why", "a", 3, "--rows", "-f", "csv", "--runs", trained / "runs")
    table = list(csv.DictReader(io.StringIO(shown)))
    assert [json.loads(row["tokens"]) for row in table] == [list(text) for text in recorded_rows(trained, 3)]
    assert [(row["micro_step"], row["row"]) for row in table][3:5] == [("0", "3"), ("1", "0")]


def test_rows_contain_no_control_characters(trained):
    """Escape sequences and marks of direction are escaped in every batch."""
    for iter_num in range(4):
        shown = run("why", "a", iter_num, "--rows", "--runs", trained / "runs")
        assert all(character.isprintable() for character in shown.replace("\n", ""))


def test_output_is_bounded_unless_verbose(tmp_path):
    """40 rows of 300 characters: 16 are shown, each cut."""
    (tmp_path / "text.txt").write_text("".join(f"{i * i} " for i in range(4000)))
    train(tmp_path, tmp_path / "text.txt", *OPTIONS, "--set", "batch_size=40", "--set", "block_size=300")
    shown = run("why", "a", 1, "--rows", "--runs", tmp_path / "runs").splitlines()
    assert "... and 24 further rows (-v shows all)" in shown[-1]
    assert max(map(len, shown)) < 200
    whole = run("-v", "why", "a", 1, "--rows", "--runs", tmp_path / "runs").splitlines()
    assert sum(line.endswith('"') and len(line) > 300 for line in whole) == 40


def test_tokens_without_a_tokenizer_are_shown_as_numbers(tmp_path):
    """A nanoGPT folder without tokenizer has only numbers."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    for split in ("train", "val"):
        (np.arange(3000) * 7 % 300).astype("<u2").tofile(folder / f"{split}.bin")
    train(tmp_path, folder, *OPTIONS, "--set", "vocab_size=300")
    shown = run("why", "a", 0, "--rows", "--runs", tmp_path / "runs").splitlines()
    numbers = [int(word) for word in shown[-1].split(":")[1].split()]
    assert [(b - a) % 300 for a, b in zip(numbers, numbers[1:], strict=False)] == [7] * 8


@pytest.mark.parametrize("change", ["removed", "changed"])
def test_missing_or_changed_data_is_a_clear_error(trained, tmp_path, change):
    """The error names the data. For other text it names both digests."""
    data = trained / "text.txt"
    original = data.read_bytes()
    try:
        if change == "removed":
            data.unlink()
        else:
            data.write_bytes(original[:-1] + b"?")
        with pytest.raises(DataError) as raised:
            run("why", "a", 2, "--rows", "--runs", trained / "runs")
    finally:
        data.write_bytes(original)
    message = str(raised.value)
    assert str(data) in message
    expected = "no data at" if change == "removed" else "the data has changed"
    assert expected in message


def test_other_rows_than_recorded_are_an_error_that_names_both_digests(trained, monkeypatch):
    """Another sampling than that of the training is found by the digest of the rows."""
    from ockham.nano.data import Batches

    sample = Batches.sample_window
    monkeypatch.setattr(
        Batches, "sample_window", lambda self, iter_num, *rest: sample(self, iter_num + 1, *rest)
    )
    with pytest.raises(
        DataError, match=r"iteration 2, rank 0, micro-step 0: .* digest \w{32}, and the log records \w{32}"
    ):
        run("why", "a", 2, "--rows", "--runs", trained / "runs")


def test_rows_of_an_own_loop_are_refused(tmp_path):
    """Ockham does not know its data."""
    make_run(tmp_path, batches=5)
    with pytest.raises(BadInputError, match="--rows accepts runs of `ockham train`"):
        run("why", "a", 2, "--rows", "--runs", tmp_path)
