"""How fast is verify? Events a second on one core, beside the floor of hashing the same lines and nothing else.

.venv/bin/python benchmarks/verify.py --batches 20000
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ockham.record.merkle import Frontier, leaf_hash
from ockham.record.verify import verify_run
from tests.made import made_run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=20_000)
    with tempfile.TemporaryDirectory() as name:
        os.environ["OCKHAM_KEY_DIR"] = f"{name}/keys"
        folder = made_run(Path(name), batches=parser.parse_args().batches).folder
        lines = [line for s in folder.segments(1, 0) for line in s.read_bytes().splitlines()]
        began = time.process_time()
        frontier = Frontier()
        for line in lines:
            frontier.append(leaf_hash(line))
        floor = len(lines) / (time.process_time() - began)
        rates = {}
        for what, derived in (("log alone", False), ("with Parquet", True)):
            began = time.process_time()
            report = verify_run(folder, derived=derived)
            rates[what] = len(lines) / (time.process_time() - began)
            assert report.sound, report.findings
        size = sum(map(len, lines)) / 1e6
    print(f"machine: {platform.machine()}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}")
    print(
        f"{len(lines):,} events, {size:.1f} MB, {size * 1e6 / len(lines):.0f} bytes each; root {hashlib.sha256(frontier.root()).hexdigest()[:8]}"
    )
    print(f"floor, leaf and tree hashes: {floor:,.0f} events per CPU-second")
    for what, rate in rates.items():
        print(f"verify, {what}: {rate:,.0f} events per CPU-second, {rate / floor:.2f} of the floor")


if __name__ == "__main__":
    main()
