"""Is this run what was recorded?"""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.data_source import query_or_error, run_page_query, run_sql, runs_folder
from dashboard.layout import page_header, query_details, section, select_run
from dashboard.tables import data_table
from ockham.errors import OckhamError
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import VerifierKey, parse_key
from ockham.record.verify.report import CLASS_DESCRIPTIONS, NOTE_CLASSES
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run

AT_ONCE = 50_000  # events that are checked without being asked to: about a second
QUESTION = "Is this run what was recorded?"
run_id = select_run()
if run_id is None:
    st.stop()
assert run_id is not None
folder = RunFolder(runs_folder(), run_id)
size = sum(path.stat().st_size for attempt, rank in folder.logs() for path in folder.segments(attempt, rank))


def events_there() -> int:
    """Events in the log, as the catalog counts them."""
    found = query_or_error(run_sql, "select count(*) as n from events where run_id = $run", run=run_id)
    return int(found.rows()[0]["n"]) if found is not None else 0


def read_pins_and_keys() -> tuple[list[bytes], list[VerifierKey]]:
    """The pins and the key of the reader: of its own key a run alone can prove little."""
    with st.expander("Hold it against pins and a key of yours", icon=":material/key:"):
        pins = st.file_uploader("Pins, as `ockham pin` keeps them", accept_multiple_files=True, key="pins")
        text = st.text_input(
            "Verifier key", key="key", placeholder="name+keyid+base64, as `ockham keygen` prints it"
        )
    return [pin.getvalue() for pin in pins], [parse_key(text)] if text.strip() else []


def cached_verification(events: int, pins: list[bytes], keys: list[VerifierKey]) -> dict[str, Any] | None:
    """The report, kept while the log does not grow; made with a bar, and given up where the reader goes elsewhere."""
    held = hashlib.sha256(b"\0".join([*pins, *(str(key).encode() for key in keys)])).hexdigest()
    key = f"verified-{run_id}-{size}-{held}"
    if key not in st.session_state:
        bar = st.progress(0.0, "Reading every byte; leaving the page, or Stop, ends it.")
        stop = st.empty()
        stop.button(
            "Stop", key=f"stop-{run_id}", on_click=lambda: st.session_state.update({f"go-{run_id}": False})
        )

        def progress(done: int) -> None:
            bar.progress(min(1.0, done / max(1, events)), f"{done:,} of {events:,} events")

        st.session_state[key] = verify_run(folder, pins=pins, keys=keys, progress=progress).to_dict()
        bar.empty()
        stop.empty()
    kept: dict[str, Any] = st.session_state[key]
    return kept


def show_findings(report: dict[str, Any]) -> None:
    """The findings, class by class, and how far signatures and pins reach."""
    signed, events, pinned = (
        sum(log[name] for log in report["logs"]) for name in ("signed", "events", "pinned")
    )
    wrong = [kind for kind in report["counts"] if kind not in NOTE_CLASSES]
    sound = "Yes" if report["sound"] else "NO: " + ", ".join(wrong)
    if wrong == ["derived"]:
        sound = "The log is; files that were derived from it do not fit it, and want rebuilding"
    page_header(QUESTION, f"{sound}. {signed:,} of {events:,} events are signed, {pinned:,} pinned.")
    found = sum(report["counts"][kind] for kind in wrong)
    with st.container(horizontal=True):
        for label, value in (("Events", events), ("Signed", signed), ("Pinned", pinned), ("Findings", found)):
            st.metric(label, f"{value:,}", border=True, width=168)
    for kind, count in sorted(report["counts"].items(), key=lambda item: (item[0] in NOTE_CLASSES, item[0])):
        show = st.info if kind in NOTE_CLASSES else st.error
        show(f"{'Note, ' if kind in NOTE_CLASSES else ''}{kind} ({count}): {CLASS_DESCRIPTIONS[kind]}")
        lines = [f"{f['place']}: {f['message']}"[:400] for f in report["findings"] if f["kind"] == kind]
        st.code(
            "\n".join(lines[:20]) + (f"\n... and {count - 20} more" if count > 20 else ""),
            language=None,
            wrap_lines=True,
        )
    section("Logs")
    data_table(pa.Table.from_pylist(report["logs"]), "logs", alt="Logs, one for each attempt and rank.")
    st.text("Checked: " + ", ".join(f"{number:,} {what}" for what, number in report["checked"].items()))


def replay_section() -> None:
    """Every decision derived again, on request."""
    section(
        "Replay",
        "Derive every decision again from what was recorded, and compare all bits. Third-party plugins are not run from here.",
    )
    key = f"replayed-{run_id}-{size}"
    if key not in st.session_state:
        if not st.button("Replay every decision", key=f"replay-{run_id}"):
            return
        bar = st.progress(0.0, "Replaying")
        try:
            report = replay_run(
                folder,
                processes=1,
                progress=lambda done, whole: (
                    bar.progress(done / max(1, whole), f"{done} of {whole} stretches") and None
                ),
            )
        except OckhamError as error:
            st.error("It cannot be replayed.", icon=":material/error:")
            st.code(str(error), language=None)
            return
        bar.empty()
        st.session_state[key] = report.to_dict()
    found = st.session_state[key]
    counts = found["counts"]
    if found["identical"]:
        st.success(
            f"Identical: {counts['decisions']:,} decisions came out again bit by bit, in {found['seconds']:.1f} s.",
            icon=":material/check:",
        )
    else:
        st.error(f"{counts['found']:,} came out otherwise.", icon=":material/error:")
    st.code("\n".join(f"{name:<10} {number:,}" for name, number in counts.items()), language=None)


def gaps_section() -> None:
    """What the log itself says is missing."""
    gaps = query_or_error(run_page_query, "log_gaps", run=run_id)
    if gaps is None:
        return
    section("Gaps, recoveries, halts")
    if gaps.table.num_rows:
        data_table(gaps.table, "gaps", alt="What the log says is missing.")
    else:
        st.text("The log names none.")
    query_details(gaps, "gaps")


def page() -> None:
    """The page."""
    events = events_there()
    if events > AT_ONCE and not st.session_state.get(f"go-{run_id}"):
        page_header(
            QUESTION,
            f"Not checked yet: {events:,} events, {size / 1e6:,.0f} MB, about {events / 40_000:.0f} seconds.",
        )
        st.button(
            "Check every byte",
            type="primary",
            key="check",
            on_click=lambda: st.session_state.update({f"go-{run_id}": True}),
        )
        st.code(f"ockham --runs {runs_folder()} verify {run_id}", language="bash")
    else:
        answer = st.container()  # the answer stands above what it was asked with
        try:
            pins, keys = read_pins_and_keys()
            with answer:
                report = cached_verification(events, pins, keys)
        except OckhamError as error:
            with answer:
                page_header(QUESTION, "It cannot be judged.")
                st.code(str(error), language=None)
        else:
            if report is not None:
                with answer:
                    show_findings(report)
    gaps_section()
    replay_section()


page()
