"""Curves as inline SVG: a few lines over the steps, with axes, a legend and a title.

Colours come from the page's style sheet, classes `line-0`, `line-1` and so on, so that
a plot follows light and dark.
"""

import math
from collections.abc import Mapping, Sequence

from imagen_jax.evaluation.report.markup import Markup, tag

WIDTH, HEIGHT = 480, 260  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 74, 24, 10, 38  # margins around the axes
NUM_COLOURS = 8  # in the style sheet
MIN_TICKS, MAX_TICKS = 3, 6  # of a logarithmic axis
MAX_POINTS = 400  # of a line; longer ones are thinned
LOG_RATIO = 10.0  # values that spread further get a logarithmic axis

Points = Sequence[tuple[float, float]]  # (step, value)


def plot(
    lines: Mapping[str, Points],
    label: str,
    x_label: str = "step",
    from_zero: bool = False,
) -> Markup:
    """Returns a plot as an SVG element.

    Args:
      lines: by their name, each at least one finite point.
      label: what it shows, for those who cannot see it.
      x_label: of the horizontal axis.
      from_zero: the vertical axis begins at 0 and is never logarithmic.
    """
    points = [point for line in lines.values() for point in line]
    xs, ys = zip(*points, strict=True)
    is_log = not from_zero and min(ys) > 0 and max(ys) / min(ys) > LOG_RATIO
    scale_y = _Scale(
        min(0.0, *ys) if from_zero else min(ys), max(ys), HEIGHT - BOTTOM, TOP, is_log
    )
    scale_x = _Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, False)
    drawn = [
        _line(_thinned(line), scale_x, scale_y, i % NUM_COLOURS)
        for i, line in enumerate(lines.values())
    ]
    kind = ", logarithmic" if is_log else ""
    spoken = f"{label}{kind}: " + "; ".join(
        f"{name} from {number(line[0][1])} to {number(line[-1][1])}"
        for name, line in lines.items()
    )
    picture = tag(
        "svg",
        _axis_y(scale_y),
        _axis_x(scale_x, x_label),
        drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=spoken,
    )
    legend = [
        tag("li", tag("i", class_=f"line-{i % NUM_COLOURS}"), name)
        for i, name in enumerate(lines)
    ]
    return Markup(
        picture + (tag("ul", legend, class_="legend") if len(lines) > 1 else "")
    )


def number(value: float) -> str:
    """Returns a number in at most four digits that count."""
    return f"{value:.4g}"


class _Scale:
    """Values to places along an axis."""

    def __init__(self, low: float, high: float, start: int, end: int, is_log: bool):
        if low == high:
            margin = abs(low) * 0.1 or 1.0
            low, high = low - margin, high + margin
        self.low, self.high, self.is_log = low, high, is_log
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self) -> list[float]:
        """Returns round values within the range, some four of them."""
        if self.is_log:
            exponents = range(
                math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1
            )
            for digits in ((1,), (1, 3), (1, 2, 5)):
                found = [
                    digit * 10.0**k
                    for k in exponents
                    for digit in digits
                    if self.low <= digit * 10.0**k <= self.high
                ]
                if len(found) >= MIN_TICKS:
                    return found[:: math.ceil(len(found) / MAX_TICKS)]
        rough = (self.high - self.low) / 4
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * k for k in (1, 2, 5, 10) if size * k >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [k * step for k in range(first, last + 1)]


def _line(points: Points, scale_x: _Scale, scale_y: _Scale, colour: int) -> Markup:
    places = [(scale_x(x), scale_y(y)) for x, y in points]
    if len(places) == 1:
        (x, y), *_ = places
        return tag("circle", cx=x, cy=y, r=4, class_=f"line-{colour} dot")
    words = " ".join(f"{x},{y}" for x, y in places)
    return tag("polyline", points=words, class_=f"line-{colour}")


def _axis_y(scale: _Scale) -> list[Markup]:
    drawn = []
    for value in scale.ticks():
        y = scale(value)
        drawn.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        drawn.append(tag("text", number(value), x=LEFT - 8, y=y + 4, text_anchor="end"))
    return drawn


def _axis_x(scale: _Scale, label: str) -> list[Markup]:
    y = HEIGHT - BOTTOM
    drawn = [tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="axis")]
    for value in scale.ticks():
        drawn.append(
            tag("text", f"{value:g}", x=scale(value), y=y + 15, text_anchor="middle")
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    drawn.append(tag("text", label, x=middle, y=HEIGHT - 3, text_anchor="middle"))
    return drawn


def _thinned(points: Points) -> Points:
    """Returns a line's points, evenly thinned, the last one kept."""
    step = math.ceil(len(points) / MAX_POINTS)
    return [*points[::step][:-1], points[-1]] if step > 1 else points
