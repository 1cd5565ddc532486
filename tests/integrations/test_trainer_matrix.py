"""The log of every trainer in every situation, compared with what the trainer really did."""

from __future__ import annotations

import warnings

import pytest

from tests.helpers import step_truth

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    pytest.importorskip("peft", reason="peft is not installed")
    pytest.importorskip("trl", reason="trl is not installed")
    from tests.integrations.huggingface_cells import CELLS as HUGGINGFACE_CELLS

from tests.integrations.own_loop_cells import CELLS as OWN_LOOP_CELLS

CELLS = [*HUGGINGFACE_CELLS, *OWN_LOOP_CELLS]
pytestmark = [pytest.mark.filterwarnings("ignore:::(transformers|accelerate|torch|trl|peft|datasets)")]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_log_of_a_trainer_equals_what_it_did(cell, tmp_path):
    """Skips, losses, learning rates and norms agree. The log verifies and replays."""
    truth = cell.train(tmp_path)
    result = step_truth.compare(tmp_path, truth)
    assert not result.problems, result.problems[:5]
    assert result.skips >= cell.min_skips
