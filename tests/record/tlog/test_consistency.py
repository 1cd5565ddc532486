"""Consistency proofs: a log has only grown since it was pinned, checked without the log."""

from __future__ import annotations

import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.record.proofs import prove_consistency
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.consistency import verify_consistency_proofs
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.run import Run
from tests.helpers.forked_cli import ockham
from tests.helpers.resumed_run import resumed_run
from tests.helpers.runs import make_run


@pytest.fixture
def grown(tmp_path):
    """A pin after 5 batches of a run, and the run with 40 batches."""
    with Run("observe", runs=tmp_path, run_id="a", facts={"max_iters": 40}) as run:
        for i in range(40):
            run.end_batch(run.start_batch(i, 2.0))
            if i == 4:
                run.flush()
                pin = make_pin(run.folder)
    return pin, run.folder


def keys():
    return [load_or_create_signer().verifier]


def test_consistency_proof_of_a_grown_log_is_valid(grown):
    """It names both sizes."""
    pin, folder = grown
    (found,) = verify_consistency_proofs(prove_consistency(folder, pin, keys()), pin, keys())
    assert (found.origin, found.key) == ("ockham/runs/a/1-0", load_or_create_signer().verifier)
    assert 0 < found.old < found.head.size == len((folder.segments(1, 0)[0]).read_bytes().splitlines())


def test_every_log_of_a_pin_has_its_proof(tmp_path):
    """Logs that have not grown have one too."""
    resumed_run(tmp_path)
    folder = RunFolder(tmp_path, "a")
    pin = make_pin(folder)
    proof = prove_consistency(folder, pin, keys())
    assert [(g.origin[-3:], g.old == g.head.size) for g in verify_consistency_proofs(proof, pin, keys())] == [
        ("1-0", True),
        ("2-0", True),
    ]
    parts = proof.split(b"old ")
    assert len(parts) == 3
    assert len(verify_consistency_proofs(b"old " + parts[2], pin, keys())) == 1


def test_consistency_of_a_rewritten_log_fails(tmp_path, grown):
    """A holder of the key can sign another log, but not change the pin."""
    pin, _ = grown
    make_run(tmp_path / "forged", "a")
    forged = RunFolder(tmp_path / "forged", "a")
    with pytest.raises(BadInputError, match="do not begin the log"):
        verify_consistency_proofs(prove_consistency(forged, pin, keys()), pin, keys())


def test_consistency_of_a_truncated_log_is_refused(tmp_path, grown):
    """It has fewer signed events than were pinned."""
    pin, _ = grown
    with Run("observe", runs=tmp_path / "other", run_id="a"):
        pass
    with pytest.raises(BadInputError, match="were pinned"):
        prove_consistency(RunFolder(tmp_path / "other", "a"), pin, keys())


def test_every_changed_byte_of_proof_or_pin_is_refused(grown):
    """No byte can be replaced."""
    pin, folder = grown
    proof = prove_consistency(folder, pin, keys())
    for at in range(len(proof)):
        with pytest.raises(BadInputError):
            verify_consistency_proofs(proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :], pin, keys())
    for at in range(len(pin)):
        with pytest.raises(BadInputError):
            verify_consistency_proofs(proof, pin[:at] + bytes([pin[at] ^ 1]) + pin[at + 1 :], keys())


def test_other_pins_keys_and_logs_are_refused(tmp_path, grown):
    """Each gives one error."""
    pin, folder = grown
    make_run(tmp_path, "b", batches=3)
    with pytest.raises(BadInputError, match="and not of run 'b'"):
        prove_consistency(RunFolder(tmp_path, "b"), pin, keys())
    proof = prove_consistency(folder, pin, keys())
    with pytest.raises(BadInputError, match="the pin does not contain"):
        verify_consistency_proofs(proof, make_pin(RunFolder(tmp_path, "b")), keys())
    with pytest.raises(BadInputError, match="not a pin signed by a known key"):
        verify_consistency_proofs(proof, pin, [])
    segment = folder.segments(1, 0)[0]
    segment.write_bytes(segment.read_bytes().replace(b"observe", b"0bserve", 1))
    with pytest.raises(UnverifiableError, match="differs from what was signed"):
        prove_consistency(folder, pin, keys())


def test_consistency_commands_work_without_the_run_folder(tmp_path, grown):
    """They go from a pin to a proof to its check."""
    pin, folder = grown
    pinned, proof = tmp_path / "a.pin", tmp_path / "a.proof"
    pinned.write_bytes(pin)

    def check(*words):
        return ockham(tmp_path / "none", "prove", "--check", str(proof), *words, cwd=tmp_path)

    made = ockham(folder.runs, "prove", "a", "--since", str(pinned), "-o", str(proof))
    assert made.returncode == 0, made.stderr
    done = check("--pin", str(pinned))
    assert done.returncode == 0, done.stderr
    assert "pinned events are the start of the log of" in done.stdout
    alone = check()
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "with --pin" in alone.stderr
    proof.write_bytes(b"old x")
    torn = check("--pin", str(pinned))
    assert (torn.returncode, torn.stdout) == (2, "")
    assert "not a consistency proof" in torn.stderr
