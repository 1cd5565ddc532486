"""The GPU command: its dry run on a CPU, and what is resumed, skipped and reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import StepRunner, lock_folder, main, parse_options
from benchmarks.gpu.plan import STEPS, Plan
from benchmarks.gpu.profile_step import KERNELS, find_kind
from benchmarks.gpu.results import ResultFile, write_table
from benchmarks.gpu.training import Bench, open_run
from tests.helpers.tiny_reference import write_reference
from tests.helpers.tiny_trainer import trainer

ROOT = Path(__file__).resolve().parents[2]
STAMP = {"command": "c", "dry_run": True, "device": "CPU", "torch": "2", "driver": "-"}
STAMPED = ("command", "device", "torch", "driver", "date", "dry_run")
BLOCKED = "raise ImportError('blocked')\n"
# Steps that a dry run does not have: the first only after a failure, the second only with other sizes.
NOT_IN_DRY_RUN = {"smoke-eager", "speed-large"}


def start_command(folder):
    """Start a dry run whose processes cannot import duckdb and streamlit."""
    blocked = folder / "blocked"
    if not blocked.exists():
        blocked.mkdir()
        for name in ("duckdb", "streamlit"):
            (blocked / f"{name}.py").write_text(BLOCKED, encoding="utf-8")
        write_reference(folder / "reference")
    words = ["--reference", str(folder / "reference"), "--out", str(folder / "out"), "--minutes", "30"]
    environment = {**os.environ, "PYTHONPATH": f"{blocked}{os.pathsep}{ROOT}"}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu", *words, "--dry-run"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def statuses(results):
    """Return the status of each step that has one."""
    return {row["step"]: row["status"] for row in results.read() if row["row"] == "status"}


# On a loaded machine, its ten processes take longer than other tests may.
@pytest.mark.timeout(1_200)
def test_dry_run_continues_after_a_kill_and_fills_the_table(tmp_path):
    """Every step of the dry run is done in two calls, without duckdb and streamlit."""
    results = ResultFile(tmp_path / "out", {})
    killed = start_command(tmp_path)
    # The next step resumes this run: its second attempt has begun, and its result is not yet known.
    while not (tmp_path / "out" / "runs" / "smoke" / "log" / "2-0").exists():
        assert killed.poll() is None, killed.stdout.read()
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    with results.path.open("a") as file:
        file.write('{"step": "cut o')
    done_before = set(statuses(results))
    second = start_command(tmp_path)
    output, _ = second.communicate()
    assert second.returncode == 0, output
    started = output.partition(": started")[0].split(", ")
    assert not done_before & set(started)
    expected = {step.name for step in STEPS} - NOT_IN_DRY_RUN
    assert statuses(results) == dict.fromkeys(expected, "done")
    check_results(results.read())
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert table.startswith("**Dry run on a CPU")
    assert all(f" {name} |" in table for name in expected)
    assert (tmp_path / "out" / "profile.svg").read_text(encoding="utf-8").startswith("<svg")


def check_results(rows):
    """Check the stamp of each line, and values whose sign or size is known."""
    assert all(all(name in row for name in STAMPED) and row["dry_run"] for row in rows)
    by_name = {(row["step"], row["row"]): row for row in rows}
    assert by_name["smoke-resume", "weights"]["equal bits"]
    assert by_name["smoke-gauges", "late against at once"]["largest"] == 0
    assert by_name["smoke-rollback", "to-anchor"]["rollbacks"] > 0
    assert by_name["smoke-rollback", "to-state"]["rollbacks"] > 0
    assert by_name["smoke-ranks", "ranks"]["batches"] == 12
    speeds = {name: row for (step, name), row in by_name.items() if step == "speed" and name != "status"}
    assert len(speeds) == 4
    assert all(row["tokens/s"] > 0 and row["blocks"] == 2 for row in speeds.values())
    assert by_name["loss", "ockham"]["loss at 8"] < by_name["loss", "ockham"]["loss at 4"]
    assert by_name["recipe", "fast"]["steps"] <= 8


def test_table_lists_steps_without_results_and_the_newest_result(tmp_path):
    """A step that was cut off has its error, and a repeated row its newest value."""
    results = ResultFile(tmp_path, STAMP)
    results.append("speed", "nanoGPT", **{"tokens/s": 1.0})
    results.append("speed", "nanoGPT", **{"tokens/s": 2_000_000.0})
    results.append("loss", "status", status="timeout", seconds=3.0, error="a | b\nc")
    table = write_table(results).read_text(encoding="utf-8")
    assert "| b speed | nanoGPT | tokens/s 2,000,000 |" in table
    assert "| d loss | status | status timeout, seconds 3, error a / b c |" in table
    assert "| g profile | status | not run | - |" in table


def test_line_after_a_cut_off_line_is_read(tmp_path):
    """A kill in the middle of a write costs one result, not two."""
    results = ResultFile(tmp_path, STAMP)
    results.append("loss", "a", value=1)
    with results.path.open("a") as file:
        file.write('{"step": "loss", "row": "b"')
    results.append("loss", "c", value=3)
    assert [row["row"] for row in results.read()] == ["a", "c"]
    lines = results.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(lines[0])["row"], json.loads(lines[-1])["row"]] == ["a", "c"]


@pytest.mark.parametrize(
    ("gigabytes", "micro"),
    [(24, 1), (40, 2), (80, 10), (141, 24), (192, 30)],
)
def test_processes_in_turns_fit_into_the_memory_together(tmp_path, gigabytes, micro):
    """The shared micro-batch divides the examples of a step and grows with the memory."""
    plan = Plan(tmp_path, tmp_path)
    assert plan.choose_micro(int(gigabytes * 1e9)) == micro
    assert plan.examples % micro == 0
    # One process on a small device has more than its share.
    assert plan.choose_micro(int(gigabytes * 1e9), processes=1) >= 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "--minutes 0.0: must be greater than 0"),
        (["--reference", "nowhere"], "--reference nowhere: train.py not found; use a nanoGPT checkout"),
    ],
)
def test_command_reports_wrong_options_without_a_traceback(tmp_path, capsys, words, message):
    """The exit status is 2."""
    reference = write_reference(tmp_path / "reference")
    with pytest.raises(SystemExit) as end:
        main(["--reference", str(reference), "--out", str(tmp_path / "out"), *words])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_NTT", "matrix products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "matrix products"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop", "attention"),
        ("void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "AdamW"),
        ("void at::native::lpnorm_cleanup<float>", "clip, drift, pull"),
        ("Memcpy DtoH (Device -> Pinned)", "copies"),
        ("triton_red_fused__log_softmax_nll_loss_forward_4", "fused kernels"),
        ("void at::native::reduce_kernel<512, 1>", "other kernels"),
    ],
)
def test_kernels_of_the_profile_have_the_kind_of_their_name(kernel, kind):
    """The names have the form that the profiler reports on a GPU."""
    assert find_kind(kernel.lower(), KERNELS) == kind


def test_run_folder_of_a_killed_step_is_replaced(tmp_path):
    """A step that is repeated starts its run again."""
    bench = Bench(Plan(tmp_path, tmp_path, dry_run=True), ResultFile(tmp_path, STAMP))
    tiny = trainer(tmp_path)
    for _ in range(2):
        with pytest.raises(InterruptedError), open_run(bench, tiny, "speed-all-2", ()):
            raise InterruptedError
    assert [path.name for path in bench.plan.runs.glob("speed-*")] == ["speed-all-2"]


REPEATED_RESUME = """
import pathlib, sys
from benchmarks.gpu import smoke
from benchmarks.gpu.plan import Plan
from benchmarks.gpu.results import ResultFile
from benchmarks.gpu.training import Bench, write_data
folder = pathlib.Path(sys.argv[1])
plan = Plan(folder, folder, dry_run=True)
write_data(plan)
bench = Bench(plan, ResultFile(folder, {}))
smoke.train_whole(bench)
smoke.resume(bench)
smoke.resume(bench)
row = bench.results.find("smoke-resume", "weights")
assert row["equal bits"] and row["batches"] == 8, row
"""


def test_resume_step_that_was_killed_after_its_attempt_began_is_repeated(tmp_path):
    """The first call may have replaced the checkpoints of the run that the second call resumes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OCKHAM_KEY_DIR": str(tmp_path / "keys")}
    command = [sys.executable, "-c", REPEATED_RESUME, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]


def test_call_waits_for_the_processes_of_a_killed_call(tmp_path):
    """A process that inherited the lock holds it after the command has ended."""
    with lock_folder(tmp_path) as lock:
        wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        worker = subprocess.Popen(wait, stdin=subprocess.PIPE, pass_fds=(lock.fileno(),))
    with pytest.raises(BlockingIOError):
        lock_folder(tmp_path)
    worker.communicate()
    lock_folder(tmp_path).close()


def test_worker_inherits_the_lock(tmp_path, monkeypatch):
    """It can live for a second longer than a killed command."""
    begun = []

    class Process(subprocess.Popen):
        def __init__(self, words, **options):
            begun.append(options["pass_fds"])
            super().__init__([sys.executable, "-c", ""], **options)

    monkeypatch.setattr("benchmarks.gpu.__main__.subprocess.Popen", Process)
    (tmp_path / "logs").mkdir()
    options = parse_options(
        ["--reference", str(write_reference(tmp_path / "reference")), "--out", str(tmp_path)]
    )
    with lock_folder(tmp_path) as lock:
        StepRunner(options, ResultFile(tmp_path, STAMP), lock)._run(["speed"], 60)
        assert begun == [(lock.fileno(),)]


def test_second_call_in_the_same_folder_is_refused(tmp_path, capsys, monkeypatch):
    """The exit status is 2, and nothing is started."""
    monkeypatch.setattr("benchmarks.gpu.__main__.LOCK_SECONDS", 0.0)
    reference = write_reference(tmp_path / "reference")
    out = tmp_path / "out"
    out.mkdir()
    with lock_folder(out):
        assert main(["--reference", str(reference), "--out", str(out), "--dry-run"]) == 2
    assert capsys.readouterr().err.strip() == f"--out {out}: another call is running in this folder"
    assert not (out / "results.jsonl").exists()
