"""Signed lines across attempts and ranks: all readers refuse a log that a signed event contradicts."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ockham import resources
from ockham.catalog import Catalog
from ockham.cli.checkpoint_lookup import find_checkpoint
from ockham.errors import OckhamError, UnverifiableError
from ockham.guard import Guard
from ockham.odr.pinned_log import pin_side
from ockham.odr.pinning import pin_sides
from ockham.record.checkpoints import find_resume_point
from ockham.record.evidence import previous_logs, rank_logs, read_evidence
from ockham.record.proofs import prove_consistency, prove_inclusion
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.record.tlog.tree_head import parse_head, split_history
from ockham.record.verify.run import verify_run
from tests.helpers.log_edits import change_event, sign_log
from tests.helpers.resumed_run import resumed_run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Return the folder of a run with two attempts."""
    runs = tmp_path_factory.mktemp("original")
    resumed_run(runs)
    return runs


@pytest.fixture
def run(original, tmp_path):
    shutil.copytree(original, tmp_path / "runs")
    return RunFolder(tmp_path / "runs", "a")


def keys():
    return [load_or_create_signer().verifier]


def edit_and_sign(run):
    """Change a line of attempt 1 and sign its lines again, as a thief of the key can."""
    change_event(run, "context.recorded", lambda data: data["given"].update(task_loss=0.5))
    sign_log(run)


def cut_heads(run):
    """Put an older tree head of attempt 1 in place of the newest ones."""
    path = run.log_dir(1, 0)
    sign_log(run, size=3)
    assert parse_head(split_history((path / "checkpoints").read_bytes())[0][0].decode())[1].size == 3


def cut_lines_and_heads(run):
    """Remove the lines after the older head too."""
    segment = run.segments(1, 0)[0]
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:3]))
    cut_heads(run)
    shutil.rmtree(run.log_dir(1, 0) / "tile")


def remove_log(run):
    """Remove attempt 1 as a whole."""
    shutil.rmtree(run.log_dir(1, 0))


def guarded(run):
    with Guard(run.runs, verified=True) as guard:
        guard.query("select count(*) from events")


READERS = {
    "catalog": lambda run: Catalog(run.runs, verified=True, keys=keys()),
    "catalog without keys": lambda run: Catalog(run.runs, verified=True),
    "query --verified": guarded,
    "prove": lambda run: prove_inclusion(run, 2, 0, 1),
    "prove --since": lambda run: prove_consistency(run, make_pin(run), keys()),
    "odr pin": lambda run: pin_sides(run.runs, [], [run.run_id]),
    "resume": lambda run: find_resume_point(run.runs, run.run_id),
    "sample and weights": lambda run: find_checkpoint(run.runs, run.run_id),
}


@pytest.mark.parametrize("attack", [edit_and_sign, cut_heads, cut_lines_and_heads, remove_log])
def test_every_reader_refuses_a_run_whose_earlier_attempt_differs(run, attack):
    """The first event of attempt 2 names the size and the root of attempt 1."""
    for reader in READERS.values():
        reader(run)
    attack(run)
    [problem] = read_evidence(run, keys()).problems
    assert re.match(r"log 1-0: attempt 2 was resumed from \d+ events of it", problem)
    assert not verify_run(run, keys=keys(), parquet=False).sound
    for name, reader in READERS.items():
        with pytest.raises(OckhamError, match=r"attempt 2 was resumed from \d+ events of it"):
            reader(run)
            pytest.fail(f"{name} accepts the run")


def test_verified_catalog_reads_the_repaired_run_again(run):
    """A refused state is not kept, and an unchanged log is not read twice."""
    catalog = Catalog(run.runs, verified=True)
    expected = catalog.rows("select count(*) as n from events")
    segment = run.segments(1, 0)[0]
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"iter_num":0,', b'"iter_num":1,', 1))
    with pytest.raises(UnverifiableError, match="is tampered with"):
        catalog.rows("select 1 as x")
    segment.write_bytes(data)
    assert catalog.rows("select count(*) as n from events") == expected


def test_decision_record_pins_signed_lines_only(run):
    """Unsigned lines after the head are not evidence."""
    before = pin_side("candidate", run)
    segment = run.segments(2, 0)[-1]
    lines = segment.read_bytes().splitlines(keepends=True)
    with segment.open("ab") as file:
        file.write(lines[-1] + b"garbage\n")
    assert pin_side("candidate", run) == before
    for name in ("checkpoint", "checkpoints"):
        (run.log_dir(2, 0) / name).unlink()
    assert pin_side("candidate", run) is None


@pytest.mark.parametrize("odd", [{"from_root": 1}, {"from_root": "", "left_logs": 3}, {"rank_logs": [{}]}])
def test_malformed_names_of_other_logs_are_ignored(odd):
    """A signed event that fits its schema has none of them."""
    assert previous_logs(odd, (2, 0)) == []
    assert rank_logs(odd, (2, 0)) == []


PACKAGE = resources.data_root() / "ockham"
# Modules that write heads, parse single notes of proofs and pins, or are the single place that selects heads.
HEAD_PARSERS = {
    "record/signed_heads.py",
    "record/tlog/consistency.py",
    "record/tlog/inclusion.py",
    "record/tlog/tree_head.py",
    "record/verify/pins.py",
    "record/verify/standalone.py",
}
# Modules that write the names of earlier logs, or compare them with the lines.
ROOT_READERS = {
    "record/attempt.py",
    "record/evidence.py",
    "record/run_labels.py",
    "record/verify/standalone.py",
    "replay/attest.py",
}


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (r"\b(parse_head|split_history)\b", HEAD_PARSERS),
        (r"""["']from_(root|size)["']|\.from_(root|size)\b""", ROOT_READERS),
    ],
)
def test_heads_and_roots_are_compared_in_one_place(words, allowed):
    """No other module selects tree heads, or compares the roots that a resume or an end names."""
    assert modules_with(words) <= allowed, modules_with(words) - allowed


def modules_with(words):
    """Return the modules of the package that contain a pattern."""
    return {
        str(path.relative_to(PACKAGE))
        for path in Path(PACKAGE).rglob("*.py")
        if re.search(words, path.read_text(encoding="utf-8"))
    }


# Modules that write run.json, compare its digest, read an ID or a key from it, or show it as unverified.
RUN_JSON_READERS = {
    "catalog/run_tables.py",
    "catalog/signed_sizes.py",
    "odr/evidence_pack.py",
    "odr/pinned_log.py",
    "odr/run_references.py",
    "odr/side_differences.py",
    "record/attempt.py",
    "record/checkpoints.py",
    "record/evidence_archive.py",
    "record/requests.py",
    "record/run_folder.py",
    "record/run_identity.py",
    "record/run_labels.py",
    "record/verify/run.py",
    "record/verify/sequence.py",
}
# Modules that write a policy, or compare its bytes with its digest themselves.
POLICY_READERS = {"person_calls.py", "record/attempt.py", "record/verify/files.py", "replay/runner.py"}


@pytest.mark.parametrize(
    ("words", "allowed"), [(r"\.run_json\b", RUN_JSON_READERS), (r"\bfolder\.policy\(", POLICY_READERS)]
)
def test_run_json_and_policies_are_read_as_they_were_signed(words, allowed):
    """Other modules use `read_signed_run_json` and `RunFolder.read_policy`, which compare the digests."""
    assert modules_with(words) == allowed
