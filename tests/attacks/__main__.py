"""Generate attacks and crashes, check them, and print the counts.

python -m tests.attacks --cases 10000 --seed 1
python -m tests.attacks --seed 1 --only 271 --keep FOLDER     write one case again
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.attacks.cases import Case, check_case, make_case
from tests.attacks.templates import SeededDraw, make_templates


def main() -> int:
    """Run the cases. Return 1 after a disagreement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run this case only")
    parser.add_argument("--keep", type=Path, help="folder for the run folders of disagreements")
    parser.add_argument("--show", type=int, default=5, help="disagreements to print of each kind")
    asked = parser.parse_args()
    numbers = range(asked.cases) if asked.only is None else [asked.only]
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        os.environ["OCKHAM_KEY_DIR"] = f"{folder}/keys"
        return _run(Path(folder), numbers, asked)


def _run(folder: Path, numbers: range | list[int], asked: argparse.Namespace) -> int:
    templates = make_templates(folder / "templates")
    operations, verdicts, kinds = Counter[str](), Counter[str](), Counter[str]()
    began = time.perf_counter()
    for number in numbers:
        case = make_case(templates, SeededDraw((asked.seed, number)), folder)
        verdicts[f"{case.source}: {case.expected}"] += 1
        operations.update(name.partition(" at ")[0] for name in case.operations)
        problems = check_case(case)
        for problem in problems:
            kind = re.sub(r"[0-9]+", "N", problem)[:100]
            kinds[kind] += 1
            if kinds[kind] <= asked.show:
                print(f"case {number} ({case.template}; {', '.join(case.operations)}): {problem}", flush=True)
        if problems and asked.keep:
            _keep(case, asked.keep / f"{asked.seed}-{number}")
    seconds = time.perf_counter() - began
    for title, counter in (("operations", operations), ("expected", verdicts), ("disagreements", kinds)):
        print(f"\n{title}: {counter.total()}")
        for name, count in counter.most_common():
            print(f"{count:8,} {name}")
    print(f"\n{len(numbers):,} cases in {seconds:.1f} s, {1000 * seconds / len(numbers):.0f} ms per case")
    return 1 if kinds else 0


def _keep(case: Case, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(case.runs, to)
    (to / "key").write_text(case.key + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
