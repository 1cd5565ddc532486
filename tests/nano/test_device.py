"""Device: memory, peak performance and attention kernels."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend

from ockham.errors import BadInputError, OckhamWarning
from ockham.nano import Settings, device
from ockham.nano.device import PEAK_FLOPS, attention_kernels, peak_flops

FAULTS = """
import resource, torch
from ockham.nano import GPT
from ockham.nano.device import keep_freed_memory
torch.set_num_threads(1)
model = GPT(vocab_size=256, block_size=64, n_layer=4, n_head=4, n_embd=128)
tokens = torch.randint(256, (12, 64))
def faults():
    before = 0
    for i in range(8):
        if i == 3:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        model.loss(tokens, tokens).backward()
        model.zero_grad()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
keep_freed_memory()
# The heap grows for some more steps.
print(first, min(faults() for _ in range(4)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_is_reused_without_page_faults():
    """Memory freed by a step is reused by the next one."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=60, check=True
    )
    before, after = map(int, done.stdout.split())
    # Measured: 1,100 to 6,900 before, none after. With large pages, both can be 0.
    assert after <= before / 2


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA H200 NVL", 835.5e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Tesla P4", None),
        ("cpu", None),
    ],
)
def test_peak_flops_match_the_device_name(name, flops):
    """An unknown device has no peak, so that no utilisation is shown."""
    assert peak_flops(name) == flops


def test_peak_flops_table_has_longer_names_first():
    """The first match is used, so no entry may follow a name that it contains."""
    names = [name for name, _ in PEAK_FLOPS]
    assert [n for i, n in enumerate(names) if any(short in n for short in names[:i])] == []


@pytest.mark.parametrize(
    ("attention", "hopper", "first"),
    [
        ("auto", True, "CUDNN_ATTENTION"),
        ("cudnn", False, "CUDNN_ATTENTION"),
        ("flash", True, "FLASH_ATTENTION"),
    ],
)
def test_attention_kernels_change_the_order_and_disable_none(attention, hopper, first):
    """Every kernel stays enabled, and the default order is restored."""
    default_order = torch._C._get_sdp_priority_order()
    with attention_kernels(attention, hopper=hopper):
        order = torch._C._get_sdp_priority_order()
        assert order[0] == int(getattr(SDPBackend, first))
        assert torch.backends.cuda.math_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch._C._get_sdp_priority_order() == default_order


def test_attention_order_is_unchanged_before_hopper():
    """`auto` does not change the order if cuDNN's attention is not known to be faster."""
    default_order = torch._C._get_sdp_priority_order()
    with attention_kernels("auto", hopper=False):
        assert torch._C._get_sdp_priority_order() == default_order


def test_named_gpu_is_selected_because_events_use_the_present_one(monkeypatch):
    """An event of another GPU's stream would not wait for the copy of the gauges."""
    selected = []
    monkeypatch.setattr(device, "choose_device", lambda name: name)
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    for name in ("cuda:1", "cuda"):
        assert device.set_up_device(Settings(device=name, threads=1))[0] == name
    assert selected == ["cuda:1"]


@pytest.mark.parametrize(
    ("dtype", "is_supported", "expected"),
    [("auto", True, True), ("auto", False, False), ("bfloat16", False, True), ("float32", True, False)],
)
def test_bfloat16_is_the_default_where_the_gpu_computes_in_it(monkeypatch, dtype, is_supported, expected):
    """GPUs before Ampere emulate it."""
    entered = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: is_supported)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    autocast = torch.autocast("cpu", enabled=False)
    monkeypatch.setattr(torch, "autocast", lambda *arguments: entered.append(arguments) or autocast)
    with device.compute_context(Settings(dtype=dtype), "cuda:0"):
        pass
    assert entered == [("cuda", torch.bfloat16)] * expected


@pytest.mark.parametrize(
    ("compile_setting", "name", "has_triton", "expected"),
    [
        ("auto", "cuda", True, True),
        ("auto", "cpu", True, False),
        ("yes", "cuda", False, True),
        ("yes", "cpu", True, True),
        ("no", "cuda", True, False),
    ],
)
def test_model_is_compiled_as_set_and_by_default_on_cuda(
    monkeypatch, compile_setting, name, has_triton, expected
):
    """`yes` compiles without Triton too, and torch reports what is missing."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if has_triton else None)
    assert device.should_compile(Settings(compile=compile_setting), name) is expected


def test_missing_triton_is_a_warning_and_not_an_error(monkeypatch):
    """Training continues without compilation."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.warns(OckhamWarning, match="Triton is not installed, so the model is not compiled"):
        assert not device.should_compile(Settings(), "cuda:0")


def test_full_memory_of_the_gpu_is_explained():
    """The error names the setting that lowers it, and keeps torch's own."""
    message = r"batch_size=60: the GPU has too little free memory; use a smaller --set batch_size=N"
    with pytest.raises(BadInputError, match=message) as caught:
        with device.explained_memory_error(Settings(batch_size=60)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.22 GiB")
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
