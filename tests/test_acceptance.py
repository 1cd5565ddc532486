"""Explanation of a memory that accepts nothing: its text, and the effect of the setting that it names."""

from __future__ import annotations

import math
import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ockham
from ockham.context import OccamContext
from ockham.errors import OckhamWarning
from ockham.plugins.memory import OckhamMemory

FACTS = {"vocab_size": 256, "model_params": 1_000}


def judge_all(memory, candidates):
    for iter_num, (loss, drift) in enumerate(candidates):
        ctx = OccamContext(iter_num, loss, **FACTS)
        ctx.set_gauges(val_loss=loss, complexity_cost=drift)
        memory.on_evaluate(ctx)
    return memory


LOSSES = st.floats(0.5, 5.5)
DRIFTS = st.floats(0.0, 2.0)


@given(
    candidates=st.lists(st.tuples(LOSSES, DRIFTS), min_size=10, max_size=40),
    by_fraction=st.booleans(),
    quality=st.floats(0.05, 0.9),
    complexity=st.floats(0.01, 1.0),
)
def test_named_setting_lets_a_rejected_candidate_pass_its_gate(candidates, by_fraction, quality, complexity):
    """With the value that the message names, the named gate passes a candidate that it rejected."""
    settings = {"quality_fraction": quality} if by_fraction else {"quality_threshold": quality * 5}
    settings["complexity_threshold"] = complexity
    memory = judge_all(OckhamMemory(**settings), candidates)
    text = memory.explain_no_acceptance()
    if any(gate_passes(*candidate, memory) for candidate in candidates):
        assert text is None
        return
    name, value = re.search(r"set memory\.(\w+) to ([\d.e+-]+) or more", text).groups()
    changed = judge_all(OckhamMemory(**{**settings, name: float(value)}), candidates)
    reason = re.search(r"of \d+: (\w+)\.", text)[1]
    assert changed.reasons_given.get(reason, 0) < memory.reasons_given[reason]


def gate_passes(loss, drift, memory):
    """Evaluate both gates by their definition."""
    limit = memory.quality_threshold
    if limit is None:
        limit = memory.quality_fraction * math.log(256)
    return loss <= limit and drift <= memory.complexity_threshold


def test_nine_evaluations_are_not_explained():
    """Fewer evaluations are not reliable."""
    memory = judge_all(OckhamMemory(quality_threshold=1.0), [(5.0, 0.0)] * 9)
    assert memory.explain_no_acceptance() is None
    assert judge_all(memory, [(5.0, 0.0)]).explain_no_acceptance() is not None


def test_restored_memory_names_the_setting_without_a_value():
    """The state has the format of earlier logs, so that their replay is identical."""
    memory = judge_all(OckhamMemory(quality_threshold=1.0), [(5.0, 0.0)] * 10)
    restored = OckhamMemory(quality_threshold=1.0)
    restored.load_state_dict(memory.state_dict())
    assert "Set memory.quality_threshold higher (now 1), or train longer." in restored.explain_no_acceptance()


@pytest.mark.parametrize(
    ("loss", "facts", "expected"),
    [
        (math.nan, FACTS, "lower learning_rate"),
        (2.0, {"vocab_size": 256}, "set model_params in the facts"),
        (0.0, FACTS, "not better than guessing"),
    ],
)
def test_other_reason_names_its_remedy(loss, facts, expected):
    """Reasons without a limit have a remedy too."""
    memory = OckhamMemory(complexity_threshold=None)
    for iter_num in range(10):
        ctx = OccamContext(iter_num, loss, **facts)
        ctx.set_gauges(val_loss=loss, complexity_cost=0.0)
        memory.on_evaluate(ctx)
    assert expected in memory.explain_no_acceptance()


def run_with_evaluations(tmp_path, losses, policy="balanced", overrides=()):
    """Evaluate after every tenth batch. Return the messages of the warnings by iteration, and at the end."""
    found = []
    facts = {**FACTS, "max_iters": 10 * len(losses)}
    run = ockham.Run(policy, overrides=overrides, runs=tmp_path, run_id="a", facts=facts).start()
    for iter_num in range(10 * len(losses)):
        ctx = run.end_batch(run.start_batch(iter_num, 3.0 + iter_num % 7 / 10, learning_rate=1e-3))
        if iter_num % 10 == 9:
            with warnings.catch_warnings(record=True) as recorded:
                warnings.simplefilter("always")
                run.evaluate(ctx, losses[iter_num // 10], complexity_cost=0.1)
            found += [(iter_num, str(one.message)) for one in recorded]
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        run.finish()
    return found + [("end", str(one.message)) for one in recorded]


def test_run_that_accepts_nothing_warns_in_its_second_half_and_at_its_end(tmp_path):
    """The loss never reaches the limit of .6 ln(256) = 3.327."""
    found = run_with_evaluations(tmp_path, [5.0 - 0.05 * i for i in range(30)])
    assert [place for place, _ in found] == [199, "end"]
    assert "memory accepted none of 20 evaluations; 20 of 20: REJECTED_QUALITY" in found[0][1]
    assert "The lowest loss was 3.55, the limit is 3.327" in found[1][1]
    assert "set memory.quality_fraction to 0.6402 or more (now 0.6), or train longer" in found[1][1]


@pytest.mark.parametrize(
    ("losses", "policy", "overrides"),
    [
        ([5.0, 2.0] * 10, "balanced", ()),
        ([5.0] * 19, "balanced", ()),
        ([5.0] * 30, "observe", ()),
        ([5.0] * 30, "NONE_ALLOWED", ()),
    ],
    ids=["accepted once", "few batches", "memory in shadow", "target from 0"],
)
def test_run_without_a_problem_does_not_warn(tmp_path, losses, policy, overrides):
    """One acceptance, a short run, a memory in shadow and a target from 0 on are accepted."""
    if policy == "NONE_ALLOWED":
        policy = tmp_path / "mine.yaml"
        policy.write_text("extends: balanced\ntargets: {accept_rate: [0, 0.1]}\n")
    assert run_with_evaluations(tmp_path, losses, policy, overrides) == []


def test_warning_as_error_leaves_a_complete_log(tmp_path):
    """`python -W error` raises after the log has ended."""
    facts = {**FACTS, "max_iters": 200}
    run = ockham.Run("balanced", runs=tmp_path, run_id="a", facts=facts).start()
    for iter_num in range(200):
        ctx = run.end_batch(run.start_batch(iter_num, 3.0, learning_rate=1e-3))
        if 180 < iter_num <= 189:
            run.evaluate(ctx, 5.0, complexity_cost=0.1)
    with pytest.raises(OckhamWarning):
        run.evaluate(ctx, 5.0, complexity_cost=0.1)
    with pytest.raises(OckhamWarning):
        run.finish()
    rows = ockham.Catalog(tmp_path).rows("select state, evaluations from run_summary")
    assert rows == [{"state": "COMPLETED", "evaluations": 10}]
