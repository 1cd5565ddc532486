"""Fast decoding of lines: it accepts only lines that the slow path accepts, with equal values."""

from __future__ import annotations

import json
import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Struct

from ockham.event import event_kind
from ockham.record import schema
from ockham.record.fast_decode import FastDecoder, to_struct
from ockham.record.verify.report import VerificationReport
from ockham.record.verify.segment import LineVerifier
from tests.helpers.events import lines
from tests.helpers.runs import make_run

STRANGE = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**53,
    2**63,
    2**64,
    10**30,
    0.0,
    -0.0,
    1.0,
    1e15,
    1e16,
    1.5e300,
    5e-324,
    "",
    "NaN",
    "Infinity",
    "-Infinity",
    "nan",
    "x",
    "batch",
    "on_lunch",
    "é",
    "\ud7ff",
    'a"b',
    "a\\b",
    "\x7f",
    "UPPER_CASE",
    "a" * 4097,
    [],
    [1.5, "NaN"],
    [None],
    {},
    {"a": 1.0},
    {"no name": 1.0},
    {"a": "b"},
    "sha256:" + "ab" * 32,
    "2026-02-30T03:08:32.123456Z",
    "2026-02-28T24:08:32.123456Z",
]


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("bulk"), batches=60, nan_at=5).folder


def reader():
    return FastDecoder("ockham://runs/a", 1, 0)


def slowly(folder, raw, sequence):
    """Return the event from the slow path and its findings."""
    report = VerificationReport("a")
    event = LineVerifier(folder, 1, 0, folder.segments(1, 0)[0], report).event(raw, sequence)
    return event, report.findings


def plain(value):
    """Return the fields of a struct that are set, as a dictionary for exact comparison."""
    if isinstance(value, Struct):
        pairs = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return {name: plain(item) for name, item in pairs if item is not UNSET}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return repr(value)


def test_fast_path_accepts_decisions_and_contexts_of_the_writer(honest):
    """These are nearly all lines of a log."""
    found = lines(honest)
    taken = reader().read(found, 0)
    kinds = [event_kind(orjson.loads(line)["type"]) for line in found]
    assert [kind for kind, event in zip(kinds, taken, strict=True) if event is None] == [
        kind for kind in kinds if kind not in ("decision.made", "context.recorded")
    ]


def test_fast_path_and_slow_path_return_equal_values(honest):
    """IDs, numbers to the last bit, and defaults are equal."""
    for sequence, line in enumerate(lines(honest)):
        event = reader().read([line], sequence)[0]
        if event is not None:
            slow, findings = slowly(honest, line, sequence)
            assert findings == []
            assert event[:2] == slow[:2]
            assert plain(event[2]) == plain(slow[2])


def taken_wrongly(folder, raw, sequence):
    """Return True if the fast path accepts a line that the slow path rejects or decodes differently."""
    event = reader().read([raw], sequence)[0]
    if event is None:
        return False
    slow, findings = slowly(folder, raw, sequence)
    return slow is None or findings != [] or plain(event[2]) != plain(slow[2])


def places(value, path=()):
    """Yield the path of every value in an event."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from places(item, (*path, key))


def encoded(event):
    """Encode with the encoder of the writer, or with the standard library if that encoder fails."""
    try:
        return orjson.dumps(event)
    except TypeError:
        return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.fixture(scope="module")
def samples(honest):
    """Return a line of each form: decisions with and without knob changes, and contexts of each hook."""
    found = {}
    for sequence, line in enumerate(lines(honest)):
        data = orjson.loads(line)["data"]
        if b"decision.made" in line:
            found["decision", bool(data["changes"]), bool(data["numbers"])] = sequence, line
        elif b"context.recorded" in line:
            found["context", data["hook"], bool(data["left"])] = sequence, line
    assert len(found) >= 5
    return list(found.values())


def test_fast_path_rejects_values_that_the_schema_rejects(honest, samples):
    """Every field gets every unusual value, is removed, or gets an extra key."""
    wrong, tried = [], 0
    for sequence, line in samples:
        event = orjson.loads(line)
        for path in list(places(event))[1:]:
            for value in (*STRANGE, "remove it", "add one"):
                changed = orjson.loads(line)
                inner = changed
                for key in path[:-1]:
                    inner = inner[key]
                if value == "remove it":
                    del inner[path[-1]]
                elif value == "add one" and isinstance(inner, dict):
                    inner["stranger"] = 1
                else:
                    inner[path[-1]] = value
                raw = encoded(changed)
                tried += 1
                if taken_wrongly(honest, raw, sequence):
                    wrong.append((path, value))
    assert wrong == []
    assert tried > 3_000


@settings(max_examples=300)
@given(data=st.data())
def test_fast_path_rejects_changed_bytes(honest, samples, data):
    """Bytes are inserted, removed or changed at any position."""
    sequence, line = data.draw(st.sampled_from(samples))
    at = data.draw(st.integers(0, len(line) - 1))
    what = data.draw(
        st.sampled_from(
            [b" ", b"0", b"e5", b"E5", b"+", b"-", b".0", b"\\u0041", b"\t", b",", b'"', b"}", b"{}", b"1"]
        )
        | st.binary(min_size=0, max_size=3)
    )
    changed = line[:at] + what + line[at + data.draw(st.integers(0, 3)) :]
    if b"\n" not in changed:
        assert not taken_wrongly(honest, changed, sequence)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b'"iter_num":', b'"iter_num": '),
        (b'"rank":0,', b'"rank":0,"rank":0,'),
        (b'"attempt":1,', b'"attempt":1.0,'),
        (b'"data":{', b'"data":{"ext":{},'),
        (b'"order":', b'"order":00'),
        (b'"shadow":false', b'"shadow":0'),
        (b'"time":"2026', b'"time":"2026 '),
    ],
)
def test_fast_path_rejects_other_encodings_of_equal_values(honest, samples, was, now):
    """Spaces, duplicate keys, float counts, extensions and leading zeros take the slow path."""
    for sequence, line in samples:
        changed = line.replace(was, now, 1)
        if changed != line:
            assert reader().read([changed], sequence) == [None]


def test_fast_path_rejects_two_half_lines(honest):
    """Two half lines can form valid JSON together."""
    found = lines(honest)[3:5]
    cut = len(found[0]) - 20
    torn = [found[0] + b"," + found[1][:cut], found[1][cut:]]
    assert reader().read(torn, 3) == [None, None]
    split = found[0].replace(b',"', b',\n"', 1)
    assert reader().read(split.split(b"\n"), 3) == [None, None]


@settings(max_examples=60)
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_fast_path_numbers_are_canonical_for_both_encoders(honest, samples, number):
    """msgspec and orjson write 1e16 differently, so such numbers take the slow path."""
    sequence, line = samples[0]
    event = orjson.loads(line)
    event["data"]["observed"] = number
    raw = orjson.dumps(event)
    assert (reader().read([raw], sequence)[0] is None) == (abs(number) >= 1e15)
    assert not taken_wrongly(honest, raw.replace(b"e+", b"e"), sequence)


def test_to_struct_keeps_all_fields_of_valid_data(honest):
    """Extensions are not kept."""
    draw = random.Random(3)
    for line in draw.sample(lines(honest), 20):
        event = orjson.loads(line)
        kind = event_kind(event["type"])
        if kind in ("decision.made", "context.recorded"):
            event["data"]["ext"] = {"theirs": 1}
            assert schema.make_validator()(kind, event)
            assert to_struct(kind, event["data"]).iter_num == event["data"]["iter_num"]
