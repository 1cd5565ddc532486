import pytest

from ockham.odr.record_data import Constraint
from ockham.odr.verdict import (
    OqDelta,
    PairStatistics,
    decide_verdict,
    evaluate_constraint,
    evaluate_gain,
    rounds_to,
)

C1 = Constraint(0, "C1", "t", "", "<", 1.0)


@pytest.mark.parametrize(
    ("op", "value", "passes"),
    [
        ("<", 1.0, False),
        ("<=", 1.0, True),
        (">", 1.0, False),
        (">=", 1.0, True),
        ("==", 1.0, True),
        ("==", 1.01, False),
        ("<", -1e308, True),
    ],
)
def test_operators_compare_as_written(op, value, passes):
    """Only <=, >= and == hold at the threshold."""
    assert (evaluate_constraint(C1._replace(op=op), [{"value": value, "n": 1}]).state == "pass") is passes


@pytest.mark.parametrize(
    ("written", "value", "agree"),
    [
        ("+0.4", 0.35, True),
        ("+0.4", 0.4499, True),
        ("+0.4", 0.46, False),
        ("+0.400", 0.41, False),
        ("0.4", -0.4, False),
        ("1e-3", 0.0014, True),
        ("7", 7.4, True),
        ("7", 7.6, False),
        ("7", float("nan"), False),
        ("x", 1.0, False),
        ("1e999999999", 1.0, False),
        ("-0.02", -0.0161, True),
        ("+", 1.0, False),
        ("", 1.0, False),
    ],
)
def test_claims_are_compared_at_their_written_digits(written, value, agree):
    """+0.4 means 0.35 to 0.45."""
    assert rounds_to(written, value) is agree


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], "ODR507"),
        ([{"value": 1, "n": 1}] * 2, "ODR506"),
        ([{"value": 1}], "ODR506"),
        ([{"n": 1}], "ODR506"),
        ([{"value": 1, "n": True}], "ODR506"),
        ([{"value": 1, "n": "9"}], "ODR506"),
        ([{"value": 1, "n": 1.5}], "ODR506"),
        ([{"value": 1, "n": -1}], "ODR506"),
        ([{"value": 1, "n": float("inf")}], "ODR506"),
        ([{"value": 1, "n": None}], "ODR506"),
        ([{"value": 1, "n": 0}], "ODR507"),
        ([{"value": None, "n": 1}], "ODR507"),
        ([{"value": True, "n": 1}], "ODR506"),
        ([{"value": "1", "n": 1}], "ODR506"),
        ([{"value": float("nan"), "n": 1}], "ODR507"),
    ],
)
def test_non_numeric_result_is_unknown(rows, code):
    """It is never a pass."""
    result = evaluate_constraint(C1, rows)
    assert (result.state, result.code) == ("unknown", code)
    assert result.reason


@pytest.mark.parametrize("claim", [{"op": "~"}, {"threshold": float("nan")}, {"threshold": float("inf")}])
def test_invalid_claim_is_not_evaluated(claim):
    """Lint reports it."""
    result = evaluate_constraint(C1._replace(**claim), [{"value": 0.5, "n": 3}])
    assert (result.state, result.code, result.value, result.n) == ("unknown", "ODR502", 0.5, 3)


def test_column_names_are_case_insensitive():
    """SQL folds them."""
    assert evaluate_constraint(C1, [{"VALUE": 0.5, "N": 3}]).state == "pass"


def test_verdict_follows_from_the_results():
    """Unknown: INCONCLUSIVE; failure: REVERT; warnings have no effect."""
    yes, no = (
        evaluate_constraint(C1, [{"value": 0.5, "n": 1}]),
        evaluate_constraint(C1, [{"value": 2, "n": 1}]),
    )
    unknown = evaluate_constraint(C1, [])
    warn = no._replace(constraint=C1._replace(severity="warn"))
    assert decide_verdict([yes, warn], None) == "KEEP"
    assert decide_verdict([yes, no], None) == "REVERT"
    assert decide_verdict([yes, no, unknown], None) == "INCONCLUSIVE"
    assert decide_verdict([yes], "pass") == "KEEP"
    assert decide_verdict([yes], "fail") == "REVERT"
    assert decide_verdict([yes], "unknown") == "INCONCLUSIVE"
    assert decide_verdict([warn._replace(state="pass")], None) == "INCONCLUSIVE"
    assert decide_verdict([], None) is None


@pytest.mark.parametrize(
    ("value", "interval", "state"),
    [
        (0.1, None, "pass"),
        (0.0, None, "fail"),
        (-0.1, None, "fail"),
        (0.1, (0.05, 0.15), "pass"),
        (0.1, (-0.05, 0.25), "unknown"),
        (0.1, (0.0, 0.2), "unknown"),
        (-0.1, (-0.2, 0.0), "fail"),
    ],
)
def test_oq_delta_is_a_gain_if_all_of_it_is_above_0(value, interval, state):
    """Of several pairs, the interval counts. Without a value it is unknown."""
    statistics = PairStatistics(3, value, *interval, 0.5) if interval else None
    assert evaluate_gain(OqDelta(value, "iteration", (), statistics)) == state
    assert evaluate_gain(None) == "unknown"
