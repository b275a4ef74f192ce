"""What all pictures are made of: one set of colours, and tokens, vectors, matrices, boxes, arrows.

A picture is drawn on a `canvas`, whose units are inches, with its origin at the lower left.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

# Okabe and Ito's colours, which readers with any colour vision can tell apart; their vermilion a
# little redder, so that it can be called red.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#C8321F",
    "#CC79A7",
    "#56B4E9",
)
INK, GREY, PALE = "#222222", "#777777", "#E8E8E8"

# One colour, one thing, in all notebooks.
QUERY, KEY, VALUE = RED, ORANGE, GREEN
ATTENTION, FFN, NORM, TOKEN, POSITION = BLUE, ORANGE, GREY, GREEN, SKY
HIDDEN_BY_MASK = "#D9D9D9"

BLUES = LinearSegmentedColormap.from_list("blues", ["white", "#BBD7EA", BLUE, "#00304D"])
SIGNED = LinearSegmentedColormap.from_list("signed", [BLUE, "#9CC8E3", "white", "#F0B48A", RED])

STYLE = {
    "figure.dpi": 100,
    "figure.figsize": (7, 3.4),
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY]),
}
plt.rcParams.update(STYLE)


def canvas(width, height, title=None):
    """Axes for a diagram, width × height inches, without ticks."""
    figure = plt.figure(figsize=(width, height))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    if title:
        label(axes, 0.1, height - 0.2, title, size=11, weight="bold", align="left")
    return axes


def label(axes, x, y, text, colour=INK, size=9, align="center", mono=False, **others):
    """Text at x, y; align is "left", "center" or "right"."""
    family = "monospace" if mono else None
    return axes.text(
        x, y, text, color=colour, fontsize=size, ha=align, va="center", family=family, **others
    )


def spelled(token):
    """A token as it is written in pictures: the space at its beginning as ·, a line's end as ↵."""
    return token.replace(" ", "·").replace("\n", "↵")


def shade(colour, strength):
    """The colour mixed with white: strength 0 is white, 1 the colour itself."""
    return tuple(1 - strength * (1 - part) for part in to_rgb(colour))


def is_dark(colour):
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.55


def chip(axes, x, y, text, face=PALE, width=None, height=0.3, edge="none", size=9):
    """A token as a rounded chip around x, y; returns its width."""
    width = width or chip_width(text, size)
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=face,
            edgecolor=edge,
            linewidth=1.4,
            zorder=3,
        )
    )
    ink = "white" if is_dark(face) else INK
    label(axes, x, y, text, ink, size, mono=True, zorder=4)
    return width


def chip_width(text, size=9):
    return 0.0086 * size * max(len(text), 1) + 0.16


def strip(axes, x, y, values, colour=None, width=0.2, height=1.0, vertical=True, limit=None):
    """A vector as a strip of cells around x, y: blue is negative, red positive; with a colour,
    a frame of that colour around it. limit is the value of the darkest cells."""
    values = np.asarray(values, float)
    limit = limit or np.abs(values).max() or 1.0
    image = values[:, None] if vertical else values[None]
    if not vertical:
        width, height = height, width
    box = (x - width / 2, x + width / 2, y - height / 2, y + height / 2)
    axes.imshow(
        image, SIGNED, vmin=-limit, vmax=limit, extent=box, aspect="auto", zorder=3,
        interpolation="nearest",
    )  # fmt: skip
    axes.add_patch(
        Rectangle(
            (box[0], box[2]),
            width,
            height,
            facecolor="none",
            edgecolor=colour or GREY,
            linewidth=1.8 if colour else 0.6,
            zorder=4,
        )
    )
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())


def box(axes, x, y, text, colour=GREY, width=1.6, height=0.5, size=9, strength=0.15):
    """A rounded box around x, y, tinted with its colour."""
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=shade(colour, strength),
            edgecolor=colour,
            linewidth=1.5,
            zorder=3,
        )
    )
    label(axes, x, y, text, size=size, linespacing=1.3, zorder=4)


def arrow(axes, *points, colour=INK, width=1.3, style="-", head=10, bend=0.0, zorder=2):
    """A line through the points [(x, y)], with a head at its end; bend curves a single stretch."""
    xs, ys = zip(*points[:-1], strict=True)
    axes.plot(xs, ys, style, color=colour, linewidth=width, zorder=zorder)
    axes.add_patch(
        FancyArrowPatch(
            points[-2],
            points[-1],
            arrowstyle="-|>" if head else "-",
            mutation_scale=head or 1,
            color=colour,
            linewidth=width,
            linestyle=style,
            shrinkA=0,
            shrinkB=0,
            connectionstyle=f"arc3,rad={bend}",
            zorder=zorder,
        )
    )


def plus(axes, x, y, radius=0.13):
    """The circle in which two arrows are added."""
    axes.add_patch(
        plt.Circle((x, y), radius, facecolor="white", edgecolor=INK, linewidth=1.3, zorder=3)
    )
    for dx, dy in ((0.5, 0), (0, 0.5)):
        axes.plot(
            [x - dx * radius, x + dx * radius],
            [y - dy * radius, y + dy * radius],
            color=INK,
            linewidth=1.3,
            zorder=4,
        )


def heatmap(
    axes,
    values,
    title="",
    rows=None,
    columns=None,
    limit=None,
    signed=False,
    hidden=None,
    numbers=None,
):
    """A matrix as a map of colours on these axes; returns the image, for a colour bar.

    rows, columns  labels, such as tokens
    limit          the value of the darkest colour (default: the largest in size)
    signed         blue below zero, white at zero, red above
    hidden         [like values] where True, a cell is hatched: it has no value
    numbers        a format such as ".2f": the values are written into the cells
    """
    values = np.asarray(values, float)
    shown = values if hidden is None else np.where(hidden, np.nan, values)
    limit = limit or float(np.nanmax(np.abs(shown))) or 1.0
    image = axes.imshow(
        shown,
        cmap=SIGNED if signed else BLUES,
        vmin=-limit if signed else 0.0,
        vmax=limit,
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_title(title)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    for labels, axis in ((columns, axes.xaxis), (rows, axes.yaxis)):
        axis.set_ticks([] if labels is None else range(len(labels)))
        if labels is not None:
            axis.set_ticklabels(labels, family="monospace", fontsize=8)
    if columns is not None:
        axes.tick_params(axis="x", rotation=90)
    if hidden is not None:
        for i, j in np.argwhere(hidden):
            axes.add_patch(
                Rectangle(
                    (j - 0.5, i - 0.5),
                    1,
                    1,
                    facecolor="#F2F2F2",
                    edgecolor="#C8C8C8",
                    hatch="////",
                    linewidth=0,
                )
            )
    if numbers:
        for (i, j), value in np.ndenumerate(shown):
            if np.isfinite(value):
                ink = "white" if is_dark(image.cmap(image.norm(value))[:3]) else INK
                label(axes, j, i, format(value, numbers), ink, 8)
    return image


def text(pieces, colours, title=None, width=8.0, size=11, note=None):
    """A text as coloured tokens, line after line, on a canvas that is as high as it needs to be.

    pieces   the tokens, as str; "\\n" begins a line
    colours  one for each
    note     a line below, such as what the colours mean
    """
    step, line, x, places = 0.0087 * size, 0.034 * size, 0.12, []
    row = 0
    for piece in pieces:
        shown = spelled(piece).replace("↵", "")
        wide = step * max(len(shown), 1) + 0.05
        if x + wide > width - 0.1 or piece.startswith("\n"):
            x, row = 0.12, row + 1
        places.append((x, row, wide, shown.replace("·", " ")))
        x += wide + 0.02
    above, below = (0.45 if title else 0.1), (0.35 if note else 0.1)
    height = above + below + line * (row + 1)
    axes = canvas(width, height, title)
    for (x, row, wide, shown), colour in zip(places, colours, strict=True):
        y = height - above - line * (row + 0.5)
        axes.add_patch(
            FancyBboxPatch(
                (x, y - 0.42 * line),
                wide,
                0.84 * line,
                boxstyle="round,pad=0,rounding_size=0.04",
                facecolor=colour,
                edgecolor="none",
            )
        )
        ink = "white" if is_dark(colour) else INK
        label(axes, x + wide / 2, y, shown, ink, size, mono=True)
    if note:
        label(axes, 0.12, 0.18, note, GREY, 9, align="left")
    return axes


def bars(
    names,
    values,
    title,
    unit="",
    colours=BLUE,
    right=None,
    mark=None,
    digits=2,
    width=7.0,
    left=0.32,
):
    """Horizontal bars from the top down, each with its name and its number.

    right  an index: that bar stands out in green (default: none does)
    mark   (value, text): a dashed line to compare with
    left   the share of the width that the names get
    """
    values = np.asarray(values, float)
    height = 0.3 * len(names) + 0.55 + 0.25 * bool(mark)
    axes = canvas(width, height, title)
    largest = max([*values, mark[0] if mark else 0.0]) or 1.0
    start, inch = left * width, ((0.96 - left) * width - 0.6) / largest
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        y = height - 0.58 - 0.3 * row
        colour = colours if isinstance(colours, str) else colours[row]
        colour = GREEN if row == right else colour
        label(axes, start - 0.08, y, name, align="right")
        axes.add_patch(Rectangle((start, y - 0.1), inch * value, 0.2, facecolor=colour))
        ground = dict(facecolor="white", edgecolor="none", pad=0.8)
        number = f"{value:.{digits}f}{unit}"
        label(axes, start + inch * value + 0.06, y, number, align="left", bbox=ground)
    if mark:
        x = start + inch * mark[0]
        axes.plot([x, x], [0.3, height - 0.42], "--", color=GREY, linewidth=1, zorder=0)
        label(axes, x, 0.16, mark[1], GREY, 8)
    return axes


def matrix(axes, x, y, values, name="", colour=INK, digits=2, cell=(0.5, 0.27), marked=()):
    """A small matrix as numbers between brackets, its upper left corner at x, y; returns its right
    edge. marked holds the (row, column) of cells that are drawn in red."""
    values = np.atleast_2d(np.asarray(values, float))
    n_rows, n_columns = values.shape
    width, height = cell[0] * n_columns, cell[1] * n_rows
    for (i, j), value in np.ndenumerate(values):
        written = f"{value:.{digits}f}".replace("-", "−").replace("inf", "∞")
        ink = RED if (i, j) in marked else INK
        label(axes, x + cell[0] * (j + 0.5), y - cell[1] * (i + 0.5), written, ink, 9, mono=True)
    for edge, tick in ((x, 0.06), (x + width, -0.06)):
        axes.plot(
            [edge + tick, edge, edge, edge + tick],
            [y, y, y - height, y - height],
            color=colour,
            linewidth=1.5,
        )
    if name:
        label(axes, x + width / 2, y + 0.17, name, colour, 9, weight="bold")
    return x + width
