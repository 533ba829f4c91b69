"""Draws series as SVG: one line each, axes with round numbers, and a legend that has the newest value in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from app.adapters.http.monitoring import Series
from app.entrypoints.console.dashboards import Panel
from app.entrypoints.console.markup import Markup, tag

_WIDTH, _HEIGHT = 560.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 12.0, 10.0, 24.0
_COLOURS = 8
_TICKS = 4
_MOST_SERIES = 12
_READ_AT_ONCE = 10_000


def _scaled(value: float, steps: Sequence[tuple[float, str]], digits: int = 3) -> str:
    for size, suffix in steps:
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{suffix}"
    return f"{value:.{digits}g}"


def _seconds(value: float) -> str:
    if value and abs(value) < 1:
        return f"{value * 1000:.3g} ms"
    return _scaled(value, ((86400, " d"), (3600, " h"), (60, " min"), (1, " s"))) if value else "0 s"


FORMATS: Mapping[str, Callable[[float], str]] = {
    "count": lambda value: (
        f"{value:.0f}" if abs(value) < _READ_AT_ONCE else _scaled(value, ((1e9, " G"), (1e6, " M"), (1e3, " k")))
    ),
    "per second": lambda value: f"{value:.3g}/s",
    "seconds": _seconds,
    "bytes": lambda value: _scaled(value, ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"))) if value else "0",
    "share": lambda value: f"{value * 100:.3g} %",
}
"""How values of a panel are written, by its unit."""


def _ceiling(value: float) -> float:
    """Return the least round number that is not below the value."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    magnitude: float = 10.0 ** math.floor(math.log10(value))
    return next(step * magnitude for step in (1, 2, 2.5, 4, 5, 8, 10) if step * magnitude >= value * 0.999)


def name_of(labels: Mapping[str, str], legend: str) -> str:
    """Fill a legend such as `{unit} on {host}`; without one, the labels' values."""
    if legend:
        for label, value in labels.items():
            legend = legend.replace(f"{{{label}}}", value)
        return legend
    return " ".join(value for label, value in sorted(labels.items()) if label != "__name__") or "all"


def chart(
    panel: Panel, found: Sequence[Series], start: float, end: float, marks: Sequence[tuple[float, str]] = ()
) -> Markup:
    """Return a figure: heading, drawing, legend; or a sentence where there are no figures.

    Args:
        panel: its title, and how values are written and series named.
        found: the series.
        start: the first moment that is drawn, in seconds since the epoch.
        end: the last one.
        marks: moments that are to be seen, each with its word.
    """
    title, legend, written = panel.title, panel.legend, FORMATS[panel.unit]
    named = sorted(
        (
            (name_of(series.labels, legend), [(at, value) for at, value in series.values if math.isfinite(value)])
            for series in found
        ),
        key=lambda one: -(one[1][-1][1] if one[1] else -1),
    )
    named = [(name, values) for name, values in named if values]
    shown, left_out = named[:_MOST_SERIES], len(named) - _MOST_SERIES
    if not shown:
        return tag("figure", tag("figcaption", title), tag("p", "No figures for this time.", class_="quiet"))
    top = _ceiling(max(value for _, values in shown for _, value in values))
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(at: float) -> float:
        return _LEFT + across * (at - start) / max(1.0, end - start)

    def y(value: float) -> float:
        return _TOP + down * (1 - max(0.0, value) / top)

    drawn: list[Markup] = []
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        drawn.append(
            tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{y(value):.1f}", y2=f"{y(value):.1f}", class_="grid")
        )
        drawn.append(tag("text", written(value), x=_LEFT - 6, y=f"{y(value) + 4:.1f}", text_anchor="end"))
    for tick in range(_TICKS + 1):
        at = start + (end - start) * tick / _TICKS
        anchor = "start" if tick == 0 else "end" if tick == _TICKS else "middle"
        clock = datetime.fromtimestamp(at, UTC).strftime("%H:%M")
        drawn.append(tag("text", clock, x=f"{x(at):.1f}", y=_HEIGHT - 6, text_anchor=anchor))
    for at, word in marks:
        drawn.append(
            tag("line", x1=f"{x(at):.1f}", x2=f"{x(at):.1f}", y1=_TOP, y2=f"{_HEIGHT - _BOTTOM:.1f}", class_="mark")
        )
        drawn.append(tag("text", word, x=f"{x(at) + 3:.1f}", y=_TOP + 10))
    step = _step([values for _, values in shown])
    for number, (name, values) in enumerate(shown):
        path = ""
        for place, (at, value) in enumerate(values):
            # A gap in the figures is a gap in the line.
            begins = place == 0 or at - values[place - 1][0] > step * 1.5
            path += f"{'M' if begins else 'L'}{x(at):.1f} {y(value):.1f}"
        drawn.append(tag("path", tag("title", name), d=path, class_=f"line c{number % _COLOURS}"))
        last_at, last = values[-1]
        drawn.append(
            tag("circle", cx=f"{x(last_at):.1f}", cy=f"{y(last):.1f}", r=2.5, class_=f"dot c{number % _COLOURS}")
        )
    told = f"{title}: " + "; ".join(f"{name} {written(values[-1][1])}" for name, values in shown)
    picture = tag("svg", drawn, viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}", role="img", aria_label=told)
    entries = [
        tag(
            "li",
            tag("span", class_=f"key c{number % _COLOURS}", aria_hidden="true"),
            name,
            " ",
            tag("b", written(values[-1][1])),
        )
        for number, (name, values) in enumerate(shown)
    ]
    if left_out > 0:
        entries.append(tag("li", f"and {left_out} more"))
    return tag("figure", tag("figcaption", title), picture, tag("ul", entries, class_="legend"))


def _step(lines: Sequence[Sequence[tuple[float, float]]]) -> float:
    pauses = [after[0] - before[0] for values in lines for before, after in itertools.pairwise(values)]
    return min(pauses, default=1.0)
