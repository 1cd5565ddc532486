"""That a log has only grown since it was pinned, shown without the log."""

from __future__ import annotations

import pytest

from ockham.errors import BadInputError, CannotJudgeError
from ockham.record.consistency import check_growth, prove_growth
from ockham.record.folder import RunFolder
from ockham.record.note import signer
from ockham.record.pin import newest_heads
from ockham.run import Run
from tests.catalog.resumed import resumed_run
from tests.cli.test_verbs import ockham
from tests.made import made_run


@pytest.fixture
def grown(tmp_path):
    """Pinned after 5 batches, ended after 40: the pin, and the run."""
    with Run("observe", runs=tmp_path, run_id="a", facts={"max_iters": 40}) as run:
        for i in range(40):
            run.end(run.batch(i, 2.0))
            if i == 4:
                run.flush()
                pin = newest_heads(run.folder)
    return pin, run.folder


def keys():
    return [signer().verifier]


def test_a_log_that_grew(grown):
    """The proof holds against the pin, by the key, and says both sizes."""
    pin, folder = grown
    (found,) = check_growth(prove_growth(folder, pin, keys()), pin, keys())
    assert (found.origin, found.key) == ("ockham/runs/a/1-0", signer().verifier)
    assert 0 < found.old < found.head.size == len((folder.segments(1, 0)[0]).read_bytes().splitlines())


def test_every_log_of_the_pin_has_its_proof(tmp_path):
    """Those that have not grown since too, each the request of a witness by itself."""
    resumed_run(tmp_path)
    folder = RunFolder(tmp_path, "a")
    pin = newest_heads(folder)
    proof = prove_growth(folder, pin, keys())
    assert [(g.origin[-3:], g.old == g.head.size) for g in check_growth(proof, pin, keys())] == [
        ("1-0", True),
        ("2-0", True),
    ]
    parts = proof.split(b"old ")
    assert len(parts) == 3
    assert len(check_growth(b"old " + parts[2], pin, keys())) == 1


def test_a_history_that_was_written_anew(tmp_path, grown):
    """Whoever has the key can sign another log; the pin still tells."""
    pin, _ = grown
    made_run(tmp_path / "forged", "a")
    forged = RunFolder(tmp_path / "forged", "a")
    with pytest.raises(BadInputError, match="do not begin the log"):
        check_growth(prove_growth(forged, pin, keys()), pin, keys())


def test_a_log_that_was_cut(tmp_path, grown):
    """Fewer signed events than were pinned: there is nothing to prove."""
    pin, _ = grown
    with Run("observe", runs=tmp_path / "other", run_id="a"):
        pass
    with pytest.raises(BadInputError, match="were pinned"):
        prove_growth(RunFolder(tmp_path / "other", "a"), pin, keys())


def test_every_changed_byte_is_refused(grown):
    """No byte of proof or pin can be another one."""
    pin, folder = grown
    proof = prove_growth(folder, pin, keys())
    for at in range(len(proof)):
        with pytest.raises(BadInputError):
            check_growth(proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :], pin, keys())
    for at in range(len(pin)):
        with pytest.raises(BadInputError):
            check_growth(proof, pin[:at] + bytes([pin[at] ^ 1]) + pin[at + 1 :], keys())


def test_others_pins_keys_and_logs(tmp_path, grown):
    """Another run's pin, a log that is not what was signed, a key that signed nothing: one error each."""
    pin, folder = grown
    made_run(tmp_path, "b", batches=3)
    with pytest.raises(BadInputError, match="and not of run 'b'"):
        prove_growth(RunFolder(tmp_path, "b"), pin, keys())
    proof = prove_growth(folder, pin, keys())
    with pytest.raises(BadInputError, match="the pin does not hold"):
        check_growth(proof, newest_heads(RunFolder(tmp_path, "b")), keys())
    with pytest.raises(BadInputError, match="no signed tree head of a known key"):
        check_growth(proof, pin, [])
    segment = folder.segments(1, 0)[0]
    segment.write_bytes(segment.read_bytes().replace(b"observe", b"0bserve", 1))
    with pytest.raises(CannotJudgeError, match="not what was signed"):
        prove_growth(folder, pin, keys())


def test_as_people_type_it(tmp_path, grown):
    """From a pin to a proof to its check, in a folder without the run."""
    pin, folder = grown
    pinned, proof = tmp_path / "a.pin", tmp_path / "a.proof"
    pinned.write_bytes(pin)

    def check(*words):
        return ockham(tmp_path / "none", "prove", "--check", str(proof), *words, cwd=tmp_path)

    made = ockham(folder.runs, "prove", "a", "--since", str(pinned), "-o", str(proof))
    assert made.returncode == 0, made.stderr
    done = check("--pin", str(pinned))
    assert done.returncode == 0, done.stderr
    assert "that were pinned begin the log of" in done.stdout
    alone = check()
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "with --pin" in alone.stderr
    proof.write_bytes(b"old x")
    torn = check("--pin", str(pinned))
    assert (torn.returncode, torn.stdout) == (2, "")
    assert "no proof of growth" in torn.stderr
