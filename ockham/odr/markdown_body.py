"""Body of a record: headings, checkboxes and the Outcome line with their lines in the file.

markdown-it finds the blocks, so a heading in a code fence is code, and setext headings are found.
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import NamedTuple

from markdown_it import MarkdownIt

SECTIONS = ("Problem", "Proposed Change", "Occam Constraints", "Outcome")
_BOX = re.compile(r"[-*+]\s+\[(?P<mark>[ xX])\]\s*(?:(?P<id>C[1-9][0-9]{0,2})\b)?[:.]?\s*(?P<text>.*)")
# A line that belongs to the list item above it: neither blank nor the start of another block.
_CONTINUATION = re.compile(r"\s*(?![-*+]\s|[0-9]+[.)]\s|[#|>`<])\S")
_OUTCOME = re.compile(
    r"oq\s+delta:\s*(?P<delta>[-+]?[0-9.]+(?:e[-+]?[0-9]+)?|none)"
    r"\s*(?:→|->|=>)\s*(?P<verdict>[a-z ]+?)\s*"
    r"(?P<waived>\([0-9]+ waived until [0-9]{4}-[0-9]{2}-[0-9]{2}\))?\s*\.?",
    re.IGNORECASE,
)
_VERDICTS = {"keep": "KEEP", "revert": "REVERT", "inconclusive": "INCONCLUSIVE", "not measured": None}


class Heading(NamedTuple):
    """A heading. `line` counts from 1 in the file."""

    level: int
    text: str
    line: int


class Checkbox(NamedTuple):
    """One checkbox in the section Occam Constraints. It ends with the line `last_line`."""

    constraint_id: str
    ticked: bool
    text: str
    line: int
    last_line: int


class OutcomeLine(NamedTuple):
    """`OQ delta: +0.4 → KEEP`. None means `none` or `not measured`.

    `waived` is the text after the verdict, such as `(1 waived until 2027-01-31)`. It may be empty.
    """

    delta: float | None
    verdict: str | None
    digits: str
    line: int
    error: str = ""
    waived: str = ""


class Body(NamedTuple):
    """Parsed body of a record."""

    headings: tuple[Heading, ...]
    boxes: tuple[Checkbox, ...]
    outcome: OutcomeLine | None
    first_line: int

    def sections(self, title: str) -> list[Heading]:
        """Return the second-level headings with this title, in any case."""
        return [h for h in self.headings if h.level == 2 and h.text.casefold() == title.casefold()]


@functools.cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark")
    # Inline text is not needed and costs most.
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def parse_body(lines: list[str], first_line: int) -> Body:
    """Parse the lines after the front matter. The first one has the number `first_line`."""
    tokens = _markdown().parse("\n".join(lines))
    headings: list[Heading] = []
    hidden: set[int] = set()
    for token, after in itertools.zip_longest(tokens, tokens[1:]):
        if token.map is None:
            continue
        if token.type == "heading_open" and token.level == 0 and after is not None:
            headings.append(Heading(int(token.tag[1]), after.content.strip(), first_line + token.map[0]))
        elif token.type in {"fence", "code_block", "html_block"}:
            hidden.update(range(first_line + token.map[0], first_line + token.map[1]))
    shown = [(n, text) for n, text in enumerate(lines, first_line) if n not in hidden]
    constraints = _within(shown, headings, "Occam Constraints")
    return Body(
        tuple(headings), tuple(_boxes(constraints)), _outcome(_within(shown, headings, "Outcome")), first_line
    )


def _within(shown: list[tuple[int, str]], headings: list[Heading], title: str) -> list[tuple[int, str]]:
    """Return the lines of the first section with this title, up to the next heading of its level or above."""
    opening = next((h for h in headings if h.level == 2 and h.text.casefold() == title.casefold()), None)
    if opening is None:
        return []
    end = next((h.line for h in headings if h.line > opening.line and h.level <= 2), None)
    return [(n, text) for n, text in shown if n > opening.line and (end is None or n < end)]


def _boxes(lines: list[tuple[int, str]]) -> list[Checkbox]:
    found: list[Checkbox] = []
    open_line = 0
    for number, text in lines:
        match = _BOX.match(text.strip())
        if match:
            words = match["text"].strip()
            found.append(Checkbox(match["id"] or "", match["mark"] != " ", words, number, number))
            open_line = number + 1
        elif found and number == open_line and _CONTINUATION.match(text):
            words = f"{found[-1].text} {text.strip()}".strip()
            found[-1] = found[-1]._replace(text=words, last_line=number)
            open_line = number + 1
    return found


def _outcome(lines: list[tuple[int, str]]) -> OutcomeLine | None:
    for number, text in lines:
        if not text.strip(" \t*").casefold().startswith("oq delta"):
            continue
        match = _OUTCOME.fullmatch(text.strip(" \t*"))
        if match is None:
            return OutcomeLine(None, None, "", number, "is not `OQ delta: +0.4 → KEEP`")
        verdict = " ".join(match["verdict"].casefold().split())
        if verdict not in _VERDICTS:
            return OutcomeLine(None, None, "", number, f"says {match['verdict']!r:.40}")
        digits = match["delta"].casefold()
        try:
            delta = None if digits == "none" else float(digits)
        except ValueError:
            return OutcomeLine(None, None, "", number, f"has {match['delta']!r:.40} for a number")
        waived = (match["waived"] or "").casefold()
        return OutcomeLine(delta, _VERDICTS[verdict], digits, number, waived=waived)
    return None


def format_outcome(delta_digits: str | None, verdict: str | None) -> str:
    """Return the Outcome line of a delta as written and a verdict."""
    delta = "none" if delta_digits is None else delta_digits
    return f"OQ delta: {delta} → {verdict or 'not measured'}"
