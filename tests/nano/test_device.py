"""Device: what is prepared, and what a device can do at best."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend

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
print(first, min(faults() for _ in range(4)))  # the heap grows for some steps more
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_is_kept():
    """What a step frees the next one gets without a page fault."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=60, check=True
    )
    first, kept = map(int, done.stdout.split())
    assert kept < first / 2  # 1,100 to 6,900 before, none after


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
def test_the_peak_is_of_this_device(name, flops):
    """By the driver's name; an unknown device has none, so that no share of another one's is shown."""
    assert peak_flops(name) == flops


def test_no_name_hides_behind_a_shorter_one():
    """The first match counts: no entry stands behind a name that is a part of it."""
    names = [name for name, _ in PEAK_FLOPS]
    assert [n for i, n in enumerate(names) if any(short in n for short in names[:i])] == []


@pytest.mark.parametrize(
    ("asked", "hopper", "first"),
    [
        ("auto", True, "CUDNN_ATTENTION"),
        ("cudnn", False, "CUDNN_ATTENTION"),
        ("flash", True, "FLASH_ATTENTION"),
    ],
)
def test_attention_prefers_a_kernel_and_loses_none(asked, hopper, first):
    """The order that torch is asked to keep; every kernel stays allowed, and the old order comes back."""
    usual = torch._C._get_sdp_priority_order()
    with attention_kernels(asked, hopper=hopper):
        order = torch._C._get_sdp_priority_order()
        assert order[0] == int(getattr(SDPBackend, first))
        assert torch.backends.cuda.math_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch._C._get_sdp_priority_order() == usual


def test_before_hopper_torch_chooses():
    """`auto` leaves the order alone where cuDNN's attention is not known to be faster."""
    usual = torch._C._get_sdp_priority_order()
    with attention_kernels("auto", hopper=False):
        assert torch._C._get_sdp_priority_order() == usual
