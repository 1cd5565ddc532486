"""Independent model of the proofs: which lines follow from the signed bytes, and what contradicts them.

It reads bytes only, and imports nothing of `ockham`. Classes are those of `ockham verify`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.attacks.world import list_logs, list_segments, tree_root

Files = Mapping[str, bytes]


@dataclass
class LogModel:
    """One log: its lines, valid tree heads, number of signed lines, and their events."""

    name: str
    lines: list[bytes] = field(default_factory=list)
    # Size and root. Two heads of one size contradict each other, and either can match the lines.
    heads: set[tuple[int, bytes]] = field(default_factory=set)
    signed: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    findings: set[str] = field(default_factory=set)

    def data(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of the signed events of a kind."""
        return [event["data"] for event in self.events if event["type"] == f"ockham.{kind}.v1"]

    def has_root(self, size: int, root: str) -> bool:
        """Return True if the first lines have this root."""
        return size <= len(self.lines) and tree_root(self.lines[:size]).hex() == root


@dataclass
class Model:
    """A run: its logs, classes of findings, and what its signed events prove."""

    logs: dict[str, LogModel]
    findings: set[str]
    # Snapshot ID -> data of the signed checkpoint.saved.
    saved: dict[str, dict[str, Any]]
    pruned: set[str]
    ends: dict[str, str]

    @property
    def sound(self) -> bool:
        """True if nothing contradicts a signature."""
        return not self.findings

    def files_match(self, files: Files, snapshot_id: str) -> bool:
        """Return True if the files of a checkpoint are those of its signed event."""
        saved = self.saved.get(snapshot_id)
        return saved is not None and all(
            _sha256(files, f"checkpoints/{snapshot_id}/{file['name']}") == file["sha256"]
            for file in saved["files"]
        )


def read_model(files: Files, run_id: str, key: str) -> Model:
    """Return what follows from the bytes of a run under one trusted verifier key."""
    logs = {name: _read_log(files, name, f"ockham/runs/{run_id}/{name}", key) for name in list_logs(files)}
    findings = {finding for log in logs.values() for finding in log.findings}
    for log in logs.values():
        findings |= compare_logs(log, logs) | _compare_files(log, files)
    saved = {data["snapshot_id"]: data for log in logs.values() for data in log.data("checkpoint.saved")}
    pruned = {data["snapshot_id"] for log in logs.values() for data in log.data("checkpoint.pruned")}
    ends = {name: data["reason_code"] for name, log in logs.items() for data in log.data("run.finished")}
    findings |= _compare_key(files, key)
    model = Model(logs, findings, saved, pruned, ends)
    if not all(model.files_match(files, snapshot_id) for snapshot_id in saved if snapshot_id not in pruned):
        findings.add("checkpoint")
    return model


def _read_log(files: Files, name: str, origin: str, key: str) -> LogModel:
    log = LogModel(name)
    segments = list_segments(files, name)
    for segment in segments:
        if int(Path(segment).stem) != len(log.lines):
            log.findings.add("gap")
        *whole, tail = files[segment].split(b"\n")
        log.lines += whole
        if tail and segment != segments[-1]:
            log.findings.add("corruption")
    _read_heads(log, files, origin, key)
    matching = [size for size, root in log.heads if log.has_root(size, root.hex())]
    if len(matching) < len(log.heads):
        log.findings.add("tampering")
    if not log.heads and log.lines:
        log.findings.add("unsigned")
    log.signed = max(matching, default=0)
    log.events = [json.loads(line) for line in log.lines[: log.signed]]
    _check_end(log)
    return log


def _read_heads(log: LogModel, files: Files, origin: str, key: str) -> None:
    """Collect the valid tree heads. The writer appends to the history before it replaces `checkpoint`.

    Both are written for the empty log before the first line. A power loss can keep one of them only.
    """
    history, newest = (files.get(f"log/{log.name}/{file}", b"") for file in ("checkpoints", "checkpoint"))
    notes, rest = 0, history
    while match := re.match(rb"(.*?\n\n.*?\n)\n", rest, re.DOTALL):
        rest, notes = rest[match.end() :], notes + 1
        _add_head(log, match[1], origin, key)
    if rest and not _can_be_unfinished(rest, origin):
        log.findings.add("tampering")
    if newest:
        _add_head(log, newest, origin, key)
        if not history and any(size for size, _ in log.heads):
            log.findings.add("tampering")
    elif notes > 1:
        log.findings.add("tampering")


def _can_be_unfinished(data: bytes, origin: str) -> bool:
    """Return True if some rest makes the bytes a head of this log. After a power loss, zeros can follow."""
    head = f"{origin}\n1\n{'A' * 43}=\n\n\u2014 n {'A' * 91}=\n\n".encode()
    form = re.escape(origin.encode()) + rb"\n\d+\n[\w+/]{43}=\n\n\xe2\x80\x94 \S+ [\w+/]{91}=\n\n"
    begun = data.rstrip(b"\0")
    return any(re.fullmatch(form, begun + head[at:]) for at in range(len(head)))


def _add_head(log: LogModel, note: bytes, origin: str, key: str) -> None:
    """Add a tree head. Anything but a valid head of this log is tampering."""
    name, key_id, encoded = key.split("+", 2)
    public = base64.b64decode(encoded)[1:]
    try:
        text, signature = note.decode().split("\n\n")
        where, size, root, *_ = f"{text}\n".split("\n")
        mark, signer, blob = signature.removesuffix("\n").split(" ")
        raw = base64.b64decode(blob, validate=True)
        if (mark, signer, raw[:4].hex(), base64.b64encode(raw).decode()) != ("\u2014", name, key_id, blob):
            raise ValueError("another key")
        Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], f"{text}\n".encode())
        if where != origin:
            raise ValueError("another log")
        head = int(size), base64.b64decode(root, validate=True)
    except (ValueError, InvalidSignature):
        log.findings.add("tampering")
        return
    log.heads.add(head)


def _check_end(log: LogModel) -> None:
    """After a signed run.finished only log.sealed may follow, signed or not."""
    kinds = [event["type"] for event in log.events]
    if "ockham.run.finished.v1" not in kinds:
        return
    if set(kinds[kinds.index("ockham.run.finished.v1") + 1 :]) - {"ockham.log.sealed.v1"}:
        log.findings.add("contradiction")
    for line in log.lines[log.signed :]:
        try:
            event = json.loads(line)
            sealed = isinstance(event["data"], dict) and event["type"] == "ockham.log.sealed.v1"
        except (ValueError, TypeError, LookupError, RecursionError):
            sealed = False
        if not sealed:
            log.findings.add("tampering")


def compare_logs(log: LogModel, logs: Mapping[str, LogModel]) -> set[str]:
    """Return the findings of the other logs that the signed events of a log name."""
    findings: set[str] = set()
    if not log.events:
        return findings
    attempt, rank = log.name.split("-")
    first = log.events[0]["data"]
    headed = {name for name, other in logs.items() if other.heads}
    # Each rank signs an empty log before any rank writes a line.
    if any(f"{attempt}-{each}" not in headed for each in range(first.get("world_size", 1))):
        findings.add("gap")
    left = [{**first, "rank": rank}, *first.get("left_logs", [])] if "from_root" in first else []
    for named in left:
        before = logs.get(f"{first['from_attempt']}-{named['rank']}", LogModel(""))
        if not before.has_root(named["from_size"], named["from_root"]):
            findings.add("tampering")
        elif before.signed < named["from_size"]:
            findings.add("unsigned")
    for end in (end for data in log.data("run.finished") for end in data.get("rank_logs") or []):
        if not logs.get(f"{attempt}-{end['rank']}", LogModel("")).has_root(end["size"], end["root"]):
            findings.add("contradiction")
    return findings


def _compare_files(log: LogModel, files: Files) -> set[str]:
    findings: set[str] = set()
    for event in log.events:
        data, kind = event["data"], event["type"]
        revision = data.get("policy_revision")
        if revision and _sha256(files, f"policies/{revision[7:]}.json") != revision[7:]:
            findings.add("policy missing")
        opens = kind in ("ockham.run.started.v1", "ockham.run.resumed.v1")
        if opens and data.get("run_json_sha256") not in (None, _sha256(files, "run.json")):
            findings.add("tampering")
        if kind == "ockham.plugin_state.recorded.v1" and data["state"] is None:
            found = _sha256(files, f"blobs/{data['state_sha256']}")
            if found != data["state_sha256"]:
                findings.add("tampering" if found else "corruption")
        if kind in ("ockham.log.gap.v1", "ockham.log.halted.v1"):
            findings.add("gap")
    return findings


def _compare_key(files: Files, key: str) -> set[str]:
    """Return a finding if run.json names another valid key."""
    try:
        named = str(json.loads(files["run.json"])["verifier_key"])
        name, key_id, encoded = named.split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
    except (ValueError, LookupError, TypeError):
        return set()
    valid = hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8] == key_id and len(raw) == 33
    return {"tampering"} if valid and named != key else set()


def _sha256(files: Files, path: str) -> str:
    return hashlib.sha256(files[path]).hexdigest() if path in files else ""
