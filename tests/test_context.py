"""The context: read-only facts, knobs, measured gauges, and errors that list what is accepted."""

from __future__ import annotations

import copy
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.context import FACTS, FIELDS, FIELDS_BY_NAME, GAUGES, KNOBS, OccamContext
from ockham.errors import BadInputError, ContextError


def test_context_fields_start_at_their_defaults():
    """The table defines them."""
    ctx = OccamContext(3, 1.5)
    assert (ctx.iter_num, ctx.task_loss) == (3, 1.5)
    rest = [field for field in FIELDS if field.name not in ("iter_num", "task_loss")]
    assert all(getattr(ctx, field.name) == field.default for field in rest)
    assert sorted((*FACTS, *KNOBS, *GAUGES)) == sorted(FIELDS_BY_NAME)


def test_context_annotations_match_the_table():
    """Type checkers see the fields."""
    hints = {"float": "float", "int": "int", "bool": "bool", "str": "str", "floats": "tuple[float, ...]"}
    metadata = {name: kind for name, kind in OccamContext.__annotations__.items() if name in FIELDS_BY_NAME}
    assert metadata == {f.name: hints[f.kind] + (" | None" if f.nullable else "") for f in FIELDS}


@pytest.mark.parametrize("name", [*FACTS, *GAUGES])
def test_facts_and_gauges_cannot_be_set(name):
    """The error lists the knobs."""
    ctx = OccamContext(7, 1.5)
    with pytest.raises(
        ContextError, match=f"{name} is a .* of iteration 7, which only the trainer"
    ) as caught:
        setattr(ctx, name, getattr(ctx, name))
    assert "learning_rate" in str(caught.value)
    with pytest.raises(ContextError, match="cannot be deleted"):
        delattr(ctx, name)


@pytest.mark.parametrize("name", KNOBS)
def test_knob_accepts_its_own_type_only(name):
    """Text is never accepted for a number."""
    ctx = OccamContext(0, 1.5)
    value = {"float": 0.25, "bool": True, "floats": (0.5, 1.5)}[FIELDS_BY_NAME[name].kind]
    setattr(ctx, name, value)
    assert getattr(ctx, name) == value
    for wrong in ("0.5", ["a"], None, object()):
        with pytest.raises(ContextError, match=f"{name} takes {FIELDS_BY_NAME[name].kind}, got"):
            setattr(ctx, name, wrong)
    assert getattr(ctx, name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", math.nan), ("example_gain", (1.0, math.nan)), ("lambda_ockham", -math.nan)],
)
def test_knob_cannot_be_nan(name, value):
    """Infinity is a valid number."""
    ctx = OccamContext(0, 1.5)
    with pytest.raises(ContextError, match=f"{name} was set to NaN"):
        setattr(ctx, name, value)
    with pytest.raises(ContextError, match=f"{name} was set to NaN"):
        OccamContext(0, 1.5, **{name: value})
    ctx.grad_clip = math.inf
    assert OccamContext(0, math.nan).task_loss != 1, "a loss that is NaN is a fact"


def test_int_becomes_float_and_bool_does_not():
    """1 is 1.0, True is not a number."""
    ctx = OccamContext(0, 2)
    ctx.learning_rate = 1
    assert type(ctx.task_loss) is type(ctx.learning_rate) is float
    for name, wrong in (("learning_rate", True), ("updated", 1), ("learning_rate", 10**400)):
        with pytest.raises(ContextError, match=name):
            setattr(ctx, name, wrong)


def test_tensor_is_refused_with_a_hint():
    """The trainer reads the loss once."""

    class Tensor:
        def item(self):
            return 1.5

    with pytest.raises(ContextError, match=r"task_loss takes float, got Tensor .*read a tensor once"):
        OccamContext(0, Tensor())


@pytest.mark.parametrize(
    ("wrong", "right"), [("learning_rat", "learning_rate"), ("lamda_ockham", "lambda_ockham")]
)
def test_unknown_field_is_an_error_with_a_suggestion(wrong, right):
    """No attribute is created."""
    with pytest.raises(ContextError, match=f"no field '{wrong}'; did you mean '{right}'"):
        OccamContext(0, 1.5, **{wrong: 1.0})
    with pytest.raises(ContextError, match=f"no field '{wrong}'; did you mean '{right}'.*ctx.custom"):
        setattr(OccamContext(0, 1.5), wrong, 1.0)
    with pytest.raises(ContextError, match="takes gauges, and 'learning_rate' is not a gauge"):
        OccamContext(0, 1.5).set_gauges(learning_rate=1.0)


def test_set_gauges_checks_names_and_types():
    """The trainer uses it."""
    ctx = OccamContext(0, 1.5)
    ctx.set_gauges(grad_norm=math.nan, updates=3, val_loss=None)
    assert math.isnan(ctx.grad_norm)
    assert (ctx.updates, ctx.val_loss) == (3, None)
    with pytest.raises(ContextError, match=r"updates takes int, got float 3\.5"):
        ctx.set_gauges(updates=3.5)
    with pytest.raises(ContextError, match="grad_norm takes float, got NoneType"):
        ctx.set_gauges(grad_norm=None)


def test_next_context_carries_facts_and_gauges_only():
    """Knobs start again at the schedule."""
    ctx = OccamContext(
        4, 1.5, micro_step=1, max_iters=100, vocab_size=256, example_losses=(1.0, 2.0), learning_rate=0.1
    )
    ctx.learning_rate *= 0.5
    ctx.updated = False
    ctx.custom["accuracy"] = 0.5
    ctx.set_gauges(complexity_cost=0.2, val_loss=1.25, kl_to_anchor=0.1)
    after = ctx.next_context(5, 1.25, learning_rate=0.2, vocab_size=512)
    assert (after.iter_num, after.task_loss, after.micro_step) == (5, 1.25, 0)
    assert (after.max_iters, after.vocab_size, after.complexity_cost, after.val_loss) == (100, 512, 0.2, 1.25)
    assert (after.example_losses, after.kl_to_anchor) == ((), None)
    assert (after.learning_rate, after.updated) == (0.2, True)
    assert after.custom == {"accuracy": 0.5}
    after.custom["accuracy"] = 1.0
    assert ctx.custom == {"accuracy": 0.5}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copy_has_its_own_knobs(copied):
    """Legacy plugins return a copy."""
    ctx = OccamContext(2, math.nan, max_iters=9, custom={"a": 1.0})
    twin = copied(ctx)
    twin.learning_rate, twin.custom["a"] = 5.0, 2.0
    twin.decide("SKIP", "BECAUSE")
    assert (ctx.learning_rate, ctx.custom, ctx.notes) == (1e-3, {"a": 1.0}, [])
    assert (twin.iter_num, twin.max_iters) == (2, 9)
    assert twin.task_loss is ctx.task_loss


def test_custom_accepts_numbers_with_plain_names():
    """Other values are refused at once."""
    ctx = OccamContext(0, 1.5)
    ctx.custom.update({"a.b": 1, "c": math.nan})
    ctx.check_custom()
    assert type(ctx.custom["a.b"]) is float
    for name, value, metadata in (
        ("x", "text", "takes a float, got str"),
        ("x", True, "takes a float, got bool"),
        ("x", None, "takes a float, got NoneType"),
        ("no spaces", 1.0, "not a valid metric name"),
        ("", 1.0, "not a valid metric name"),
        (3, 1.0, "not a valid metric name"),
    ):
        ctx = OccamContext(0, 1.5, custom={name: value})
        with pytest.raises(ContextError, match=metadata):
            ctx.check_custom()


def test_decide_requires_stable_codes_and_numbers():
    """Numbers are not part of a reason."""
    ctx = OccamContext(0, 1.5)
    assert ctx.decide("SKIP", "BELOW_THRESHOLD", 1, 2, fields=["updated"], numbers={"q": 1}) is ctx
    note = ctx.notes[0]
    assert (note.action, note.reason_code, note.observed, note.threshold) == (
        "SKIP",
        "BELOW_THRESHOLD",
        1.0,
        2.0,
    )
    assert (note.fields, note.numbers, type(note.observed)) == (("updated",), {"q": 1.0}, float)
    for action, reason in (("skip", "OK"), ("SKIP", "drift 0.31"), ("S", "OK"), ("SKIP", "A" * 65)):
        with pytest.raises(ContextError, match="not a stable code"):
            ctx.decide(action, reason)
    with pytest.raises(ContextError, match="not a valid name of a number"):
        ctx.decide("SKIP", "OK", numbers={"two words": 1.0})
    for wrong in ("many", object(), 10**400):
        with pytest.raises(ContextError, match="observed of a decision takes a number"):
            ctx.decide("SKIP", "OK", wrong)


@given(st.sampled_from(FIELDS), st.floats() | st.integers() | st.booleans() | st.text() | st.none())
def test_field_has_its_type_or_raises(field, value):
    """This holds for generated values."""
    kinds = {"float": float, "int": int, "bool": bool, "str": str, "floats": tuple}
    try:
        fields = {"iter_num": 0, "task_loss": 1.0} | {field.name: value}
        held = getattr(OccamContext(**fields), field.name)
    except ContextError:
        return
    assert type(held) is kinds[field.kind] or (held is None and field.nullable)


def test_quotient_of_a_context_uses_both_costs_or_none():
    """Both are measured, or both are estimated."""
    given_both = OccamContext(0, 1.2, inference_flops=2.6e12, memory_footprint_mb=26_000.0, model_params=7)
    assert given_both.compute_occam_quotient(1 / 1.2) == pytest.approx(1.2327e-17, rel=1e-4)
    one_missing = OccamContext(0, 1.2, inference_flops=2.6e12, model_params=1_000_000)
    assert one_missing.cost() == (2e6, 4.0), "a measure and an estimate are never mixed"
    with pytest.raises(BadInputError, match="needs inference_flops > 0"):
        OccamContext(0, 1.2).compute_occam_quotient(1.0)


def test_to_dict_and_repr_show_the_fields():
    """repr shows values that differ from the default."""
    ctx = OccamContext(3, 1.5, vocab_size=256, custom={"a": 1.0})
    metadata = ctx.to_dict()
    assert set(metadata) == {*FIELDS_BY_NAME, "custom"}
    assert (metadata["vocab_size"], metadata["custom"]) == (256, {"a": 1.0})
    assert json.loads(json.dumps(metadata))["task_loss"] == 1.5
    assert repr(ctx) == "OccamContext(iter_num=3, task_loss=1.5, vocab_size=256)"


def test_two_facts_are_required():
    """Every field has a description."""
    with pytest.raises(TypeError, match="task_loss"):
        OccamContext(0)
    assert all(field.doc.endswith(".") and field.unit is not None for field in FIELDS)


def test_only_gauges_of_this_batch_are_measured():
    """A carried gauge keeps its value, and a plugin can tell it from a measured one."""
    ctx = OccamContext(0, 2.0)
    assert not ctx.is_measured("grad_norm")
    ctx.set_gauges(grad_norm=0.5)
    assert ctx.is_measured("grad_norm")
    assert not ctx.is_measured("kl_to_anchor")
    carried = ctx.next_context(1, 2.0)
    assert carried.grad_norm == 0.5
    assert not carried.is_measured("grad_norm")
    with pytest.raises(ContextError, match="'task_loss' is not a gauge"):
        ctx.is_measured("task_loss")


@pytest.mark.parametrize(
    ("micro_step", "micro_steps", "ends"), [(0, 1, True), (0, 2, False), (1, 2, True), (2, 4, False)]
)
def test_last_micro_batch_ends_the_step(micro_step, micro_steps, ends):
    """Without accumulation every batch does."""
    assert OccamContext(0, 2.0, micro_step=micro_step, micro_steps=micro_steps).ends_step is ends
