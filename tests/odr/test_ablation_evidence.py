"""Ablations as evidence: two arms, paired by seed."""

from __future__ import annotations

import pytest

from ockham.errors import BadInputError
from ockham.odr.ablation_evidence import select_arms
from ockham.odr.records_folder import read_folder
from ockham.study.ablate import parse_run_id
from tests.helpers.odr_cli import run_odr
from tests.odr.small_runs import make_run


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two arms with three seeds each, and runs that are not part of the study."""
    monkeypatch.chdir(tmp_path)
    for seed in (10, 2, 1):
        make_run(tmp_path / "runs", f"st.none.s{seed}", loss=2.0)
        make_run(tmp_path / "runs", f"st.only-gate.s{seed}", loss=1.9 - 0.01 * seed)
    for name in ("st.none", "st2.none.s1", "st.none.s3x", "other"):
        make_run(tmp_path / "runs", name)
    return tmp_path / "runs"


def test_arms_are_paired_by_seed_in_numeric_order(study):
    """Names of other runs do not match."""
    assert select_arms(study, "st", "none", "only-gate") == (
        ["st.none.s1", "st.none.s2", "st.none.s10"],
        ["st.only-gate.s1", "st.only-gate.s2", "st.only-gate.s10"],
    )
    assert parse_run_id("st.only-gate.s10", "st") == ("only-gate", 10)
    assert parse_run_id("sto.none.s1", "st.") is None


def test_record_of_an_ablation_cites_all_seeds_and_has_an_interval(study):
    """`odr new` and `odr evidence` write the same sides."""
    run_odr("new", "Gate", "--ablation", "st", "--candidate", "only-gate", "--owner", "a")
    claims = read_folder(study.parent / "odr")[0].claims
    assert [side.run for side in claims.baselines] == ["st.none.s1", "st.none.s2", "st.none.s10"]
    assert len(claims.pairs) == 3
    values = [(1.9 - 0.01 * seed) / 2.0 - 1 for seed in (1, 2, 10)]
    assert claims.constraints[0].measured == pytest.approx(sum(values) / 3, rel=1e-5)
    assert "over 3 pairs, 95 % interval" in run_odr("check").stdout
    run_odr("evidence", "1", "--ablation", "st", "--candidate", "only-gate")
    assert read_folder(study.parent / "odr")[0].claims.sides == claims.sides


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ablation", "st"), "no run of arm 'full' in runs; known: none, only-gate"),
        (("--ablation", "st", "--candidate", "only-gait"), "did you mean 'only-gate'"),
        (("--ablation", "st", "--candidate", "none,only-gate"), "--ablation compares two arms"),
        (("--ablation", "st", "--candidate", "none"), "'st.none.s1': name different runs"),
        (("--ablation", "none"), "no run of arm 'none'"),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(study, arguments, message):
    """Nothing is written."""
    with pytest.raises(BadInputError, match=message):
        run_odr("new", "Gate", "--owner", "a", *arguments)
    assert not (study.parent / "odr").exists()


def test_seed_without_a_partner_is_refused(study):
    """Leaving it out would choose among the seeds."""
    make_run(study, "st.only-gate.s7")
    with pytest.raises(BadInputError, match="seed 7 has no run of arm none"):
        select_arms(study, "st", "none", "only-gate")
