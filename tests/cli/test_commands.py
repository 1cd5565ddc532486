"""The verbs as people type them."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ockham import resources
from ockham.catalog import Catalog
from ockham.cli import build_app
from ockham.cli import runs as runs_commands
from ockham.cli.why import explain_iteration
from ockham.errors import PluginError
from ockham.plugin import OccamPlugin
from ockham.plugins.gate import OckhamGatePlugin
from ockham.run import Run
from tests.helpers import forked_cli
from tests.helpers.runs import made_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    made_run(folder, "night-1")
    made_run(folder, "night-2", batches=20)
    return folder


def ockham(runs, *words, stdin="", env=None, cwd=None):
    return forked_cli.run("ockham", "--runs", str(runs), *words, stdin=stdin, env={**os.environ, **(env or {})}, cwd=cwd or runs)  # fmt: skip


def fresh(runs, *words, before=""):
    """The same by an interpreter of its own."""
    code = f"import sys\n{before}\nfrom ockham.cli import main\nsys.argv[0] = 'ockham'\nmain()"
    command = [sys.executable, "-c", code, "--runs", str(runs), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=runs)


def test_runs_in_a_pipe_are_tsv(runs):
    """Untruncated, one header, times in UTC; the same by an interpreter of its own."""
    done = ockham(runs, "runs")
    lines = done.stdout.splitlines()
    assert lines[0].split("\t")[:3] == ["run_id", "created", "state"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["night-1", "night-2"]
    assert done.stderr == ""
    alone = fresh(runs, "runs")
    assert (alone.returncode, alone.stdout, alone.stderr) == (done.returncode, done.stdout, done.stderr)


def test_the_list_of_runs_fits_a_narrow_terminal(capsys, monkeypatch):
    """Columns are left out, the least needed first, and named; a wide terminal shows all."""
    row = ("run-20261125-120000-12345", "2026-11-25 12:00", "UNFINISHED", "production_balanced", 6000, "61.3%", "5 of 60", "2.2441", "24.6%")  # fmt: skip
    for width, gone in ((80, "created (UTC)"), (200, "")):
        monkeypatch.setenv("COLUMNS", str(width))
        runs_commands.write_rows(
            runs_commands.COLUMNS, [row], "table", droppable_columns=runs_commands.DROPPABLE_COLUMNS
        )
        shown, told = capsys.readouterr()
        assert max(map(len, shown.splitlines())) <= width
        assert (row[0] in shown, "val_loss" in shown, gone in told) == (True, True, True)
        assert bool(told) == bool(gone)


def test_no_runs_is_clean_and_says_so(tmp_path):
    """Exit 0 with a sentence."""
    done = ockham(tmp_path / "none", "runs", cwd=tmp_path)
    assert done.returncode == 0
    assert "no runs in" in done.stderr


def test_a_skip_has_no_gradient_of_its_own(runs):
    """The gauge is still that of the batch before, and would be taken for this one's."""
    catalog = Catalog(runs)
    for updated, told in ((True, 1), (False, 0)):
        where = f"run_id = 'night-1' and hook = 'batch' and updated = {updated}"
        at = catalog.rows(f"select max(iter_num) as at from contexts where {where}")[0]["at"]
        assert "\n".join(explain_iteration(catalog, "night-1", at)).count("gradient norm") == told


def test_a_decision_record_is_shown(runs, monkeypatch):
    """By the beginning of its ID, as everything else that has one."""
    done = ockham(runs, "show", "ODR-0001", env={"OCKHAM_ODR": str(resources.data_root() / "odr")})
    assert (done.returncode, done.stdout.split()[:3]) == (0, ["odr", "odr_id", "ODR-0001"])


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "tsv", "md", "table"])
def test_every_form_holds_the_same_rows(runs, form):
    """JSON is strict, CSV parses, the table has the words."""
    done = ockham(
        runs, "query", "select plugin, count(*) n from decisions group by all order by plugin", "-f", form
    )
    assert done.returncode == 0, done.stderr
    if form == "json":
        assert json.loads(done.stdout)[0]["plugin"] == "anchor"
    elif form == "jsonl":
        assert json.loads(done.stdout.splitlines()[0])["plugin"] == "anchor"
    elif form == "csv":
        assert next(csv.DictReader(io.StringIO(done.stdout)))["plugin"] == "anchor"
    assert "gate" in done.stdout


def test_json_has_no_nan(runs):
    """Non-finite numbers are strings that any parser takes."""
    done = ockham(
        runs, "query", "select 'NaN'::double as a, '-inf'::double as b, null as c, [1.5] as d", "-f", "json"
    )
    assert json.loads(done.stdout, parse_constant=lambda _: pytest.fail("not strict")) == [
        {"a": "NaN", "b": "-Infinity", "c": None, "d": [1.5]}
    ]


def test_a_parameter_without_a_value_is_asked_for(runs):
    """By the option that gives it: DuckDB knows of none."""
    done = ockham(runs, "query", "select * from gate_decisions where run_id = $run")
    assert done.returncode == 2
    assert done.stderr.endswith("parameters: run; set each with -p NAME=VALUE\n")


def test_query_from_stdin_file_and_with_parameters(runs, tmp_path):
    """-, --file, -p, -o by its ending."""
    assert ockham(runs, "query", "-", stdin="select 41 + 1 as x").stdout == "x\n42\n"
    (tmp_path / "q.sql").write_text("select count(*) as n from gate_decisions where run_id = $run")
    done = ockham(
        runs,
        "query",
        "--file",
        str(tmp_path / "q.sql"),
        "-p",
        "run=night-2",
        "-o",
        str(tmp_path / "x.parquet"),
    )
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == [{"n": 20}]


def test_truncation_is_said(runs):
    """On stderr, so that the rows stay rows."""
    done = ockham(runs, "query", "from contexts", "--limit", "3")
    assert len(done.stdout.splitlines()) == 4
    assert "truncated: more than 3 rows" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["query", "drop table runs"], "DROP is refused"),
        (["query", "select * from decision"], "did you mean 'decisions'"),
        (["query", "select nope from decisions"], "nope"),
        (["query"], "SQL: missing"),
        (
            ["query", "--file", "/nowhere.sql"],
            "--file /nowhere.sql: cannot be read: No such file or directory",
        ),
        (["query", "select 1", "-p", "x"], "name=value"),
        (["query", "select 1", "-o", "/nowhere/x.csv"], "/nowhere/x.csv: cannot be written"),
        (["ask", "refusal"], "did you mean 'refusals'"),
        (["ask", "why_skipped", "--run", "night-1"], "-p iter=VALUE"),
        (["schema", "decision"], "did you mean 'decisions'"),
        (["roi", "night-1", "--against", "night-1"], "the same run"),
        (["export", "-o", "views.zip"], "an archive requires --evidence"),
        (["export", "-o", "views.csv"], "views are several files; pass a folder"),
        (["show", "zzz"], "nothing in"),
        (["show", "night"], "matches more than one ID"),
        (["prove", "0"], "matches more than one event"),
        (["prove", "zzz"], "no event in"),
        (["why", "night-1", "5000"], "it has 0 to 119"),
        (["why", "nacht", "5"], "nacht: run not found in"),
        (["tail", "night-3"], "night-3: run not found in"),
    ],
)
def test_bad_input_is_one_line(runs, words, told):
    """Exit 2, no traceback."""
    done = ockham(runs, *words)
    assert done.returncode == 2, done.stdout
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_unsafe_is_refused_in_ci(runs):
    """And works on one's own machine."""
    assert ockham(runs, "query", "select version() v", "--unsafe", env={"CI": "true"}).returncode == 2
    assert ockham(runs, "query", "select version() v", "--unsafe", env={"CI": ""}).returncode == 0


def test_why_tells_of_the_batch_that_a_run_ended_in(tmp_path):
    """A plugin raised: no context was recorded, and what it had decided and said stands in the log."""

    class Breaks(OccamPlugin):
        def on_batch_end(self, ctx):
            raise ValueError("no\nluck")

    with (
        pytest.raises(PluginError),
        Run(plugins=[OckhamGatePlugin(2.0), Breaks()], runs=tmp_path, run_id="a") as run,
    ):
        run.end_batch(run.start_batch(0, 3.0))
    words = ["--runs", str(tmp_path), "why", "a"]
    done = CliRunner().invoke(build_app(), [*words, "0"])
    assert done.exit_code == 0
    assert "gate, before the step: UPDATE because SURPRISING: 3 against 2" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("  plugin Breaks failed in on_batch_end (attempt 1): ValueError: no")
    assert last.endswith("luck")
    assert "no iteration 1" in str(CliRunner().invoke(build_app(), [*words, "1"]).exception)


def test_why_tells_the_chain(runs):
    """Given, who decided what and why, done; every decision with its ID."""
    done = ockham(runs, "why", "night-1", "29")
    assert "input: loss" in done.stdout
    assert "gate, before the step:" in done.stdout
    assert "memory, at the evaluation:" in done.stdout
    assert "evaluation: validation loss" in done.stdout
    decision = next(
        word for line in done.stdout.splitlines() for word in line.split() if word.count("-") == 4
    )
    shown = ockham(runs, "show", decision)
    assert shown.stdout.startswith("decision\n")
    assert decision in shown.stdout


def test_show_finds_runs_checkpoints_and_policies(runs):
    """By any unique beginning."""
    assert ockham(runs, "show", "night-1").stdout.startswith("run\n")
    snapshot = ockham(
        runs, "query", "select snapshot_id from checkpoints where run_id='night-1' limit 1"
    ).stdout.split()[1]
    assert "weights_sha256" in ockham(runs, "show", snapshot).stdout
    assert json.loads(ockham(runs, "show", "night-1", "-f", "json").stdout)[0]["batches"] == 120


def test_ask_another_engine(runs):
    """Only those that there are."""
    done = ockham(runs, "ask", "refusals", "--engine", "oracle")
    assert (done.returncode, done.stderr) == (
        2,
        "ockham: --engine: 'oracle' is not an engine; accepted: duckdb, spark\n",
    )


def test_ask_lists_and_answers(runs):
    """The question goes to stderr, the rows to stdout."""
    assert "refusals" in ockham(runs, "ask").stdout
    done = ockham(runs, "ask", "bands", "--run", "night-1", "-f", "json")
    assert json.loads(done.stdout)[0]["run_id"] == "night-1"
    assert done.stderr.startswith("Are update rate")


def test_schema_is_the_data_dictionary(runs):
    """Views, then columns with types and meanings; none of a log's views has a column that nobody explains."""
    where = "comment is null and view not like 'odr%' and view <> 'data_dictionary'"
    assert Catalog(runs).rows(f'select view, "column" from data_dictionary where {where}') == []
    learning = ockham(runs, "schema", "contexts").stdout
    assert "base_grad_clip\tDOUBLE\tLargest L2 norm of the gradient" in learning
    assert "gate_decisions" in ockham(runs, "schema").stdout
    assert "reason_code\tVARCHAR\treason, a stable code" in ockham(runs, "schema", "decisions").stdout


def test_export(runs, tmp_path):
    """One folder with a manifest."""
    done = ockham(runs, "export", "-o", str(tmp_path / "out"), "--run", "night-2")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/manifest.json").read_text())["logs"][0]["run_id"] == "night-2"
    assert ockham(runs, "export", "-o", str(tmp_path / "csv"), "-f", "csv").returncode == 0
    assert (tmp_path / "csv" / "decisions.csv").is_file()


def test_hostile_names_do_not_reach_the_terminal(tmp_path):
    """Control characters of data are shown, not obeyed; a spreadsheet runs no formula."""
    done = ockham(
        tmp_path,
        "query",
        "select chr(27) || '[31mred' as a, '=1+1' as b",
        "-f",
        "csv",
        "--unsafe",
        env={"CI": ""},
    )
    assert "\x1b" not in done.stdout
    assert "'=1+1" in done.stdout


def test_help_is_quick_and_light():
    """--help loads neither torch nor duckdb nor pyarrow."""
    code = (
        "import sys; from ockham.cli import build_app; build_app();"
        "print([m for m in ('torch', 'duckdb', 'pyarrow', 'streamlit', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words", [("query", "select * from events"), ("why", "night-1", "5"), ("odr", "--help")]
)
def test_whoever_has_read_enough_is_no_finding(runs, words):
    """`ockham query ... | head -1` leaves with 0 and says nothing."""
    code = "import sys; from ockham.cli import main; sys.argv[0] = 'ockham'; main()"
    command = [sys.executable, "-c", code, "--runs", str(runs), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        reader.stdout.close()
        told = reader.stderr.read()
    assert (reader.returncode, told) == (0, "")


def test_version_and_help_without_a_verb(tmp_path):
    """The two things that a newcomer types first."""
    import ockham as package

    assert ockham(tmp_path, "--version").stdout == f"ockham {package.__version__}\n"
    done = ockham(tmp_path, "--help")
    assert "verify" in done.stdout
    assert done.returncode == 0


def test_examples_in_the_help_can_be_copied(tmp_path):
    """One command, one line, whatever the width."""
    told = ockham(tmp_path, "query", "--help").stdout
    assert (
        '    ockham query "select reason_code, count(*) n from decisions group by all order by n desc"\n'
        in told
    )


def test_a_plugin_in_the_working_folder_is_found(tmp_path):
    """`use: mine:Mine` with mine.py beside the policy, as a newcomer puts it."""
    (tmp_path / "mine.py").write_text("import ockham\nclass Mine(ockham.OccamPlugin): pass\n")
    (tmp_path / "p.yaml").write_text(
        'name: p\nextends: balanced\nplugins:\n  mine: {use: "mine:Mine"}\n  absent: {use: "absent:It"}\n'
    )
    done = ockham(tmp_path / "runs", "train", "--policy", "p.yaml", "--set", "max_iters=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "'absent:It' cannot be imported" in done.stderr
    assert "put it into the working folder" in done.stderr


def test_a_folder_before_the_verb_is_forgotten_after_it(runs, monkeypatch):
    """Verbs called one after the other inside one process do not inherit each other's folder."""
    app = build_app()
    monkeypatch.setenv("OCKHAM_RUNS", "mine")
    assert CliRunner().invoke(app, ["--runs", str(runs), "runs"]).exit_code == 0
    assert os.environ["OCKHAM_RUNS"] == "mine"
    monkeypatch.delenv("OCKHAM_RUNS")
    assert "night-1" in CliRunner().invoke(app, ["--runs", str(runs), "runs"]).stdout
    assert "OCKHAM_RUNS" not in os.environ


@pytest.mark.parametrize(
    "words", [("train",), ("adapt", "--from", "night-1", "--data", "."), ("sample", "night-1")]
)
def test_without_torch_the_workshop_says_what_it_needs(runs, words):
    """The reading room alone is installed: one line, exit 2."""
    done = fresh(runs, *words, before="sys.modules['torch'] = None")
    assert done.returncode == 2
    assert done.stderr == 'ockham: torch is not installed; run pip install "ockham-audit[train]"\n'
