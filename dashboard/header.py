"""Header of all pages: where the reader is, and whether the log of the run can be trusted.

It contains the path to the page, the state and the policy of the run, the result of the last verification,
and the newest event that the figures count. A run that failed its verification is red on every page.
"""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Mapping

import streamlit as st

from dashboard.address import (
    RUN_PAGES,
    RUNS_PAGE,
    page_run,
    requested_run,
    run_ids,
    run_of_page,
    run_parameters,
)
from dashboard.data_source import page_snapshot, query_or_error, run_page_query, runs_folder, store
from dashboard.search import search_box
from dashboard.verifier import LogState, run_verifier
from dashboard.words import state_name
from ockham.errors import RunError
from ockham.record.log_status import is_locked
from ockham.record.run_folder import RunFolder

# Time between two looks at the result of the verification.
REFRESH_SECONDS = 3.0
MAX_BROKEN_SHOWN = 5
# Pages whose content depends on the result of the verification.
VERIFICATION_PAGES = ("checkpoints", "integrity")
LOG_KEY = "header-log"
# Pages that the search box opens.
HIDDEN_PAGES = ("search",)
MAX_TEXT_CHARACTERS = 300
# Tone of a fact in the header -> icon, so that it is not shown by its colour only.
ICONS = {"good": "✓", "bad": "✗", "unknown": "?", "": ""}


def menu(groups: Mapping[str, tuple[tuple[str, str, str], ...]]) -> None:
    """Show the menu of all pages. Its links contain the run of this page.

    Args:
        groups: Title of the group -> name, title and icon of each page.

    """
    parameters = run_parameters(page_run())
    with st.sidebar.container(key="menu", gap=None):
        for group, entries in groups.items():
            if group:
                st.caption(group)
            for name, title, icon in entries:
                if name in HIDDEN_PAGES:
                    continue
                st.page_link(
                    f"screens/{name}.py",
                    label=title,
                    icon=f":material/{icon}:",
                    query_params=parameters if name in RUN_PAGES else None,
                    width="stretch",
                )


def page_title(name: str, title: str) -> str:
    """Return the title of the browser tab: page, run and product."""
    run_id = run_of_page(name)
    return " - ".join([title, *([run_id[:MAX_TEXT_CHARACTERS]] if run_id else []), "Ockham"])


def page_header(name: str, title: str) -> None:
    """Show the header.

    Args:
        name: Name of the file of the page in screens/.
        title: Title of the page.

    """
    run_id = run_of_page(name)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="path"):
        st.page_link(f"screens/{RUNS_PAGE}.py", label="Runs")
        if run_id is not None:
            _separator()
            if run_id in (run_ids() or ()):
                # A run ID has no other characters that Markdown reads.
                label = run_id.replace("_", r"\_").replace(".", r"\.").replace("-", r"\-")
                st.page_link("screens/run.py", label=label, query_params=run_parameters(run_id))
            else:
                _plain_text(run_id)
        if name != RUNS_PAGE:
            _separator()
            _plain_text(title)
        st.space("stretch")
        search_box()
    if run_id is not None:
        st.session_state[LOG_KEY] = _log_result(run_id)
        _run_status(run_id, is_live=name in VERIFICATION_PAGES)
    else:
        _fleet_status()


def _separator() -> None:
    st.html('<span aria-hidden="true">/</span>', width="content")


def _plain_text(text: str) -> None:
    st.html(f"<span>{html.escape(text[:MAX_TEXT_CHARACTERS])}</span>", width="content")


@st.fragment(run_every=REFRESH_SECONDS)
def _run_status(run_id: str, *, is_live: bool) -> None:
    """Show state, policy and log of a run. It is drawn again when the verification has a result.

    Args:
        run_id: The run.
        is_live: Draw the whole page again when the result of the verification changes.

    """
    if is_live and st.session_state.get(LOG_KEY) != _log_result(run_id):
        st.rerun()
    is_readable = run_id in (run_ids() or ())
    if not is_readable and run_id not in store().broken:
        show_facts([("", "run", "not found")])
        return
    state = run_verifier().state(run_id)
    if state.is_broken:
        _red_banner(f"Do not rely on this page. The log of {run_id} {state.headline}.", {run_id: state})
    facts = [*_run_facts(run_id), log_fact(state), *_key_facts(state)] if is_readable else [log_fact(state)]
    show_facts(facts)


def _log_result(run_id: str) -> tuple[str, str, bool]:
    state = run_verifier().state(run_id)
    return run_id, state.status, state.is_current


def _run_facts(run_id: str) -> list[tuple[str, str, str]]:
    result = query_or_error(run_page_query, "run_header", run=run_id)
    row = next(iter(result.rows()), {}) if result is not None else {}
    facts = []
    if requested_run() is None:
        facts.append(("", "", "newest run"))
    state = str(row.get("state"))
    if state == "UNFINISHED" and _is_written(run_id):
        facts.append(("good", "state", "running"))
    else:
        tone = "good" if state == "COMPLETED" else "unknown"
        facts.append((tone, "state", state_name(state)))
    facts.append(("", "policy", str(row.get("policy") or "none")))
    if row.get("sequence") is not None:
        facts.append(("", "as of", f"event {row['sequence']:,}, {row['time']:%Y-%m-%d %H:%M:%S} UTC"))
    return facts


def _is_written(run_id: str) -> bool:
    """Return True if a process writes the log of rank 0."""
    try:
        folder = RunFolder(runs_folder(), run_id)
        return is_locked(folder.log_dir(folder.last_attempt(), 0) / "lock")
    except (RunError, OSError):
        return False


def log_label(state: LogState) -> str:
    """Return the result of the verification in a few words, for a table of runs."""
    return " ".join(part for part in log_fact(state)[1:] if part).removeprefix("log ")


def log_fact(state: LogState) -> tuple[str, str, str]:
    """Return tone, name and text about the log of a run."""
    if state.checked is None:
        return "unknown", "log", "not verified yet"
    checked = f"{_clock(state.checked)} UTC"
    if state.is_broken:
        return "bad", "log", f"{state.headline} (checked {checked})"
    if not state.is_current:
        return "unknown", "log", f"verified {checked} up to event {state.events - 1:,}, later changes not yet"
    return "good", "log", f"verified {checked}"


def _clock(time: dt.datetime) -> str:
    today = dt.datetime.now(dt.UTC).date()
    return f"{time:%H:%M:%S}" if time.date() == today else f"{time:%Y-%m-%d %H:%M:%S}"


def _key_facts(state: LogState) -> list[tuple[str, str, str]]:
    """Return facts about signatures, keys and pins of a verified log."""
    if state.status != "verified":
        return []
    facts = [("", "signed", f"{state.signed:,} of {state.events:,} events")]
    key = "this machine's key" if state.is_own_key else "a key that came with the run"
    if not state.keys:
        key = "nobody"
    facts.append(("", "by", key))
    pinned = f"{state.pinned:,} of {state.events:,} events" if state.pinned else "no"
    facts.append(("", "pinned", pinned))
    return facts


@st.fragment(run_every=REFRESH_SECONDS)
def _fleet_status() -> None:
    """Show how many logs are verified, and the broken ones. It is drawn again with new results."""
    names = [*(run_ids() or ()), *store().broken]
    if not names:
        return
    states = run_verifier().states(names)
    broken = {run_id: state for run_id, state in states.items() if state.is_broken}
    if broken:
        subject = "The log of 1 run is" if len(broken) == 1 else f"The logs of {len(broken):,} runs are"
        _red_banner(f"{subject} not intact. Do not rely on figures of these runs.", broken)
    show_facts([*fleet_facts(states), ("", "as of", f"{page_snapshot().read:%Y-%m-%d %H:%M:%S} UTC")])
    # These pages do not follow live runs, so that a table does not change while it is read.
    if store().version != page_snapshot().version and st.button("Show newer data", key="newer"):
        st.rerun()


def fleet_facts(states: Mapping[str, LogState]) -> list[tuple[str, str, str]]:
    """Return the number of verified, broken and not verified logs."""
    broken = sum(state.is_broken for state in states.values())
    verified = sum(state.status == "verified" and state.is_current for state in states.values())
    facts = [("good", "", f"{verified:,} of {len(states):,} logs verified")]
    if broken:
        facts.append(("bad", "", f"{broken:,} broken"))
    if waiting := len(states) - broken - verified:
        facts.append(("unknown", "", f"{waiting:,} not verified yet"))
    return facts if verified else facts[1:]


def _red_banner(message: str, broken: Mapping[str, LogState]) -> None:
    """Show a message in red, and for each run what is wrong, with a link to its integrity page."""
    st.html(
        '<div class="ockham-broken" role="alert"><span aria-hidden="true">✗</span> '
        f"{html.escape(message)}</div>"
    )
    for run_id, state in list(broken.items())[:MAX_BROKEN_SHOWN]:
        with st.container(horizontal=True, vertical_alignment="center"):
            _plain_text(f"{run_id}: {state.headline}. {state.place} {state.message}")
            st.page_link("screens/integrity.py", label="Show findings", query_params={"run": run_id})
    if len(broken) > MAX_BROKEN_SHOWN:
        _plain_text(f"and {len(broken) - MAX_BROKEN_SHOWN:,} more")


def show_facts(facts: list[tuple[str, str, str]]) -> None:
    """Show facts in one line. All text is escaped.

    Args:
        facts: Tone, name and text of each fact.

    """
    items = "".join(
        f'<li class="{tone}"><span aria-hidden="true">{ICONS[tone]}</span> '
        f"<span>{html.escape(name)}</span> <b>{html.escape(text[:MAX_TEXT_CHARACTERS])}</b></li>"
        for tone, name, text in facts
    )
    st.html(f'<ul class="ockham-facts" aria-label="State of the data">{items}</ul>')
