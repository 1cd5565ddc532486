"""Answers of the installed version about the reference runs, in a form that later versions must reproduce.

Normalisation: `normalize` drops the keys in DROPPED_KEYS. These contain prose, durations, the number of
processes, or the digest of the installed plugin code. `replayed_sha256` changes with every edit of a
plugin. Commands run in the unpacked folder with relative paths, so that no answer contains a path of the
machine. All other values must be equal, including every digit of a number.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ockham

RUNS = ("base", "two", "adapted")
ARCHIVED_RUN = "adapted"
KEY_FILE = "reference.pub"
PROSE_KEYS = {"message", "reason", "how", "derivation", "again"}
MACHINE_KEYS = {"seconds", "processes", "decisions_per_second", "replayed_sha256"}
DROPPED_KEYS = PROSE_KEYS | MACHINE_KEYS
LOG_SUMMARY = re.compile(r"log (\d+-\d+): ([\d,]+) events, signed to ([\d,]+), root ([0-9a-f]{64})")
SIGNED_MEMBERS = ("log/", "policies/", "blobs/", "run.json")
DERIVED_FOLDERS = ("contexts", "decisions", "events")

# Old name of a JSON key or output column -> its present name. A rename changes one line here.
KEY_NAMES = {
    "taken": "not_replayed",
    "unended": "unfinished",
    "foretold_update_rate": "predicted_update_rate",
    "told": "message",
    "beside_none": "delta_vs_none",
    "beside_short": "delta_vs_equal_compute",
}
ORIGINAL_NAMES = {present: original for original, present in KEY_NAMES.items()}


def normalize(value: Any) -> Any:
    """Return *value* without the dropped keys, with every key under its original name."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in DROPPED_KEYS}
        return {ORIGINAL_NAMES.get(key, key): normalize(item) for key, item in kept.items()}
    if isinstance(value, (list, tuple)):
        return [normalize(item) for item in value]
    return value


def run_command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with *words* in *folder*. Only variables that are set here configure Ockham."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OCKHAM_")}
    env.update(
        OCKHAM_RUNS="runs", OCKHAM_ODR="odr", OCKHAM_KEY_DIR="no-keys", PYTHONPATH=os.pathsep.join(sys.path)
    )
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


def ockham_json(folder: Path, *words: str) -> dict[str, Any]:
    """Return exit status and normalized JSON output of an `ockham` command."""
    done = run_command(folder, "-m", "ockham", *words, "-f", "json")
    assert done.stdout, done.stderr
    return {"status": done.returncode, "output": normalize(json.loads(done.stdout))}


def verify(folder: Path, run: str) -> dict[str, Any]:
    """Return the verification report of a run, checked with the reference key."""
    return ockham_json(folder, "verify", run, "--key-file", KEY_FILE)


def verify_standalone(folder: Path, archive: str) -> dict[str, Any]:
    """Return exit status and log summaries of the `verify.py` that is packed in *archive*."""
    unpacked = folder / f"{archive}.unpacked"
    with zipfile.ZipFile(folder / archive) as packed:
        packed.extractall(unpacked)
    key = (folder / KEY_FILE).read_text(encoding="utf-8").strip()
    done = run_command(unpacked, "verify.py", ".", "--key", key)
    return {"status": done.returncode, "logs": [list(each) for each in LOG_SUMMARY.findall(done.stdout)]}


def export_evidence(folder: Path, archive: str) -> dict[str, Any]:
    """Export a fresh evidence archive. Return its status and the digest of every signed file."""
    done = run_command(folder, "-m", "ockham", "export", "--evidence", "--run", ARCHIVED_RUN, "-o", archive)
    return {"status": done.returncode, "files": archive_digests(folder / archive)}


def archive_digests(archive: Path) -> dict[str, str]:
    """Return name -> SHA-256 of the archived files that the log or a signature covers."""
    with zipfile.ZipFile(archive) as packed:
        names = sorted(name for name in packed.namelist() if name.startswith(SIGNED_MEMBERS))
        return {name: hashlib.sha256(packed.read(name)).hexdigest() for name in names}


def accepted_checkpoint(folder: Path) -> str:
    """Return the newest accepted checkpoint of the base run."""
    return max((folder / "runs" / "base" / "checkpoints").glob("accepted-*")).name


def question_names(folder: Path) -> list[str]:
    """Return the names of all saved questions."""
    return [row["name"] for row in ockham_json(folder, "ask")["output"]]


def ask_all(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Return the rows of each saved question as JSON values.

    Without decision records, `uncited` lists all accepts.
    """
    catalog = ockham.Catalog(folder / "runs")
    parameters = {
        "lineage": {"snapshot": accepted_checkpoint(folder)},
        "why_skipped": {"run": "base", "iter": 30},
        "compare_by_tokens": {"run_a": "base", "run_b": "two"},
    }
    answers = {name: catalog.ask(name, **parameters.get(name, {})).to_pylist() for name in names}
    return normalize(json.loads(json.dumps(answers, default=str)))


def tamper(folder: Path, run: str) -> None:
    """Change one digit of a recorded loss in the log of rank 0."""
    segment = min((folder / "runs" / run / "log" / "1-0").glob("*.jsonl"))
    data = segment.read_bytes()
    position = data.index(b'"task_loss":', len(data) // 2) + len(b'"task_loss":')
    digit = b"1" if data[position : position + 1] != b"1" else b"2"
    segment.write_bytes(data[:position] + digit + data[position + 1 :])


def remove_parquet(folder: Path) -> None:
    """Delete all Parquet files, so that the catalog reads the lines of the logs."""
    for run in RUNS:
        for name in DERIVED_FOLDERS:
            shutil.rmtree(folder / "runs" / run / name)


def all_answers(folder: Path) -> dict[str, Any]:
    """Return every expected answer about the unpacked reference data in *folder*."""
    checkpoint = f"runs/base/checkpoints/{accepted_checkpoint(folder)}"
    answers: dict[str, Any] = {f"verify {run}": verify(folder, run) for run in (*RUNS, "_ledger")}
    answers.update({f"replay {run}": ockham_json(folder, "replay", run) for run in RUNS})
    answers["lineage"] = ockham_json(folder, "lineage", checkpoint, "--key-file", KEY_FILE)
    answers["odr lint"] = ockham_json(folder, "odr", "lint")
    answers["odr check"] = ockham_json(folder, "odr", "check")
    answers["roi"] = ockham_json(folder, "roi", "base")
    answers["whatif"] = ockham_json(folder, "whatif", "base", "--set", "gate.target=0.3")
    answers["uncited"] = ockham_json(folder, "ask", "uncited")
    answers["questions"] = ask_all(folder, question_names(folder))
    answers["stored archive"] = verify_standalone(folder, "adapted.evidence.zip")
    answers["fresh archive"] = export_evidence(folder, "fresh.zip")
    answers["fresh archive verified"] = verify_standalone(folder, "fresh.zip")
    return answers


def tampered_answers(folder: Path) -> dict[str, Any]:
    """Return the verification report of a run after one byte of its log has changed."""
    tamper(folder, "two")
    return verify(folder, "two")
