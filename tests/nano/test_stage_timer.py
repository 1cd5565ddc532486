"""What a run measures of itself."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from ockham.errors import DataError
from ockham.nano import ProgressLine, StageTimer, reading_progress
from ockham.nano import progress as progress_module
from ockham.nano.signals import InterruptFlag


def filled(rate, forward=1.0, backward=2.0, chain=0.0):
    meter = StageTimer()
    for i in range(100):
        updated = i < rate * 100
        meter.batch = [("forward", 0.0, forward), ("chain", 5.0, 5.0 + chain)]
        meter.batch += [("backward", 0.0, backward)] if updated else []
        meter.finish_batch(updated=updated).read_seconds()
    return meter.savings()


def test_a_skip_saves_the_backward_and_never_the_forward():
    """(1-u) b/(1+b): at b = 2 and 60 % updates 26.7 %, and what was measured is less by the chain's own cost."""
    saved = filled(0.6)
    assert saved.backward_over_forward == 2.0
    assert saved.bound == pytest.approx(0.4 * 2 / 3)
    assert saved.measured == pytest.approx(saved.bound)
    assert filled(0.6, chain=0.1).measured == pytest.approx(1 - (1 + 1.2 + 0.1) / 3)


def test_nothing_is_claimed_before_the_first_update():
    """No update, no ratio."""
    assert filled(0.0).measured is None


def test_stages_are_read_when_they_are_asked_for():
    """On a GPU a mark is an event in its stream: nothing is computed from it before somebody asks."""
    asked = []
    marks = iter(range(100))
    meter = StageTimer(lambda: next(marks), lambda a, b: asked.append((a, b)) or float(b - a))
    for name in ("forward", "forward", "chain"):
        with meter.stage(name):
            pass
    lap = meter.finish_batch(updated=True)
    with meter.stage("forward"):
        pass
    assert asked == []
    assert lap.read_seconds() == {"forward": 2.0, "chain": 1.0}
    assert [name for name, *_ in meter.batch] == ["forward"]
    assert meter.batches == 1


def test_progress_off_a_terminal_is_plain_lines():
    """No control characters in a pipe."""
    out = io.StringIO()
    with ProgressLine(0, 10, 100, Console(file=out)) as line:
        line._shown_at -= 60
        line.show(4, 2.5, 0.5, 2.75)
    assert out.getvalue().startswith("iter 5/10 · loss 2.500 · val 2.750 · updated 50% · ")
    assert "\x1b" not in out.getvalue()


def test_the_loss_that_is_shown_keeps_up():
    """Of a falling loss it is near the validation loss beside it, which is none before the first evaluation."""
    out = io.StringIO()
    with ProgressLine(0, 100, 100, Console(file=out)) as line:
        for iter_num, loss in enumerate([5.0] * 40 + [3.0] * 20):
            line.show(iter_num, loss, 1.0, None)
        line._shown_at -= 60
        line.show(60, 3.0, 1.0, None)
        for iter_num, loss in ((61, math.nan), (62, 2.5)):
            line._shown_at -= 60
            line.show(iter_num, loss, 1.0, None)
    told = [text.split(" · updated")[0].split(" · ", 1)[1] for text in out.getvalue().splitlines()]
    assert told == ["loss 3.000 · val -", "loss nan · val -", "loss 2.500 · val -"]


def test_mfu_is_of_this_device_and_counts_what_was_computed():
    """At u = .5 two thirds of the FLOPs are done; without a known peak nothing is claimed."""
    out = io.StringIO()
    with ProgressLine(0, 10, 100, Console(file=out), peak=200.0) as line:
        line._shown_at -= 60
        line._start -= 2.5
        line.show(4, 2.5, 0.5, None)
    share = float(out.getvalue().split("MFU ")[1].split("%")[0])
    assert share == pytest.approx(200 / 200 * 100 * 2 / 3, abs=1.0)
    assert "MFU" not in _plain_line()


def _plain_line():
    out = io.StringIO()
    with ProgressLine(0, 10, 100, Console(file=out)) as line:
        line._shown_at -= 60
        line.show(4, 2.5, 0.5, None)
    return out.getvalue()


def test_the_second_signal_does_not_wait():
    """One Ctrl-C is a flag, the next one is an exception, and the handlers come back."""
    import signal

    before = signal.getsignal(signal.SIGINT)
    with InterruptFlag() as interrupted:
        assert not interrupted
        signal.raise_signal(signal.SIGINT)
        assert interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_mistake_in_the_input_is_one_clean_line_on_a_terminal(monkeypatch, capsys):
    """No bar is drawn, and so no escape sequence sent, before reading has taken two seconds."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stderr for a terminal
    with pytest.raises(DataError), reading_progress("texts") as progress:
        progress(0, 10)
        raise DataError("no text")
    assert capsys.readouterr().err == ""
    later = iter([0.0, 3.0, 3.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(later, 3.0))
    with reading_progress("texts") as progress:
        progress(5, 10)
    assert "reading texts" in capsys.readouterr().err


def test_one_request_that_torchrun_and_the_scheduler_both_hand_on_counts_once(monkeypatch):
    """Under torchrun a signal comes from it and from `scancel`; one that comes later is a second request."""
    import signal

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with InterruptFlag() as interrupted:
        assert not interrupted.signal_received()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert interrupted.signal == signal.SIGTERM
        monkeypatch.setattr("ockham.nano.signals.DUPLICATE_SIGNAL_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_another_thread_hears_of_a_signal_before_the_main_one_does():
    """The main thread may wait in C, where no handler of Python's runs."""
    import signal

    with InterruptFlag() as interrupted:
        signal.raise_signal(signal.SIGTERM)
        interrupted.signal = 0  # as if it had not been noted yet
        assert interrupted.signal_received()
        assert interrupted.signal_received()  # and it stays
