"""Training loops of docs/integrations.md in plain PyTorch, on a real model."""

from __future__ import annotations

import pytest
import torch

import ockham
from ockham import resources
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from tests.helpers import tiny_model
from tests.helpers.events import events
from tests.test_docs import blocks


def find_snippet(marker):
    """Return the snippet of docs/integrations.md that contains *marker*."""
    snippets = blocks(resources.data_root() / "docs" / "integrations.md", "python")
    return next(snippet for snippet in snippets if marker in snippet)


def test_docs_own_loop_example_trains_and_logs(tmp_path, monkeypatch):
    """The loop skips and evaluates. Its log verifies and replays."""
    monkeypatch.chdir(tmp_path)
    model, batches = tiny_model.make_model(), tiny_model.make_batches(40)
    steps = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    optimizer.register_step_post_hook(lambda o, *_: steps.append(o.param_groups[0]["lr"]))
    held_out = tiny_model.make_batches(43)[40:]

    @torch.no_grad()
    def validation_loss():
        return float(torch.stack([model.loss(*batch) for batch in held_out]).mean())

    before = validation_loss()
    names = {
        "model": model,
        "optimizer": optimizer,
        "batches": batches,
        "validation_loss": validation_loss,
        "torch": torch,
    }
    exec(find_snippet("loss.backward"), names)
    assert validation_loss() < before
    assert len(steps) == sum(tiny_model.read_verdicts(tmp_path, "mine")) < 40
    assert max(steps) <= 1e-3
    tiny_model.assert_sound_run(tmp_path, "mine")
    assert len(tiny_model.read_events(tmp_path, "evaluation.recorded", "mine")) == 4


def test_docs_resume_example_runs(tmp_path, monkeypatch):
    """It resumes from the start, then from a checkpoint. The run verifies and replays."""
    monkeypatch.chdir(tmp_path)
    model, batches = tiny_model.make_model(), tiny_model.make_batches(40)
    facts = {"max_iters": 40, "vocab_size": 32}
    with ockham.Run("balanced", run_id="mine", facts=facts):
        # This is the state of a run that was killed before its first batch.
        pass
    snippet = find_snippet("def pack")
    for batch_count in (25, 40):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        names = {"ockham": ockham, "model": model, "optimizer": optimizer, "facts": facts}
        exec(snippet, {**names, "batches": batches[:batch_count]})
    run_folder = ockham.RunFolder(tmp_path / "runs", "mine")
    data = [e["data"] for attempt in (1, 2, 3) for e in events(run_folder, attempt)]
    assert [d["iter_num"] for d in data if d.get("hook") == "batch"] == [*range(25), *range(20, 40)]
    assert verify_run(run_folder).sound
    assert replay_run(run_folder).identical


def test_resume_checkpoint_without_state_is_rejected(tmp_path):
    """No incomplete checkpoint is left."""
    with ockham.Run("observe", runs=tmp_path, run_id="a", facts={"max_iters": 1}) as run:
        ctx = run.end_batch(run.start_batch(0, 2.0))
        with pytest.raises(ockham.OckhamError, match=r"state\.json"):
            run.save_checkpoint(
                ctx, "resume", lambda metadata, state: ockham.CheckpointFiles({"w": b"w"}, "0" * 64)
            )
    assert not list((tmp_path / "a" / "checkpoints").glob("*"))
