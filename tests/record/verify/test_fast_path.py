"""The fast path of verify and a plain implementation give the same findings for changed logs."""

from __future__ import annotations

import json
import random
import re
import shutil

import orjson
import pytest

from ockham.record.fast_decode import FastDecoder
from ockham.record.run_folder import RunFolder
from ockham.record.verify.segment import SegmentTask, verify_segment
from tests.helpers.events import lines
from tests.helpers.runs import make_run
from tests.helpers.slow_verification import parse, verify_slowly, write, write_number
from tests.helpers.varied_runs import Plan, make_varied_run

# A parser and a schema validator describe errors in their own words.
OWN_WORDS = re.compile(r"(is not an event of Ockham|does not fit its schema).*", re.DOTALL)
NUMBER = re.compile(rb"(?<=[:,\[])-?[0-9][0-9.e-]*(?=[,\]}])")
KEY = re.compile(rb'"[a-z_]+":(?:"[^"]*"|[0-9.-]+|true|false|null)')
STRING = re.compile(rb'(?<=:)"[^"\\]+"')
SPELLINGS = [
    lambda n: n + b"0" if b"." in n else n + b".0",
    lambda n: n + b"e0",
    lambda n: n + b"E+0",
    lambda n: b"-0",
    lambda n: b"-0.0",
    lambda n: b"0" + n,
    lambda n: n + b"00000000000000000001" if b"." in n else n,
    lambda n: n[:-1] or b"7",
    lambda n: n + b"1",
    lambda n: b"-" + n,
    lambda n: b"1e0",
    lambda n: b"1e16",
    lambda n: b"1E400",
    lambda n: b"9" * 30,
    lambda n: b"18446744073709551615",
    lambda n: b"9007199254740993",
    lambda n: b"NaN",
    lambda n: b'"NaN"',
    lambda n: b'"Infinity"',
    lambda n: b"Infinity",
    lambda n: b"null",
    lambda n: b"true",
    lambda n: b"[]",
    lambda n: b"{}",
]
BYTES = [
    b" ",
    b"\t",
    b"\r",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"\\",
    b'"',
    b"{",
    b"}",
    b"[",
    b",",
    b":",
    b"0",
    b"\x7f",
]


def flip_bit(raw, draw):
    at = draw.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ (1 << draw.randrange(6))]) + raw[at + 1 :]


def insert_bytes(raw, draw):
    at = draw.randrange(len(raw) + 1)
    return raw[:at] + draw.choice(BYTES) + raw[at + draw.randrange(2) :]


def space_after_punctuation(raw, draw):
    found = [m.end() for m in re.finditer(rb"[,:{\[]", raw)]
    at = draw.choice(found)
    return raw[:at] + draw.choice([b" ", b"\t", b"  ", b"\r"]) + raw[at:]


def spell_number(raw, draw):
    found = draw.choice(list(NUMBER.finditer(raw)))
    return raw[: found.start()] + draw.choice(SPELLINGS)(found[0]) + raw[found.end() :]


def double_key(raw, draw):
    """Write a key twice, with its own value or with that of another key."""
    found = list(KEY.finditer(raw))
    one, other = draw.choice(found), draw.choice(found)
    extra = draw.choice([one[0], one[0].partition(b":")[0] + b":" + other[0].partition(b":")[2]])
    return raw[: one.start()] + extra + b"," + raw[one.start() :]


def swap_keys(raw, draw):
    first, second = sorted(draw.sample(list(KEY.finditer(raw)), 2), key=lambda m: m.start())
    between = raw[first.end() : second.start()]
    return raw[: first.start()] + second[0] + between + first[0] + raw[second.end() :]


def drop_key(raw, draw):
    found = draw.choice(list(KEY.finditer(raw)))
    return (raw[: found.start()] + raw[found.end() :]).replace(b",,", b",").replace(b"{,", b"{")


def escape_letter(raw, draw):
    found = draw.choice(list(STRING.finditer(raw)))
    at = draw.randrange(found.start() + 1, found.end() - 1)
    escape = draw.choice([b"\\u%04x", b"\\u%04X", b"\\ud8%02x"]) % raw[at]
    return (
        raw[:at] + draw.choice([escape, b"\\/", b"\\n", b"\\ud83d\\ude00", b"\xed\xa0\x80"]) + raw[at + 1 :]
    )


def change_value(raw, draw):
    """Set one value of the data to that of another place in the line, as the writer writes it."""
    event = orjson.loads(raw)
    places = list(_places(event["data"]))
    (owner, key), (other, key2) = draw.choice(places), draw.choice(places)
    owner[key] = draw.choice([other[key2], 0, 1, 1.5, True, False, None, -0.0, "NaN", 2**60])
    return _encoded(event)


def change_knob(raw, draw):
    """Change a number of decisions, a knob or a key of a batch, so that events contradict each other."""
    data = (event := orjson.loads(raw))["data"]
    values = [0, 1, 1.0, 2, True, False, 0.5, "Infinity", 1e-3]
    whole = [0, 1, 2, 3, 7]
    for change in data.get("changes", ()):
        change[draw.choice(["before", "after"])] = draw.choice(values)
    for part in ("given", "left", "gradients"):
        if part in data and draw.random() < 0.4:
            data[part][draw.choice(["learning_rate", "grad_clip", "updated", "drift_ceiling"])] = draw.choice(
                values
            )
    if draw.random() < 0.4:
        data[draw.choice(["iter_num", "micro_step"])] = draw.choice(whole)
    if "decisions" in data and draw.random() < 0.3:
        data["decisions"][draw.choice(["first", "count"])] = draw.choice(whole)
    return _encoded(event)


def _places(value):
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from _places(item)


def _encoded(event):
    try:
        return orjson.dumps(event)
    except (TypeError, ValueError):
        return json.dumps(event, separators=(",", ":")).encode()


CHANGES = [
    flip_bit,
    insert_bytes,
    space_after_punctuation,
    spell_number,
    spell_number,
    double_key,
    swap_keys,
    drop_key,
    escape_letter,
    change_value,
    change_knob,
    change_knob,
]


def change_lines(raws, draw):
    """Return the bytes of a log with one to three changes of single lines or of their order."""
    raws = list(raws)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        at = draw.randrange(len(raws))
        what = draw.randrange(len(CHANGES) + 3)
        if what < len(CHANGES):
            raws[at] = (
                CHANGES[what](raws[at], draw) if len(raws[at]) > 9 and KEY.search(raws[at]) else raws[at]
            )
        elif what == len(CHANGES):
            raws[at : at + 1] = draw.choice([[], [raws[at]] * 2, [raws[at], b""]])
        else:
            other = draw.randrange(len(raws))
            raws[at], raws[other] = raws[other], raws[at]
    return b"\n".join(raws) + draw.choice([b"\n"] * 6 + [b"", b"\n\0\0", b"\n{"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs: one with evaluations, key frames and checkpoints, one with gradient accumulation."""
    folder = tmp_path_factory.mktemp("fast")
    plain = make_run(folder, "plain", batches=40, nan_at=5).folder
    plan = Plan(steps=14, micro_steps=3, bad_losses=((9, float("inf")),))
    return [plain, make_varied_run(folder, "varied", plan, policy="balanced")]


def copy_log(source, target, content):
    """Return a copy of a run whose only log has this content."""
    folder = RunFolder(target, source.run_id)
    if not folder.path.exists():
        shutil.copytree(source.path, folder.path)
    folder.segments(1, 0)[0].write_bytes(content)
    return folder


def fast_result(folder):
    """Return sorted findings, counts and collected facts of verify."""
    segment = folder.segments(1, 0)[0]
    judged = verify_segment(SegmentTask(folder, 1, 0, segment, None, True, 0, signed=10**6))
    findings = sorted(
        (f.kind, f.place, f.sequence, f.message) for f in judged.report.findings if f.sequence is not None
    )
    tails = [(f.kind, f.place, f.message) for f in judged.report.findings if f.sequence is None]
    return findings, tails, judged.report.checked, judged.summary


def check_changed_log(folder, monkeypatch):
    """Compare verify with itself without its fast path, and with the plain implementation."""
    findings, tails, counts, summary = fast_result(folder)
    with monkeypatch.context() as patch:
        patch.setattr(FastDecoder, "read", lambda _self, raws, _first: [None] * len(raws))
        assert fast_result(folder) == (findings, tails, counts, summary)
    slow = verify_slowly(folder, folder.segments(1, 0)[0])
    assert tails == [(kind, place, text) for kind, place, at, text in slow.findings if at is None]
    reported = sorted((kind, place, at, OWN_WORDS.sub(r"\1", text)) for kind, place, at, text in findings)
    assert reported == sorted(finding for finding in slow.findings if finding[2] is not None)
    assert counts == slow.counts
    assert (summary.policies, summary.acceptances_and_checkpoints) == (slow.policies, slow.accepted_and_saved)
    return findings


@pytest.mark.parametrize("seed", range(6))
def test_changed_logs_have_the_findings_of_the_plain_implementation(runs, tmp_path, monkeypatch, seed):
    """Bytes, keys, numbers, spaces, escapes, values and lines change. Texts and positions are equal."""
    draw = random.Random(seed)
    seen = set()
    for source in runs:
        raws = lines(source)
        for _ in range(20):
            folder = copy_log(source, tmp_path, change_lines(raws, draw))
            seen |= {kind for kind, *_ in check_changed_log(folder, monkeypatch)}
    assert seen >= {"corruption", "tampering", "contradiction"}


def test_unchanged_logs_have_no_findings_in_any_implementation(runs, tmp_path, monkeypatch):
    """The plain implementation accepts what the writer writes, and reads all of it."""
    for source in runs:
        content = b"".join(line + b"\n" for line in lines(source))
        found = check_changed_log(copy_log(source, tmp_path, content), monkeypatch)
        assert [kind for kind, *_ in found if kind != "refused step"] == []


def test_plain_encoder_writes_numbers_as_the_log_contains_them():
    """Random doubles of all magnitudes, and whole numbers."""
    draw = random.Random(5)
    numbers = [draw.uniform(-1, 1) * 10.0 ** draw.randint(-320, 307) for _ in range(3_000)]
    numbers += [float(draw.randint(-(10**17), 10**17)) / 10 ** draw.randint(0, 20) for _ in range(3_000)]
    for number in [*numbers, 0.0, -0.0, 5e-324, 1e15, 1e16, 1e17, 1e-5, 1e-6, 2**64 - 1, -(2**63)]:
        assert write_number(number) == orjson.dumps(number).decode()
        assert write(parse(orjson.dumps([number]))) == orjson.dumps([number]).decode()
