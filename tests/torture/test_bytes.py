"""Every byte of a run, changed in one bit: verify must say so."""

from __future__ import annotations

import random

import pytest

from ockham.errors import CannotJudgeError
from ockham.record.note import signer
from ockham.record.verify import verify_run
from tests.made import made_run


@pytest.mark.torture
def test_every_byte_of_every_file(tmp_path):
    """Log, heads, tiles, policy, run.json: exhaustively; Parquet and checkpoints with it."""
    run = made_run(tmp_path, batches=6).folder
    draw = random.Random(11)
    key = [signer().verifier]
    missed, flips = [], 0
    for path in [p for p in sorted(run.path.rglob("*")) if p.is_file() and p.name != "lock"]:
        data = path.read_bytes()
        derived = path.suffix == ".parquet" or "day=" in str(path)
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 1 << draw.randrange(8)
            path.write_bytes(bytes(changed))
            flips += 1
            try:
                if verify_run(run, keys=key, derived=derived).sound:
                    missed.append((str(path.relative_to(run.path)), at))
            except CannotJudgeError:
                pass
        path.write_bytes(data)
    assert missed == [], f"{len(missed)} of {flips}"
    assert flips > 20_000
