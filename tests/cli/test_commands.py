"""The commands for reading runs, with real processes."""

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
from tests.helpers.forked_cli import ockham
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    make_run(folder, "night-1")
    make_run(folder, "night-2", batches=20)
    return folder


def run_fresh(runs, *words, before=""):
    """Run a command in a new interpreter, after some Python code."""
    code = f"import sys\n{before}\nfrom ockham.cli import main\nsys.argv[0] = 'ockham'\nmain()"
    command = [sys.executable, "-c", code, "--runs", str(runs), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=runs)


def test_runs_in_a_pipe_writes_tsv(runs):
    """One header, all digits, UTC times; a fresh interpreter gives the same output."""
    done = ockham(runs, "runs")
    lines = done.stdout.splitlines()
    assert lines[0].split("\t")[:3] == ["run_id", "created", "state"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["night-1", "night-2"]
    assert done.stderr == ""
    fresh = run_fresh(runs, "runs")
    assert fresh.returncode == done.returncode
    assert fresh.stdout == done.stdout
    assert fresh.stderr == done.stderr


def test_runs_on_a_narrow_terminal_hides_columns(capsys, monkeypatch):
    """A note names the hidden columns; a wide terminal shows all."""
    row = (
        "run-20261125-120000-12345",
        "2026-11-25 12:00",
        "UNFINISHED",
        "production_balanced",
        6000,
        "61.3%",
        "5 of 60",
        "2.2441",
        "24.6%",
    )
    for width, hidden_column in ((80, "created (UTC)"), (200, "")):
        monkeypatch.setenv("COLUMNS", str(width))
        runs_commands.write_rows(
            runs_commands.COLUMNS, [row], "table", droppable_columns=runs_commands.DROPPABLE_COLUMNS
        )
        table, note = capsys.readouterr()
        assert max(map(len, table.splitlines())) <= width
        assert row[0] in table
        assert "val_loss" in table
        assert hidden_column in note
        assert bool(note) == bool(hidden_column)


def test_runs_without_runs_prints_a_note(tmp_path):
    """The exit status is 0."""
    done = ockham(tmp_path / "none", "runs", cwd=tmp_path)
    assert done.returncode == 0
    assert "no runs in" in done.stderr


def test_why_of_a_skip_has_no_gradient_norm(runs):
    """The recorded value would be that of the previous batch."""
    catalog = Catalog(runs)
    for updated in (True, False):
        where = f"run_id = 'night-1' and hook = 'batch' and updated = {updated}"
        iteration = catalog.rows(f"select max(iter_num) as last from contexts where {where}")[0]["last"]
        text = "\n".join(explain_iteration(catalog, "night-1", iteration))
        assert ("gradient norm" in text) is updated


def test_show_prints_a_decision_record(runs, monkeypatch):
    """Records are found by their ID, like all other things."""
    done = ockham(runs, "show", "ODR-0001", env={"OCKHAM_ODR": str(resources.data_root() / "odr")})
    assert done.returncode == 0
    assert done.stdout.split()[:3] == ["odr", "odr_id", "ODR-0001"]


@pytest.mark.parametrize("output_format", ["json", "jsonl", "csv", "tsv", "md", "table"])
def test_query_writes_the_same_rows_in_every_format(runs, output_format):
    """JSON and CSV parse, and every format contains the values."""
    done = ockham(
        runs,
        "query",
        "select plugin, count(*) n from decisions group by all order by plugin",
        "-f",
        output_format,
    )
    assert done.returncode == 0, done.stderr
    if output_format == "json":
        assert json.loads(done.stdout)[0]["plugin"] == "anchor"
    elif output_format == "jsonl":
        assert json.loads(done.stdout.splitlines()[0])["plugin"] == "anchor"
    elif output_format == "csv":
        assert next(csv.DictReader(io.StringIO(done.stdout)))["plugin"] == "anchor"
    assert "gate" in done.stdout


def test_query_json_writes_non_finite_numbers_as_strings(runs):
    """Strict JSON has no NaN."""
    done = ockham(
        runs, "query", "select 'NaN'::double as a, '-inf'::double as b, null as c, [1.5] as d", "-f", "json"
    )
    assert json.loads(done.stdout, parse_constant=lambda _: pytest.fail("not strict")) == [
        {"a": "NaN", "b": "-Infinity", "c": None, "d": [1.5]}
    ]


def test_query_with_a_missing_parameter_names_the_option(runs):
    """The error names the parameter and -p."""
    done = ockham(runs, "query", "select * from gate_decisions where run_id = $run")
    assert done.returncode == 2
    assert done.stderr.endswith("parameters: run; set each with -p NAME=VALUE\n")


def test_query_reads_sql_from_stdin_and_file(runs, tmp_path):
    """Covers -, --file, -p, and -o with the format of its suffix."""
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


@pytest.mark.parametrize("sql", ["-- comment\nselect 42 as x", "--comment\nselect 42 as x -- end"])
def test_query_that_starts_with_a_comment_is_sql(runs, sql):
    """The comment is not an option. Options after it are still options."""
    assert ockham(runs, "query", sql, "-f", "csv").stdout == "x\n42\n"
    assert ockham(runs, "query", "--limit", "1", "-f", "csv", sql).stdout == "x\n42\n"


def test_query_describe_and_schema_list_the_same_columns(runs):
    """`DESCRIBE view` is another spelling of `ockham schema VIEW`."""
    described = ockham(runs, "query", "describe gate_decisions")
    assert described.stdout == ockham(runs, "schema", "gate_decisions").stdout
    assert ockham(runs, "query", "show tables").stdout == ockham(runs, "schema").stdout


def test_query_over_the_limit_prints_a_note(runs):
    """The note is on stderr, so stdout contains only rows."""
    done = ockham(runs, "query", "from contexts", "--limit", "3")
    assert len(done.stdout.splitlines()) == 4
    assert "truncated: more than 3 rows" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
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
def test_bad_input_prints_one_line(runs, words, message):
    """Exit status 2 without a traceback."""
    done = ockham(runs, *words)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_query_unsafe_is_refused_in_ci_only(runs):
    """Without CI in the environment it works."""
    assert ockham(runs, "query", "select version() v", "--unsafe", env={"CI": "true"}).returncode == 2
    assert ockham(runs, "query", "select version() v", "--unsafe", env={"CI": ""}).returncode == 0


def test_why_of_an_unfinished_batch_shows_decisions_and_the_failure(tmp_path):
    """A plugin raised, so no context was recorded, but its decisions are in the log."""

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


def test_why_shows_input_decisions_and_result(runs):
    """Every decision has its ID, which `show` accepts."""
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


def test_show_accepts_run_and_checkpoint_ids(runs):
    """Also as JSON."""
    assert ockham(runs, "show", "night-1").stdout.startswith("run\n")
    snapshot = ockham(
        runs, "query", "select snapshot_id from checkpoints where run_id='night-1' limit 1"
    ).stdout.split()[1]
    assert "weights_sha256" in ockham(runs, "show", snapshot).stdout
    assert json.loads(ockham(runs, "show", "night-1", "-f", "json").stdout)[0]["batches"] == 120


def test_ask_with_an_unknown_engine_lists_the_accepted_ones(runs):
    """Exit status 2."""
    done = ockham(runs, "ask", "refusals", "--engine", "oracle")
    assert (done.returncode, done.stderr) == (
        2,
        "ockham: --engine: 'oracle' is not an engine; accepted: duckdb, spark\n",
    )


def test_ask_writes_question_to_stderr_and_rows_to_stdout(runs):
    """Without a name the saved questions are listed."""
    assert "refusals" in ockham(runs, "ask").stdout
    done = ockham(runs, "ask", "bands", "--run", "night-1", "-f", "json")
    assert json.loads(done.stdout)[0]["run_id"] == "night-1"
    assert done.stderr.startswith("Are update rate")


def test_schema_lists_views_and_documented_columns(runs):
    """Every column of a log view has a comment."""
    where = "comment is null and view not like 'odr%' and view <> 'data_dictionary'"
    assert Catalog(runs).rows(f'select view, "column" from data_dictionary where {where}') == []
    context_columns = ockham(runs, "schema", "contexts").stdout
    assert "base_grad_clip\tDOUBLE\tLargest L2 norm of the gradient" in context_columns
    assert "gate_decisions" in ockham(runs, "schema").stdout
    assert "reason_code\tVARCHAR\treason, a stable code" in ockham(runs, "schema", "decisions").stdout


def test_export_writes_views_and_a_manifest(runs, tmp_path):
    """Parquet by default, CSV with -f csv."""
    done = ockham(runs, "export", "-o", str(tmp_path / "out"), "--run", "night-2")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/manifest.json").read_text())["logs"][0]["run_id"] == "night-2"
    assert ockham(runs, "export", "-o", str(tmp_path / "csv"), "-f", "csv").returncode == 0
    assert (tmp_path / "csv" / "decisions.csv").is_file()


def test_query_csv_escapes_control_characters_and_formulas(tmp_path):
    """A spreadsheet runs no formula of the data."""
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


def test_build_app_imports_no_heavy_package():
    """--help loads neither torch nor DuckDB nor Arrow."""
    code = (
        "import sys; from ockham.cli import build_app; build_app();"
        "print([m for m in ('torch', 'duckdb', 'pyarrow', 'streamlit', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words", [("query", "select * from events"), ("why", "night-1", "5"), ("odr", "--help")]
)
def test_closed_pipe_exits_with_0(runs, words):
    """`ockham query ... | head -1` prints no error."""
    code = "import sys; from ockham.cli import main; sys.argv[0] = 'ockham'; main()"
    command = [sys.executable, "-c", code, "--runs", str(runs), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        reader.stdout.close()
        errors = reader.stderr.read()
    assert reader.returncode == 0
    assert errors == ""


def test_version_and_help_work_without_a_command(tmp_path):
    """These are the first calls of a new user."""
    import ockham as package

    assert ockham(tmp_path, "--version").stdout == f"ockham {package.__version__}\n"
    done = ockham(tmp_path, "--help")
    assert "verify" in done.stdout
    assert done.returncode == 0


def test_help_keeps_an_example_on_one_line(tmp_path):
    """A wrapped example cannot be copied."""
    text = ockham(tmp_path, "query", "--help").stdout
    assert (
        '    ockham query "select reason_code, count(*) n from decisions group by all order by n desc"\n'
        in text
    )


def test_train_finds_a_plugin_in_the_working_folder(tmp_path):
    """`use: mine:Mine` with mine.py next to the policy."""
    (tmp_path / "mine.py").write_text("import ockham\nclass Mine(ockham.OccamPlugin): pass\n")
    (tmp_path / "p.yaml").write_text(
        'name: p\nextends: balanced\nplugins:\n  mine: {use: "mine:Mine"}\n  absent: {use: "absent:It"}\n'
    )
    done = ockham(tmp_path / "runs", "train", "--policy", "p.yaml", "--set", "max_iters=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "'absent:It' cannot be imported" in done.stderr
    assert "put it into the working folder" in done.stderr


def test_runs_option_before_the_command_is_reset_after_it(runs, monkeypatch):
    """Several commands in one process do not share the folder."""
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
def test_trainer_commands_without_torch_name_the_extra(runs, words):
    """One line and exit status 2 in an install for audits only."""
    done = run_fresh(runs, *words, before="sys.modules['torch'] = None")
    assert done.returncode == 2
    assert done.stderr == 'ockham: torch is not installed; run pip install "ockham-audit[train]"\n'
