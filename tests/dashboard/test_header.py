"""Header of all pages: run, state, policy, result of the verification, and the moment of the figures."""

from __future__ import annotations

import functools
import html
import json
import logging
import re

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import verifier
from dashboard.address import RUN_PAGES
from dashboard.verifier import RunVerifier
from ockham.record.tlog.note import load_or_create_signer
from ockham.run import Run
from tests.helpers.damaged_runs import append_invalid_line
from tests.helpers.runs import make_run
from tests.helpers.tampering import change_one_digit

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("streamlit").setLevel(logging.CRITICAL)
OTHER_PAGES = ("runs", "odr", "sql")


def read_header(test):
    """Return the text of the header, without markup."""
    markup = " ".join(block.proto.body for block in test.get("html") if "<style" not in block.proto.body)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def banners(test):
    return [block.proto.body for block in test.get("html") if 'class="ockham-broken"' in block.proto.body]


@pytest.mark.parametrize("page", RUN_PAGES)
def test_page_of_a_run_names_run_state_policy_and_last_counted_event(open_page, tmp_path, page):
    """The event and its time are those of the last signed line of the log."""
    run = make_run(tmp_path, "first", batches=30)
    make_run(tmp_path, "second", batches=12)
    lines = run.folder.segments(1, 0)[-1].read_bytes().splitlines()
    last = json.loads(lines[-1])
    test = open_page(tmp_path, page, run="first")
    assert not test.exception
    header = read_header(test)
    assert "state completed policy balanced" in header
    time = last["time"][:19].replace("T", " ")
    assert f"as of event {last['data']['sequence']:,}, {time} UTC" in header
    assert "first" in [link.proto.label for link in test.get("page_link")]


@pytest.mark.parametrize("page", ["gate", "decision", "odr"])
def test_unverified_run_is_never_shown_as_verified(open_page, tmp_path, verify_all, page):
    """The header contains "not verified yet" until the verification has a result."""
    make_run(tmp_path, "first", batches=12)
    query = {"run": "first"} if page in RUN_PAGES else {}
    assert "not verified yet" in read_header(open_page(tmp_path, page, **query))
    verify_all()
    header = read_header(open_page(tmp_path, page, **query))
    assert "not verified" not in header
    assert "verified" in header


def test_header_of_a_verified_run_contains_signatures_key_and_pin(open_page, tmp_path, verify_all):
    """An own key is not the key of another machine."""
    run = make_run(tmp_path, "first", batches=12)
    lines = sum(len(path.read_bytes().splitlines()) for path in run.folder.segments(1, 0))
    open_page(tmp_path, "run", run="first")
    verify_all()
    header = read_header(open_page(tmp_path, "run", run="first"))
    assert f"signed {lines} of {lines} events by this machine's key pinned no" in header


def test_key_of_another_machine_is_not_called_own(open_page, tmp_path, verify_all, monkeypatch):
    """A key in the folder of the run proves no more than the run itself."""
    make_run(tmp_path / "runs", "first", batches=12)
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "other-keys"))
    load_or_create_signer()
    open_page(tmp_path / "runs", "run", run="first")
    verify_all()
    assert "by a key that came with the run" in read_header(open_page(tmp_path / "runs", "run", run="first"))


def test_trusted_key_is_named_and_another_key_is_red(open_page, tmp_path, verify_all, monkeypatch):
    """With keys of the command line, a run that another key has signed is broken."""
    make_run(tmp_path / "runs", "first", batches=12)
    monkeypatch.setenv("OCKHAM_TRUSTED_KEYS", str(load_or_create_signer().verifier))
    open_page(tmp_path / "runs", "run", run="first")
    verify_all()
    assert "by a trusted key" in read_header(open_page(tmp_path / "runs", "run", run="first"))
    integrity = open_page(tmp_path / "runs", "integrity", run="first")
    assert integrity.text[0].value.startswith("Yes. The log agrees with the key or pins that were given.")
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("OCKHAM_TRUSTED_KEYS", str(load_or_create_signer().verifier))
    make_run(tmp_path / "runs", "second", batches=12)
    (tmp_path / "runs" / "first" / "run.json").touch()
    results = verifier.run_verifier()._results
    results["first"] = results["first"]._replace(seconds=0.0)
    verify_all()
    assert banners(open_page(tmp_path / "runs", "run", run="first"))
    assert not banners(open_page(tmp_path / "runs", "run", run="second"))


@pytest.mark.parametrize("page", [*RUN_PAGES, *OTHER_PAGES])
def test_broken_run_is_red_on_every_page(open_page, tmp_path, verify_all, page):
    """One changed digit is on every page of the run and on the pages across runs."""
    make_run(tmp_path, "good", batches=12)
    sequence = change_one_digit(make_run(tmp_path, "bad", batches=30).folder)
    open_page(tmp_path, "runs")
    verify_all()
    test = open_page(tmp_path, page, **({"run": "bad"} if page in RUN_PAGES else {}))
    assert not test.exception
    assert len(banners(test)) == 1
    assert f"bad: changed after it was signed, at event {sequence}" in read_header(test)
    if page in RUN_PAGES:
        assert "The log of bad changed after it was signed" in banners(test)[0]
        assert not banners(open_page(tmp_path, page, run="good"))
    else:
        assert "1 of 2 logs verified ✗ 1 broken" in read_header(test)


def test_runs_page_counts_broken_runs(open_page, tmp_path, verify_all):
    """A broken run needs attention."""
    change_one_digit(make_run(tmp_path, "bad", batches=30).folder)
    open_page(tmp_path, "runs")
    verify_all()
    assert open_page(tmp_path, "runs").text[0].value == "1 run; 1 needs attention."


def test_run_that_changes_after_its_verification_is_not_shown_as_verified(open_page, tmp_path, verify_all):
    """The files are compared when the page is shown, not only by the background thread."""
    run = make_run(tmp_path, "first", batches=30)
    open_page(tmp_path, "run", run="first")
    verify_all()
    change_one_digit(run.folder)
    header = read_header(open_page(tmp_path, "run", run="first"))
    assert "later changes not yet" in header
    assert "✓ log" not in header


def test_live_run_is_running_and_its_newer_events_are_not_verified(open_page, tmp_path, verify_all):
    """The header contains up to which event the log was verified."""
    with Run(plugins=[], runs=tmp_path, run_id="live") as run:
        run.end_batch(run.start_batch(0, 2.0))
        run.flush()
        assert "state running" in read_header(open_page(tmp_path, "run", run="live"))
        verify_all()
        events = verifier.run_verifier().state("live").events
        run.end_batch(run.start_batch(1, 2.0))
        run.flush()
        assert f"up to event {events - 1}, later changes not yet" in read_header(
            open_page(tmp_path, "run", run="live")
        )


def test_unreadable_run_is_red(open_page, tmp_path, verify_all):
    """A run that the catalog cannot read is broken on its own page too."""
    make_run(tmp_path, "good", batches=12)
    append_invalid_line(make_run(tmp_path, "bad", batches=12))
    open_page(tmp_path, "runs")
    verify_all()
    assert banners(open_page(tmp_path, "gate", run="bad"))
    assert banners(open_page(tmp_path, "runs"))


@pytest.mark.parametrize("name", ["nope", "<script>alert(1)</script>", "**bold**", "x" * 300])
def test_unknown_run_stays_unknown_in_header_and_links(open_page, tmp_path, name):
    """Links of the menu keep the name of the address. No other run is shown."""
    make_run(tmp_path, "first", batches=12)
    test = open_page(tmp_path, "gate", run=name)
    assert not test.exception
    assert "run not found" in read_header(test)
    assert not [block for block in test.get("html") if name in block.proto.body and "<" in name]
    links = [link.proto for link in test.get("page_link") if "gate" in link.proto.page]
    assert links
    assert all("first" not in link.query_string for link in links)


def test_menu_links_contain_run_and_range(open_page, tmp_path):
    """The range stays on all pages of the run, and is not part of links to other pages."""
    make_run(tmp_path, "first", batches=30)
    make_run(tmp_path, "second", batches=12)
    test = open_page(tmp_path, "run", run="first", **{"from": "5", "to": "20"})
    queries = {link.proto.page: link.proto.query_string for link in test.get("page_link")}
    assert {queries[name] for name in ("control", "gate", "memory")} == {"run=first&from=5&to=20"}
    assert queries["odr"] == ""
    without = open_page(tmp_path, "gate")
    assert {link.proto.query_string for link in without.get("page_link") if link.proto.page == "run"} == {
        "run=second"
    }


def test_menu_of_runs_is_set_from_the_address(open_page, tmp_path):
    """An address that changes, as by Back, changes the menu, and a choice changes the address."""
    make_run(tmp_path, "first", batches=12)
    make_run(tmp_path, "second", batches=12)
    test = open_page(tmp_path, "gate", run="first", **{"from": "3"})
    test.selectbox(key="run-choice").set_value("second").run()
    assert test.query_params["run"] in ("second", ["second"])
    assert "from" not in test.query_params
    assert "second" in [link.proto.label for link in test.get("page_link")]
    test.query_params["run"] = "first"
    test.run()
    assert test.selectbox(key="run-choice").value == "first"
    assert "first" in [link.proto.label for link in test.get("page_link")]


def test_states_of_many_runs_do_not_read_their_files(tmp_path, monkeypatch):
    """A table of 300 runs uses the last results."""
    make_run(tmp_path, "a", batches=12)
    runs = RunVerifier(tmp_path)
    runs.verify_changed()
    monkeypatch.setattr(verifier, "verified_state", functools.partial(pytest.fail, "read the files"))
    assert {run_id: state.status for run_id, state in runs.states(["a", "b"]).items()} == {
        "a": "verified",
        "b": "not verified",
    }


def test_page_across_runs_offers_newer_data_instead_of_changing(tmp_path, monkeypatch):
    """The figures stay those of the moment in the header, until the reader asks for newer ones."""

    def page():
        import os

        import streamlit as st

        from dashboard import data_source, header
        from tests.helpers.runs import make_run

        data_source.SCAN_INTERVAL_SECONDS = 0.0
        data_source.renew_snapshot()
        if "written" not in st.session_state:
            st.session_state["written"] = True
            make_run(os.environ["OCKHAM_RUNS"], "second", batches=12)
        header._fleet_status()
        st.text(str(len(header.run_ids())))

    monkeypatch.setattr("dashboard.data_source.SCAN_INTERVAL_SECONDS", 0.5)
    monkeypatch.setenv("OCKHAM_RUNS", str(tmp_path))
    monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
    make_run(tmp_path, "first", batches=12)
    test = AppTest.from_function(page, default_timeout=60).run()
    assert not test.exception
    assert test.text[0].value == "1"
    test = test.button(key="newer").click().run()
    assert test.text[0].value == "2"
    assert not test.button
