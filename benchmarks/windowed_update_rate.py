"""Update rate per window of 1,000 steps, from the APIs of trackers and from the log.

    python -m venv ../trackers && ../trackers/bin/pip install mlflow tensorboard trackio
    python -m benchmarks.windowed_update_rate ../trackers/bin/python ../runs-1m [--steps 100000]

../runs-1m is a folder of `benchmarks._lib.synthetic_runs`; the first batches of its first run are used. Each
tracker gets one number per step, with its fastest way to write. A new process reads the complete history and
computes the averages with numpy, because the trackers cannot. The result must equal the written values. W&B
is not measured, because its offline files have no public reader. Aim is not measured, because version 3.29.1
returned no sequence in a new process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

SETUP = """
import json, sys, time
import numpy as np
folder, steps = sys.argv[1], int(sys.argv[2])
written = (np.arange(steps) * 7919 % 1000 < 600).astype(float)
"""
CHECK = """
rates = np.bincount(np.asarray(at, dtype=int) // 1000, weights=np.asarray(values)) / 1000
assert len(rates) == steps // 1000 and np.allclose(rates, written.reshape(-1, 1000).mean(axis=1)), rates
"""
# Tracker -> code that writes, opens and queries.
TRACKERS = {
    "mlflow": (
        """
        import mlflow
        from mlflow.entities import Metric
        client = mlflow.MlflowClient("sqlite:///" + folder + "/m.db")
        run = client.create_run(client.create_experiment("e", artifact_location=folder)).info.run_id
        for i in range(0, steps, 1000):
            metrics = [Metric("updated", float(v), 1, i + k) for k, v in enumerate(written[i:i + 1000])]
            client.log_batch(run, metrics)
        """,
        """
        import mlflow
        client = mlflow.MlflowClient("sqlite:///" + folder + "/m.db")
        run = client.search_runs([client.get_experiment_by_name("e").experiment_id])[0].info.run_id
        """,
        """
        found = client.get_metric_history(run, "updated")
        at, values = [m.step for m in found], [m.value for m in found]
        """,
    ),
    "tensorboard": (
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
        writer = EventFileWriter(folder)
        for i, v in enumerate(written):
            summary = Summary(value=[Summary.Value(tag="updated", simple_value=v)])
            writer.add_event(Event(step=i, wall_time=1.0, summary=summary))
        writer.close()
        """,
        """
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        """,
        """
        log = EventAccumulator(folder, size_guidance={"scalars": 0})
        log.Reload()
        found = log.Scalars("updated")
        at, values = [s.step for s in found], [s.value for s in found]
        """,
    ),
    "trackio": (
        """
        import trackio
        trackio.init(project="p", name="r", auto_log_gpu=False)
        for i, v in enumerate(written):
            trackio.log({"updated": float(v)}, step=i)
        trackio.finish()
        """,
        """
        import trackio
        """,
        """
        found = trackio.SQLiteStorage.get_logs("p", "r", scalar_only=True)
        at, values = [row["step"] for row in found], [row["updated"] for row in found]
        """,
    ),
}
WINDOW = """
select iter_num // 1000 as w, avg(updated::int) as rate from gate_decisions
where run_id = 'run-0000' and iter_num < $steps group by all order by w
"""


def write_and_ask(python: str, name: str, steps: int, folder: Path) -> dict[str, float]:
    """Return the CPU seconds of writing, and the milliseconds of the first and the fastest query."""
    write, open_code, ask = (textwrap.dedent(part) for part in TRACKERS[name])
    env = {
        **os.environ,
        "HF_HOME": str(folder),
        "TRACKIO_DIR": str(folder / "trackio"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    timed = "import time\nt = time.process_time(), time.perf_counter()\n"
    report = "\nprint(json.dumps({'cpu': time.process_time() - t[0], 'wall': time.perf_counter() - t[1]}))"
    written = _run(python, SETUP + timed + write + report, folder, steps, env)
    read = (
        SETUP
        + open_code
        + "times = []\nfor _ in range(3):\n    t = time.process_time(), time.perf_counter()\n"
        + textwrap.indent(ask + CHECK, "    ")
        + "\n    times.append((time.process_time() - t[0], time.perf_counter() - t[1]))\n"
        "print(json.dumps({'cold_cpu': times[0][0], 'cold': times[0][1], "
        "'warm_cpu': min(t[0] for t in times), 'warm': min(t[1] for t in times)}))"
    )
    query_times = _run(python, read, folder, steps, env)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "write_cpu_s": round(written["cpu"], 2),
        "bytes_a_step": round(size / steps, 1),
        **{f"{key}_ms": round(value * 1000, 1) for key, value in query_times.items()},
    }


def time_ockham(runs: Path, steps: int) -> dict[str, float]:
    """Return the times of the same query on the log, in this process."""
    from ockham.catalog import Catalog

    catalog = Catalog(runs, run_ids=["run-0000"])
    times = []
    for _ in range(4):
        began = time.process_time(), time.perf_counter()
        result = catalog.sql(WINDOW, {"steps": steps})
        times.append((time.process_time() - began[0], time.perf_counter() - began[1]))
        if result.num_rows != steps // 1000:
            raise SystemExit(f"{runs}: {result.num_rows} windows, expected {steps // 1000}")
    return {
        "cold_cpu_ms": round(times[0][0] * 1000, 1),
        "cold_ms": round(times[0][1] * 1000, 1),
        "warm_cpu_ms": round(min(t[0] for t in times) * 1000, 1),
        "warm_ms": round(min(t[1] for t in times) * 1000, 1),
    }


def _run(python: str, code: str, folder: Path, steps: int, env: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code, str(folder), str(steps)],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        cwd=folder,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-1500:])
    values: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return values


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("python", help="Interpreter of the environment with the trackers.")
    parser.add_argument("runs", type=Path)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--only", choices=TRACKERS)
    options = parser.parse_args()
    for name in [options.only] if options.only else TRACKERS:
        with tempfile.TemporaryDirectory(prefix="ockham-tracker-") as folder:
            try:
                print(name, write_and_ask(options.python, name, options.steps, Path(folder)), flush=True)
            except SystemExit as error:
                print(f"{name}: {error}", file=sys.stderr)
    print("ockham", time_ockham(options.runs, options.steps))


if __name__ == "__main__":
    main()
