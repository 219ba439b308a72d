"""How every plot looks: sizes for a paper's columns, fonts, a palette for the color-blind, and the files' exact bytes."""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ONE_COLUMN, TWO_COLUMNS = 3.5, 7.2
"""Widths of a figure in one and in two columns of a paper, in inches."""
FONT, SMALL = 8.0, 7.0
"""Sizes of text in points: labels, and ticks and legends."""
DPI = 200
INK, GRID = "#1f2b37", "#d3dae1"
"""Text and axes, and grid lines. Nothing else has these colors, so a page can put its own in their place in the SVG."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B4A00", "#5A5A5A")
"""Colors of series: those of Okabe and Ito that show on white, the strongest first, then a dark olive and a gray."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.2, 1.4)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (8, 3)),
    (0, (2.5, 1.2)),
    (0, (5, 1.2, 1.2, 1.2, 1.2, 1.2)),
    (0, (1, 3)),
)
"""A series differs from the others in color, marker and line: no one of them alone tells it apart."""

_SETTINGS: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": FONT,
    "axes.labelsize": FONT,
    "axes.titlesize": FONT,
    "axes.titlelocation": "left",
    "axes.titleweight": "normal",
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "path.simplify": True,
    "text.parse_math": False,
}


@contextmanager
def settings(name: str = "") -> Iterator[None]:
    """Draw and save with this style.

    Args:
        name: of the plot; it seeds the identifiers in the SVG, so that the same data have the same bytes.
    """
    from matplotlib import rc_context

    with rc_context({**_SETTINGS, "svg.hashsalt": name}):
        yield


def new_figure(width: float, height: float, panels: int = 1) -> tuple["Figure", Sequence[Any]]:
    """Return an empty figure of a size in inches, without a window, and its panels side by side."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, wspace=0.02)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=engine)
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def lay_out(figure: "Figure") -> None:
    """Give everything its final place. Once: most of the time of a plot goes here."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def render(figure: "Figure", name: str) -> tuple[str, bytes]:
    """Return a figure as the text of an SVG without a background, and as a PNG on white."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    svg, png = io.StringIO(), io.BytesIO()
    on_svg: Any = FigureCanvasSVG(figure)  # savefig would lay out and draw everything twice for each file
    on_png: Any = FigureCanvasAgg(figure)
    with settings(name), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # the SVG's reader has other fonts
        lay_out(figure)
        figure.set_dpi(DPI)
        figure.patch.set_visible(False)
        on_svg.print_svg(svg, metadata={"Date": None})
        figure.set_dpi(DPI)
        figure.patch.set(visible=True, facecolor="white")
        on_png.print_png(png)
    return svg.getvalue(), png.getvalue()


def series_style(number: int) -> dict[str, Any]:
    """Return color, marker and line of a series as keyword arguments of `plot`."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


def add_legend(figure: "Figure", handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put a legend above the panels, in as many columns as its longest label leaves room for; the figure grows by its rows.

    One series without a name needs none.
    """
    if not any(labels):
        return
    characters = figure.get_figwidth() / (0.6 * SMALL / 72)
    columns = max(1, min(len(labels), int(characters / (max(map(len, labels)) + 7))))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + (rows - 1) * 1.5 * SMALL / 72)
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, borderaxespad=0.2)


def level_ticks(axes: Any, labels: Iterable[str], label: str) -> None:
    """Label the levels of an axis of the grid at 0, 1, 2, ...: evenly spaced, each with its own tick; slanted where long."""
    texts = list(labels)
    crowded = sum(max(map(len, text.split("\n"))) + 1 for text in texts) > 9 * axes.get_figure().get_figwidth()
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(texts)), texts, **turned)
    axes.set_xlim(-0.45, len(texts) - 0.55)
    axes.set_xlabel(label)
    axes.grid(False, axis="x")


def text_color(rgba: Sequence[float]) -> str:
    """Return the dark or the light text color, whichever stands out more from a background (contrast of WCAG 2)."""
    luminance = relative_luminance(rgba[:3])
    return "#0b0b0b" if (luminance + 0.05) / (0.0033 + 0.05) >= 1.05 / (luminance + 0.05) else "#fefefe"


def relative_luminance(rgb: Sequence[float]) -> float:
    """Return the relative luminance of an sRGB color of shares from 0 to 1, as WCAG 2 defines it."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
