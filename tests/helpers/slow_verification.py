"""Verification of one segment in plain steps with the standard `json` module, to compare the fast path with.

Every line is parsed, validated with the third-party package `jsonschema`, and written again by an encoder of
its own. Then the events are checked as dictionaries. The texts are those of `ockham verify`, except the parts
in which a parser or a schema validator describes its error.
"""

from __future__ import annotations

import hashlib
import json
import math
from decimal import Decimal
from functools import cache
from pathlib import Path

from ockham.event import TYPES, to_json_value
from ockham.fields import DEFAULTS, KNOBS, STEP_KNOBS
from ockham.record.run_folder import RunFolder
from tests.helpers.events import plain_validator

MAX_DEPTH = 254
HOOKS = {
    "batch": ("on_batch_start", "on_gradients", "on_batch_end"),
    "on_evaluate": ("on_evaluate",),
    "on_consolidate": ("on_consolidate",),
}
REFUSALS = ("NONFINITE_GRADIENT", "LOSS_SCALE_OVERFLOW", "BATCH_ABANDONED")
ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def write_number(value) -> str:
    """Return a number as the log contains it: the shortest digits, an exponent beyond 1e-5 to 1e16."""
    if isinstance(value, int):
        return str(value)
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    exponent += len(digits) - len(text)
    point = len(text) + exponent
    minus = "-" if sign else ""
    if text == "0":
        return minus + "0.0"
    if 0 <= exponent and point <= 16:
        return minus + text + "0" * exponent + ".0"
    if 0 < point <= 16:
        return f"{minus}{text[:point]}.{text[point:]}"
    if -5 < point <= 0:
        return minus + "0." + "0" * -point + text
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{minus}{text[0]}{fraction}e{point - 1:+d}"


def write(value) -> str:
    """Return JSON text as the writer of the log writes it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        escaped = (ESCAPES.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in value)
        return '"' + "".join(escaped) + '"'
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{write(key)}:{write(item)}" for key, item in value.items()) + "}"
    return write_number(value)


def parse(raw: bytes):
    """Return the JSON value of a line.

    Raises:
        ValueError: If it is not JSON, contains a number that no double holds, or is nested too deep.

    """

    def reject(word):
        raise ValueError(word)

    def whole(text):
        number = int(text) if len(text) < 400 else float(text)
        return number if -(2**63) <= number < 2**64 else float(number)

    value = json.loads(raw.decode("utf-8"), parse_constant=reject, parse_int=whole)
    if _depth(value) > MAX_DEPTH:
        raise ValueError("depth")
    write(value).encode("utf-8")
    if math.inf in map(abs, _numbers(value)):
        raise ValueError("infinite")
    return value


def _depth(value) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, float):
        yield value


_validator = cache(plain_validator)


@cache
def check_line(raw: bytes):
    """Return kind, event and place of a line and its findings, which do not depend on its position."""
    try:
        event = parse(raw)
        kind = event["type"].removeprefix("ockham.").rsplit(".", 1)[0]
        data = event["data"]
        place = (data["sequence"], data["attempt"], data["rank"], event["source"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, [("corruption", "is not an event of Ockham")]
    if kind not in TYPES or not _validator(kind).is_valid(event):
        return None, [("corruption", "does not fit its schema")]
    problems = []
    if len(raw) > 65_535:
        problems.append(("tampering", "is too long"))
    elif write(event).encode() != raw:
        problems.append(("tampering", "is not written as we write: a key twice, or other spacing"))
    return (kind, event, place), problems


def same(one, other) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


class SlowSequence:
    """Checks the events of a log in order, and collects contradictions and other findings."""

    def __init__(self, folder: RunFolder, attempt: int, rank: int) -> None:
        self.folder, self.place = folder, f"log/{attempt}-{rank}"
        self.findings = []
        self.counts = {}
        self.policies = {}
        self.accepted_and_saved = []
        self.pending, self.skipped = [], []
        self.last = self.step = None
        self.finished = False

    def add(self, kind, sequence, message, place=None):
        self.findings.append((kind, place or self.place, sequence, message))

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def feed(self, sequence, line):
        """Check one event, or None for a line that is not an event."""
        if line is None:
            self.pending, self.last, self.step = [], None, None
            return
        kind, event, _ = line
        data = event["data"]
        if self.finished and kind != "log.sealed":
            self.add("contradiction", sequence, f"{kind} follows the end of the run")
        if sequence == 0 and kind not in ("run.started", "run.resumed"):
            message = f"a log opens with run.started or run.resumed, not with {kind}"
            self.add("contradiction", 0, message)
        if kind == "decision.made":
            self.count("decisions")
            self.pending.append((sequence, data))
            accepts = any(c["field"] == "accepted" and c["after"] is True for c in data["changes"])
            if accepts and not data["shadow"]:
                self.accepted_and_saved += [(event["id"], data["iter_num"])]
        elif kind == "context.recorded":
            self.count("contexts")
            self.context(sequence, data)
        else:
            getattr(self, kind.replace(".", "_"), lambda *_: None)(sequence, data)
        revision = data.get("policy_revision")
        if revision is not None:
            self.policies.setdefault(revision, sequence)

    def context(self, sequence, data):
        given = {k: data["given"].get(k, to_json_value(DEFAULTS[k])) for k in KNOBS}
        left = {k: data["left"].get(k, given[k]) for k in KNOBS}
        key, accepted = (data["iter_num"], data["micro_step"]), {}
        if data["hook"] == "batch":
            accepted = self.batch(sequence, data, key, given, left)
        decisions, self.pending = self.pending, []
        named = data["decisions"]
        if named["count"] != len(decisions) or (decisions and named["first"] != decisions[0][0]):
            self.add(
                "contradiction",
                sequence,
                f"this context names {named['count']} decisions from {named['first']}, "
                f"but the log has {len(decisions)}",
            )
            return
        step = {k: v for k, v in data.get("gradients", {}).items() if k in STEP_KNOBS}
        for name in STEP_KNOBS:
            value = step.get(name)
            if name in step and accepted is not None and not same(value, accepted.get(name)):
                message = (
                    f"the step has {name} {value!r:.40}, and no accepted micro-batch of it has this value"
                )
                self.add("contradiction", sequence, message)
        knobs = dict(given)
        for at, made in decisions:
            if made["hook"] != "on_batch_start":
                knobs |= step
                step = {}
            if (made["iter_num"], made["micro_step"]) != key or made["hook"] not in HOOKS[data["hook"]]:
                message = f"decision {at} is of another batch or hook than its context"
                self.add("contradiction", sequence, message)
            self.apply(sequence, at, made, knobs)
        knobs |= step
        for name in KNOBS:
            was, now = knobs[name], left[name]
            if not same(was, now):
                message = f"{name} was left at {now!r:.40}, and the decisions leave it at {was!r:.40}"
                self.add("contradiction", sequence, message)

    def apply(self, sequence, at, made, knobs):
        """Apply the changes of an acting decision to the knobs."""
        for change in [] if made["shadow"] else made["changes"]:
            name, before, now = change["field"], change["before"], knobs[change["field"]]
            if not same(now, before):
                message = f"turned {name} from {before!r:.40}, and it stood at {now!r:.40}"
                self.add("contradiction", sequence, f"decision {at} of {made['plugin']!r:.40} {message}")
            knobs[name] = change["after"]

    def batch(self, sequence, data, key, given, left):
        """Check the order of batches. Return the knobs of an earlier accepted micro-batch of the step."""
        last, self.last = self.last, key
        if last and key != (last[0], last[1] + 1) and key != (last[0] + 1, 0):
            self.add("contradiction", sequence, f"batch {key} follows batch {last}")
        position = data.get("rows", {}).get("position")
        if position is not None and any(first <= position <= final for first, final in self.skipped):
            message = f"this batch read position {position}, which is recorded as skipped"
            self.add("contradiction", sequence, message)
        earlier = self.step if data["micro_step"] else {}
        self.step = {name: left[name] for name in STEP_KNOBS} if left["updated"] else earlier
        return {} if left["updated"] else earlier

    def data_skipped(self, _, data):
        self.skipped.append((data["first_position"], data["last_position"]))

    def checkpoint_saved(self, _, data):
        self.accepted_and_saved.append(data)

    def verdict_not_applied(self, sequence, data):
        kind = "refused step" if data["reason_code"] in REFUSALS else "not applied"
        message = (
            f"iteration {data['iter_num']}: {data['field']} was decided as {data['decided']!r:.40}, "
            f"and {data['applied']!r:.40} was measured ({data['reason_code']})"
        )
        self.add(kind, sequence, message)

    def run_started(self, sequence, data):
        digest = hashlib.sha256(self.folder.run_json.read_bytes()).hexdigest()
        if data.get("run_json_sha256", digest) != digest:
            message = "is not the file whose digest the first event gives"
            self.add("tampering", sequence, message, "run.json")

    run_resumed = run_started

    def run_finished(self, _sequence, _data):
        self.finished = True

    def log_gap(self, sequence, data):
        self.last = self.step = None
        count = "an unknown number of" if data["count"] is None else data["count"]
        self.add("gap", sequence, f"the log records {count} missing events ({data['reason_code']})")

    def log_halted(self, sequence, data):
        self.last = self.step = None
        message = f"the log was halted ({data['reason_code']}): {data['lost_events']} events were lost"
        self.add("gap", sequence, message)

    def plugin_state_recorded(self, sequence, data):
        place, state = f"blobs/{data['state_sha256']}", data["state"]
        path = self.folder.path / place
        if state is None and not path.is_file():
            message = "the plugin state of a key frame is missing"
            self.add("corruption", sequence, message, place)
            return
        raw = path.read_bytes() if state is None else write(_sorted(state)).encode()
        if hashlib.sha256(raw).hexdigest() != data["state_sha256"]:
            self.add("tampering", sequence, "the plugin state is not the one recorded", place)
        self.count("key frames")


def _sorted(value):
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def verify_slowly(folder: RunFolder, segment: Path, attempt: int = 1, rank: int = 0):
    """Return the findings of the only segment of a log, and the checker of its sequence."""
    *raws, tail = segment.read_bytes().split(b"\n")
    name = str(segment.relative_to(folder.path))
    checker = SlowSequence(folder, attempt, rank)
    for sequence, raw in enumerate(raws):
        line, problems = check_line(raw)
        for kind, message in problems:
            checker.add(kind, sequence, f"event {sequence} {message}", name)
        expected = (sequence, attempt, rank, f"ockham://runs/{folder.run_id}")
        if line is not None and line[2] != expected:
            message = f"event {sequence} names position {line[2]}, but is at {expected}"
            checker.add("tampering", sequence, message, name)
        checker.feed(sequence, line)
    if tail:
        what = "bytes without a newline" if tail.strip(b"\0") else "zero bytes"
        checker.add("crash tail", None, f"{len(tail)} {what} after the last complete line", name)
    checker.counts["events"] = len(raws)
    return checker
