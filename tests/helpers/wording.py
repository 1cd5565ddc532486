"""Check docs, help, docstrings, messages and comments for words that the style guide bans.

Usage: `python -m tests.helpers.wording [PATH...]`. Without paths, the whole project and the `--help`
text of every command are checked. Text between backticks is code and is not checked.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE_FOLDERS = ("ockham", "dashboard", "benchmarks")
MIN_MESSAGE_WORDS = 3
MAX_SHOWN_CHARACTERS = 100
HELP_PATH = "--help"


class WordingViolation(NamedTuple):
    """One banned word or phrase, with its location."""

    path: str
    line: int
    # doc, docstring, message, comment or help.
    area: str
    word: str
    text: str


def _compile(*phrases: str) -> re.Pattern[str]:
    joined = "|".join(f"(?:{phrase})" for phrase in phrases)
    return re.compile(joined.replace(" ", r"\s+"), re.IGNORECASE)


# Words with a technical meaning are listed only in phrases that are always wrong.
BANNED = _compile(
    r"\b(?:told|says|said|tells|sayings?)\b",
    r"\b(?:anew|again and again|of late|so many|a coin|whoever|those (?:that|who))\b",
    r"\b(?:stands|lies|comes|goes|beside|stand-ins?)\b",
    r"\b(?:lie|lying|stand|standing) (?:in|on|at|behind|there|elsewhere|outside|next|before)\b",
    r"(?<!lag\s)(?<!lags\s)(?<!fall\s)(?<!falls\s)\bbehind\b"
    r"(?! (?:(?:a|the) )?(?:reverse )?(?:proxy|firewall))",
    r"\b(?:go|going|went|gone) on\b|\b(?:take|takes|took) up where\b|\bgo with a kill\b",
    r"\b(?:hand|hands|handed|handing) over\b",
    r"\bvouch(?:es|ed)?\b|\bbeliev(?:e|es|ed|ing)\b",
    r"\b(?:bear|bears|bore|borne|bearing) out\b|\bbears? (?:it|them|this|that) out\b",
    r"\bmend(?:s|ed|ing)?\b|\bstrangers?\b",
    r"(?<!stand-)(?<!let\s)(?<!leave\sit\s)(?<!leave\sthem\s)(?<!left\s)\balone\b",
    r"\b(?:is|are|twice is) nothing\b",
    r"\bturn(?:s|ed|ing)? (?:(?:the|a|an|each|every|its|that|this|no|any|one|other) )*knobs?\b",
    r"\bknobs? (?:(?:that|which|it|they|is|are|was|were|be|has|have|been) )*turned\b",
    r"\bwho turned\b|\bturned what\b",
    r"\bthe hands\b|\b(?:workshop|stretch|stretches|legs?|story|stories|lanes?|floors)\b",
    r"\b(?:a|the|this|each|every) room\b|\brooms\b|\bthe house\b|\bhouse rules?\b",
    r"\bwhat (?:is|was|were) (?:found|made|kept|given)\b",
    r"\bthe (?:found|made|kept|given)(?=[.,;:)])",
)
NEGATION = re.compile(
    r"(?<!there\s)\b(?:is|are|was|were|be)\s+no\s+"
    r"(?!longer|more|less|\w+er\b|one\b|matter\b)\w+|\b(?:is|are|was|were)\s+none\b",
)
SUBJECT = re.compile(r"(?:\A|[.:;]\s+)[Ww]hat\s+(?:is|are|was|were|has|had|[a-z]+s)\b(?![^.?]*\?)")
JUDGE = re.compile(r"\bjudg(?:e|es|ed|ing|e?ments?)\b", re.IGNORECASE)
JUDGE_CONTEXT = re.compile(r"gate|memory|odr|decision record", re.IGNORECASE)
VERB = re.compile(r"\bverbs?\b", re.IGNORECASE)
SQL = re.compile(
    r"\s*(?:SELECT|WITH|CREATE|INSERT|COPY|FROM|WHERE|UNION|DELETE|UPDATE|ORDER BY)\b|.*\bSELECT\b"
)
INLINE_CODE = re.compile(r"(`+)[^`]+\1")
LINK_TARGET = re.compile(r"\]\([^)\s]*\)")


def find_words(text: str, path: str = "", area: str = "doc") -> Iterator[tuple[int, str]]:
    """Yield position and text of each banned word in *text*."""
    clean = text
    for pattern in (INLINE_CODE, LINK_TARGET):
        clean = pattern.sub(lambda m: re.sub(r"[^\n]", "_", m.group()), clean)
    patterns = [BANNED, NEGATION, SUBJECT]
    if not JUDGE_CONTEXT.search(path):
        patterns.append(JUDGE)
    if area != "comment":
        patterns.append(VERB)
    for pattern in patterns:
        for match in pattern.finditer(clean):
            sentence = clean[max(0, match.start() - 120) : match.end() + 120]
            if pattern is JUDGE and JUDGE_CONTEXT.search(sentence):
                continue
            leading = len(match.group()) - len(match.group().lstrip(".:; \n"))
            yield match.start() + leading, " ".join(match.group().strip(".:; \n").split())


def check_text(text: str, path: str, line: int, area: str) -> Iterator[WordingViolation]:
    """Yield the violations of one text that starts on *line*."""
    for position, word in find_words(text, path, area):
        start = text.rfind("\n", 0, position) + 1
        shown = text[start:].split("\n", 1)[0].strip()[:MAX_SHOWN_CHARACTERS]
        yield WordingViolation(path, line + text.count("\n", 0, position), area, word, shown)


def check_markdown(text: str, path: str) -> Iterator[WordingViolation]:
    """Yield the violations of a Markdown page. In fenced blocks only comments are checked."""
    lines, fence = [], ""
    for line in text.split("\n"):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and (not fence or line.strip() == fence):
            fence = "" if fence else mark.group(1)
            lines.append("")
        elif fence:
            comment = re.search(r"(?:^|\s)#\s.*", line)
            lines.append(comment.group() if comment else "")
        else:
            lines.append(line)
    yield from check_text("\n".join(lines), path, 1, "doc")


def check_python(text: str, path: str) -> Iterator[WordingViolation]:
    """Yield the violations in docstrings and comments, and outside of tests also in messages."""
    tree = ast.parse(text)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and _is_string(first.value):
                docstrings.add(first.value)
                yield from check_text(first.value.value, path, first.value.lineno, "docstring")
    if not is_test_path(path):
        for node, message in _iterate_messages(tree):
            if node not in docstrings:
                yield from check_text(message, path, node.lineno, "message")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield from check_text(token.string.lstrip("# "), path, token.start[0], "comment")


def is_test_path(path: str) -> bool:
    """Return True if *path* belongs to the tests."""
    return path.startswith("tests/") or "/tests/" in path


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _iterate_messages(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """Yield each string and f-string that has at least three words and is not SQL."""
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside.update(node.values)
            message = "".join(part.value if _is_string(part) else "X" for part in node.values)
        elif _is_string(node) and node not in inside:
            message = node.value
        else:
            continue
        if len(re.findall(r"[A-Za-z]{2,}", message)) >= MIN_MESSAGE_WORDS and " " in message.strip():
            if not SQL.match(message):
                yield node, message


def check_help() -> Iterator[WordingViolation]:
    """Yield the violations in the help text of every command."""
    import typer

    from ockham.cli import build_app

    commands = [("ockham", typer.main.get_command(build_app()))]
    for name, command in commands:
        commands += [(f"{name} {key}", child) for key, child in getattr(command, "commands", {}).items()]
        texts = [command.help, command.epilog, *(getattr(option, "help", None) for option in command.params)]
        for text in filter(None, texts):
            for item in check_text(text, HELP_PATH, 1, "help"):
                yield item._replace(text=f"{name}: {item.text}")


def list_files() -> list[Path]:
    """Return all Python files and Markdown pages of the project that are checked."""
    folders = [ROOT / name for name in (*SOURCE_FOLDERS, "tests")]
    python = [path for folder in folders for path in folder.rglob("*.py")]
    return sorted([*ROOT.glob("*.py"), *python, *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def expand_paths(arguments: list[str], suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files named by *arguments*, and those in the named folders."""
    files: list[Path] = []
    for argument in arguments:
        path = Path(argument).resolve()
        candidates = path.rglob("*") if path.is_dir() else [path]
        files += sorted(file for file in candidates if file.suffix in suffixes)
    return files


def to_relative(path: Path) -> str:
    """Return *path* relative to the project, or unchanged if it is outside."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def check_file(path: Path) -> list[WordingViolation]:
    """Return the violations of one file, sorted by line."""
    text = path.read_text(encoding="utf-8")
    check = check_markdown if path.suffix == ".md" else check_python
    return sorted(check(text, to_relative(path)), key=lambda item: item.line)


def main(arguments: list[str]) -> int:
    """Print all violations and their number. Return 1 if there are any."""
    files = expand_paths(arguments, (".py", ".md")) if arguments else list_files()
    violations = [item for path in files for item in check_file(path)]
    if not arguments:
        violations += check_help()
    for item in violations:
        print(f"{item.path}:{item.line}: {item.word}: {item.text}")
    print(f"{len(violations)} violations in {len(files)} files")
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
