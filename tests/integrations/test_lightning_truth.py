"""The log of Lightning trainings in many situations, compared with what they really did."""

from __future__ import annotations

import warnings

import pytest

from tests.helpers import step_truth, tiny_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    from tests.integrations.lightning_cells import CELLS, train

pytestmark = pytest.mark.filterwarnings(
    "ignore:::(lightning|torch)", "ignore:.*litlogger.*", "ignore:.*TreeSpec.*"
)


@pytest.mark.parametrize("name", CELLS)
def test_log_of_lightning_equals_what_it_did(name, tmp_path):
    """Skips, losses of the verdicts, learning rates and norms agree. The log verifies and replays."""
    module, trainer = train(name, tmp_path)
    assert len(module.truth.moved) >= 24
    result = step_truth.compare(tmp_path, module.truth)
    assert not result.problems, result.problems[:5]
    assert result.skips >= (0 if CELLS[name].get("policy") == "observe" else 1)
    if "clip-norm" in name:
        assert max(module.truth.clipped_norms) <= 0.3001 < max(module.truth.norms)
    # The numbers of the steps are those of the Trainer.
    assert tiny_model.read_batches(tmp_path)[-1]["iter_num"] == trainer.global_step - 1
    (end,) = tiny_model.read_events(tmp_path, "run.finished")
    assert end["reason_code"] == "COMPLETED"
