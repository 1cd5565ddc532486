"""verify.py of an evidence archive: checks the logs with only the standard library and `cryptography`.

    python verify.py evidence.zip --key 'ockham-3aa79232+0a1bf0ed+AeKt...'     or the unpacked folder

This file imports nothing of the package that wrote the archive. Read it before you trust it. Checked:
the Merkle tree (RFC 6962) of the lines against every signed tree head (C2SP, Ed25519), and the tiles. Only
the lines up to the newest matching head are evidence: position and sequence of each of them, each policy and
state blob against its digest, run.json against run.started, resumes against the previous log, the end against
the logs of all ranks, and the acts of people against their signed requests.
No signature covers schemas/, README and this file: compare them with known copies.
Exit status: 0 sound, 1 findings, 2 bad input, 3 no log to check.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import zipfile
import zlib
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ockham.record.verify.archive_people import PEOPLE, find_request_problem, find_untrusted_key
from ockham.record.verify.archive_reader import load
from ockham.record.verify.archive_signatures import Key, open_note, parse_key, strict_base64

_ODD = (OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError, RuntimeError, EOFError)
LOG = r"log/([1-9][0-9]{0,8}-(?:0|[1-9][0-9]{0,5}))/"
# Files that belong to a run or an archive without an event that names them.
KNOWN_FILES = re.compile(
    r"run\.json|schemas/[^/]+\.json|README|manifest\.json|verify\.py|"
    rf"(contexts|decisions|events)/.+\.(parquet|json)|{LOG}"
    r"([0-9]{12}\.jsonl|checkpoints?|tile/.+|torn/.+|lock|reserve)?"
)
MAX_LINE_BYTES, MAX_FINDINGS = 65_535, 200
# Class and text. The classes are those of `ockham verify`.
Finding = tuple[str, str]
Files = dict[str, bytes]
NOTES = frozenset({"crash tail", "not signed", "foreign", "key not pinned", "refused step"})
NOT_APPLIED = "ockham.verdict.not_applied.v1"
REFUSAL_CAUSES = ("NONFINITE_GRADIENT", "LOSS_SCALE_OVERFLOW", "BATCH_ABANDONED")
# Size -> roots. Two heads of one size contradict each other, and either can match the lines.
Heads = dict[int, set[bytes]]
LOSS_EVENT_TYPES = ("ockham.log.gap.v1", "ockham.log.halted.v1")
FINISHED, SEALED = "ockham.run.finished.v1", "ockham.log.sealed.v1"
SAVED, PRUNED = "ockham.checkpoint.saved.v1", "ockham.checkpoint.pruned.v1"


class Log(NamedTuple):
    """Lines of a log, and what its signed events name: files with digests, and the events of few types."""

    lines: list[bytes]
    heads: Heads
    signed: int
    named: set[tuple[str, Any]]
    events: list[dict[str, Any]]


def leaf_hash(line: bytes) -> bytes:
    """Return the RFC 6962 leaf hash of a line."""
    return hashlib.sha256(b"\0" + line).digest()


def roots_at_sizes(lines: list[bytes], wanted: set[int]) -> dict[int, bytes]:
    """Return the root of the tree at each wanted size, and at the end."""
    found: dict[int, bytes] = {0: hashlib.sha256(b"").digest()}
    stack: list[bytes] = []
    for size, line in enumerate(lines, start=1):
        node, rest = leaf_hash(line), size - 1
        while rest & 1:
            node, rest = hashlib.sha256(b"\1" + stack.pop() + node).digest(), rest >> 1
        stack.append(node)
        if size in wanted or size == len(lines):
            root = stack[-1]
            for left in reversed(stack[:-1]):
                root = hashlib.sha256(b"\1" + left + root).digest()
            found[size] = root
    return found


def parse_event(line: bytes) -> dict[str, Any]:
    """Return the event of a line. A duplicate key is rejected, because two readers could read two values."""

    def reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    if len(line) > MAX_LINE_BYTES:
        raise ValueError("longer than any event")
    event: dict[str, Any] = json.loads(line, object_pairs_hook=reject_duplicate_keys)
    return event


def read_heads(files: Files, name: str, key: Key, where: str) -> tuple[Heads, list[Finding]]:
    """Return size -> roots of every signed tree head of a log, and the findings about all others.

    The history is written first. A crash leaves no `checkpoint` after the first note.
    """
    history, newest = (files.get(f"log/{name}/{file}", b"") for file in ("checkpoints", "checkpoint"))
    parts = history.split(b"\n\n")
    notes = [b"\n\n".join(pair) + b"\n" for pair in zip(parts[:-1:2], parts[1:-1:2], strict=False)]
    findings: list[Finding] = []
    if torn := b"\n\n".join(parts[2 * len(notes) :]).rstrip(b"\0"):
        kind = "crash tail" if is_cut_head(torn, where) else "tampering"
        findings.append((kind, f"the last {len(torn)} bytes of `checkpoints` are not a tree head"))
    heads: Heads = {}
    for note in [*notes, newest] if newest else notes:
        if isinstance(head := open_head(note, key, where), str):
            findings.append(("tampering", head))
        elif head[1] not in heads.setdefault(head[0], {head[1]}):
            heads[head[0]].add(head[1])
            findings.append(("tampering", f"two tree heads of size {head[0]} with different roots"))
    # Without a line, a power loss can keep one of the two files only.
    if (newest and not notes and any(heads)) or (len(notes) > 1 and not newest):
        findings.append(("tampering", "only one of `checkpoint` and `checkpoints` has a tree head"))
    return heads, findings


def is_cut_head(data: bytes, where: str) -> bool:
    """Return True if some rest makes the bytes a signed tree head of this log, as a kill leaves it."""
    head = f"{where}\n0\n{'A' * 43}=\n\n\u2014 A {'A' * 91}=\n\n".encode()
    form = rb"%b\n[0-9]{1,19}\n[A-Za-z0-9+/]{43}=\n\n\xe2\x80\x94 [!-~]+ [A-Za-z0-9+/]{91}=\n\n"
    pattern = re.compile(form % re.escape(where.encode()))
    return any(pattern.fullmatch(data + head[at:]) for at in range(len(head)))


def open_head(note: bytes, key: Key, where: str) -> tuple[int, bytes] | str:
    """Return size and root of a signed tree head, or the problem of the note."""
    text, problem = open_note(note, key)
    if problem:
        return f"a tree head {problem}"
    try:
        origin, size, root = text.split("\n")[:3]
        head = int(size), strict_base64(root)
    except ValueError:
        return "a signed text that is not a tree head"
    return head if origin == where else f"a tree head of another log: {origin}"


def read_lines(files: Files, name: str) -> tuple[list[bytes], list[Finding]]:
    """Return the complete lines of a log."""
    segments = sorted(path for path in files if re.fullmatch(rf"log/{name}/[0-9]{{12}}\.jsonl", path))
    lines: list[bytes] = []
    findings: list[Finding] = []
    for segment in segments:
        if int(Path(segment).stem) != len(lines):
            findings.append(("gap", f"{segment} begins elsewhere than at event {len(lines)}"))
        *whole, tail = files[segment].split(b"\n")
        lines += whole
        if tail:
            kind = "crash tail" if segment == segments[-1] else "corruption"
            findings.append((kind, f"{segment} ends in {len(tail)} bytes that are not a line"))
    return lines, findings


def check_log(files: Files, run_id: str, name: str, key: Key) -> tuple[list[Finding], Log]:
    """Return the findings of one log, and its lines. Only signed lines are parsed."""
    lines, findings = read_lines(files, name)
    heads, found = read_heads(files, name, key, f"ockham/runs/{run_id}/{name}")
    signed, wrong = check_heads(files, name, heads, lines)
    findings, log = findings + found + wrong, Log(lines, heads, signed, set(), [])
    attempt, rank = (int(part) for part in name.split("-"))
    late = -1
    for sequence, line in enumerate(lines[:signed]):
        try:
            event = parse_event(line)
            place = (event["source"], *(event["data"][key] for key in ("attempt", "rank", "sequence")))
        except (ValueError, KeyError, TypeError, RecursionError):
            findings.append(("corruption", f"event {sequence} is not an event, or has a duplicate key"))
            continue
        if place != (f"ockham://runs/{run_id}", attempt, rank, sequence):
            findings.append(("tampering", f"event {sequence} names another position: {place}"))
        findings += check_event(files, event, sequence, log.named)
        if event.get("type") in PEOPLE and (problem := find_request_problem(event, run_id)):
            findings.append(("contradiction", f"event {sequence} {problem}"))
        if sequence == 0 or event.get("type") in (FINISHED, SAVED, PRUNED, *PEOPLE):
            log.events.append(event)
        if late >= 0 or event.get("type") == FINISHED:
            late += event.get("type") != SEALED
    if found_key := find_untrusted_key(log.events, key):
        findings.append(("contradiction", found_key))
    if late > 0:
        findings.append(("contradiction", f"{late} events after run.finished"))
    if late >= 0 and (forged := sum(read_type(line) != SEALED for line in lines[signed:])):
        findings.append(("tampering", f"{forged} unsigned lines after the signed run.finished"))
    return [(kind, f"log {name}: {text}") for kind, text in findings], log


def check_heads(files: Files, name: str, heads: Heads, lines: list[bytes]) -> tuple[int, list[Finding]]:
    """Return the number of signed lines, and the findings of the tree of the lines against every head."""
    findings: list[Finding] = []
    computed, count = roots_at_sizes(lines, set(heads)), len(lines)
    signed = max((size for size, roots in heads.items() if computed.get(size) in roots), default=0)
    differs = sorted(size for size, roots in heads.items() if size <= count and {computed[size]} != roots)
    largest = max(heads, default=0)
    print(f"log {name}: {count} events, signed to {signed}, root {computed[count].hex()}")
    if lost := max(0, largest - count):
        findings.append(("tampering", f"{largest} events were signed, but {count} exist: {lost} are missing"))
    if differs:
        findings.append(("tampering", f"the first {differs[0]} events differ from the signed ones"))
    if not heads and lines:
        findings.append(("unsigned", "no signed tree head of the given key"))
    elif signed < count:
        findings.append(("not signed", f"{count - signed} lines after event {signed} are not evidence"))
    return signed, findings + (check_tiles(files, name, lines) if signed == largest else [])


def check_tiles(files: Files, name: str, lines: list[bytes]) -> list[Finding]:
    """Return the findings of every Merkle tile (C2SP tlog-tiles) against the hashes of the lines."""
    findings = []
    for path, data in files.items():
        if not path.startswith(f"log/{name}/tile/") or path.endswith(".tmp"):
            continue
        match = re.fullmatch(
            r"log/[^/]+/tile/([0-5])/((?:x[0-9]{3}/){0,4}[0-9]{3})(?:\.p/([0-9]{1,3}))?", path
        )
        span, width = 256 ** int(match[1]) if match else 0, int(match[3] or 256) if match else 0
        first = int(re.sub("[^0-9]", "", match[2])) * 256 * span if match else 0
        parts = [lines[at : at + span] for at in range(first, first + width * span, span)] if span else []
        if (
            not parts
            or len(parts[-1]) != span
            or data != b"".join(roots_at_sizes(p, set())[span] for p in parts)
        ):
            findings.append(("derived", f"{path} does not hold the hashes of the lines"))
    return findings


def check_event(
    files: Files, event: dict[str, Any], sequence: int, named: set[tuple[str, Any]]
) -> list[Finding]:
    """Return the findings of files that an event names: each must be in the archive with its digest."""
    data, kind = event["data"], event.get("type")
    found: list[tuple[str, str, Any]] = []
    if revision := data.get("policy_revision"):
        policy = str(revision).partition("sha256:")[2]
        found.append(("policy missing", f"policies/{policy}.json", policy))
    if kind == "ockham.run.started.v1" or (kind == "ockham.run.resumed.v1" and "run_json_sha256" in data):
        found.append(("tampering", "run.json", data.get("run_json_sha256")))
    if kind == "ockham.plugin_state.recorded.v1" and data.get("state") is None:
        blob = f"blobs/{data.get('state_sha256')}"
        found.append(("tampering" if blob in files else "corruption", blob, data.get("state_sha256")))
    # A trainer keeps files of kind `trainer` outside of the run, and deletes them when it likes.
    if kind == SAVED and data["kind"] != "trainer":
        path = f"checkpoints/{data['snapshot_id']}"
        found += [("checkpoint", f"{path}/{file['name']}", file["sha256"]) for file in data["files"]]
    findings = []
    for class_, path, sha256 in found:
        # An archive contains no checkpoints, but a run folder does.
        if (path, sha256) in named or (class_ == "checkpoint" and path not in files):
            continue
        if path not in files or hashlib.sha256(files[path]).hexdigest() != sha256:
            findings.append((class_, f"event {sequence} names {path}, which is missing or another one"))
    named.update((path, sha256) for _, path, sha256 in found)
    if kind == NOT_APPLIED:
        class_ = "refused step" if data.get("reason_code") in REFUSAL_CAUSES else "not applied"
        findings.append((class_, f"event {sequence}: {data.get('field')!r:.40} was not carried out"))
    if kind in LOSS_EVENT_TYPES:
        findings.append(("gap", f"event {sequence} records missing events: {data.get('reason_code')!r:.40}"))
    return findings


def read_type(line: bytes) -> Any:
    """Return the type of the event of a line, or None if the line is not an event."""
    try:
        event = parse_event(line)
        return event["type"] if isinstance(event["data"], dict) else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def check_logs(logs: dict[str, Log]) -> list[Finding]:
    """Return the findings of the logs against each other: missing ranks, resumes, and the agreed end."""
    findings: list[Finding] = []
    for name, log in logs.items():
        attempt, rank = name.split("-")
        first: dict[str, Any] = log.events[0]["data"] if log.events else {"world_size": 0}
        try:
            # Each rank signs an empty log before any rank writes a line. A hostile number is not counted out.
            here = [each for each, other in logs.items() if other.heads]
            missing = (r for r in range(int(first.get("world_size", 1))) if f"{attempt}-{r}" not in here)
            gaps = (f"log {name}: the log of rank {r}, which began with it, is not here" for r in missing)
            findings += [("gap", text) for text in islice(gaps, 9)]
            lefts = [{**first, "rank": rank}, *first.get("left_logs", ())] if "from_root" in first else []
            before = [(first["from_attempt"], at["rank"], at["from_size"], at["from_root"]) for at in lefts]
            if any(not has_root(logs, *each) for each in before):
                findings.append(("tampering", f"log {name}: was resumed from another log than the one here"))
            elif any(size and logs[f"{at}-{r}"].signed < size for at, r, size, _ in before):
                findings.append(("unsigned", f"log {name}: tree heads of the log before it were removed"))
            ends = (end for event in log.events for end in event["data"].get("rank_logs") or ())
            if not all(has_root(logs, attempt, end["rank"], end["size"], end["root"]) for end in ends):
                findings.append(("contradiction", f"log {name}: run.finished names another log of a rank"))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            findings.append(("corruption", f"log {name}: an event does not name the other logs"))
    return findings


def has_root(logs: dict[str, Log], attempt: Any, rank: Any, size: int, root: str) -> bool:
    """Return True if the first lines of a log have this root. A log that does not exist is empty."""
    log = logs.get(f"{attempt}-{rank}")
    lines = log.lines if log else []
    return size <= len(lines) and roots_at_sizes(lines, {size})[size].hex() == root


def find_foreign(files: Files, logs: dict[str, Log]) -> list[Finding]:
    """Print the checkpoints that signed events name. Return the note about files that no event names."""
    events = [(event.get("type"), event["data"]) for log in logs.values() for event in log.events]
    saved, pruned = ({data["snapshot_id"] for type_, data in events if type_ == t} for t in (SAVED, PRUNED))
    if saved:
        print(f"checkpoints that signed events name: {len(saved)}, of them pruned: {len(saved & pruned)}")
    named = {path for log in logs.values() for path, _ in log.named}
    if foreign := sorted(name for name in files if name not in named and not KNOWN_FILES.fullmatch(name)):
        return [("foreign", f"{foreign[0]!a:.120} is named by no signed event ({len(foreign)} in all)")]
    return []


def main() -> int:
    """Check one archive or folder. Return the exit status."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("evidence", type=Path)
    parser.add_argument("--key", help="the verifier key that you trust; without it the run's own is taken")
    asked = parser.parse_args()
    try:
        files = load(asked.evidence)
        about = json.loads(files["run.json"])
        try:
            key = parse_key(asked.key or str(about["verifier_key"]))
        except ValueError:
            whose = "--key" if asked.key else "verifier_key of run.json"
            print(f"verify: {whose} is no verifier key, name+8 hex digits+base64", file=sys.stderr)
            return 2
        other = bool(asked.key) and about.get("verifier_key") not in (None, str(asked.key).strip())
        return verify_archive(files, str(about["run_id"]), key, known=bool(asked.key), other=other)
    except (*_ODD, zipfile.BadZipFile, zlib.error) as error:
        print(f"verify: {asked.evidence}: {type(error).__name__}: {str(error)!a}", file=sys.stderr)
        return 2


def verify_archive(files: Files, run_id: str, key: Key, *, known: bool, other: bool = False) -> int:
    """Check all logs, and the logs against each other. Print the findings and return the exit status."""
    findings = [("tampering", "run.json names another verifier key than the one given")] if other else []
    logs: dict[str, Log] = {}
    # Also a log without segments: its tree heads are evidence of its lines. A folder without files is the log
    # of a run that was killed before its first line.
    for name in sorted({match[1] for match in map(re.compile(LOG).match, files) if match}):
        found, logs[name] = check_log(files, run_id, name, key)
        findings += found
    findings += check_logs(logs) + find_foreign(files, logs)
    if not known:
        findings.append(("key not pinned", "the key is the run's own word; give the one you know with --key"))
    for kind, text in findings:
        if kind in NOTES:
            print_ascii(f"note: {kind}: {text}")
    wrong = [f"{kind}: {text}" for kind, text in findings if kind not in NOTES]
    for line in wrong[:MAX_FINDINGS] or ["sound" if logs else "no log in it"]:
        print_ascii(line)
    if len(wrong) > MAX_FINDINGS:
        print(f"and {len(wrong) - MAX_FINDINGS} more")
    if wrong:
        return 1
    return 0 if logs else 3


def print_ascii(line: str) -> None:
    """Print a line. Text from the archive cannot print a second line or control characters."""
    print(line if line.isascii() and line.isprintable() else ascii(line))


if __name__ == "__main__":
    sys.exit(main())
