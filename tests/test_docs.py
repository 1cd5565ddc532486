"""What README and docs show can be typed: every verb and option is there, every snippet of Python runs or compiles."""

from __future__ import annotations

import re

import pytest
import torch
import typer.main

import ockham
from ockham import shipped
from ockham.cli import application
from ockham.context import OccamContext
from ockham.testing import check_plugin
from tests.cli.typed import parse
from tests.made import made_run

PAGES = [shipped.root() / "README.md", *sorted((shipped.root() / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page, *kinds):
    return [body for kind, body in _BLOCK.findall(page.read_text(encoding="utf-8")) if kind in kinds]


def commands(page):
    """Lines of code blocks that begin with `ockham`."""
    for body in blocks(page, "", "bash", "sh", "console"):
        for line in body.replace("\\\n", " ").splitlines():
            text = line.strip().removeprefix("$ ")
            if text.startswith("ockham "):
                yield text


@pytest.fixture(scope="module")
def root():
    return typer.main.get_command(application())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_can_be_typed(page, root):
    """The verb exists, takes what is given, and wants nothing more."""
    for line in commands(page):
        parse(root, line)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_snippet_of_python_compiles(page):
    """And uses only public names of ockham."""
    for body in blocks(page, "python"):
        compile(body, page.name, "exec")
        for name in re.findall(r"\bockham\.([A-Za-z_]\w*)\(", body):
            assert name in ockham.__all__, f"{page.name}: ockham.{name}"


def stand_ins():
    """What the snippets take as given: a model of one weight, its batches, its optimizer."""
    weight = torch.nn.Parameter(torch.tensor(3.0))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def step(optimizer, learning_rate, limit):
        torch.nn.utils.clip_grad_norm_([weight], limit)
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad()

    return {
        "ockham": ockham, "batches": torch.ones(30), "model": lambda batch: 1 + (weight * batch) ** 2, "norm": 0.5,
        "schedule": lambda _: 0.1, "optimizer": optimizer, "step": step, "page_me": print,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["README.md", "docs/plugins.md", "docs/scale.md", "docs/sql.md"])
def test_every_snippet_of_python_runs(name, tmp_path, monkeypatch):
    """Pasted one after the other, beside a run called night-1. (tests/integrations/ runs those of integrations.md.)"""
    monkeypatch.chdir(tmp_path)
    made_run(tmp_path / "runs", "night-1", batches=12)
    space = stand_ins()
    for body in blocks(shipped.root() / name, "python"):
        exec(compile(body, name, "exec"), space)
    if name == "README.md":
        ctx = OccamContext(0, 9.0, learning_rate=1.0)
        space["Cautious"]().on_batch_start(ctx)
        assert ctx.learning_rate == 0.5
        assert ctx.notes[0].reason_code == "LOSS_OVER_CEILING"
        assert check_plugin(space["Cautious"])
        assert space["run"].counts.batches == 30


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    """Every relative link of a page is a file."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
