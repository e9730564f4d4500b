"""Bar charts as inline SVG: a bar for the median of each case, a dot for each round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _LABEL, _NUMBER, _ROW = 860, 270, 80, 22


def bars(title: str, values: Mapping[str, Sequence[float]]) -> str:
    """Draw the values of each case, which may have none."""
    highest = max((value for of_case in values.values() for value in of_case), default=0.0) or 1.0
    height = _ROW * len(values) + 4
    rows = [_row(index, name, of_case, highest) for index, (name, of_case) in enumerate(values.items())]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(rows)}</svg>'
    )


def number(value: float) -> str:
    """Word a figure with about three digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _row(index: int, name: str, values: Sequence[float], highest: float) -> str:
    top, middle = index * _ROW, index * _ROW + _ROW / 2 + 4
    label = f'<text x="{_LABEL - 8}" y="{middle}" class="label">{escape(name)}</text>'
    if not values:
        return label
    scale = (_WIDTH - _LABEL - _NUMBER) / highest
    median = statistics.median(values)
    kind = "bar ours" if name.startswith("soniqd") else "bar"
    bar = f'<rect x="{_LABEL}" y="{top + 4}" width="{median * scale:.1f}" height="{_ROW - 8}" class="{kind}"/>'
    dots = [f'<circle cx="{_LABEL + value * scale:.1f}" cy="{top + _ROW / 2}" r="2.5"/>' for value in values]
    end = _LABEL + max(values) * scale + 8
    return f'{label}{bar}{"".join(dots)}<text x="{end:.1f}" y="{middle}">{number(median)}</text>'
