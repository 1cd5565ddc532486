"""Attacks: changes of a run folder by someone without the trusted key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.attacks.forgery import (
    FORGED_LOSS,
    KINDS,
    all_logs,
    append_events,
    forge_event,
    renumber,
    sign_with_old_key,
)
from tests.attacks.world import (
    Draw,
    World,
    choose,
    list_logs,
    list_segments,
    note_size,
    read_event,
    read_lines,
    read_notes,
    remove_below,
    tree_root,
    write_event,
    write_lines,
    write_notes,
    write_tiles,
)

Operation = Callable[[World, Draw], None]
OPERATIONS: dict[str, Operation] = {}


def operation(function: Operation) -> Operation:
    """Register an operation under its name."""
    OPERATIONS[function.__name__] = function
    return function


def attack(world: World, draw: Draw) -> None:
    """Apply one operation that the draw selects."""
    name = choose(draw, OPERATIONS)
    if list_logs(world.files):
        OPERATIONS[name](world, draw)
    world.operations.append(name)


def _log(world: World, draw: Draw) -> str:
    return str(choose(draw, list_logs(world.files)))


# Lines.


@operation
def append_forged_event(world: World, draw: Draw) -> None:
    """Append one event with the right sequence."""
    append_events(world, draw, _log(world, draw), [choose(draw, KINDS)])


@operation
def append_forged_end(world: World, draw: Draw) -> None:
    """Append an evaluation, a checkpoint and a second end, as in a run that continues."""
    append_events(world, draw, _log(world, draw), ["evaluation.recorded", "checkpoint.saved", "run.finished"])


@operation
def append_junk(world: World, draw: Draw) -> None:
    """Append a line that is not an event, or an unfinished one."""
    segments = list_segments(world.files, _log(world, draw))
    junk = [b"\n", b"[]\n", b"x\n", b"{", b'{"type":"ockham.log.sealed.v1"}\n', bytes(9), b"[" * 3000 + b"\n"]
    if segments:
        world.files[segments[draw.integer(0, len(segments) - 1)]] += choose(draw, junk)


@operation
def insert_forged_event(world: World, draw: Draw) -> None:
    """Insert an event anywhere, and renumber the later lines."""
    log = _log(world, draw)
    lines = read_lines(world.files, log)
    at = draw.integer(0, len(lines))
    event = forge_event(world, draw, log, at, choose(draw, KINDS))
    later = choose(draw, [lines[at:], renumber(lines[at:], world.run_id, log, at + 1)])
    write_lines(world.files, log, [*lines[:at], event, *later])


@operation
def edit_line(world: World, draw: Draw) -> None:
    """Change one value of one event, or one byte of a line."""
    log = _log(world, draw)
    lines = read_lines(world.files, log)
    if not lines:
        return
    at = draw.integer(0, len(lines) - 1)
    event = read_event(lines[at])
    if event and draw.integer(0, 2):
        name = choose(draw, event["data"])
        event["data"][name] = choose(draw, [FORGED_LOSS, 0, "x", None, [], {}, True])
        lines[at] = write_event(event)
    elif lines[at]:
        byte = draw.integer(0, len(lines[at]) - 1)
        lines[at] = lines[at][:byte] + b"7" + lines[at][byte + 1 :]
    write_lines(world.files, log, lines)


@operation
def edit_evaluation(world: World, draw: Draw) -> None:
    """Change the loss of a recorded evaluation."""
    log = _log(world, draw)
    lines = read_lines(world.files, log)
    found = [at for at, line in enumerate(lines) if b"ockham.evaluation.recorded.v1" in line]
    if found:
        at = choose(draw, found)
        event = read_event(lines[at])
        event["data"]["val_loss"] = FORGED_LOSS
        lines[at] = write_event(event)
        write_lines(world.files, log, lines)


@operation
def delete_lines(world: World, draw: Draw) -> None:
    """Delete lines anywhere, with or without renumbering."""
    log = _log(world, draw)
    lines = read_lines(world.files, log)
    first = draw.integer(0, len(lines))
    last = draw.integer(first, min(len(lines), first + choose(draw, [1, 3, 99])))
    kept = [*lines[:first], *lines[last:]]
    write_lines(world.files, log, choose(draw, [kept, renumber(kept, world.run_id, log)]))


@operation
def move_line(world: World, draw: Draw) -> None:
    """Move or duplicate a line within its log."""
    log = _log(world, draw)
    lines = read_lines(world.files, log)
    if lines:
        at = draw.integer(0, len(lines) - 1)
        line = lines[at] if draw.integer(0, 1) else lines.pop(at)
        lines.insert(draw.integer(0, len(lines)), line)
        write_lines(world.files, log, choose(draw, [lines, renumber(lines, world.run_id, log)]))


@operation
def copy_foreign_lines(world: World, draw: Draw) -> None:
    """Insert lines of another log, attempt, rank or run."""
    files, other = choose(draw, all_logs(world))
    log, source = _log(world, draw), read_lines(files, other)
    lines = read_lines(world.files, log)
    first = draw.integer(0, len(source))
    at = draw.integer(0, len(lines))
    added = source[first : first + draw.integer(1, 5)]
    added = choose(draw, [added, renumber(added, world.run_id, log, at)])
    write_lines(world.files, log, [*lines[:at], *added, *lines[at:]])


# Segments and logs.


@operation
def delete_segment(world: World, draw: Draw) -> None:
    """Delete or empty one segment."""
    segments = list_segments(world.files, _log(world, draw))
    if segments:
        path = choose(draw, segments)
        if draw.integer(0, 1):
            world.files[path] = b""
        else:
            del world.files[path]


@operation
def empty_log(world: World, draw: Draw) -> None:
    """Delete all segments of a log. Its tree heads remain."""
    for path in list_segments(world.files, _log(world, draw)):
        del world.files[path]


@operation
def rename_segment(world: World, draw: Draw) -> None:
    """Give a segment another first sequence."""
    segments = list_segments(world.files, _log(world, draw))
    if segments:
        path = choose(draw, segments)
        data = world.files.pop(path)
        world.files[f"{path[:-18]}{draw.integer(0, 90):012d}.jsonl"] = data


@operation
def delete_log(world: World, draw: Draw) -> None:
    """Delete a log with its heads."""
    remove_below(world.files, f"log/{_log(world, draw)}/")


@operation
def copy_log(world: World, draw: Draw) -> None:
    """Put a whole log of this or another run in the place of a log, or add it."""
    files, other = choose(draw, all_logs(world))
    log = choose(draw, [*list_logs(world.files), "1-1", "2-0", "3-0", "9-0"])
    copied = {
        f"log/{log}/{path.split('/', 2)[2]}": data
        for path, data in files.items()
        if path.startswith(f"log/{other}/")
    }
    remove_below(world.files, f"log/{log}/")
    world.files.update(copied)
    if draw.integer(0, 2) == 0:
        write_lines(world.files, log, renumber(read_lines(world.files, log), world.run_id, log))


@operation
def copy_part_of_a_log(world: World, draw: Draw) -> None:
    """Put segments, heads or tiles of another log in the place of those of a log."""
    files, other = choose(draw, all_logs(world))
    log = _log(world, draw)
    part = choose(draw, ["checkpoint", "checkpoints", "tile/", "0"])
    prefix = f"log/{other}/{part}"
    copied = {path: data for path, data in files.items() if path.startswith(prefix)}
    remove_below(world.files, f"log/{log}/{part}")
    for path, data in copied.items():
        world.files[f"log/{log}/{path.split('/', 2)[2]}"] = data


@operation
def swap_logs(world: World, draw: Draw) -> None:
    """Exchange two logs of the run."""
    one, other = _log(world, draw), _log(world, draw)
    names = {one: other, other: one}
    moved = {
        path: data for path, data in world.files.items() if path.startswith(tuple(f"log/{n}/" for n in names))
    }
    for path in moved:
        del world.files[path]
    for path, data in moved.items():
        _, name, rest = path.split("/", 2)
        world.files[f"log/{names[name]}/{rest}"] = data


@operation
def roll_back_log(world: World, draw: Draw) -> None:
    """Cut a log to an older tree head of its own, consistently: lines, heads and tiles."""
    log = _log(world, draw)
    notes = read_notes(world.files, log)
    if notes:
        kept = notes[: draw.integer(1, len(notes))]
        size = note_size(kept[-1])
        lines = read_lines(world.files, log)[:size]
        write_lines(world.files, log, lines)
        write_notes(world.files, log, kept, kept[-1])
        if len(lines) < 256:
            write_tiles(world.files, log, lines, {len(lines)})


# Tree heads.


@operation
def remove_heads(world: World, draw: Draw) -> None:
    """Remove `checkpoint`, the history, or both."""
    log = _log(world, draw)
    for name in choose(draw, [["checkpoint"], ["checkpoints"], ["checkpoint", "checkpoints"]]):
        world.files.pop(f"log/{log}/{name}", None)


@operation
def put_back_heads(world: World, draw: Draw) -> None:
    """Replace `checkpoint`, the history, or both by older ones. The lines remain."""
    log = _log(world, draw)
    notes, newest = read_notes(world.files, log), world.files.get(f"log/{log}/checkpoint")
    if notes:
        kept = notes[: draw.integer(1, len(notes))]
        old = choose(draw, notes)
        write_notes(
            world.files, log, *choose(draw, [(kept, newest), (notes, old), (kept, kept[-1]), (kept, old)])
        )


@operation
def reorder_heads(world: World, draw: Draw) -> None:
    """Repeat, move, damage or cut a note of the history."""
    log = _log(world, draw)
    notes, newest = read_notes(world.files, log), world.files.get(f"log/{log}/checkpoint")
    if notes:
        note = choose(draw, notes)
        changed = note.replace(note.split(b"\n")[1], b"%d" % draw.integer(0, 90), 1)
        notes.insert(draw.integer(0, len(notes)), choose(draw, [note, changed]))
        write_notes(world.files, log, notes, newest, note[: draw.integer(0, len(note))])


@operation
def sign_with_stolen_key(world: World, draw: Draw) -> None:
    """Sign the lines as they are with an old key."""
    sign_with_old_key(world, draw, _log(world, draw))


@operation
def sign_forgery_with_stolen_key(world: World, draw: Draw) -> None:
    """Append forged events, sign them with an old key, and name that key in run.json."""
    log = _log(world, draw)
    append_events(world, draw, log, [choose(draw, KINDS), choose(draw, KINDS)])
    sign_with_old_key(world, draw, log)
    if draw.integer(0, 1):
        change_run_json(world, {"verifier_key": world.old_key.text})


@operation
def change_tiles(world: World, draw: Draw) -> None:
    """Delete, change or replace tiles."""
    log = _log(world, draw)
    lines = read_lines(world.files, log)
    tiles = [path for path in world.files if path.startswith(f"log/{log}/tile/")]
    if tiles and draw.integer(0, 1):
        path = choose(draw, tiles)
        world.files[path] = choose(draw, [b"", bytes(32), world.files[path][:-1] + b"7"])
    elif len(lines) < 256:
        write_tiles(world.files, log, lines, choose(draw, [[], [draw.integer(0, len(lines))], [len(lines)]]))


# Files that events name.


@operation
def change_checkpoint(world: World, draw: Draw) -> None:
    """Change, delete or exchange files of checkpoints."""
    names = sorted(path for path in world.files if path.startswith("checkpoints/"))
    if names:
        path, other = choose(draw, names), choose(draw, names)
        kind = draw.integer(0, 3)
        if kind == 0:
            world.files[path] = world.files[path][:-4] + b"evil"
        elif kind == 1:
            del world.files[path]
        elif kind == 2:
            world.files[path], world.files[other] = world.files[other], world.files[path]
        else:
            remove_below(world.files, path.rsplit("/", 1)[0] + "/")


@operation
def prune_by_forged_event(world: World, draw: Draw) -> None:
    """Change the weights of a checkpoint that a forged event prunes."""
    log = _log(world, draw)
    append_events(world, draw, log, ["checkpoint.pruned"])
    name = read_event(read_lines(world.files, log)[-1])["data"]["snapshot_id"]
    for path in [path for path in world.files if path.startswith(f"checkpoints/{name}/")]:
        world.files[path] = world.files[path][:-4] + b"evil"


@operation
def plant_checkpoint(world: World, draw: Draw) -> None:
    """Copy a checkpoint to another name, or bring back a pruned one."""
    parts: dict[str, dict[str, bytes]] = {}
    for path, data in {**world.attic, **world.files}.items():
        if path.startswith("checkpoints/") and path.count("/") == 2:
            parts.setdefault(path.split("/")[1], {})[path.split("/")[2]] = data
    if parts:
        source = choose(draw, sorted(parts))
        name = choose(
            draw, [source, "resume-00000099", "resume-00000003.2", "accepted-00000099", "resume-00000001"]
        )
        for file, data in parts[source].items():
            planted = data
            if file == "state.json" and draw.integer(0, 1):
                planted = b'{"iter_num": 99,' + data[1:]
            world.files[f"checkpoints/{name}/{file}"] = planted


@operation
def change_policy(world: World, draw: Draw) -> None:
    """Change, delete or plant a policy or blob."""
    names = [path for path in world.files if path.startswith(("policies/", "blobs/"))]
    kind = draw.integer(0, 2)
    if kind == 2 or not names:
        name = choose(draw, ["A" * 64, "a" * 64, "0" * 64])
        world.files[choose(draw, [f"policies/{name}.json", f"blobs/{name}"])] = b"{}"
    elif kind == 1:
        del world.files[choose(draw, names)]
    else:
        world.files[choose(draw, names)] += b" "


@operation
def change_parquet(world: World, draw: Draw) -> None:
    """Change or delete a Parquet file or its sidecar."""
    names = [path for path in world.files if path.startswith(("contexts/", "decisions/", "events/"))]
    if names:
        path = choose(draw, names)
        if draw.integer(0, 2) == 0:
            del world.files[path]
        elif path.endswith(".json"):
            world.files[path] = choose(draw, [b"{}", b"[", _double_segments(world.files[path])])
        else:
            world.files[path] = choose(draw, [b"", world.files[path][:-9], world.files[choose(draw, names)]])


@operation
def edit_run_json(world: World, draw: Draw) -> None:
    """Change run.json, or delete it."""
    change: dict[str, Any] = choose(
        draw,
        [
            {"verifier_key": world.old_key.text},
            {"settings": {"x": 1}},
            {"data": {}},
            {"run_id": "other"},
            {},
        ],
    )
    if change or draw.integer(0, 1):
        change_run_json(world, change)
    else:
        world.files["run.json"] = choose(draw, [b"", b"{", b"[]"])


@operation
def rename_run(world: World, draw: Draw) -> None:
    """Rename the run folder."""
    world.name = choose(draw, ["renamed", world.run_id])


@operation
def plant_files(world: World, draw: Draw) -> None:
    """Plant files and folders that no run has."""
    name = choose(
        draw, ["notes.txt", "log/1-0/notes", "log/7-0/lock", "log/x", "checkpoints/x", "log/1-00/checkpoint"]
    )
    world.files[name] = b"x"
    world.folders.add(choose(draw, ["log/8-0", "checkpoints/resume-00000055", "empty"]))


@operation
def forge_resume(world: World, draw: Draw) -> None:
    """Append an attempt without a signature, or with one of an old key, after the last one."""
    attempt = max(int(log.split("-")[0]) for log in list_logs(world.files))
    log = f"{attempt + 1}-0"
    before = read_lines(world.files, f"{attempt}-0")
    write_lines(world.files, log, [forge_event(world, draw, log, 0, "run.resumed")])
    event = read_event(read_lines(world.files, log)[0])
    event["data"] |= {"from_attempt": attempt, "from_size": len(before), "from_root": tree_root(before).hex()}
    write_lines(world.files, log, [write_event(event)])
    append_events(world, draw, log, ["evaluation.recorded", "checkpoint.saved", "run.finished"])
    if draw.integer(0, 1):
        sign_with_old_key(world, draw, log)
    elif draw.integer(0, 1):
        notes = read_notes(world.files, f"{attempt}-0")
        write_notes(world.files, log, notes, notes[-1] if notes else None)


def change_run_json(world: World, change: dict[str, Any]) -> None:
    """Write other values into run.json. Without a value only the layout changes."""
    try:
        content = json.loads(world.files.get("run.json", b"{}"))
    except ValueError:
        content = {}
    if isinstance(content, dict):
        world.files["run.json"] = json.dumps({**content, **change}).encode()


def _double_segments(sidecar: bytes) -> bytes:
    try:
        content = json.loads(sidecar)
    except ValueError:
        return sidecar
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, list):
            content[name] = value * 2
    return json.dumps(content).encode()
