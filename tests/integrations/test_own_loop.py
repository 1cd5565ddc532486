"""The loop of docs/integrations.md as it stands there, in plain PyTorch, on a real model."""

from __future__ import annotations

import torch

from ockham import shipped
from tests.integrations import small
from tests.test_docs import blocks


def test_the_loop_of_the_docs(tmp_path, monkeypatch):
    """Trains, skips, evaluates; its log verifies and replays."""
    monkeypatch.chdir(tmp_path)
    model, batches = small.model(), small.batches(40)
    steps = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    optimizer.register_step_post_hook(lambda o, *_: steps.append(o.param_groups[0]["lr"]))
    held_out = small.batches(43)[40:]

    @torch.no_grad()
    def validation_loss():
        return float(torch.stack([model.loss(*batch) for batch in held_out]).mean())

    before = validation_loss()
    space = {
        "model": model,
        "optimizer": optimizer,
        "batches": batches,
        "validation_loss": validation_loss,
        "torch": torch,
    }
    body = next(
        b for b in blocks(shipped.root() / "docs" / "integrations.md", "python") if "loss.backward" in b
    )
    exec(body, space)
    assert validation_loss() < before
    assert len(steps) == sum(small.verdicts(tmp_path, "mine")) < 40
    assert max(steps) <= 1e-3
    small.holds(tmp_path, "mine")
    assert len(small.of(tmp_path, "evaluation.recorded", "mine")) == 4
