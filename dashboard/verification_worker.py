"""Process that verifies runs for the dashboard.

Each line of stdin is a request, each line of stdout a response. A separate process keeps the pages fast,
because verification is long and uses Python. It has a low priority. It ends when stdin is closed, or when the
dashboard has ended during a verification.

Request: `{"runs": FOLDER, "run_id": ID}`. Response: `{"report": ...}`, see `VerificationReport.to_dict`, or
`{"error": MESSAGE}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any, TextIO

from dashboard.pins import pins_of_run
from ockham.errors import OckhamError
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.note import VerifierKey, local_verifier_key, parse_key
from ockham.record.verify.run import verify_run

NICENESS = 10
# Verifier keys of `ockham dashboard --key`, one per line.
KEYS_VARIABLE = "OCKHAM_TRUSTED_KEYS"


def trusted_keys() -> list[VerifierKey]:
    """Return the keys with which the dashboard was started. Empty: the key that each run names is used."""
    return [parse_key(line) for line in os.environ.get(KEYS_VARIABLE, "").splitlines()]


def keys_of_run(run_id: str) -> list[VerifierKey]:
    """Return the keys that may have signed a run. Entries of the ledger may also have this machine's key."""
    keys = trusted_keys()
    own = local_verifier_key() if keys and run_id == LEDGER else None
    return keys if own is None else [*keys, own]


def verify_to_dict(runs: str, run_id: str, parent: int | None = None) -> dict[str, Any]:
    """Verify one run and return the response of the worker.

    Args:
        runs: Folder of runs.
        run_id: ID of the run, or `_ledger`.
        parent: Process without which the verification ends. None is for callers of the same process.

    Raises:
        SystemExit: If *parent* has ended.

    """

    def require_parent(_: int) -> None:
        if parent is not None and os.getppid() != parent:
            raise SystemExit(1)

    try:
        report = verify_run(
            RunFolder(runs, run_id),
            keys=keys_of_run(run_id),
            pins=pins_of_run(run_id),
            progress=require_parent,
        )
    except (OckhamError, OSError) as error:
        return {"error": str(error)}
    # A defect in one run must not end the verification of the others.
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"report": report.to_dict()}


def serve(requests: TextIO, responses: TextIO) -> None:
    """Answer all requests until the end of the input."""
    parent = os.getppid()
    for line in requests:
        request = json.loads(line)
        response = verify_to_dict(request["runs"], request["run_id"], parent)
        responses.write(json.dumps(response) + "\n")
        responses.flush()


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        serve(sys.stdin, sys.stdout)
