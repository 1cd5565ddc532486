"""Pickles: plain data is read, and nothing is executed."""

from __future__ import annotations

import collections
import pickle
import pickletools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.nano.plain_pickle import read_plain_pickle

KEYS = st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=8), st.booleans())
PLAIN = st.recursive(
    st.one_of(KEYS, st.none(), st.floats(allow_nan=False), st.binary(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.tuples(inner, inner),
        st.tuples(inner, inner, inner, inner),
    ),
    max_leaves=30,
)


class Executed:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_of_every_protocol_is_read_as_pickle_reads_it(value, protocol):
    """Numbers, texts, lists, tuples and dictionaries equal the pickled ones."""
    data = pickle.dumps(value, protocol)
    if b"_codecs" in data:
        return  # Old protocols call a function for bytes.
    assert read_plain_pickle(data) == value
    assert read_plain_pickle(pickletools.optimize(data)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_become_dictionaries_and_nothing_is_called(protocol):
    """Entries of dictionary classes are kept. Other objects are empty."""
    value = {"x": Executed(), "od": collections.OrderedDict(a=1), "shared": ["b"]}
    read = read_plain_pickle(pickle.dumps({**value, "again": value["shared"]}, protocol))
    assert read["x"] == {}
    assert read["shared"] == read["again"] == ["b"]
    assert read["od"] in ({"a": 1}, {})


@given(PLAIN, st.data())
def test_damaged_pickle_raises_only_value_error(value, data):
    """A cut or a changed byte gives data or a ValueError."""
    pickled = bytearray(pickle.dumps(value))
    cut = data.draw(st.integers(0, len(pickled)))
    changed = bytearray(pickled[:cut])
    if changed and data.draw(st.booleans()):
        changed = pickled
        changed[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_plain_pickle(bytes(changed))
    except ValueError:
        pass


def test_large_pickle_is_refused(monkeypatch):
    """The limit is checked before anything is read."""
    monkeypatch.setattr("ockham.nano.plain_pickle.MAX_PICKLE_BYTES", 3)
    with pytest.raises(ValueError, match="at most 3"):
        read_plain_pickle(pickle.dumps([1]))
