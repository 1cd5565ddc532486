"""Is this run what was recorded?"""

from __future__ import annotations

import streamlit as st

from dashboard.frame import choose_run, head, under
from dashboard.source import ask_sql, or_error, runs_folder
from ockham.errors import OckhamError
from ockham.record.folder import RunFolder
from ockham.record.report import MEANINGS, NOTES
from ockham.record.verify import verify_run

run_id = choose_run()
if run_id is None:
    st.stop()


@st.cache_data(ttl=30, show_spinner="Reading every byte")
def judged(runs: str, run: str, size: int) -> dict:
    return verify_run(RunFolder(runs, run)).to_dict()


folder = RunFolder(runs_folder(), run_id)
size = sum(path.stat().st_size for attempt, rank in folder.logs() for path in folder.segments(attempt, rank))
try:
    report = judged(str(runs_folder()), run_id, size)
except OckhamError as error:
    head("Is this run what was recorded?", "It cannot be judged.")
    st.code(str(error), language=None)
    st.stop()
signed, events = sum(log["signed"] for log in report["logs"]), sum(log["events"] for log in report["logs"])
wrong = [kind for kind in report["counts"] if kind not in NOTES]
head(
    "Is this run what was recorded?",
    f"{'Yes' if report['sound'] else 'NO: ' + ', '.join(wrong)}. {signed:,} of {events:,} events are signed.",
)
columns = st.columns(3)
columns[0].metric("Events", f"{events:,}")
columns[1].metric("Signed", f"{signed:,}")
columns[2].metric("Findings", sum(report["counts"][kind] for kind in wrong))
for kind, count in sorted(report["counts"].items(), key=lambda item: (item[0] in NOTES, item[0])):
    show = st.info if kind in NOTES else st.error
    show(f"{'note: ' if kind in NOTES else ''}{kind} ({count}): {MEANINGS[kind]}")
    st.code(
        "\n".join(f"{f['place']}: {f['message']}"[:400] for f in report["findings"] if f["kind"] == kind),
        language=None,
    )
st.subheader("Logs")
st.dataframe(report["logs"], hide_index=True, key="logs")
st.text("Checked: " + ", ".join(f"{number:,} {what}" for what, number in report["checked"].items()))
gaps = or_error(ask_sql, "select * from log_gaps where run_id = $run", run=run_id)
if gaps is not None and gaps.table.num_rows:
    st.subheader("Gaps, recoveries, halts")
    st.dataframe(gaps.table, hide_index=True, key="gaps")
    under(gaps, "gaps")
