"""Time of one training step of size nano by kind of operator, as an SVG, measured with torch's profiler.

.venv/bin/python -m benchmarks.step_profile docs/images/step.svg
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from ockham import Run
from ockham.nano import Trainer, build_settings, load_corpus

# Kind -> patterns. The first kind with a pattern in the name of the operator is used.
KINDS = (
    ("matrix products", ("aten::mm", "aten::addmm", "aten::bmm")),
    ("attention", ("scaled_dot_product",)),
    ("GELU", ("gelu",)),
    ("AdamW", ("adamw", "AdamW")),
    ("LayerNorm", ("layer_norm",)),
    ("clip, drift, pull", ("foreach", "vector_norm")),
    ("loss and embedding", ("embedding", "softmax", "nll", "cross_entropy")),
    ("residuals, copies, views", ("aten::",)),
)
REST = "Python, autograd, chain and log"
TITLE = "Time of one step of size nano on a CPU, by kind of operator"
COLORS = (
    "#1b6ca8",
    "#c8553d",
    "#d4a017",
    "#588157",
    "#8d6a9f",
    "#3d5a80",
    "#2a9d8f",
    "#b56576",
    "#6c757d",
)


def measure(steps: int) -> dict[str, float]:
    """Return the share of a step by kind, with chain, log and anchor."""
    settings = build_settings("nano", ["threads=1", "device=cpu", "max_iters=10000"])
    trainer = Trainer(settings, load_corpus(None))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OCKHAM_KEY_DIR"] = f"{folder}/keys"
        overrides = ["gate.mode=fixed", "gate.surprise_threshold=0.0"]
        with Run("balanced", overrides=overrides, runs=folder, run_id="p", facts=trainer.facts()) as run:
            trainer.required_measurements, trainer.pull_mode = run.chain.required_measurements(), "decoupled"
            trainer.move_anchor(0)

            def step(i: int) -> None:
                ctx = run.start_batch(i, trainer.forward(i), **trainer.context_fields(i))
                trainer.backward(ctx)
                applied, gauges, _ = trainer.finish_batch(ctx)
                run.end_batch(ctx, applied=applied, **gauges)

            for i in range(5):
                step(i)
            with (
                profile(activities=[ProfilerActivity.CPU]) as profiler,
                torch.profiler.record_function("steps"),
            ):
                for i in range(5, 5 + steps):
                    step(i)
    spent = dict.fromkeys([name for name, _ in KINDS], 0.0)
    whole = 0.0
    for event in profiler.key_averages():
        if event.key == "steps":
            whole = event.cpu_time_total
            continue
        kind = next((name for name, parts in KINDS if any(part in event.key for part in parts)), None)
        if kind is not None:
            spent[kind] += event.self_cpu_time_total
    return {**{name: time / whole for name, time in spent.items()}, REST: 1 - sum(spent.values()) / whole}


def draw(shares: dict[str, float], title: str = TITLE) -> str:
    """Return an SVG with one bar per kind, the longest first."""
    width, left, row = 720, 220, 30
    bars = []
    for number, (name, share) in enumerate(sorted(shares.items(), key=lambda item: -item[1])):
        y, long = 20 + number * row, share * (width - left - 70)
        color = COLORS[list(shares).index(name) % len(COLORS)]
        bars.append(
            f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{name}</text>'
            f'<rect x="{left}" y="{y}" width="{max(long, 1):.1f}" height="22" fill="{color}"/>'
            f'<text x="{left + long + 8:.1f}" y="{y + 16}">{share:.1%}</text>'
        )
    inside, height = "\n".join(bars), 30 + len(shares) * row
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="13">\n'
        f"<title>{title}</title>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n{inside}\n</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=Path, help="SVG to write.")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    shares = measure(options.steps)
    options.picture.write_text(draw(shares), encoding="utf-8")
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"{share:6.1%}  {name}")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
