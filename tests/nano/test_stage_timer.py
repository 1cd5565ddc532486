"""Stage times, the progress line and the interrupt flag."""

from __future__ import annotations

import io
import math
import signal

import pytest
from rich.console import Console

from ockham.errors import DataError
from ockham.nano import ProgressLine, StageTimer, reading_progress
from ockham.nano import progress as progress_module
from ockham.nano.signals import InterruptFlag


def test_stage_seconds_are_computed_only_when_read():
    """On a GPU a mark is an event in its stream, which must not be read too early."""
    reads = []
    marks = iter(range(100))
    meter = StageTimer(lambda: next(marks), lambda a, b: reads.append((a, b)) or float(b - a))
    for name in ("forward", "forward", "chain"):
        with meter.stage(name):
            pass
    stages = meter.finish_batch()
    with meter.stage("forward"):
        pass
    assert reads == []
    assert stages.read_seconds() == {"forward": 2.0, "chain": 1.0}
    assert [name for name, *_ in meter.batch] == ["forward"]


def test_progress_outside_a_terminal_is_a_plain_line():
    """A pipe gets no control characters."""
    out = io.StringIO()
    with ProgressLine(0, 10, 100, Console(file=out)) as line:
        line._shown_at -= 60
        line.show(4, 2.5, 0.5, 2.75)
    assert out.getvalue().startswith("iter 5/10 · loss 2.500 · val 2.750 · updated 50% · ")
    assert "\x1b" not in out.getvalue()


def test_shown_loss_is_the_mean_of_recent_losses():
    """The mean follows a falling loss. Before the first evaluation, no validation loss is shown."""
    out = io.StringIO()
    with ProgressLine(0, 100, 100, Console(file=out)) as line:
        for iter_num, loss in enumerate([5.0] * 40 + [3.0] * 20):
            line.show(iter_num, loss, 1.0, None)
        line._shown_at -= 60
        line.show(60, 3.0, 1.0, None)
        for iter_num, loss in ((61, math.nan), (62, 2.5)):
            line._shown_at -= 60
            line.show(iter_num, loss, 1.0, None)
    shown = [text.split(" · updated")[0].split(" · ", 1)[1] for text in out.getvalue().splitlines()]
    assert shown == ["loss 3.000 · val -", "loss nan · val -", "loss 2.500 · val -"]


def test_mfu_counts_skipped_backward_passes():
    """At an update rate of 0.5, two thirds of the FLOPs are computed. Without a peak no MFU is shown."""
    out = io.StringIO()
    with ProgressLine(0, 10, 100, Console(file=out), peak=200.0) as line:
        line._shown_at -= 60
        line._start -= 2.5
        line.show(4, 2.5, 0.5, None)
    share = float(out.getvalue().split("MFU ")[1].split("%")[0])
    assert share == pytest.approx(200 / 200 * 100 * 2 / 3, abs=1.0)
    assert "MFU" not in show_without_peak()


def show_without_peak():
    out = io.StringIO()
    with ProgressLine(0, 10, 100, Console(file=out)) as line:
        line._shown_at -= 60
        line.show(4, 2.5, 0.5, None)
    return out.getvalue()


def test_second_signal_raises_keyboard_interrupt():
    """The first Ctrl-C sets the flag. The handlers are restored at the end."""
    before = signal.getsignal(signal.SIGINT)
    with InterruptFlag() as interrupted:
        assert not interrupted
        signal.raise_signal(signal.SIGINT)
        assert interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_reading_bar_appears_only_after_two_seconds(monkeypatch, capsys):
    """An error in the input is then one clean line without escape sequences."""
    # Rich treats stderr as a terminal then.
    monkeypatch.setenv("FORCE_COLOR", "1")
    with pytest.raises(DataError), reading_progress("texts") as progress:
        progress(0, 10)
        raise DataError("no text")
    assert capsys.readouterr().err == ""
    later = iter([0.0, 3.0, 3.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(later, 3.0))
    with reading_progress("texts") as progress:
        progress(5, 10)
    assert "reading texts" in capsys.readouterr().err


def test_duplicate_signal_under_torchrun_counts_once(monkeypatch):
    """Torchrun and `scancel` both send a signal. A later one is a second request."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with InterruptFlag() as interrupted:
        assert not interrupted.signal_received()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interrupted.signal == signal.SIGTERM
        monkeypatch.setattr("ockham.nano.signals.DUPLICATE_SIGNAL_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def default_signals():
    """Under nohup the tests themselves ignore SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
@pytest.mark.usefixtures("default_signals")
def test_signals_of_schedulers_and_terminals_stop_the_run_without_urgency(first, monkeypatch):
    """They may arrive several times and together with SIGTERM. A later SIGTERM interrupts at once."""
    before = signal.getsignal(first)
    with InterruptFlag() as interrupted:
        signal.raise_signal(first)
        assert interrupted.signal == first
        assert interrupted.signal_received()
        for _ in range(3):
            signal.raise_signal(first)
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.setattr("ockham.nano.signals.DUPLICATE_SIGNAL_SECONDS", 0.0)
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(first) is before


def test_signal_that_nohup_ignores_stays_ignored():
    """The user asked that a closed terminal has no effect."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with InterruptFlag() as interrupted:
            signal.raise_signal(signal.SIGHUP)
            assert not interrupted
            assert not interrupted.signal_received()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signal_is_visible_to_other_threads_before_the_handler_runs():
    """The main thread may be in C code, where no Python handler runs."""
    with InterruptFlag() as interrupted:
        signal.raise_signal(signal.SIGTERM)
        # This is the state before the Python handler has run.
        interrupted.signal = 0
        assert interrupted.signal_received()
        # Reading it again has the same result.
        assert interrupted.signal_received()
