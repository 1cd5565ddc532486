"""Subscriptions: every durable event once and in order. A failing consumer affects no other one."""

from __future__ import annotations

import os
import threading
import time

import pytest

from ockham.errors import BadInputError, LogError
from ockham.record.log_writer import LogWriter
from ockham.record.subscriptions import Subscriptions
from ockham.run import Run
from tests.helpers.events import REVISION, decision, events, run_folder


@pytest.fixture
def log(tmp_path):
    writer = LogWriter(run_folder(tmp_path), 1, 0, policy_revision=REVISION, segment_events=50)
    yield writer
    writer.close()


def test_consumer_receives_every_event_once_in_order(log):
    """It starts at the time of the subscription."""
    log.append("decision.made", decision(0), iter_num=0)
    heard = []
    all_ = Subscriptions(log)
    all_.subscribe(heard.append)
    for i in range(1, 200):
        log.append("decision.made", decision(i), iter_num=i)
    log.close()
    all_.close()
    assert heard == events(log.folder)[1:]


def test_consumer_receives_selected_events_only(log):
    """Selection is by type and reason code."""
    heard, coded = [], []
    all_ = Subscriptions(log)
    all_.subscribe(heard.append, "plugin.failed")
    all_.subscribe(coded.append, "decision.made", "ABOVE_THRESHOLD")
    for i in range(20):
        log.append(
            "decision.made",
            decision(i, reason_code="ABOVE_THRESHOLD" if i % 5 == 0 else "BELOW_THRESHOLD"),
            iter_num=i,
        )
    log.close()
    all_.close()
    assert heard == []
    assert [event["data"]["iter_num"] for event in coded] == [0, 5, 10, 15]


def test_slow_consumer_blocks_neither_writer_nor_others(log, caplog):
    """It is stopped at the end with a warning."""
    held, quick, finished = threading.Event(), [], threading.Event()

    def append(event):
        quick.append(event)
        if event["data"].get("iter_num") == 99:
            finished.set()

    all_ = Subscriptions(log)
    all_.subscribe(lambda event: held.wait(600))
    all_.subscribe(append)
    for i in range(100):
        log.append("decision.made", decision(i), iter_num=i)
    log.close()
    assert finished.wait(60)
    all_.close(timeout=0.2)
    assert log.blocked_seconds == 0
    assert [event["data"]["iter_num"] for event in quick if "iter_num" in event["data"]] == list(range(100))
    assert "and is stopped" in caplog.text
    held.set()


def test_consumer_that_raises_receives_later_events(log, caplog):
    """The warning is logged once."""
    heard = []

    def wrong(event):
        heard.append(event)
        raise ZeroDivisionError("mine")

    all_ = Subscriptions(log)
    one = all_.subscribe(wrong, "decision.made")
    for i in range(10):
        log.append("decision.made", decision(i), iter_num=i)
    log.close()
    all_.close()
    assert (len(heard), one.errors) == (10, 10)
    assert caplog.text.count("a subscriber raised ZeroDivisionError: mine") == 1


def test_consumer_receives_durable_events_only(log):
    """Nothing is delivered before its sync."""
    heard = []
    all_ = Subscriptions(log)
    all_.subscribe(heard.append)
    log.append("decision.made", decision(0), iter_num=0)
    log.flush()
    deadline = time.monotonic() + 60
    while not heard and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(heard) == 1
    log.close()
    all_.close()


def test_run_accepts_subscribers_until_its_end(tmp_path):
    """An unknown type is refused."""
    heard = []
    with Run("balanced", runs=tmp_path, run_id="r") as run:
        with pytest.raises(BadInputError, match="no event has the type"):
            run.subscribe(print, type="decision.mad")
        run.subscribe(heard.append, type="decision.made", reason_code="BELOW_THRESHOLD")
        run.subscribe(heard.append, type="run.finished")
        for i in range(60):
            run.end_batch(run.start_batch(i, 3.0 - i / 30, learning_rate=1e-3), grad_norm=0.5)
    logged = [e for e in events(run.folder) if e["data"].get("reason_code") == "BELOW_THRESHOLD"]
    assert [e for e in heard if e["type"] == "ockham.decision.made.v1"] == logged
    # Each subscription has a thread of its own.
    assert "ockham.run.finished.v1" in [e["type"] for e in heard]


def test_subscriber_threads_end_if_the_log_cannot(tmp_path, monkeypatch):
    """The disk error is raised."""

    def broken(descriptor):
        raise OSError(5, "Input/output error")

    run = Run("balanced", runs=tmp_path, run_id="r").__enter__()
    heard = run.subscribe(lambda event: None)
    run.flush()
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(LogError, match="Input/output error"):
        run.__exit__(None, None, None)
    assert not heard.thread.is_alive()
