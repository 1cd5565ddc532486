"""Line charts as SVG: one panel per title, lines of equal names in equal colors, a legend below."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

Points = Sequence[tuple[float, float]]
WIDTH, PANEL_HEIGHT, LEFT, RIGHT, TOP, GAP = 760, 300, 56, 16, 34, 26
LEGEND_HEIGHT = 26
COLORS = ("#6c757d", "#1b6ca8", "#2a9d8f", "#c8553d", "#d4a017", "#8d6a9f")
TICKS = 5


def draw_panels(panels: Mapping[str, Mapping[str, Points]], *, title: str, x_label: str, y_max: float) -> str:
    """Return an SVG. All panels have the same axes.

    Args:
        panels: Title of a panel -> name of a line -> points.
        title: Text for screen readers.
        x_label: Below each panel.
        y_max: Higher values are cut off.

    """
    points = [point for lines in panels.values() for line in lines.values() for point in line]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(y for _, y in points), min(y_max, max(y for _, y in points))
    width = (WIDTH - LEFT - RIGHT - GAP * (len(panels) - 1)) / len(panels)
    bottom = PANEL_HEIGHT - 44
    parts = []
    for number, (name, lines) in enumerate(panels.items()):
        left = LEFT + number * (width + GAP)

        def place(x: float, y: float, left: float = left) -> tuple[float, float]:
            right = left + (x - low_x) / (high_x - low_x) * width
            return right, bottom - (min(y, high_y) - low_y) / (high_y - low_y) * (bottom - TOP)

        parts.append(
            f'<text x="{left + width / 2:.0f}" y="20" text-anchor="middle">{html.escape(name)}</text>'
        )
        for step in range(TICKS):
            value = low_y + (high_y - low_y) * step / (TICKS - 1)
            y = place(low_x, value)[1]
            parts.append(f'<path d="M{left:.0f} {y:.0f}h{width:.0f}" stroke="#ddd"/>')
            if number == 0:
                parts.append(f'<text x="{left - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">{value:.2f}</text>')
        for x in (low_x, (low_x + high_x) / 2, high_x):
            at = place(x, low_y)[0]
            parts.append(f'<text x="{at:.0f}" y="{bottom + 16}" text-anchor="middle">{x:.0f}</text>')
        middle = f'x="{left + width / 2:.0f}" y="{bottom + 32}"'
        parts.append(f'<text {middle} text-anchor="middle">{html.escape(x_label)}</text>')
        for color, line in zip(COLORS, lines.values(), strict=False):
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in line))
            parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="1.6"/>')
    parts += _legend([*next(iter(panels.values()))])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {PANEL_HEIGHT + LEGEND_HEIGHT}"'
        ' font-family="sans-serif" font-size="12">\n'
        f"<title>{html.escape(title)}</title>\n"
        '<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    x, y = float(LEFT), PANEL_HEIGHT + 8
    for color, name in zip(COLORS, names, strict=False):
        parts.append(f'<path d="M{x:.0f} {y - 4}h18" stroke="{color}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 22:.0f}" y="{y}">{html.escape(name)}</text>')
        x += 40 + 6.6 * len(name)
    return parts
