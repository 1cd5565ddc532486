"""Every byte of a run, changed in one bit: verify must say so."""

from __future__ import annotations

import random

import pytest

from ockham.errors import CannotJudgeError
from ockham.record.note import signer
from ockham.record.verify import verify_run
from tests.made import made_run
from tests.samples import lines

PARTS = 8


@pytest.mark.torture
@pytest.mark.parametrize("part", range(PARTS))
def test_every_byte_of_every_file(tmp_path, part):
    """Log, heads, tiles, policy, run.json, Parquet and checkpoints of a run of 200 events: each eighth byte in a part."""
    run = made_run(tmp_path, batches=62).folder
    assert 190 <= len(lines(run)) <= 260
    draw = random.Random(11 + part)
    key = [signer().verifier]
    missed, flips = [], 0
    for path in [p for p in sorted(run.path.rglob("*")) if p.is_file() and p.name != "lock"]:
        data = path.read_bytes()
        derived = path.suffix == ".parquet" or "day=" in str(path)
        for at in range(part, len(data), PARTS):
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
    print(f"part {part}: {flips} single-byte changes of {len(lines(run))} events, 0 verify")
