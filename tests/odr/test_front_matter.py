import datetime as dt
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ockham.odr.front_matter import FrontMatterError, parse_front_matter
from ockham.odr.lint import lint
from ockham.odr.record import DecisionRecord, parse
from tests.odr.record_samples import GOOD


def parsed(text: str) -> DecisionRecord:
    record = DecisionRecord(Path("0001-a.md"), "0001-a.md", text.encode("utf-8", "replace"))
    parse(record, text)
    return record


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("0012", 12),
        ("0o14", 12),
        ("0xff", 255),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("+0.40", 0.4),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-13-45", "2026-13-45"),
        ('"7"', "7"),
        ("'7'", "7"),
        ("-.inf", -math.inf),
        ("1e999", math.inf),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    """`no` is a string, and a date stays text."""
    read = parse_front_matter(f"a: {text}\n", 2).values["a"]
    assert (read, type(read)) == (value, type(value))


def test_nan_is_parsed_as_a_number():
    """Lint reports it."""
    assert math.isnan(parse_front_matter("a: .nan\n", 2).values["a"])


@pytest.mark.parametrize(
    "text",
    ["b: &x 1", "b: *x", "b: !!int 1", "b: [1", "? [a]\n: 1", "a: 1\na: 2", "--- 1\n--- 2", "- a: 1\n  a: 2"],
)
def test_unsupported_yaml_is_an_error_with_its_line(text):
    """Anchors, tags and duplicate keys."""
    with pytest.raises(FrontMatterError) as error:
        parse_front_matter(f"z: 1\n{text}\n" if not text.startswith("-") else f"{text}\n", 10)
    assert 10 <= error.value.line <= 13


def test_front_matter_locations_match_file_lines():
    """Line, column and written digits."""
    front = parse_front_matter("a: +0.40\nb:\n  - c: x\n    d: |\n      text\n", 2)

    assert front.place(("a",))[:3] == (2, 1, "+0.40")
    assert front.place(("b", 0, "c"))[:2] == (4, 5)
    assert front.place(("b", 0, "missing"))[:2] == front.place(("b", 0))[:2]


# A loaded machine must not fail the test.
calm = settings(suppress_health_check=[HealthCheck.too_slow])
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(st.characters(max_codepoint=0x2FFF)),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdefgh", min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


@calm
@given(st.dictionaries(st.text("abcdefgh", min_size=1), plain))
def test_front_matter_of_another_writer_is_parsed(values):
    """ruamel.yaml writes it."""
    import io

    writer, stream = YAML(typ="safe", pure=True), io.StringIO()
    writer.default_flow_style, writer.allow_unicode = False, True
    writer.representer.ignore_aliases = lambda _: True
    writer.dump(values, stream)
    text = stream.getvalue()
    assert parse_front_matter(text, 2).values == YAML(typ="safe", pure=True).load(text)


@calm
@given(st.text(max_size=400))
def test_any_text_gives_findings_and_no_exception(text):
    """Reading and lint accept any file."""
    for whole in (text, f"---\n{text}\n---\n{text}"):
        lint([parsed(whole)], dt.date(2026, 11, 24))


@calm
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 60), st.text(max_size=8))
def test_any_edit_of_a_valid_record_gives_findings(start, length, new):
    """Every finding has a location."""
    record = parsed(GOOD[:start] + new + GOOD[start + length :])
    lint([record], dt.date(2026, 11, 24))
    assert all(f.line >= 1 and f.column >= 1 for f in record.findings)
