"""Plot the time of each question against the number of events, from `benchmarks.query_latency --json`.

python -m benchmarks.plot_query_times docs/images/questions.svg 100000=a.json 1000000=b.json
10000000=c.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 64, 150, 24, 48
COLORS = (
    "#1b6ca8",
    "#c8553d",
    "#588157",
    "#8d6a9f",
    "#d4a017",
    "#3d5a80",
    "#9b2226",
    "#2a9d8f",
    "#6c757d",
    "#b56576",
    "#000000",
)


def draw(sizes: dict[int, dict[str, Any]]) -> str:
    """Return an SVG of warm CPU milliseconds against events.

    With logarithmic axes, 45 degrees is linear growth.
    """
    names = [
        name
        for name in next(iter(sizes.values()))
        if all("ockham" in results.get(name, {}) for results in sizes.values())
    ]
    values = {
        n: [(size, results[n]["ockham"]["warm_cpu_ms"]) for size, results in sorted(sizes.items())]
        for n in names
    }
    low_x, high_x = math.log10(min(sizes)), math.log10(max(sizes))
    low_y, high_y = 0.0, math.ceil(math.log10(max(v for line in values.values() for _, v in line)))

    def place(size: float, ms: float) -> tuple[float, float]:
        x = LEFT + (math.log10(size) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - (max(math.log10(ms), 0) - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)
        return x, y

    parts = []
    for power in range(int(low_y), int(high_y) + 1):
        y = place(10**low_x, 10**power)[1]
        parts.append(
            f'<path d="M{LEFT} {y:.0f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{10**power:,} ms</text>'
        )
    for size in sizes:
        x = place(size, 1)[0]
        parts.append(
            f'<text x="{x:.0f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{size:,} events</text>'
        )
    ends = sorted(((place(*line[-1])[1], n) for n, line in values.items()))
    label_y = 0.0
    for number, (y, name) in enumerate(ends):
        label_y = max(y, label_y + 14) if number else y
        color = COLORS[number % len(COLORS)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in values[name]))
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="1.8"/>'
            f'<text x="{WIDTH - RIGHT + 8}" y="{label_y + 4:.0f}" fill="{color}">{name}</text>'
        )
    return _to_svg("\n".join(parts))


def _to_svg(content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">\n'
        f"<title>Warm CPU time of ten questions and of one decision by ID, by number of events</title>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n{content}\n</svg>\n'
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", type=Path, help="SVG to write.")
    parser.add_argument("results", nargs="+", metavar="EVENTS=FILE", help="Result for a number of events.")
    options = parser.parse_args()
    files = dict(result.split("=") for result in options.results)
    results = {int(size): json.loads(Path(path).read_text(encoding="utf-8")) for size, path in files.items()}
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    options.picture.write_text(draw(results), encoding="utf-8")
