"""Backpropagation, drawn: a block both ways, gradients as bars, softmax's Jacobian, and what bugs
look like in a loss curve and in checks."""

import re

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from .base import (
    ATTENTION,
    BLUE,
    FFN,
    GREEN,
    GREY,
    INK,
    NORM,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    SIGNED,
    SKY,
    TOKEN,
    arrow,
    box,
    canvas,
    heatmap,
    is_dark,
    label,
    matrix,
    plus,
    shade,
    spelled,
    strip,
)

GRADIENT = "#A8457F"  # what runs backwards: PURPLE, dark enough for text
N_SHOWN = 12  # features of a vector that a picture shows


def length(vector):
    return float(np.linalg.norm(vector))


def short(value):
    """A number with two digits: 107, 0.11, 0.0028."""
    digits = max(0, 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:.{digits}f}"


def block(forward, grad):
    """One block both ways, at one position: the forward pass above, the gradients below.

    forward, grad  {place: vector [n_embd]}, the places as in studies.backprop.one_block
    """
    axes = canvas(11.6, 5.0)
    high, above, below, low = 4.1, 2.85, 2.2, 0.95
    fork_1, plus_1, fork_2, plus_2 = 1.5, 5.15, 6.5, 10.15
    places = {"x": 0.75, "read_1": 3.2, "between": 5.85, "read_2": 8.2, "y": 10.95}
    boxes = (
        ("ln_1", 2.22, 0.8, NORM),
        ("mha", 4.3, 0.9, ATTENTION),
        ("ln_2", 7.22, 0.8, NORM),
        ("ffn", 9.3, 0.9, FFN),
    )
    for name, x, width, colour in boxes:
        box(axes, x, (above + below) / 2, name, colour, width, 1.2, 11)

    def piece(vectors, name, x, y, side):
        lane = (
            {"x", "between", "y"} if side * (y - (above + below) / 2) > 1 else {"read_1", "read_2"}
        )
        largest = max(np.abs(vectors[place][:N_SHOWN]).max() for place in lane)
        colour = INK if vectors is forward else GRADIENT
        strip(axes, x, y, vectors[name][:N_SHOWN], colour, 0.17, 0.86, False, largest)
        label(axes, x, y + side * 0.24, short(length(vectors[name])), colour, 8.5)

    arrow(axes, (0.2, high), (11.55, high), width=1.8)
    arrow(axes, (11.55, low), (0.05, low), colour=GRADIENT, width=3.2)
    for fork, total, first, second in ((fork_1, plus_1, 0, 1), (fork_2, plus_2, 2, 3)):
        left, right = boxes[first], boxes[second]
        edges = [x + s * width / 2 for _, x, width, _ in (left, right) for s in (-1, 1)]
        arrow(axes, (fork, high), (fork, above), (edges[0], above))
        arrow(axes, (edges[1], above), (edges[2], above))
        arrow(axes, (edges[3], above), (total, above), (total, high - 0.13))
        arrow(axes, (total, low), (total, below), (edges[3], below), colour=GRADIENT, width=3.2)
        arrow(axes, (edges[2], below), (edges[1], below), colour=GRADIENT)
        arrow(axes, (edges[0], below), (fork, below), (fork, low + 0.13), colour=GRADIENT)
        plus(axes, total, high)
        plus(axes, fork, low)
        axes.plot([fork, total], [high, low], "o", color=INK, markersize=5, zorder=4)
        label(axes, fork, high + 0.25, "copied", GREY, 8)
        label(axes, total, high + 0.25, "added", GREY, 8)
        label(axes, fork, low - 0.28, "added", GREY, 8)
        label(axes, total, low - 0.28, "copied", GREY, 8)
    for name, x in places.items():
        inside = name.startswith("read")
        piece(forward, name, x, above if inside else high, 1)
        piece(grad, name, x, below if inside else low, -1)
    for name, through, x, fork in (
        ("added_1", "through_1", plus_1, fork_1),
        ("added_2", "through_2", plus_2, fork_2),
    ):
        label(
            axes,
            x - 0.08,
            (above + high) / 2,
            short(length(forward[name])),
            size=8.5,
            align="right",
        )
        label(
            axes,
            fork + 0.1,
            (below + low) / 2,
            short(length(grad[through])),
            GRADIENT,
            8.5,
            align="left",
        )
    label(axes, 0.1, 4.8, "forward: what the block computes", size=11, weight="bold", align="left")
    label(
        axes,
        11.5,
        0.2,
        "back: gradients, from the loss",
        GRADIENT,
        11,
        weight="bold",
        align="right",
    )
    label(
        axes,
        0.1,
        0.2,
        f"each strip: {N_SHOWN} of {len(forward['x'])} numbers, and the length of the whole vector",
        GREY,
        8,
        align="left",
    )
    return axes


def slope(lengths, losses, loss, rate):
    """The loss along a step against the gradient, and the straight line that the gradient promises.

    lengths, losses  [n], of the steps and what the loss was after them
    loss, rate       where the step begins, and by how much the loss falls per unit of length
    """
    figure, axes = plt.subplots(figsize=(6.6, 3.2))
    reach = np.array([0, loss / rate])
    axes.plot(reach, loss - rate * reach, "--", color=GRADIENT, linewidth=1.6)
    axes.plot(lengths, losses, color=INK, linewidth=2)
    axes.plot([0], [loss], "o", color=INK)
    axes.annotate(
        "what the gradient\npromises",
        (0.62 * reach[1], 0.38 * loss),
        (-10, 0),
        textcoords="offset points",
        ha="right",
        va="top",
        color=GRADIENT,
    )
    end = int(0.55 * len(lengths))
    axes.annotate(
        "the loss", (lengths[end], losses[end]), (6, 6), textcoords="offset points", color=INK
    )
    axes.set(
        title="A short step keeps the promise, a long one does not",
        xlabel="length of the step against the gradient, all numbers at once",
        ylabel="loss, nats",
        ylim=(0, 1.08 * loss),
        xlim=(-0.02 * lengths[-1], lengths[-1]),
    )
    return figure


def at_the_logits(tokens, by_formula, by_nudging):
    """The gradient at the logits of some tokens as bars, and the same by finite differences.

    tokens      [n] str, the right one first
    by_formula  [n + 1], of these tokens and of all others together
    by_nudging  [n + 1]
    """
    figure, axes = plt.subplots(figsize=(8.2, 3.5))
    places = np.arange(len(by_formula))
    axes.bar(places, by_formula, 0.62, color=[GREEN, *[GRADIENT] * len(tokens)])
    axes.plot(places, by_nudging, "o", color=INK, fillstyle="none", markersize=9)
    for i, value in enumerate(by_formula):
        axes.annotate(
            f"{value:+.2f}".replace("-", "−"),
            (i, value),
            (0, 9 if value > 0 else -9),
            textcoords="offset points",
            ha="center",
            va="bottom" if value > 0 else "top",
            fontsize=9,
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    names = [spelled(token) for token in tokens] + ["all others"]
    axes.set_xticks(places, names, family="monospace")
    axes.tick_params(axis="x", length=0)
    low, high = min(by_formula), max(by_formula)
    axes.set(
        title="One token is pulled up, and all others together are pushed down as hard",
        ylabel="∂ loss / ∂ logit",
        ylim=(low - 0.2, high + 0.2),
    )
    axes.text(0.45, 0.6 * low, "the right token:\np − 1, so raise it", color=GREEN, va="center")
    middle = len(tokens) / 2 + 0.8
    axes.text(middle, 0.3 * low, "every other: p, so lower it", color=GRADIENT, va="center")
    axes.text(middle, low, "circles: measured by nudging the logit", fontsize=9)
    axes.grid(False)
    return figure


def linear(x, w, b, dy, dx, dw, db):
    """y = x w + b and its three rules, with small matrices."""
    axes = canvas(10.2, 3.85)

    def line(y, at, *pieces):
        """Matrices (name, values, colour) and signs between them, from the left, around y."""
        for piece in pieces:
            if isinstance(piece, str):
                label(axes, at + 0.17, y, piece, size=11)
                at += 0.34
                continue
            name, values, colour = piece
            top = y + 0.135 * np.atleast_2d(values).shape[0]
            at = 0.1 + matrix(axes, at, top, values, name, colour, digits=0, cell=(0.36, 0.27))

    label(axes, 0.15, 3.65, "forward", size=11, align="left", weight="bold")
    line(2.9, 0.2, ("y", x @ w + b, INK), "=", ("x", x, INK), ("w", w, INK), "+", ("b", b, INK))
    label(axes, 0.15, 2.15, "back", GRADIENT, 11, align="left", weight="bold")
    line(0.85, 0.2, ("dx", dx, GRADIENT), "=", ("dy", dy, GRADIENT), ("wᵀ", w.T, INK))
    line(0.85, 5.3, ("dw", dw, GRADIENT), "=", ("xᵀ", x.T, INK), ("dy", dy, GRADIENT))
    line(2.2, 5.3, ("db", db, GRADIENT), "=")
    label(axes, 7.2, 2.2, "the rows of dy, added up", GREY, align="left")
    return axes


def jacobians(scores):
    """Softmaxes and their Jacobians diag(p) - p pᵀ as numbers, all in the same colours.

    scores  {name: [n]}
    """
    n = len(next(iter(scores.values())))
    side, wide = 0.56, 0.56 * n + 0.95
    axes = canvas(
        wide * len(scores) + 0.1, side * n + 2.5, "A sharp softmax changes next to nothing"
    )
    top = side * n + 0.5
    for column, (name, s) in enumerate(scores.items()):
        p = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
        jacobian, left = np.diag(p) - np.outer(p, p), 0.35 + wide * column
        label(axes, left + side * n / 2, top + 1.42, name, size=11, weight="bold")
        for i, share in enumerate(p):
            x = left + side * (i + 0.5)
            axes.add_patch(
                Rectangle((x - 0.19, top + 0.32), 0.38, 0.75 * share, facecolor=ATTENTION)
            )
            label(axes, x, top + 0.2, f"{100 * share:.0f} %", size=8)
        for (i, j), value in np.ndenumerate(jacobian):
            x, y = left + side * j, top - side * (i + 1)
            face = SIGNED(0.5 + value / 0.5)[:3]
            axes.add_patch(Rectangle((x, y), side, side, facecolor=face, edgecolor="white"))
            written = f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")
            ink = "white" if is_dark(face) else INK
            label(axes, x + side / 2, y + side / 2, written, ink, 8.5)
        for i, total in enumerate(jacobian.sum(axis=-1)):
            label(
                axes,
                left + side * n + 0.08,
                top - side * (i + 0.5),
                f"Σ {abs(total):.0f}",
                GREY,
                8.5,
                align="left",
            )
        axes.add_patch(
            Rectangle(
                (left, top - side * n),
                side * n,
                side * n,
                facecolor="none",
                edgecolor=GREY,
                linewidth=0.6,
            )
        )
    label(
        axes,
        0.35,
        0.22,
        "row i, column j: by how much share i grows when score j does",
        GREY,
        9,
        align="left",
    )
    return axes


def heard(panels, sizes, floor=1e-4):
    """Lengths of gradients, a dot each, by the width of the head; a line marks the median.

    panels  {title: [[n], ...]}, an array for each size; what is less than the floor lies on it
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(9, 3.6), sharey=True)
    rng = np.random.default_rng(0)
    for panel, (title, groups) in zip(axes, panels.items(), strict=True):
        for i, lengths in enumerate(groups):
            lengths = np.maximum(lengths, floor)
            panel.semilogy(
                i + rng.uniform(-0.28, 0.28, len(lengths)),
                lengths,
                ".",
                alpha=0.35,
                color=ATTENTION,
                markersize=4,
                markeredgewidth=0,
            )
            panel.semilogy([i - 0.36, i + 0.36], [np.median(lengths)] * 2, color=INK, linewidth=2.5)
        panel.set_xticks(range(len(sizes)), [f"d = {size:,}" for size in sizes])
        panel.set_title(title, weight="normal")
        panel.grid(axis="x", visible=False)
    axes[0].set(ylabel="gradient that reaches the query")
    low = [f"≤ {floor:g}", "0.001", "0.01", "0.1", "1"]
    axes[0].set_yticks([floor, 1e-3, 1e-2, 1e-1, 1], low)
    axes[0].set_ylim(0.6 * floor, 6)
    axes[1].text(len(sizes) - 0.55, 3.2, "black: the median", ha="right", va="center", fontsize=9)
    headline(figure, "Without the scale, the queries of wide heads hear nothing, or too much")
    return figure


def headline(figure, text):
    """What both panels of a figure say together."""
    figure.suptitle(text, x=0.01, ha="left", size=11, weight="bold")


def places(tensors):
    """Short names for the tensors "blocks/0/attn/c_attn/w", and where their groups begin and end:
    [n] str, [(name, first, last)]."""
    names, groups = [], []
    for i, tensor in enumerate(tensors):
        parts = tensor.split("/")
        group = f"block {parts[1]}" if parts[0] == "blocks" else ""
        rest = parts[2:] if group else parts
        names.append(" ".join(rest))
        if group and groups and groups[-1][0] == group:
            groups[-1] = (group, groups[-1][1], i)
        elif group:
            groups.append((group, i, i))
    return names, groups


def tensor_axis(axes, tensors):
    """Tensors along the x-axis, those of a block under its name."""
    names, groups = places(tensors)
    axes.set_xticks(range(len(names)), names, rotation=90, family="monospace", fontsize=8)
    axes.tick_params(axis="x", length=0)
    for group, first, last in groups:
        axes.annotate(
            group,
            ((first + last) / 2, 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=GREY,
        )
        for edge in (first - 0.5, last + 0.5):
            axes.axvline(edge, color=GREY, linewidth=0.6)


def errors(by_tensor):
    """{tensor: relative error of its gradient} as dots on a logarithmic scale."""
    figure, axes = plt.subplots(figsize=(9, 3.4))
    values = np.array(list(by_tensor.values()))
    axes.semilogy(values, "o", color=GRADIENT, markersize=5)
    tensor_axis(axes, by_tensor)
    axes.set(ylim=(1e-13, 10), ylabel="relative error", xlim=(-0.7, len(values) - 0.3))
    axes.axhspan(1e-6, 10, color=shade(RED, 0.15), linewidth=0)
    axes.text(
        len(values) / 2, 1e-2, "where a wrong formula shows", ha="center", va="center", color=RED
    )
    axes.grid(axis="x", visible=False)
    axes.set_title(f"All {len(values)} gradients agree with finite differences", pad=20)
    return figure


def step_errors(steps, curves):
    """{dtype: relative error [n_steps]} of finite differences, by the length of the step."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    at = len(steps) // 2
    for (name, curve), colour in zip(curves.items(), (GRADIENT, GREY), strict=True):
        axes.loglog(steps, np.maximum(curve, 1e-12), "o-", color=colour, markersize=4)
        axes.annotate(
            name,
            (steps[at], curve[at]),
            (4, 8),
            textcoords="offset points",
            color=colour,
            weight="bold",
        )
    axes.text(1.2, 3e-7, "too long:\nthe loss curves", ha="right", va="center", fontsize=9)
    axes.text(
        steps[-1], 3e-7, "too short:\nnothing but rounding", ha="left", va="center", fontsize=9
    )
    axes.set(
        title="A good step is neither long nor short",
        xlabel="length of the step",
        ylabel="relative error of the slope",
        ylim=(1e-11, 10),
    )
    return figure


def two_parts(tokens, notes, table, logits):
    """Pairs of bars for some tokens: the two gradients of their rows of wte."""
    axes = canvas(8.2, 0.5 * len(tokens) + 1.15, "The row of each token in wte gets two gradients")
    start, inch = 3.1, 4.2 / max(*table, *logits)
    top = 0.5 * len(tokens) + 0.1
    for x, name, colour in (
        (start, "as a table", TOKEN),
        (start + 1.2, "as the matrix of the logits", GRADIENT),
    ):
        label(axes, x, top + 0.4, name, colour, 10, align="left", weight="bold")
    for row, (token, note) in enumerate(zip(tokens, notes, strict=True)):
        y = top - 0.5 * row - 0.1
        label(axes, start - 0.12, y, note, GREY, 9, align="right")
        label(axes, 0.2, y, spelled(token), size=10, align="left", mono=True)
        for shift, value, colour in ((0.09, table[row], TOKEN), (-0.09, logits[row], GRADIENT)):
            axes.add_patch(
                Rectangle((start, y + shift - 0.07), inch * value, 0.14, facecolor=colour)
            )
            written = "0" if value == 0 else short(value) if value >= 0.001 else "less than 0.001"
            label(axes, start + inch * value + 0.06, y + shift, written, colour, 8, align="left")
    return axes


def by_layer(panels):
    """Lengths of the gradients of each layer's matrices: {title: {matrix: [n_layer]}}."""
    figure, axes = plt.subplots(1, len(panels), figsize=(9, 3.5), sharey=True)
    colours = {"attn": ATTENTION, "mlp": FFN}
    for panel, (title, lines) in zip(axes, panels.items(), strict=True):
        for name, values in lines.items():
            style = "-" if name.endswith("c_proj") else "--"
            colour = colours[name.split()[0]]
            panel.semilogy(values, "o", linestyle=style, color=colour, markersize=4)
        n = len(values)
        panel.set(xlabel="layer", xticks=range(n))
        panel.set_title(title, weight="normal")
        apart = spread([np.log10(values[-1]) for values in lines.values()], 0.15)
        if panel is axes[-1]:
            for y, name in zip(apart, lines, strict=True):
                panel.annotate(
                    name,
                    (n - 1, 10**y),
                    (8, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=9,
                    color=colours[name.split()[0]],
                    annotation_clip=False,
                )
    axes[0].set_ylabel("length of the gradient")
    headline(figure, "No layer is left out, neither at the start nor in the end")
    return figure


def spread(values, gap):
    """The values, moved apart as little as it takes to lie gap from each other."""
    order = np.argsort(values)
    moved = np.asarray(values, float)[order]
    for _ in range(200):
        for i in range(len(moved) - 1):
            lack = gap - (moved[i + 1] - moved[i])
            if lack > 1e-9:
                moved[i] -= lack / 2
                moved[i + 1] += lack / 2
    result = np.empty_like(moved)
    result[order] = moved
    return result


def differing(right, wrong):
    """The stretches in which two lines differ, word by word: (start, end) in each."""
    words = [re.findall(r"\w+|\W", line) for line in (right, wrong)]
    n = min(map(len, words))
    head = next((i for i in range(n) if words[0][i] != words[1][i]), n)
    same = range(n - head)
    tail = next((i for i in same if words[0][-1 - i] != words[1][-1 - i]), n - head)
    start = sum(map(len, words[0][:head]))
    return [(start, sum(map(len, line[: len(line) - tail]))) for line in words]


def gallery(bugs):
    """Bugs as pairs of lines, the right one above the wrong one, what differs tinted."""
    high, left = 0.66, 3.3
    axes = canvas(9.2, high * len(bugs) + 0.15)
    ruler = label(axes, 0, 0, "m" * 50, size=8, mono=True)
    wide = ruler.get_window_extent().width / 50 / axes.figure.dpi  # of a letter, in inches
    ruler.remove()
    for row, bug in enumerate(bugs):
        y = high * (len(bugs) - row) - 0.3
        label(axes, 0.12, y + 0.12, bug.name, size=10, align="left", weight="bold")
        place = f"{bug.module}.{bug.function}"
        label(axes, 0.12, y - 0.12, place, GREY, 8, align="left", mono=True)
        lines = (bug.right, "" if bug.wrong == "pass" else bug.wrong)
        marks = ((0.12, GREEN, "✓"), (-0.12, RED, "✗"))
        for line, span, mark in zip(lines, differing(*lines), marks, strict=True):
            shift, colour, sign = mark
            label(axes, left - 0.2, y + shift, sign, colour, 9)
            start, end = (left + wide * letter for letter in span)
            if line and start == end:  # something is missing here
                start, end = start - 0.03, end + 0.03
            axes.add_patch(
                Rectangle((start, y + shift - 0.1), end - start, 0.2, facecolor=shade(colour, 0.35))
            )
            text, ink = (line, INK) if line else ("(the line is missing)", RED)
            label(axes, left, y + shift, text, ink, 8, align="left", mono=bool(line), zorder=2)
        if row:
            axes.plot([0.1, 9.1], [y + 0.33] * 2, color=PALE, linewidth=1)
    return axes


def numbered(runs):
    """Loss curves that have numbers for names: {number: (steps, losses)}."""
    figure, axes = plt.subplots(figsize=(8, 4.6))
    colours = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, INK)
    for (steps, losses), colour in zip(runs.values(), colours, strict=True):
        axes.plot(steps, losses, color=colour, linewidth=1.8)
    ends = np.array([losses[-1] for _, losses in runs.values()])
    order, last = np.argsort(ends), steps[-1]
    groups = np.split(order, np.flatnonzero(np.diff(ends[order]) > 0.09) + 1)  # that lie together
    heights = spread([ends[group].mean() for group in groups], 0.26)
    for group, height in zip(groups, heights, strict=True):
        numbers = ", ".join(str(list(runs)[i]) for i in sorted(group))
        axes.annotate(
            numbers,
            (last, height),
            (7, 0),
            textcoords="offset points",
            va="center",
            weight="bold",
            fontsize=11,
        )
    axes.set(
        title="Seven of these eight have a bug. Which is the right one?",
        xlabel="step",
        ylabel="loss on held-out text, nats per token",
        ylim=(0, None),
        xlim=(0, 1.12 * last),
    )
    return figure


def revealed(names, ends, chance, zoom, mark):
    """Where each training ended, a dot for each seed; a band is what chance does to the right code.

    names, ends  what stands beside the dots, and the losses [n_seeds] at the end
    chance       (lowest, highest) of the right code
    zoom         (left, right) of the second panel
    mark         (value, text)
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.8), sharey=True, width_ratios=[1, 1.15])
    for panel in axes:
        panel.axvspan(*chance, color=shade(GREEN, 0.35), linewidth=0)
        for row, losses in enumerate(ends):
            colour = GREEN if row == 0 else GRADIENT
            panel.plot(losses, [row] * len(losses), "o", color=colour, markersize=6, alpha=0.75)
        panel.grid(axis="y", visible=False)
    axes[0].axvline(mark[0], color=GREY, linestyle="--", linewidth=1)
    axes[0].text(mark[0] - 0.06, 4.4, mark[1], ha="right", va="center", color=GREY, fontsize=9)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set(ylim=(len(names) - 0.5, -1.0), xlabel="loss at the end, nats per token")
    axes[0].set_title("The loss at the end")
    axes[1].set(xlim=zoom, xlabel="the same, close up")
    axes[1].set_title("Close up: the band is chance")
    axes[1].text(np.mean(chance), -0.6, "chance", ha="center", va="center", color=GREEN, fontsize=9)
    return figure


def signatures(maps):
    """{bug: {tensor: relative error}} as a map, from 10⁻¹² (white) to 1 (dark)."""
    tensors = list(next(iter(maps.values())))
    values = np.array([[row[tensor] for tensor in tensors] for row in maps.values()])
    figure, axes = plt.subplots(figsize=(9.6, 4.3))
    image = heatmap(axes, 12 + np.log10(np.clip(values, 1e-12, 1)), limit=12)
    tensor_axis(axes, tensors)
    axes.set_yticks(range(len(maps)), list(maps))
    bar = figure.colorbar(image, pad=0.01, aspect=30)
    bar.set_ticks([0, 3, 6, 9, 12], labels=["10⁻¹²", "10⁻⁹", "10⁻⁶", "0.001", "1"])
    bar.outline.set_visible(False)
    axes.set_title("Relative error of each gradient: every bug has its signature", pad=20)
    return figure


def caught(names, checks, numbers, hits):
    """Which check catches which bug, and the number that it saw: numbers, hits [n_names, n_checks],
    float and bool."""
    left, wide, high = 2.75, 1.6, 0.42
    axes = canvas(
        left + wide * len(checks) + 0.1,
        high * len(names) + 1.1,
        "No single check catches all seven",
    )
    top = high * len(names) + 0.1
    for j, check in enumerate(checks):
        x = left + wide * (j + 0.5)
        label(axes, x, top + 0.32, check, size=9, weight="bold", linespacing=1.3)
    for i, name in enumerate(names):
        y = top - high * (i + 0.5)
        label(axes, left - 0.12, y, name, align="right", size=10)
        for j, (number, hit) in enumerate(zip(numbers[i], hits[i], strict=True)):
            corner = (left + wide * j + 0.03, y - high / 2 + 0.03)
            face = GRADIENT if hit else "#F4F4F4"
            axes.add_patch(Rectangle(corner, wide - 0.06, high - 0.06, facecolor=face))
            written = f"caught: {power(number)}" if hit else power(number)
            label(axes, left + wide * (j + 0.5), y, written, "white" if hit else GREY, 9)
    return axes


def power(value):
    """A number as it is written in pictures: 4.2, 0.0016, 10⁻⁹."""
    if value == 0 or value >= 0.001:
        return short(value)
    return "10" + str(round(np.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def last_block(found):
    """The last block as a chain of functions, with the relative error of each one's parameters.

    found  {tensor: relative error}, those of the last block without its name: "attn/c_proj/w"
    """
    axes = canvas(11.6, 2.5, "How wrong are the gradients of each function's own parameters?")
    chain = [
        ("ln_1", "ln_1/g", NORM),
        ("c_attn", "attn/c_attn/w", ATTENTION),
        ("attention", None, ATTENTION),
        ("c_proj", "attn/c_proj/w", ATTENTION),
        ("+", None, None),
        ("ln_2", "ln_2/g", NORM),
        ("c_fc", "mlp/c_fc/w", FFN),
        ("gelu", None, FFN),
        ("c_proj", "mlp/c_proj/w", FFN),
        ("+", None, None),
        ("ln_f", "ln_f/g", NORM),
    ]
    y, edge, fork = 1.3, 0.55, 0.3
    arrow(axes, (0.1, y), (edge, y), zorder=1)
    for name, tensor, colour in chain:
        if name == "+":
            arrow(axes, (edge - 0.2, y), (edge, y), zorder=1)
            plus(axes, edge + 0.13, y)
            arrow(
                axes, (fork, y), (fork, y + 0.55), (edge + 0.13, y + 0.55), (edge + 0.13, y + 0.13)
            )
            axes.plot([fork], [y], "o", color=INK, markersize=4, zorder=4)
            arrow(axes, (edge + 0.26, y), (edge + 0.66, y), zorder=1)
            fork, edge = edge + 0.42, edge + 0.66
            continue
        x = edge + 0.43
        box(axes, x, y, name, colour, 0.86, 0.5, 10)
        arrow(axes, (edge + 0.86, y), (edge + 1.06, y), head=7, zorder=1)
        edge += 1.06
        if tensor:
            error, wrong = found[tensor], found[tensor] > 1e-6
            written = f"{short(100 * error)} %" if wrong else power(error)
            label(axes, x, y - 0.45, written, RED if wrong else GREEN, 10, weight="bold")
    arrow(axes, (edge - 0.2, 0.42), (0.3, 0.42), colour=GRADIENT, width=2)
    label(axes, edge - 0.2, 0.2, "the gradient comes from here", GRADIENT, 9, align="right")
    return axes
