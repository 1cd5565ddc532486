"""Step meter, compared with the weights, the optimizer's groups and the gradients themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ockham.errors import BadInputError
from ockham.nano import step_meter
from ockham.nano.step_meter import StepMeter, WeightSample, _differ, weights_checksum

OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=1e-3),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=1e-2, momentum=0.9),
    "fused": lambda groups: torch.optim.AdamW(groups, lr=1e-3, fused=True),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=1e-3),
}


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(8, 4), *[nn.Linear(4, 4) for _ in range(6)])


def backward(model):
    model(torch.arange(8)).square().sum().backward()


def whole(model):
    return torch.cat([parameter.detach().reshape(-1).clone() for parameter in model.parameters()])


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("action", ["step", "step without gradient", "nothing", "edit of the weights"])
def test_measurement_equals_the_weights_and_groups(kind, action):
    """The truth is the full vector of weights before and after."""
    model = make_model()
    optimizer = OPTIMIZERS[kind](
        [{"params": model[0].parameters()}, {"params": model[1:].parameters(), "lr": 5e-3}]
    )
    with StepMeter(optimizer, measure_norm=True) as meter:
        meter.start()
        before = whole(model)
        if action == "step":
            backward(model)
            norm = torch.linalg.vector_norm(torch.cat([p.grad.reshape(-1) for p in model.parameters()]))
        if action.startswith("step"):
            optimizer.step()
        if action.startswith("edit"):
            with torch.no_grad():
                model[-1].bias.add_(1.0)
        applied = meter.read("OTHER")
    assert applied.weights_changed == (not torch.equal(before, whole(model)))
    assert applied.stepped == (action == "step")
    assert applied.cause == ("" if action == "step" else "OTHER")
    if action == "step":
        assert applied.learning_rates == tuple(group["lr"] for group in optimizer.param_groups)
        assert applied.clipped_grad_norm == pytest.approx(float(norm), rel=1e-6)
    else:
        assert applied.learning_rates == ()


def test_step_in_a_closure_is_measured_after_its_gradients():
    """Lightning computes loss and gradients in the closure of the step."""
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    meter = StepMeter(optimizer)

    def closure():
        meter.start()
        backward(model)

    optimizer.step(closure)
    assert meter.read().stepped
    assert meter.read().weights_changed


def test_sample_taken_once_notes_a_change_with_the_later_batch():
    """Under observe each batch reads the weights once, so a change between two batches is not lost."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    changed = {}
    for samples_once in (False, True):
        meter = StepMeter(optimizer, samples_once=samples_once)
        changed[samples_once] = []
        for is_changed_before in (False, True, False):
            if is_changed_before:
                with torch.no_grad():
                    next(model.parameters()).add_(1.0)
            meter.start()
            changed[samples_once].append(meter.read().weights_changed)
        meter.close()
    assert changed == {False: [False, False, False], True: [False, True, False]}


def test_sample_follows_replaced_weights_and_compares_bytes():
    """NaN equals itself, and a weight with another storage is read there."""
    weight = torch.nn.Parameter(torch.full((3, 3), math.nan))
    sample = WeightSample([weight])
    before = sample.snapshot()
    assert before == sample.snapshot() == weight.detach().numpy().tobytes()
    weight.data = torch.ones(3, 3)
    assert sample.snapshot() == weight.detach().numpy().tobytes() != before
    assert sample.copy().numpy().tobytes() == sample.snapshot()
    assert WeightSample([]).snapshot() is None


def test_samples_on_two_devices_are_not_compared():
    """The model was moved in a batch, so nothing is known about it."""
    tensor = torch.ones(3, dtype=torch.uint8)
    assert _differ(b"123", tensor) is None
    assert _differ(tensor, tensor.clone()) is False
    assert _differ(tensor, tensor + 1) is True
    assert _differ(b"123", b"124") is True


def test_rates_and_norm_cover_all_optimizers_and_gradients():
    """The last optimizer of a step reports the rates of all. The norm is that of its own gradients."""
    model = make_model()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    second = torch.optim.SGD(
        [{"params": model[1:4].parameters(), "lr": 0.2}, {"params": model[4:].parameters()}]
    )
    with StepMeter(first, second, measure_norm=True) as meter:
        meter.start()
        backward(model)
        gradients = [p.grad.reshape(-1) for p in model[1:].parameters()]
        norm = torch.linalg.vector_norm(torch.cat(gradients))
        first.step()
        second.step()
        applied = meter.read()
    assert applied.learning_rates == (0.1, 0.2, 1e-3)
    assert applied.clipped_grad_norm == pytest.approx(float(norm), rel=1e-6)


def test_checksum_for_all_ranks_leaves_out_sharded_weights(monkeypatch):
    """Each rank holds another part of them. Without other weights nothing is compared."""
    model = make_model()
    parameters = list(model.parameters())
    sharded = parameters[:2]
    monkeypatch.setattr(step_meter, "is_sharded", lambda p: any(p is each for each in sharded))
    with StepMeter(torch.optim.SGD(parameters, lr=1.0)) as meter:
        assert meter.checksum() == weights_checksum(parameters)
        assert meter.checksum(replicated=True) == weights_checksum(parameters[2:])
        sharded += parameters
        assert meter.checksum(replicated=True) is None


def test_closed_meter_leaves_no_hook():
    """Closing it twice has no effect."""
    optimizer = torch.optim.SGD(make_model().parameters(), lr=1.0)
    meter = StepMeter(optimizer)
    meter.close()
    meter.close()
    assert not optimizer._optimizer_step_post_hooks


def test_other_object_than_an_optimizer_is_refused():
    """Its steps could not be measured."""
    with pytest.raises(BadInputError, match=r"is not a torch\.optim\.Optimizer"):
        StepMeter("adam")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8])
def test_checksum_depends_on_every_value(dtype):
    """A change of one value, and an exchange of two tensors, change it."""
    tensors = [torch.arange(6).to(dtype), torch.arange(6, 12).to(dtype)]
    first = weights_checksum(tensors)
    assert first == weights_checksum([tensor.clone() for tensor in tensors])
    assert first != weights_checksum(tensors[::-1])
    for tensor in tensors:
        for i in range(len(tensor)):
            kept = tensor[i].clone()
            tensor[i] += 1
            assert weights_checksum(tensors) != first
            tensor[i] = kept
