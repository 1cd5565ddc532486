"""Report of interleaved training processes, for `benchmarks.trainer_throughput`."""

from __future__ import annotations

import statistics

from benchmarks._lib.interleaved import BenchProcess, Block


def per_step(blocks: list[Block], what: str) -> float:
    """Return the median seconds per step over all blocks except the first."""
    return statistics.median(getattr(block, what) / block.steps for block in blocks[1:])


def report(processes: list[BenchProcess], tokens: int, flops: float, peak: float | None) -> None:
    """Print the table of all processes, the ratios between them, and the expected cost of the gate."""
    columns = (
        "arm",
        "ms per step",
        "CPU ms per step (range)",
        "tokens/s",
        "tokens per CPU second",
        "MFU",
        "peak MB",
    )
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for arm in processes:
        wall, cpu = per_step(arm.blocks, "wall"), per_step(arm.blocks, "cpu")
        each = [block.cpu / block.steps * 1e3 for block in arm.blocks[1:]]
        mfu = f"{flops / wall / peak:.1%}" if peak else "-"
        print(
            f"| {arm.name} | {wall * 1e3:.1f} | {cpu * 1e3:.2f} ({min(each):.1f} to {max(each):.1f}) "
            f"| {tokens / wall:,.0f} | {tokens / cpu:,.0f} | {mfu} | {arm.blocks[-1].more['peak_mb']:,.0f} |"
        )
    by_name = {arm.name: arm for arm in processes}
    reference = by_name.get("ockham")
    what = "wall" if peak else "cpu"
    for arm in processes:
        if reference is not None and arm is not reference:
            ratio, spread = paired_ratio(arm.blocks, reference.blocks, what)
            print(
                f"{what} time of {arm.name} / ockham, by block: {ratio:.3f} "
                f"(quartiles {spread[0]:.3f} to {spread[1]:.3f})"
            )
    chain, gate = by_name.get("ockham, chain on"), by_name.get("ockham, gate at 0.6")
    if chain is not None and gate is not None:
        first, last = gate.blocks[0].more, gate.blocks[-1].more
        u = (last["updated"] - first["updated"]) / (last["batches"] - first["batches"])
        b = last["b"]
        ratio, _ = paired_ratio(gate.blocks, chain.blocks, what)
        print(
            f"gate: update rate {u:.3f}, b {b:.2f}; time relative to rate 1: {ratio:.3f}; "
            f"(1 + bu)/(1 + b) is {(1 + b * u) / (1 + b):.3f}, 1/3 + 2u/3 is {1 / 3 + 2 * u / 3:.3f}"
        )


def paired_ratio(blocks: list[Block], others: list[Block], what: str) -> tuple[float, tuple[float, float]]:
    """Return median and quartiles of the ratio between blocks that ran in the same turn."""
    ratios = [
        getattr(a, what) / a.steps / (getattr(b, what) / b.steps)
        for a, b in zip(blocks[1:], others[1:], strict=True)
    ]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return statistics.median(ratios), (quartiles[0], quartiles[2])
