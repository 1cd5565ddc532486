"""The event envelope: IDs in order of time, and numbers that keep their value."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid

from hypothesis import given
from hypothesis import strategies as st

from ockham.event import (
    TYPES,
    envelope,
    event_id,
    event_kind,
    event_type,
    from_json_value,
    parse_number,
    timestamp,
    to_json_value,
)


@given(st.integers(0, 2**62), st.integers(0, 2**32 - 1), st.integers(0, 2**30 - 1))
def test_event_id_is_a_uuid_of_version_7(time_ns, sequence, nonce):
    """RFC 9562: version, variant and milliseconds."""
    text = event_id(time_ns, sequence, nonce)
    parsed = uuid.UUID(text)
    assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
    assert parsed.int >> 80 == (time_ns // 1_000_000) % 2**48
    assert parsed.int & 0xFFFF_FFFF == sequence


@given(st.integers(0, 2**60), st.integers(0, 2**20), st.integers(1, 1000))
def test_event_ids_of_one_attempt_differ_and_sort(time_ns, sequence, step):
    """At one instant the sequence number decides."""
    first = event_id(time_ns, sequence, 7)
    assert first < event_id(time_ns, sequence + step, 7)
    assert first < event_id(time_ns + step * 1_000_000, 0, 7)


def test_timestamp_is_rfc_3339_in_utc():
    """Microseconds are truncated."""
    assert timestamp(1_732_456_789_999_999_999) == "2024-11-24T13:59:49.999999Z"
    parsed = dt.datetime.fromisoformat(timestamp(1_000))
    assert parsed == dt.datetime(1970, 1, 1, microsecond=1, tzinfo=dt.UTC)


values = st.recursive(
    st.floats()
    | st.integers()
    | st.booleans()
    | st.none()
    | st.text(max_size=5).filter(lambda s: s not in ("NaN", "Infinity", "-Infinity")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def same(one, other):
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other and str(one) == str(other)


@given(values)
def test_json_keeps_every_value(value):
    """NaN, infinities, -0.0 and every bit of a double."""
    text = json.dumps(to_json_value(value), allow_nan=False)
    assert same(value, from_json_value(json.loads(text)))


def test_parse_number_restores_non_finite_values():
    """None stays None."""
    assert parse_number(None) is None
    assert (parse_number(3), type(parse_number(3))) == (3.0, float)
    assert math.isnan(parse_number("NaN"))
    assert (parse_number("Infinity"), parse_number("-Infinity")) == (math.inf, -math.inf)
    assert to_json_value((1.0, math.nan)) == [1.0, "NaN"]


def test_envelope_has_the_cloudevents_attributes():
    """In this order."""
    event = envelope("decision.made", "night-1", "iter/3", 0, "x", {"a": 1})
    assert event == {
        "specversion": "1.0",
        "id": "x",
        "source": "ockham://runs/night-1",
        "type": "ockham.decision.made.v1",
        "subject": "iter/3",
        "time": "1970-01-01T00:00:00.000000Z",
        "dataschema": "urn:ockham:decision.made.v1",
        "data": {"a": 1},
    }
    assert [event_kind(event_type(kind)) for kind in TYPES] == list(TYPES)
