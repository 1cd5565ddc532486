"""Background verification of all runs: one thread per server, one result per state of the files.

A result belongs to the state of all files of a run and of the pins, see `verified_state`, so that a changed
byte makes it out of date. Results are kept in memory only: a file of results could be changed together with
the run.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import streamlit as st

from dashboard.data_source import folder_state, runs_folder
from dashboard.pins import pins_state
from dashboard.verification_worker import trusted_keys, verify_to_dict
from ockham.errors import BadInputError
from ockham.record.run_folder import LEDGER, RunFolder, list_runs
from ockham.record.tlog.note import local_verifier_key
from ockham.record.verify.report import CLASS_DESCRIPTIONS, NOTE_CLASSES

# Time between two looks at the files of all runs.
POLL_SECONDS = 5.0
# A live run changes all the time. It is verified again after this multiple of the last duration.
MIN_PAUSE_FACTOR = 4.0
# Class of a finding -> what has happened, for headlines.
FINDING_HEADLINES = {
    "tampering": "changed after it was signed",
    "corruption": "damaged",
    "unsigned": "signatures were removed",
    "contradiction": "contains events that contradict each other",
    "not applied": "contains verdicts that the trainer did not apply",
    "gap": "events are missing",
    "policy missing": "a policy is missing or differs",
    "checkpoint": "a checkpoint differs from the log",
    "derived": "Parquet files differ from the log",
}
Status = Literal["not verified", "verified", "broken", "unreadable"]
Verify = Callable[[str, str], dict[str, Any]]


class LogState(NamedTuple):
    """Result of the newest verification of a run.

    Attributes:
        status: `unreadable` means that the run cannot be verified at all.
        checked: When the verification began, UTC. None before the first one.
        is_current: False if a file has changed since.
        events: Number of events of all logs.
        signed: Number of signed events.
        pinned: Number of events that a pin covers.
        keys: Verifier keys that have signed.
        is_own_key: True if the only key is that of the user of this machine.
        is_trusted_key: True if the dashboard was started with the keys that it accepts.
        problem: Class of the gravest finding, or empty.
        place: Where the first finding of this class is.
        sequence: Its event, if it is about one.
        message: Its message, or the error of an unreadable run. Untrusted text.
        findings: Number of findings.

    """

    status: Status = "not verified"
    checked: dt.datetime | None = None
    is_current: bool = False
    events: int = 0
    signed: int = 0
    pinned: int = 0
    keys: tuple[str, ...] = ()
    is_own_key: bool = False
    is_trusted_key: bool = False
    problem: str = ""
    place: str = ""
    sequence: int | None = None
    message: str = ""
    findings: int = 0

    @property
    def is_broken(self) -> bool:
        """True if the last verification has failed, also if files have changed since."""
        return self.status in ("broken", "unreadable")

    @property
    def headline(self) -> str:
        """The problem in a few words, such as "changed after it was signed, at event 5"."""
        if self.status == "unreadable":
            return "cannot be verified"
        at = "" if self.sequence is None else f", at event {self.sequence:,}"
        return f"{FINDING_HEADLINES.get(self.problem, self.problem)}{at}"


def read_report(report: dict[str, Any], checked: dt.datetime) -> LogState:
    """Return the state of a run from its verification report.

    Args:
        report: See `VerificationReport.to_dict`.
        checked: When the verification began.

    """
    logs = report["logs"]
    keys = tuple(sorted({log["key"] for log in logs if log["key"]}))
    state = LogState(
        "verified",
        checked,
        is_current=True,
        events=sum(log["events"] for log in logs),
        signed=sum(log["signed"] for log in logs),
        pinned=sum(log["pinned"] for log in logs),
        keys=keys,
        is_own_key=len(keys) == 1 and keys[0] == _local_key(),
        is_trusted_key=bool(keys and trusted_keys()),
    )
    kinds = [kind for kind in CLASS_DESCRIPTIONS if kind in report["counts"] and kind not in NOTE_CLASSES]
    if not kinds:
        return state
    of_kind = [finding for finding in report["findings"] if finding["kind"] == kinds[0]]
    located = [finding for finding in of_kind if finding["sequence"] is not None]
    first = min(located, key=lambda finding: finding["sequence"]) if located else of_kind[0]
    return state._replace(
        status="broken",
        problem=kinds[0],
        place=first["place"],
        sequence=first["sequence"],
        message=first["message"],
        findings=sum(report["counts"][kind] for kind in kinds),
    )


def _local_key() -> str | None:
    with contextlib.suppress(BadInputError, OSError):
        key = local_verifier_key()
        return None if key is None else str(key)
    return None


def verified_state(folder: Path) -> str:
    """Return a digest of the state of all files of a run and of the pins. A result belongs to it."""
    return folder_state(folder) + pins_state()


class _Result(NamedTuple):
    files: str
    state: LogState
    report: dict[str, Any] | None
    seconds: float
    ended: float


class RunVerifier:
    """Verifies all runs of a folder, the newest first, and again when their files have changed.

    Args:
        runs: Folder of runs.
        verify: Returns the response of the worker for a folder of runs and a run ID.

    """

    def __init__(self, runs: Path, verify: Verify = verify_to_dict) -> None:
        self.runs = runs
        self._verify = verify
        self._results: dict[str, _Result] = {}
        self._requested = ""
        self._wake = threading.Event()
        self._stopped = False

    def state(self, run_id: str) -> LogState:
        """Return the state of a run, compared with its present files, and verify it before other runs."""
        result = self._results.get(run_id)
        if result is not None and result.files == verified_state(self.runs / run_id):
            return result.state._replace(is_current=True)
        self._requested = run_id
        self._wake.set()
        return LogState() if result is None else result.state._replace(is_current=False)

    def states(self, run_ids: Iterable[str]) -> dict[str, LogState]:
        """Return the last results for many runs. Their files are compared every few seconds, not here."""
        results = dict(self._results)
        return {run_id: results[run_id].state if run_id in results else LogState() for run_id in run_ids}

    def broken(self) -> dict[str, LogState]:
        """Return the runs that have failed the last verification."""
        results = sorted(dict(self._results).items())
        return {run_id: result.state for run_id, result in results if result.state.is_broken}

    def report(self, run_id: str, files: str) -> dict[str, Any] | None:
        """Return the verification report for a state of the files, if there is one."""
        result = self._results.get(run_id)
        return result.report if result is not None and result.files == files else None

    def add_report(self, run_id: str, files: str, report: dict[str, Any], seconds: float) -> None:
        """Use the verification report of a page, so that all pages show the same result.

        Args:
            run_id: The run.
            files: State of the files before the verification, see `verified_state`.
            report: See `VerificationReport.to_dict`. It must be made with the keys and pins of the dashboard.
            seconds: Duration of the verification.

        """
        checked = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds)
        state = read_report(report, checked)
        self._results[run_id] = _Result(files, state, report, seconds, time.monotonic())

    def verify_changed(self) -> None:
        """Verify all runs whose files have changed. Runs that are requested meanwhile are verified next."""
        pending = self._ordered()
        while pending and not self._stopped:
            run_id = pending.pop(0)
            self._verify_if_changed(run_id)
            if self._wake.is_set():
                self._wake.clear()
                pending = [self._requested, *(name for name in pending if name != self._requested)]

    def _verify_if_changed(self, run_id: str) -> None:
        files = verified_state(self.runs / run_id)
        result = self._results.get(run_id)
        if result is None:
            self._verify_run(run_id, files)
        elif result.files != files:
            self._results[run_id] = result._replace(state=result.state._replace(is_current=False))
            if time.monotonic() - result.ended >= MIN_PAUSE_FACTOR * result.seconds:
                self._verify_run(run_id, files)

    def run_forever(self) -> None:
        """Verify runs until `stop` is called."""
        while not self._stopped:
            # A folder can disappear while it is listed. The next pass lists it again.
            with contextlib.suppress(OSError):
                self.verify_changed()
            end = time.monotonic() + POLL_SECONDS
            while (left := end - time.monotonic()) > 0 and self._wake.wait(left):
                self._wake.clear()
                if not self._stopped:
                    self._verify_if_changed(self._requested)

    def stop(self) -> None:
        """End `run_forever` after the present run."""
        self._stopped = True
        self._wake.set()

    def _verify_run(self, run_id: str, files: str) -> None:
        start = time.monotonic()
        checked = dt.datetime.now(dt.UTC)
        response = self._verify(str(self.runs), run_id)
        report = response.get("report")
        if report is None:
            message = str(response["error"])
            state = LogState("unreadable", checked, is_current=True, message=message)
        else:
            state = read_report(report, checked)
        now = time.monotonic()
        self._results[run_id] = _Result(files, state, report, now - start, now)

    def _ordered(self) -> list[str]:
        """Return all runs, the newest first, then the ledger, and forget runs that do not exist."""
        names = list_runs(self.runs)
        for gone in set(self._results) - set(names) - {LEDGER}:
            del self._results[gone]
        names.sort(key=self._age)
        return [*names, LEDGER] if RunFolder(self.runs, LEDGER).exists() else names

    def _age(self, run_id: str) -> float:
        with contextlib.suppress(OSError):
            return -(self.runs / run_id / "run.json").stat().st_mtime
        return 0.0


class WorkerProcess:
    """A process that verifies runs, see `dashboard.verification_worker`. It is started again if it ends."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def verify(self, runs: str, run_id: str) -> dict[str, Any]:
        """Verify one run and return the response."""
        with self._lock:
            return self._request(runs, run_id)

    def close(self) -> None:
        """End the process. Calling it again has no effect."""
        child, self._child = self._child, None
        if child is None:
            return
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        child.wait()

    def _request(self, runs: str, run_id: str) -> dict[str, Any]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = self._start()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps({"runs": runs, "run_id": run_id}) + "\n")
            self._child.stdin.flush()
            response: dict[str, Any] = json.loads(self._child.stdout.readline())
        except (OSError, ValueError):
            return {"error": "the verification process ended unexpectedly; run `ockham verify`"}
        return response

    def _start(self) -> subprocess.Popen[str]:
        root = Path(__file__).resolve().parent.parent
        paths = [str(root), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "dashboard.verification_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            text=True,
            # Ctrl-C ends the dashboard, and with it the pipe.
            start_new_session=True,
        )


_worker = WorkerProcess()


@st.cache_resource(show_spinner=False, max_entries=4, on_release=RunVerifier.stop)
def _verifier(runs: str) -> RunVerifier:
    verifier = RunVerifier(Path(runs), _worker.verify)
    threading.Thread(target=verifier.run_forever, name="verifier", daemon=True).start()
    return verifier


def run_verifier() -> RunVerifier:
    """Return the verifier of the folder of runs. The first call starts its thread."""
    return _verifier(str(runs_folder()))


def start_verifier() -> None:
    """Start the verification at the start of the server, so that the first visit has results sooner."""
    run_verifier()
