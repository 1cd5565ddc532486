"""Make the reference data, in a checkout with the training dependencies.

    python tests/reference/make_reference.py

Tests do not run this script. It trains three runs in a temporary folder, packs them into
`data/reference.zip`, and writes what the installed version answers about them into `data/expected.json`.
Run it again only to replace the reference: later versions must reproduce the answers about the existing
data.

1. `base`: killed with SIGKILL after a checkpoint, then resumed: two attempts.
2. `two`: two ranks, a log each.
3. `adapted`: `ockham adapt` from an accepted checkpoint of `base`. ODR-0001 was registered before it
   started.
4. `odr/`: ODR-0001 is accepted, with a lock and packed evidence. ODR-0002 is a draft whose constraint
   fails.
5. `adapted.evidence.zip`: the evidence archive of `adapted`, with its `verify.py`. The private key is
   deleted with the temporary folder. Only the verifier key is packed.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).resolve().parent / "data"
MODEL = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 8, "batch_size": 4, "eval_batches": 2}
DEVICE = {"threads": 1, "device": "cpu", "learning_rate": 0.01}
POLICY = """name: reference
extends: balanced
hyperparameters: {evaluations: 16}
plugins:
  memory: {quality_fraction: 0.9, min_oq_improvement: 0.01}
"""
CONSTRAINTS = """constraints:
  - id: C1
    text: "At least one batch in ten updates"
    sql: |
      SELECT avg(updated::int) AS value, count(*) AS n
      FROM gate_decisions
      WHERE run_id = $candidate
    op: ">="
    threshold: 0.1
    unit: "ratio"
    min_n: 20
"""


def main() -> None:
    """Write data/reference.zip and data/expected.json."""
    sys.path.insert(0, str(ROOT))
    from tests.reference import answers

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "reference"
        folder.mkdir()
        make_runs(folder, Path(name) / "keys")
        DATA.mkdir(exist_ok=True)
        pack(folder, DATA / "reference.zip")
        unpacked = Path(name) / "unpacked"
        with zipfile.ZipFile(DATA / "reference.zip") as archive:
            archive.extractall(unpacked)
        expected = answers.all_answers(unpacked)
        expected["tampered"] = answers.tampered_answers(unpacked)
    text = json.dumps(expected, indent=1, sort_keys=True)
    (DATA / "expected.json").write_text(text + "\n", encoding="utf-8")


def make_runs(folder: Path, keys: Path) -> None:
    """Train the runs and write the records into *folder*, signed with a new key in *keys*."""
    os.environ.update(
        OCKHAM_RUNS="runs",
        OCKHAM_ODR="odr",
        OCKHAM_KEY_DIR=str(keys),
        LOGNAME="reference",
        PYTHONPATH=str(ROOT),
    )
    os.chdir(folder)
    write_inputs(folder)
    (folder / "reference.pub").write_text(run("keygen").stdout, encoding="utf-8")
    train = ["train", "--policy", "reference.yaml", "--data", "text.txt"]
    settings = options({**MODEL, **DEVICE, "checkpoint_every": 40})
    kill_after_checkpoint([*train, "--run", "base", *settings, *options({"max_iters": 160})])
    run("train", "--run", "base", "--resume")
    start_ranks([*train, "--run", "two", *settings, *options({"max_iters": 60})])
    record = register_record(folder)
    adapt = [
        "adapt",
        "--from",
        "base",
        "--data",
        "new.txt",
        "--run",
        "adapted",
        "--lora",
        "h.1.*",
        "--rank",
        "1",
    ]
    run(*adapt, *options({**DEVICE, "max_iters": 60, "checkpoint_every": 30}))
    finish_records(record)
    run("export", "--evidence", "--run", "adapted", "-o", "adapted.evidence.zip")


def write_inputs(folder: Path) -> None:
    """Write the training text, the new text and the policy."""
    draw = random.Random(1)
    words = [f"word{(i * i) % 97} " for i in range(850)]
    lines = [draw.choice("+*/<>{}[]") * 3 + f"{i % 7};\n" for i in range(900)]
    (folder / "text.txt").write_text("".join(words), encoding="utf-8")
    (folder / "new.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "reference.yaml").write_text(POLICY, encoding="utf-8")


def options(settings: dict[str, object]) -> list[str]:
    """Return `--set NAME=VALUE` for each setting."""
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run an `ockham` command that must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "ockham", *words], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"ockham {' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def kill_after_checkpoint(words: list[str]) -> None:
    """Start a command and kill it when its log has passed two checkpoints."""
    process = subprocess.Popen([sys.executable, "-m", "ockham", *words], stdout=subprocess.DEVNULL)
    log = Path("runs/base/log/1-0/000000000000.jsonl")
    while not (log.exists() and b'"subject":"iter/95"' in log.read_bytes()):
        if process.poll() is not None:
            raise SystemExit("base: ended before it was killed")
        time.sleep(0.002)
    process.kill()
    process.wait()


def start_ranks(words: list[str]) -> None:
    """Run a command on two ranks, with the environment that torchrun sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "ockham", *words]
    ranks = [
        subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **group, "OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]
    if any(rank.wait() != 0 for rank in ranks):
        raise SystemExit("two: a rank failed")


def register_record(folder: Path) -> Path:
    """Write ODR-0001 and register its constraint before the candidate run starts."""
    run("odr", "new", "Adapt with a small adapter", "--owner", "builders")
    (record,) = (folder / "odr").glob("0001-*.md")
    text = record.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^constraints:.*\n(?:[ #].*\n)*", lambda _: CONSTRAINTS, text)
    box = "- [ ] C1 At least one batch in ten updates\n"
    text = re.sub(r"(?s)(## Occam Constraints\n).*?(\n## Outcome)", lambda m: m[1] + box + m[2], text)
    text = text.replace(
        "Describe the problem: who has it, and how it shows.", "The base run does not know code."
    )
    text = text.replace(
        "Describe the change, and the alternatives that were not chosen.", "Adapt one block by LoRA."
    )
    record.write_text(text, encoding="utf-8")
    run("odr", "register", "1", "--candidate", "adapted", "--baseline", "base")
    return record


def finish_records(record: Path) -> None:
    """Accept ODR-0001 with packed evidence, and draft ODR-0002, whose constraint fails."""
    run("odr", "evidence", "1", "--baseline", "base", "--candidate", "adapted")
    text = record.read_text(encoding="utf-8")
    if "outcome:" not in text:
        record.write_text(
            text.replace("constraints:", "outcome: {oq_delta: null, verdict: KEEP}\nconstraints:", 1)
        )
    run("odr", "lint", "1", "--fix")
    run("odr", "check", "1", "--fix")
    run("odr", "status", "1", "proposed")
    run("odr", "status", "1", "accepted")
    run("odr", "pack", "1")
    run("odr", "check", "1", "--attest")
    run(
        "odr",
        "new",
        "Train on two ranks",
        "--baseline",
        "base",
        "--candidate",
        "two",
        "--owner",
        "builders",
    )


def pack(folder: Path, archive: Path) -> None:
    """Pack all files of *folder*."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            packed.write(path, path.relative_to(folder))


if __name__ == "__main__":
    main()
