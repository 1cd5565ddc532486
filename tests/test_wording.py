"""README, docs, help, docstrings, messages and comments contain no banned word."""

from __future__ import annotations

import pytest

from tests.helpers.wording import (
    ROOT,
    check_file,
    check_help,
    check_markdown,
    check_python,
    find_words,
    list_files,
)

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs a checkout")


def test_files_and_help_contain_no_banned_words():
    """Run `python -m tests.helpers.wording FILE` to see the violations of a file."""
    violations = [item for path in list_files() for item in check_file(path)]
    assert [str(item) for item in [*violations, *check_help()]] == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The report tells the reason.", "tells"),
        ("cursor.json is no cursor", "is no cursor"),
        ("The file lies in the folder.", "lies"),
        ("It is handed\nover to the writer.", "handed over"),
        ("This package alone imports torch.", "alone"),
        ("Fails if there are runs: what is missing is ignored.", "what is"),
        ("The run is judged by its log.", "judged"),
        ("The knob was turned.", "knob was turned"),
    ],
)
def test_banned_word_is_reported(text, word):
    """Each kind of phrase has one example."""
    assert [match for _, match in find_words(text)] == [word]


@pytest.mark.parametrize(
    "text",
    [
        "At most 8 requests run in turn.",
        "The log is no longer open.",
        "Return None if there is no key.",
        "The field `told` is fixed.",
        "The gate judges the batch.",
        "The standalone verifier underlies it.",
        "What is a plugin?",
    ],
)
def test_technical_use_is_not_reported(text):
    """Words with a technical meaning, and inline code, are accepted."""
    assert list(find_words(text)) == []


def test_fenced_blocks_are_checked_for_comments_only():
    """Code and output in fenced blocks are not prose."""
    page = "```sh\nlies here  # told by it\n```\n"
    assert [(item.line, item.word) for item in check_markdown(page, "page.md")] == [(2, "told")]


def test_messages_and_docstrings_have_lines_and_areas():
    """Messages of three or more words, f-strings and comments are checked; SQL is not."""
    source = '"""Log."""\nraise E(f"{x} goes on here")  # stands\nq = "SELECT told FROM a, b"\n'
    violations = check_python(source, "module.py")
    assert {(item.line, item.area) for item in violations} == {(2, "message"), (2, "comment")}
