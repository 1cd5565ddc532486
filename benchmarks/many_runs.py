"""Cost of many short runs: write them, open a catalog, `ockham runs`, and the imports of the command line.

    python -m benchmarks.many_runs           # a temporary folder with 1,000 runs; 10 minutes
    python -m benchmarks.many_runs --runs ../many --count 1000 --rounds 5 --json FILE

The runs are written by the real writer, --batches batches each. Runs that exist in the folder are used again.
Each measurement is a new process, and the measurements take turns. `first` has an empty cache folder, and
`warm` the one that was filled by `first`. The table has the medians of wall and CPU seconds, and the CPU
seconds divided by those of `python -c pass`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.helpers.runs import make_run

# Other Python processes that run at the same time, one for each part of the runs.
WRITERS = 2
OPEN_CATALOG = "from ockham.catalog import Catalog; Catalog({runs!r})"
# One process: the import of pyarrow is paid once.
OPEN_AND_CLOSE = """
import json, resource, sys, time, ockham
def clock():
    used = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime
times = []
for number in range(12):
    start = clock()
    ockham.Run("balanced", runs=sys.argv[1], run_id=f"run-{number}").start().finish()
    times.append([after - before for before, after in zip(start, clock())])
print(json.dumps(times))
"""
Times = tuple[float, float]


def write_runs(runs: Path, numbers: Iterable[int], batches: int) -> None:
    """Write the runs that do not exist."""
    for number in numbers:
        name = f"run-{number:04d}"
        if not (runs / name).exists():
            make_run(runs, name, batches)


def write_all(runs: Path, count: int, batches: int) -> None:
    """Write *count* runs in several processes."""
    words = [sys.executable, "-m", "benchmarks.many_runs", "--runs", str(runs), "--batches", str(batches)]
    parts = [
        subprocess.Popen([*words, "--write", str(first), str(count), str(WRITERS)])
        for first in range(WRITERS)
    ]
    if any(part.wait() for part in parts):
        raise SystemExit(f"{runs}: the runs cannot be written")


def measure(words: list[str], environment: dict[str, str]) -> Times:
    """Return the wall and CPU seconds of a process and its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, env=environment, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_open_and_close(environment: dict[str, str]) -> list[Times]:
    """Return the times to open and close runs without a batch, without the first two."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", OPEN_AND_CLOSE, folder]
        output = subprocess.run(words, env=environment, check=True, capture_output=True).stdout
    times = [(wall, cpu) for wall, cpu in json.loads(output)]
    return times[2:]


def measure_all(runs: Path, rounds: int) -> dict[str, list[Times]]:
    """Return the times of all measurements, which take turns."""
    python = [sys.executable, "-c"]
    catalog = [*python, OPEN_CATALOG.format(runs=str(runs))]
    listing = [sys.executable, "-m", "ockham", "runs", "--runs", str(runs)]
    results: dict[str, list[Times]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "OCKHAM_CACHE_DIR": cache}
            turns = {
                "python -c pass": [*python, "pass"],
                "import ockham": [*python, "import ockham"],
                "ockham --help": [sys.executable, "-m", "ockham", "--help"],
                "open a catalog, first": catalog,
                "open a catalog, warm": catalog,
                "ockham runs, warm": listing,
            }
            for name, words in turns.items():
                results.setdefault(name, []).append(measure(words, environment))
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "OCKHAM_CACHE_DIR": cache}
            results.setdefault("ockham runs, first", []).append(measure(listing, environment))
        results.setdefault("open and close a run", []).extend(measure_open_and_close(dict(os.environ)))
    return results


def count_files(runs: Path) -> int:
    """Return the number of files of the first run."""
    first = next(path for path in sorted(runs.iterdir()) if (path / "run.json").is_file())
    return sum(len(names) for _, _, names in os.walk(first))


def print_table(results: dict[str, list[Times]]) -> dict[str, dict[str, float]]:
    """Print the medians as a Markdown table, and return them."""
    medians = {
        name: {
            "wall_s": round(statistics.median(wall for wall, _ in times), 3),
            "cpu_s": round(statistics.median(cpu for _, cpu in times), 3),
        }
        for name, times in results.items()
    }
    base = medians["python -c pass"]["cpu_s"]
    print("| what | wall s | CPU s | CPU / `python -c pass` |\n|---|---|---|---|")
    for name, row in medians.items():
        print(f"| {name} | {row['wall_s']:.3f} | {row['cpu_s']:.3f} | {row['cpu_s'] / base:.1f} |")
    return medians


def main(options: argparse.Namespace) -> None:
    """Write the runs that do not exist, measure, and print the table."""
    if options.write:
        first, count, step = options.write
        write_runs(options.runs, range(first, count, step), options.batches)
        return
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        write_all(runs, options.count, options.batches)
        results = measure_all(runs, options.rounds)
        report: dict[str, Any] = {
            "runs": options.count,
            "batches": options.batches,
            "files": count_files(runs),
        }
        report["load"] = round(os.getloadavg()[0], 1)
        print(json.dumps(report))
        report["medians"] = print_table(results)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, help="Folder of runs. Default: a temporary folder.")
    parser.add_argument("--count", type=int, default=1_000, help="Number of runs.")
    parser.add_argument("--batches", type=int, default=100, help="Batches of each run.")
    parser.add_argument("--rounds", type=int, default=3, help="Number of turns.")
    parser.add_argument("--json", type=Path, help="Also write the medians to this file.")
    parser.add_argument("--write", type=int, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.runs is not None:
        try:
            given.runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"--runs {given.runs}: {error.strerror}")
    main(given)
