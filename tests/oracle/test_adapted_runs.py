"""All figures of runs that `ockham train` and `ockham adapt` write, against their lines."""

from __future__ import annotations

import random

import pytest
from typer.testing import CliRunner

from ockham.catalog import Catalog
from ockham.cli import build_app
from ockham.record.repair import rebuild
from ockham.record.run_folder import RunFolder
from tests.helpers.tiny_trainer import TINY, text
from tests.oracle.comparison import assert_equal_rows
from tests.oracle.figures import run_summary
from tests.oracle.log_lines import read_run
from tests.oracle.test_pages import compare_pages
from tests.oracle.test_questions import compare_questions
from tests.oracle.test_reports import compare_roi

BASE = "extends: adapt\nplugins: {gate: null, memory: {quality_fraction: 1.0, min_oq_improvement: 0.001}}\n"


def ockham(runs, *words):
    """Run a command in this process."""
    done = CliRunner().invoke(build_app(), [*words, "--runs", str(runs)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def adapted_runs(tmp_path_factory):
    """A trained run, and adaptations of it: all weights under accumulation, and a low-rank adapter."""
    folder = tmp_path_factory.mktemp("adapted")
    runs, draw = folder / "runs", random.Random(1)
    (folder / "new.txt").write_text("".join(draw.choice("+*/<>{}[]") * 3 + f"{i % 7};\n" for i in range(900)))
    (folder / "base.yaml").write_text(BASE)
    tiny = [word for setting in (*TINY, "device=cpu") for word in ("--set", setting)]
    base = ["train", "--policy", str(folder / "base.yaml"), "--data", str(text(folder)), "--run", "base"]
    ockham(runs, *base, *tiny, "--set", "learning_rate=0.01")
    adapt = ["adapt", "--from", "base", "--data", str(folder / "new.txt"), "--set", "threads=1"]
    ockham(runs, *adapt, "--run", "full", "--set", "max_iters=30", "--set", "gradient_accumulation_steps=4")
    ockham(runs, *adapt, "--run", "low", "--set", "max_iters=60", "--lora", "h.0.*", "--rank", "1")
    return runs


@pytest.mark.parametrize("is_repaired", [False, True], ids=["as written", "repaired"])
def test_figures_of_adapted_runs_equal_the_lines(adapted_runs, is_repaired):
    """Every question, summary, page and report has no difference."""
    for run_id in ("base", "full", "low"):
        if is_repaired:
            rebuild(RunFolder(adapted_runs, run_id))
        compare_roi(adapted_runs, run_id, 2.5)
    expected = [run_summary(read_run(path)) for path in sorted(adapted_runs.iterdir())]
    assert_equal_rows(Catalog(adapted_runs).rows("select * from run_summary"), expected)
    assert compare_questions(adapted_runs) > 0
    assert compare_pages(adapted_runs) > 0
