"""States that an honest writer leaves when it is killed, computed from a complete run.

The writer writes lines, syncs, writes tiles, appends to the history (at most once a second), and replaces
`checkpoint` last. A segment is signed to its end before the next one begins. A checkpoint is complete before
its event. A pruned checkpoint is deleted after its event is signed.
"""

from __future__ import annotations

from tests.attacks.world import (
    Draw,
    Files,
    Key,
    World,
    choose,
    is_kind,
    list_logs,
    list_segments,
    note_size,
    read_event,
    read_lines,
    read_notes,
    remove_below,
    tree_root,
    write_lines,
    write_notes,
    write_tiles,
)

PARQUET = ("contexts/", "decisions/", "events/")


def crash(world: World, draw: Draw, key: Key) -> None:
    """Turn a complete run into one whose last attempt was killed."""
    attempt = max(int(log.split("-")[0]) for log in list_logs(world.files))
    logs = [log for log in list_logs(world.files) if log.startswith(f"{attempt}-")]
    before = {log: read_lines(world.files, log) for log in logs}
    signed = {log: _draw_signed(before[log], draw) for log in logs}
    if draw.integer(0, 7) == 0:
        signed = dict.fromkeys(logs, 0)
    _keep_agreed_ends(signed, before, attempt)
    begun = any(signed.values())
    kept = {log: _cut_log(world, log, signed[log], draw, key, begun=begun) for log in logs}
    for log in logs:
        _leave_temporary_files(world.files, log, draw)
    if len(logs) > 1 and not any(kept.values()) and draw.integer(0, 1):
        # No rank writes a line before all logs exist.
        remove_below(world.files, f"log/{choose(draw, logs)}/")
    _restore_reserves(world.files, before, signed, attempt)
    _restore_checkpoints(world, before, signed, kept, draw)
    for table in PARQUET:
        remove_below(world.files, table)
    world.operations.append(f"crash at {signed}")


def _draw_signed(lines: list[bytes], draw: Draw) -> int:
    """Return the number of signed lines at the crash: often all of them, or none."""
    kind = draw.integer(0, 7)
    if kind == 0:
        return len(lines)
    return 0 if kind == 1 else draw.integer(0, len(lines))


def _keep_agreed_ends(signed: dict[str, int], before: dict[str, list[bytes]], attempt: int) -> None:
    """Before a rank ends, the next rank has signed what the end names."""
    for log, lines in before.items():
        for line in lines[: signed[log] + 1]:
            event = read_event(line)
            for end in event.get("data", {}).get("rank_logs") or [] if is_kind(event, "run.finished") else []:
                other = f"{attempt}-{end['rank']}"
                signed[other] = max(signed[other], end["size"])


def _cut_log(world: World, log: str, signed: int, draw: Draw, key: Key, *, begun: bool) -> int:
    """Cut one log after a signed line, and return the number of kept lines."""
    files, lines = world.files, read_lines(world.files, log)
    notes = [note for note in read_notes(files, log) if note_size(note) <= signed]
    firsts = [int(path[-18:-6]) for path in list_segments(files, log)]
    # Unsigned lines are in one segment.
    limit = min([*(first for first in firsts if first > signed), len(lines)])
    kept = draw.integer(signed, min(limit, signed + choose(draw, [0, 1, 6])))
    tail = b""
    if kept < limit and draw.integer(0, 1):
        tail = lines[kept][: draw.integer(0, len(lines[kept]))]
    if any(is_kind(read_event(line), "run.finished") for line in lines[signed:kept]):
        # An end is appended after the logs of all ranks are signed.
        kept, tail = signed, b""
    write_lines(files, log, lines[:kept], tail)
    newest = key.sign(f"ockham/runs/{world.run_id}/{log}", signed, tree_root(lines[:signed]))
    _cut_heads(files, log, notes, newest, draw, begun=begun)
    previous = [note_size(note) for note in notes[-1:]]
    write_tiles(files, log, lines[:kept], {signed, *choose(draw, [[], previous, [kept]])})
    files[f"log/{log}/reserve"], files[f"log/{log}/lock"] = bytes(64), b""
    return kept


def _cut_heads(files: Files, log: str, notes: list[bytes], newest: bytes, draw: Draw, *, begun: bool) -> None:
    """Write the tree heads as a kill leaves them, between the history and `checkpoint` or after both."""
    size = note_size(newest)
    earlier = [note for note in notes if note_size(note) < size]
    first = notes[0] if notes else newest
    if size == 0:
        # Before the first line of any rank: no head, a torn one, or a head in the history only.
        state = 3 if begun or read_lines(files, log) else draw.integer(0, 3)
        history = [] if state < 2 else [first]
        torn = first[: draw.integer(1, len(first))] if state == 1 else b""
        write_notes(files, log, history, newest if state == 3 else None, torn)
        return
    state = draw.integer(0, 3)
    if state == 0:
        # The newest head was signed between two of the history.
        write_notes(files, log, earlier or [first], newest)
    elif state == 1:
        write_notes(files, log, [*earlier, newest], newest)
    elif state == 2 and earlier:
        # The history has the newest head, and `checkpoint` the one before.
        write_notes(files, log, [*earlier, newest], earlier[-1])
    else:
        # A head that was being appended to the history is not yet in `checkpoint`.
        torn = newest[: draw.integer(1, len(newest))]
        write_notes(files, log, earlier or [first], newest, torn)


def _restore_reserves(
    files: Files, before: dict[str, list[bytes]], signed: dict[str, int], attempt: int
) -> None:
    """A resume keeps the reserves of killed attempts until its opening is signed."""
    opened = all(
        any(is_kind(read_event(line), "policy.loaded") for line in lines[: signed[log]])
        for log, lines in before.items()
    )
    for log in list_logs(files):
        ended = any(is_kind(read_event(line), "run.finished") for line in read_lines(files, log))
        if int(log.split("-")[0]) == attempt - 1 and not opened and not ended:
            files[f"log/{log}/reserve"] = bytes(64)


def _leave_temporary_files(files: Files, log: str, draw: Draw) -> None:
    """Leave files that were being written."""
    left = {
        f"log/{log}/.checkpoint.77.tmp": b"ockham/runs",
        f"log/{log}/tile/0/000.p/.9.77.tmp": bytes(40),
        "checkpoints/.accepted-00000009.77.tmp/model.safetensors": b"x",
        "blobs/.aa.77.tmp": b"{",
        "policies/.bb.77.tmp": b"",
    }
    for path, data in left.items():
        if draw.integer(0, 3) == 0:
            files[path] = data


def _restore_checkpoints(
    world: World,
    before: dict[str, list[bytes]],
    signed: dict[str, int],
    kept: dict[str, int],
    draw: Draw,
) -> None:
    """Restore the checkpoints that existed at the crash. A deletion can be unfinished."""
    remove_below(world.files, "checkpoints/resume")
    remove_below(world.files, "checkpoints/accepted")
    saved, pruned = set(), set()
    later: list[str] = []
    for log in list_logs(world.files):
        lines = before.get(log, read_lines(world.files, log))
        for at, line in enumerate(lines):
            event = read_event(line)
            if is_kind(event, "checkpoint.saved"):
                name = event["data"]["snapshot_id"]
                if at < kept.get(log, len(lines)):
                    saved.add(name)
                else:
                    later.append(name)
            if is_kind(event, "checkpoint.pruned") and at < signed.get(log, len(lines)):
                pruned.add(event["data"]["snapshot_id"])
    for name in sorted(saved):
        parts = {path: data for path, data in world.attic.items() if path.startswith(f"checkpoints/{name}/")}
        state = draw.integer(0, 2) if name in pruned else 0
        # Whole, without its first file, or gone.
        world.files.update({0: parts, 1: dict(list(parts.items())[1:]), 2: {}}[state])
    if later and draw.integer(0, 1):
        # Its event was not written yet.
        world.files.update(
            {path: data for path, data in world.attic.items() if path.startswith(f"checkpoints/{later[0]}/")}
        )
