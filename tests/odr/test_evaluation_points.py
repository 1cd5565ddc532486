"""Evaluations of a resumed run. Superseded ones do not count."""

from __future__ import annotations

import pytest

from ockham.odr.evaluation_points import read_evaluations
from ockham.odr.pinned_log import read_pinned_log
from ockham.odr.record_data import EvidenceSide
from ockham.record.attempt import log_head
from ockham.record.log_writer import LogWriter
from tests.helpers.events import REVISION, context_record, run_folder
from tests.odr.evaluated_runs import Evaluation, append_evaluation
from tests.odr.test_pinned_log import RESUMED


def test_superseded_evaluations_and_batches_do_not_count(tmp_path):
    """Attempt 2 begins again at iteration 20 and evaluates it with another loss."""
    folder = run_folder(tmp_path, "a")
    losses = {1: {9: 3.0, 19: 2.9, 29: 2.8}, 2: {29: 2.5, 39: 2.4}}
    for attempt, iterations in ((1, range(33)), (2, range(20, 40))):
        writer = LogWriter(folder, attempt, 0, policy_revision=REVISION)
        if attempt == 2:
            resumed = {**RESUMED, **log_head(folder, 1, 0), "from_attempt": 1, "iter_num": 20}
            writer.append("run.resumed", resumed, iter_num=20)
        for at in iterations:
            writer.append("context.recorded", context_record(at), iter_num=at)
            if at in losses[attempt]:
                append_evaluation(writer, Evaluation(at, losses[attempt][at]), 64)
        writer.close()
    series = read_evaluations(read_pinned_log(EvidenceSide("candidate", "a", 2), folder), True)
    assert [point.iteration for point in series.points] == [9, 19, 29, 39]
    assert [point.quotient * 1e11 for point in series.points] == pytest.approx(
        [1 / 3.0, 1 / 2.9, 1 / 2.5, 1 / 2.4]
    )
    assert [batch["iter_num"] for batch in series.batches] == list(range(40))
    assert [point.batches for point in series.points] == [10, 20, 30, 40]
