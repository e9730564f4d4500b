"""Markdown tables for what a script has measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table whose columns line up as text, too; all columns but the first are numbers."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(head), *texts]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        parts = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return "| " + " | ".join(parts) + " |"

    first_width, *other_widths = widths
    rule = "| " + " | ".join(["-" * first_width, *("-" * (width - 1) + ":" for width in other_widths)]) + " |"
    return "\n".join([line(head), rule, *(line(row) for row in texts)])


def spread(values: Sequence[float], *, digits: int = 0) -> str:
    """Word some measurements: the median, and the least and the most of them."""
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
