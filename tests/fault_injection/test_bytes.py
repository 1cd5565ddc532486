"""One changed bit in any byte of a run is reported by verify."""

from __future__ import annotations

import random

import pytest

from ockham.errors import RunError, UnverifiableError
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.run import verify_run
from tests.helpers.events import lines
from tests.helpers.runs import make_run

PARTS = 8


@pytest.mark.fault_injection
@pytest.mark.parametrize("part", range(PARTS))
def test_every_changed_byte_of_a_run_is_reported(tmp_path, part):
    """All files of a run of 200 events, in eight parts."""
    run = make_run(tmp_path, batches=62).folder
    assert 190 <= len(lines(run)) <= 260
    draw = random.Random(11 + part)
    key = [load_or_create_signer().verifier]
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
                if verify_run(run, keys=key, parquet=derived).sound:
                    missed.append((str(path.relative_to(run.path)), at))
            except (UnverifiableError, RunError):
                # Nothing can be checked, or run.json names another run.
                pass
        path.write_bytes(data)
    assert missed == [], f"{len(missed)} of {flips}"
    assert flips > 20_000
    print(f"part {part}: {flips} single-byte changes of {len(lines(run))} events, 0 verify")
