"""What README and docs show can be typed: every verb and option is there, every snippet of Python runs or compiles."""

from __future__ import annotations

import re

import pytest
import torch
import typer.main

import ockham
from ockham import resources
from ockham.cli import build_app
from ockham.context import OccamContext
from ockham.testing import check_plugin
from tests.helpers.cli_parser import parse
from tests.helpers.runs import made_run

PAGES = [resources.data_root() / "README.md", *sorted((resources.data_root() / "docs").glob("*.md"))]
LINKED = [
    *PAGES,
    resources.data_root() / "CHANGELOG.md",
    *sorted((resources.data_root() / "odr").glob("*.md")),
]
_FENCE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1", re.DOTALL | re.MULTILINE)
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
    return typer.main.get_command(build_app())


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
    for body in blocks(resources.data_root() / name, "python"):
        exec(compile(body, name, "exec"), space)
    if name == "README.md":
        ctx = OccamContext(0, 9.0, learning_rate=1.0)
        space["Cautious"]().on_batch_start(ctx)
        assert ctx.learning_rate == 0.5
        assert ctx.notes[0].reason_code == "LOSS_OVER_CEILING"
        assert check_plugin(space["Cautious"])
        assert space["run"].counts.batches == 30


def anchors(page):
    """What a heading is called in an address, as GitHub and static site builders make it."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#+ (.*?) *$", text, re.MULTILINE):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        yield re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", LINKED, ids=lambda p: str(p.relative_to(resources.data_root())))
def test_links_lead_somewhere(page):
    """Every relative link is a file and a heading in it; those of docs/ stay there, so that a site builder takes it as it is."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        place = page.parent / file if file else page
        assert place.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(place), f"{page.name}: {target}"
        if page.parent.name == "docs":
            assert place.resolve().is_relative_to(page.parent), f"{page.name}: {target} leads out of docs/"


def test_every_page_is_in_the_index():
    """None is left out, none is named that is not there."""
    listed = set(
        re.findall(
            r"\]\(([a-z-]+\.md)\)", (resources.data_root() / "docs" / "index.md").read_text(encoding="utf-8")
        )
    )
    assert listed == {page.name for page in PAGES if page.parent.name == "docs"} - {"index.md"}
