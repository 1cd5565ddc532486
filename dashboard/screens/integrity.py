"""Integrity page: is this run intact?"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.data_source import folder_state, query_or_error, run_page_query, run_sql, runs_folder
from dashboard.layout import page_header, query_details, section, select_run
from dashboard.tables import data_table
from dashboard.verifier import read_report, run_verifier
from dashboard.words import glossary_line
from ockham.errors import OckhamError
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import VerifierKey, parse_key
from ockham.record.verify.report import CLASS_DESCRIPTIONS, NOTE_CLASSES
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run

QUESTION = "Is this run intact?"
# Larger runs are verified on request. This many events take about one second.
MAX_EVENTS_ON_OPEN = 50_000
EVENTS_PER_SECOND = 40_000
MAX_LINES_PER_CLASS = 40
# Causes that are shown at once. The others are folded.
MAX_CAUSES = 3
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None
folder = RunFolder(runs_folder(), run_id)
log_bytes = sum(
    path.stat().st_size for attempt, rank in folder.logs() for path in folder.segments(attempt, rank)
)
START_KEY = f"go-{run_id}"
# Changes with any file of the run, also if its size stays the same.
run_state = folder_state(folder.path)


def count_events() -> int:
    """Return the number of events of the run, from the catalog."""
    result = query_or_error(run_sql, "select count(*) as n from events where run_id = $run", run=run_id)
    return int(result.rows()[0]["n"]) if result is not None else 0


def set_started(*, started: bool) -> None:
    """Start or stop the verification. Call it only from callbacks."""
    st.session_state[START_KEY] = started


def read_pins_and_keys() -> tuple[list[bytes], list[VerifierKey]]:
    """Show inputs for pins and a verifier key, and return their content.

    Raises:
        BadInputError: If the key is not a verifier key.

    """
    with st.expander("Verify with pins and a key", icon=":material/key:"):
        pins = st.file_uploader("Pins from `ockham pin`", accept_multiple_files=True, key="pins")
        text = st.text_input(
            "Verifier key", key="key", placeholder="name+keyid+base64, printed by `ockham keygen`"
        )
    return [pin.getvalue() for pin in pins], [parse_key(text)] if text.strip() else []


def cached_verification(events: int, pins: list[bytes], keys: list[VerifierKey]) -> dict[str, Any]:
    """Return the verification report. It is computed again when a file of the run has changed."""
    digest = hashlib.sha256(b"\0".join([*pins, *(str(key).encode() for key in keys)])).hexdigest()
    cache_key = f"verified-{run_id}-{run_state}-{digest}"
    known = run_verifier().report(str(run_id), run_state)
    if known is not None and not pins and not keys:
        return known
    if cache_key not in st.session_state:
        bar = st.progress(0.0, "Verifying all bytes. Use Stop, or leave the page, to cancel.")
        stop = st.empty()
        stop.button("Stop", key=f"stop-{run_id}", on_click=set_started, kwargs={"started": False})

        def show_progress(done: int) -> None:
            bar.progress(min(1.0, done / max(1, events)), f"{done:,} of {events:,} events")

        report = verify_run(folder, pins=pins, keys=keys, progress=show_progress)
        st.session_state[cache_key] = report.to_dict()
        bar.empty()
        stop.empty()
    cached: dict[str, Any] = st.session_state[cache_key]
    return cached


def report_sentence(report: dict[str, Any], *, has_keys: bool = False) -> str:
    """Return the answer of the page: how much the result is worth, or the first problem.

    Args:
        report: Verification report.
        has_keys: The reader has given a verifier key or pins.

    """
    state = read_report(report, dt.datetime.now(dt.UTC))
    failed = _failed_classes(report)
    if report["sound"]:
        result = "Consistent, but only with a key that came with the run"
        if has_keys:
            result = "Yes. The log agrees with the key or pins that were given"
        elif state.is_own_key:
            result = "Yes. The log is signed by this machine's key"
    elif failed == ["derived"]:
        result = "The log is intact, but its Parquet files do not match; rebuild them with `ockham repair`"
    else:
        first = "" if state.sequence is None else f". The first one is at event {state.sequence:,}"
        result = f"No: {', '.join(failed)}{first}"
    return f"{result}. {state.signed:,} of {state.events:,} events are signed, {state.pinned:,} pinned."


def _failed_classes(report: dict[str, Any]) -> list[str]:
    return [kind for kind in CLASS_DESCRIPTIONS if kind in report["counts"] and kind not in NOTE_CLASSES]


def show_findings(report: dict[str, Any], *, has_keys: bool) -> None:
    """Show the findings by class, and the number of signed and pinned events."""
    page_header(QUESTION, report_sentence(report, has_keys=has_keys))
    totals = {
        label: sum(log[name] for log in report["logs"])
        for label, name in (("Events", "events"), ("Signed", "signed"), ("Pinned", "pinned"))
    }
    totals["Findings"] = sum(report["counts"][kind] for kind in _failed_classes(report))
    with st.container(horizontal=True):
        for label, value in totals.items():
            st.metric(label, f"{value:,}", border=True, width=168)
    for kind in CLASS_DESCRIPTIONS:
        if kind in report["counts"]:
            _show_finding_class(report, kind, report["counts"][kind])
    section("Logs")
    data_table(pa.Table.from_pylist(report["logs"]), "logs", alt="Logs, one per attempt and rank.")
    st.text("Checked: " + ", ".join(f"{number:,} {name}" for name, number in report["checked"].items()))


def _show_finding_class(report: dict[str, Any], kind: str, count: int) -> None:
    message = f"{kind} ({count}): {CLASS_DESCRIPTIONS[kind]}"
    if kind in NOTE_CLASSES:
        st.info(f"Note, {message}")
    else:
        st.error(message)
    groups = group_findings(report, kind)
    st.code("\n".join(groups[:MAX_CAUSES]), language=None, wrap_lines=True)
    if len(groups) > MAX_CAUSES:
        with st.expander(f"{len(groups) - MAX_CAUSES:,} more causes"):
            text = "\n".join(groups[MAX_CAUSES:MAX_LINES_PER_CLASS])
            hidden = len(groups) - MAX_LINES_PER_CLASS
            text += f"\n... and {hidden} more" if hidden > 0 else ""
            st.code(text, language=None, wrap_lines=True)


def group_findings(report: dict[str, Any], kind: str) -> list[str]:
    """Return one line for each cause: its first finding, and the number of further ones."""
    causes: dict[object, list[dict[str, Any]]] = {}
    for number, finding in enumerate(report["findings"]):
        if finding["kind"] == kind:
            causes.setdefault(finding["cause"] or number, []).append(finding)
    lines = []
    for findings in causes.values():
        line = f"{findings[0]['place']}: {findings[0]['message']}"[:400]
        lines.append(line if len(findings) == 1 else f"{line} (and {len(findings) - 1} more like it)")
    return lines


def replay_section() -> None:
    """Show a button that replays every decision, and the result."""
    section(
        "Replay",
        "Runs the plugins again on the recorded contexts, and compares all decisions bit by bit. "
        "Third-party plugins are not run from the dashboard.",
    )
    cache_key = f"replayed-{run_id}-{run_state}"
    if cache_key not in st.session_state:
        if not st.button("Replay every decision", key=f"replay-{run_id}"):
            return
        bar = st.progress(0.0, "Replaying")

        def show_progress(done: int, total: int) -> None:
            bar.progress(done / max(1, total), f"{done} of {total} chunks")

        try:
            report = replay_run(folder, processes=1, progress=show_progress)
        except OckhamError as error:
            st.error("This run cannot be replayed.", icon=":material/error:")
            st.code(str(error), language=None)
            return
        bar.empty()
        st.session_state[cache_key] = report.to_dict()
    result = st.session_state[cache_key]
    counts = result["counts"]
    if result["identical"]:
        st.success(
            f"Identical: {counts['decisions']:,} decisions were reproduced in {result['seconds']:.1f} s.",
            icon=":material/check:",
        )
    else:
        st.error(f"{counts['found']:,} values differ.", icon=":material/error:")
    st.code("\n".join(f"{name:<10} {number:,}" for name, number in counts.items()), language=None)


def gaps_section() -> None:
    """Show the missing events that the log reports."""
    gaps = query_or_error(run_page_query, "log_gaps", run=run_id)
    if gaps is None:
        return
    section("Gaps, recoveries and halts")
    if gaps.table.num_rows:
        data_table(gaps.table, "gaps", alt="Missing events that the log reports.")
    else:
        st.text("The log reports none.")
    query_details(gaps, "gaps")


def verification_section(events: int) -> None:
    """Verify the run and show the report. The report is above the inputs for pins and keys."""
    output = st.container()
    try:
        pins, keys = read_pins_and_keys()
        with output:
            report = cached_verification(events, pins, keys)
    except OckhamError as error:
        with output:
            page_header(QUESTION, "This run cannot be verified.")
            st.code(str(error), language=None)
        return
    with output:
        show_findings(report, has_keys=bool(pins or keys))


def page() -> None:
    """Show the page."""
    events = count_events()
    is_known = run_verifier().report(str(run_id), run_state) is not None
    if events > MAX_EVENTS_ON_OPEN and not is_known and not st.session_state.get(START_KEY):
        seconds = events / EVENTS_PER_SECOND
        page_header(
            QUESTION,
            f"Not verified yet: {events:,} events, {log_bytes / 1e6:,.0f} MB, about {seconds:.0f} seconds.",
        )
        st.button(
            "Verify all bytes", type="primary", key="check", on_click=set_started, kwargs={"started": True}
        )
        st.code(f"ockham --runs {runs_folder()} verify {run_id}", language="bash")
    else:
        verification_section(events)
    gaps_section()
    replay_section()
    glossary_line("verify", "tree head", "pin", "replay")


page()
