"""Sampling, drawn: the line from 0 to 1, what settings do to it, and the tree of a beam search.

Probabilities come sorted, the likeliest first, with the names of the first few tokens.
"""

import itertools

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Polygon, Rectangle

from .base import (
    BLUE,
    GREY,
    HIDDEN_BY_MASK,
    INK,
    ORANGE,
    PALE,
    RED,
    TOKEN,
    arrow,
    canvas,
    chip,
    is_dark,
    label,
    shade,
    spelled,
)

TAIL = "#DCDCDC"


def colour_of(rank):
    """The best token's piece is the darkest."""
    return shade(TOKEN, 0.12 + 0.78 * 0.8**rank)


def percent(share):
    return f"{100 * share:.0f} %" if share >= 0.0095 else f"{100 * share:.1f} %"


def line_of_pieces(axes, left, right, y, height, names, shares, n_vocab, tail="{} others", size=9):
    """The pieces of a line from 0 to 1, labelled where there is room; returns [(start, end)]."""
    ends = np.cumsum(shares)
    starts = ends - shares
    places = [
        (left + (right - left) * a, left + (right - left) * b)
        for a, b in zip(starts, ends, strict=True)
    ]
    n_named = len(names)
    for rank in range(n_named):
        a, b = places[rank]
        face = colour_of(rank)
        axes.add_patch(
            Rectangle(
                (a, y - height / 2),
                b - a,
                height,
                facecolor=face,
                edgecolor="white",
                linewidth=min(1.0, 20 * (b - a)),
                zorder=3,
            )
        )
        ink = "white" if is_dark(face) else INK
        name = spelled(names[rank])
        wide = 0.0088 * size * len(name) + 0.06
        if b - a > max(wide, 0.42):
            label(axes, (a + b) / 2, y + 0.085, name, ink, size, mono=True, zorder=4)
            label(axes, (a + b) / 2, y - 0.095, percent(shares[rank]), ink, size - 1, zorder=4)
        elif b - a > wide:
            label(axes, (a + b) / 2, y, name, ink, size, mono=True, zorder=4)
        elif b - a > 0.13 and height > 0.5:
            label(axes, (a + b) / 2, y, name, ink, size - 1, mono=True, zorder=4, rotation=90)
    rest = shares[n_named:].sum()
    if rest > 0:
        a, b = places[n_named][0], right
        axes.add_patch(Rectangle((a, y - height / 2), b - a, height, facecolor=TAIL, zorder=3))
        edge = a
        for end in (end for _, end in places[n_named:]):
            if end - edge > 0.02:
                axes.plot([end, end], [y - height / 2, y + height / 2], "w-", lw=0.5, zorder=3)
                edge = end
        n_rest = np.count_nonzero(shares[n_named:])
        words = f"{n_rest:,}\nothers" if tail else ""
        if b - a > 1.4:
            words = f"{n_rest:,} other tokens\ntogether {percent(rest)}"
        if b - a > 0.5:
            label(axes, (a + b) / 2, y, words, size=size - 1, linespacing=1.25, zorder=4)
    return places


def line(prompt, names, shares, u, others=()):
    """Probabilities laid end to end from 0 to 1, and a random number that falls into a piece.

    prompt  [n_seq], str
    names   of the likeliest tokens
    shares  [n_vocab], sorted
    u       a number from 0 to 1, whose way is drawn; others are shown as dots
    """
    axes = canvas(9.6, 3.6, "A random number picks a piece of the line")
    left, right, y = 0.35, 9.25, 1.5
    places = line_of_pieces(axes, left, right, y, 0.62, names, shares, len(shares))
    hit = next(rank for rank, end in enumerate(np.cumsum(shares)) if u < end)
    x = left
    widths = [0.0086 * 10 * len(token) + 0.16 for token in prompt]
    for token, wide in zip(prompt, widths, strict=True):
        chip(axes, x + wide / 2, 2.85, spelled(token), width=wide, size=10)
        x += wide + 0.06
    a, b = places[hit]
    middle, foot = (a + b) / 2, left + (right - left) * u
    token = spelled(names[hit])
    wide = 0.0086 * 10 * len(token) + 0.2
    target = x + wide / 2
    chip(axes, target, 2.85, token, colour_of(hit), width=wide, edge=INK, size=10)
    arrow(axes, (middle, y + 0.31), (middle, 2.25), (target, 2.25), (target, 2.68))
    axes.add_patch(
        Rectangle((a, y - 0.31), b - a, 0.62, facecolor="none", edgecolor=INK, lw=2, zorder=5)
    )
    arrow(axes, (foot, 0.55), (foot, y - 0.33), colour=RED, width=2)
    label(axes, foot, 0.4, f"a random number: {u:.2f}", RED, 10, weight="bold")
    for value in others:
        axes.plot(left + (right - left) * value, y - 0.43, "o", color=GREY, ms=3.2, zorder=3)
    if len(others):
        label(axes, left, 0.62, f"dots: {len(others)} more numbers", GREY, 9, align="left")
    for value, name in ((0, "0"), (1, "1")):
        label(axes, left + (right - left) * value, y - 0.62, name, GREY, 9)
    return axes


def ways(names, shares, bent, marks=None):
    """What each way to bend the line makes of it: above, thin, the line as it was.

    names   of the likeliest tokens
    shares  [n_vocab], sorted
    bent    {name: probabilities in the same order [n_vocab]}
    marks   {name: a number from 0 to 1}: where on the old line a mark stands
    """
    step, left, right = 1.08, 1.62, 9.35
    title = (
        "Temperature stretches some and shrinks others; top-k and top-p cut, and stretch the rest"
    )
    axes = canvas(9.6, step * len(bent) + 1.15, title)
    top = step * len(bent) + 0.42
    n_vocab, wide = len(shares), right - left
    line_of_pieces(axes, left, right, top, 0.42, names, shares, n_vocab)
    label(axes, 0.12, top, "as the model\ngives them", align="left", weight="bold")
    old = np.concatenate([[0], np.cumsum(shares)])
    for row, (name, result) in enumerate(bent.items()):
        y = top - step * (row + 1)
        y_old = y + 0.52
        kept = np.count_nonzero(result)
        new = np.concatenate([[0], np.cumsum(result)])
        for rank in range(len(names)):
            colour = colour_of(rank)
            cut = rank >= kept
            a, b = (left + wide * old[i] for i in (rank, rank + 1))
            piece(axes, a, b, y_old, colour, cut)
            if not cut:
                c, d = (left + wide * new[i] for i in (rank, rank + 1))
                band(axes, a, b, y_old - 0.07, c, d, y + 0.21, colour)
        a, b = left + wide * old[len(names)], right
        tail_kept = kept > len(names)
        piece(axes, a, b, y_old, TAIL, not tail_kept)
        if tail_kept:
            c, d = left + wide * new[len(names)], right
            band(axes, a, b, y_old - 0.07, c, d, y + 0.21, TAIL)
        else:
            cut_at = left + wide * old[kept]
            axes.plot([cut_at, cut_at], [y_old - 0.13, y_old + 0.13], color=RED, lw=2, zorder=6)
        for mark in [marks[name]] if marks and name in marks else ():
            x = left + wide * mark
            axes.plot([x, x], [y_old - 0.07, y_old + 0.12], color=INK, lw=1.5, zorder=7)
            label(axes, x - 0.05, y_old + 0.2, f"{mark}", INK, 8, zorder=7)
        line_of_pieces(axes, left, right, y, 0.42, names, result, n_vocab)
        label(axes, 0.12, y + 0.08, name, align="left", weight="bold", linespacing=1.3)
    return axes


def piece(axes, a, b, y, colour, cut):
    """A piece of a thin line; hatched where it is cut off."""
    axes.add_patch(
        Rectangle(
            (a, y - 0.07),
            b - a,
            0.14,
            facecolor="#F7F7F7" if cut else colour,
            edgecolor=HIDDEN_BY_MASK if cut else "white",
            hatch="////" if cut else None,
            linewidth=0 if cut else min(0.8, 20 * (b - a)),
            zorder=3,
        )
    )


def band(axes, a, b, y_above, c, d, y_below, colour):
    """What a piece from a to b becomes: one from c to d."""
    corners = [(a, y_above), (b, y_above), (d, y_below), (c, y_below)]
    axes.add_patch(
        Polygon(corners, facecolor=colour, alpha=0.5, edgecolor="white", lw=0.7, zorder=1)
    )


def temperatures(values, curves, floor):
    """Probabilities against temperature, both on a log scale, each curve with its name at its left.

    values  [n]
    curves  {name: [n]}
    floor   the probability to which all of them tend
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.9))
    for rank, (name, curve) in enumerate(curves.items()):
        colour = shade(TOKEN, 1 - 0.75 * rank / max(1, len(curves) - 1))
        axes.plot(values, curve, color=colour, linewidth=2)
        seen = np.flatnonzero(curve >= 1e-6)[0]
        if seen == 0:
            axes.annotate(
                name,
                (values[0], curve[0]),
                xytext=(-6, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=9,
            )
        else:
            axes.annotate(
                name,
                (values[seen], 1e-6),
                xytext=(12, 8),
                textcoords="offset points",
                ha="left",
                va="bottom",
                fontsize=9,
            )
    axes.axhline(floor, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        f"all alike: {100 * floor:.2g} %",
        (1.01, floor),
        xycoords=("axes fraction", "data"),
        color=GREY,
        va="center",
        annotation_clip=False,
    )
    ticks = [0.5, 1, 2, 5, 10, 20]
    axes.set(
        xscale="log",
        yscale="log",
        ylim=(1e-6, 1.3),
        xlim=(values[0], values[-1]),
        xticks=ticks,
        xticklabels=[str(tick) for tick in ticks],
        yticks=[1, 1e-2, 1e-4, 1e-6],
        yticklabels=["100 %", "1 %", "0.01 %", "0.0001 %"],
        title="Temperature never changes the order: the curves draw near, but do not cross",
    )
    axes.set_xlabel("temperature")
    axes.yaxis.tick_right()
    axes.spines["left"].set_visible(False)
    axes.minorticks_off()
    return figure


def draws(names, expected, found, n_draws):
    """Shares of draws as dots with two standard errors, over bars of the probabilities."""
    figure, axes = plt.subplots(figsize=(7.6, 2.9))
    xs = np.arange(len(names))
    axes.bar(xs, 100 * expected, color=shade(TOKEN, 0.45), width=0.8)
    error = 2 * np.sqrt(expected * (1 - expected) / n_draws)
    axes.errorbar(xs, 100 * found, yerr=100 * error, fmt="o", color=INK, ms=4, lw=1.3)
    axes.set_xticks(
        xs, [spelled(name) for name in names], family="monospace", fontsize=9, rotation=30
    )
    axes.set(
        ylabel="% of the draws",
        title=f"{n_draws:,} draws (dots) fall as the bent line says (bars)",
    )
    axes.grid(False, axis="x")
    return figure


def nuclei(sizes, k):
    """How many positions have a nucleus of which size, beside a fixed k."""
    edges = 2.0 ** np.arange(0, np.floor(np.log2(sizes.max())) + 2)
    figure, axes = plt.subplots(figsize=(8.0, 3.0))
    counts, _ = np.histogram(sizes, edges)
    xs = np.arange(len(counts))
    axes.bar(xs, 100 * counts / len(sizes), color=TOKEN, width=0.9)
    names = [
        f"{int(a)}" if b == a + 1 else f"{int(a)}–{int(b) - 1}"
        for a, b in itertools.pairwise(edges)
    ]
    axes.set_xticks(xs, names, fontsize=9)
    place = np.log2(k) - 0.5
    axes.axvline(place, color=RED, linestyle="--", linewidth=1.5)
    high = 100 * counts.max() / len(sizes)
    axes.text(place - 0.08, 1.12 * high, f"k = {k}", color=RED, ha="right", va="center")
    axes.set(
        xlabel="tokens that together reach 90 %",
        ylabel="% of the positions",
        ylim=(0, 1.22 * high),
        title="Sometimes one token will do, sometimes hundreds: no fixed k fits",
    )
    axes.grid(False, axis="x")
    return figure


def settings(values, repeated, distinct, real):
    """Two measures of text against temperature, with standard errors, and the real text's as a
    band.

    values              [n]
    repeated, distinct  (means [n], errors [n]), as shares
    real                ((mean, error) of repeated, (mean, error) of distinct)
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.4))
    titles = ("Cold text repeats itself", "Hot text hardly uses a word twice")
    names = (
        "% of three words in a row\nthat were said before",
        "different words, % of all words",
    )
    for axes, (means, errors), (mean, error), title, name in zip(
        panels, (repeated, distinct), real, titles, names, strict=True
    ):
        low, high = 100 * max(0.0, mean - 2 * error), 100 * (mean + 2 * error)
        axes.axhspan(low, high, color=ORANGE, alpha=0.35, lw=0)
        axes.errorbar(values, 100 * means, yerr=200 * errors, fmt="o-", color=BLUE, ms=4)
        axes.set(xlabel="temperature (0: greedy)", ylabel=name, title=title)
        axes.set_ylim(bottom=-2)
    panels[0].annotate(
        "the real tale",
        (values[-1], 100 * real[0][0]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="right",
        color="#8A5F00",
    )
    panels[1].annotate(
        "the real tale",
        (values[0], 100 * real[1][0]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="left",
        color="#8A5F00",
    )
    return figure


def tree(start, steps, greedy):
    """The hypotheses of a beam search, best on top, with their log-probabilities in nats, and what
    greedy takes instead.

    start   what stands before them, str
    steps   [(parents, tokens, totals)]: of each kept beam its parent, its token (str), its total
    greedy  [(token, total)]
    """
    n_beams, wide, high = max(len(tokens) for _, tokens, _ in steps), 1.36, 0.62
    left, base = 1.75, 1.3
    title = f"Each hypothesis is continued in every way, and the best {n_beams} are kept"
    axes = canvas(left + wide * len(steps) + 0.2, base + high * n_beams + 0.85, title)

    def place(step, row):
        return left + wide * (step + 0.5), base + high * (n_beams - row - 0.5)

    root = (0.75, base + high * n_beams / 2)
    chip(axes, root[0], root[1] + 0.06, spelled(start), size=9, width=1.3)
    best, row = [], 0
    for parents, _, _ in reversed(steps):
        best.insert(0, row)
        row = int(parents[row])
    for step, (parents, tokens, totals) in enumerate(steps):
        alive = set(steps[step + 1][0].tolist()) if step + 1 < len(steps) else set(range(n_beams))
        for row, (parent, token, total) in enumerate(zip(parents, tokens, totals, strict=True)):
            x, y = place(step, row)
            x_from, y_from = root if step == 0 else place(step - 1, int(parent))
            on_best = best[step] == row
            is_alive = row in alive
            colour = TOKEN if on_best else GREY
            half = 0.65 if step == 0 else 0.5
            arrow(
                axes,
                (x_from + half, y_from + 0.06),
                (x - 0.5, y + 0.06),
                colour=colour if on_best or is_alive else "#BBBBBB",
                width=2.6 if on_best else 1.2,
                head=0,
                zorder=2 if on_best else 1,
            )
            face = shade(TOKEN, 0.75) if on_best else PALE if is_alive else "#F6F6F6"
            chip(axes, x, y + 0.06, spelled(token), face, width=1.0, height=0.3, size=8.5)
            ink = INK if is_alive or on_best else GREY
            label(axes, x, y - 0.18, f"{total:.1f}".replace("-", "−"), ink, 8)
    for step in range(len(steps)):
        x, _ = place(step, 0)
        label(axes, x, base + high * n_beams + 0.22, f"token {step + 1}", GREY, 9)
    label(axes, 0.1, base + high * n_beams + 0.22, "beam search", align="left", weight="bold")
    y = 0.62
    label(axes, 0.1, y, "greedy", ORANGE, 9, align="left", weight="bold")
    for step, (token, total) in enumerate(greedy):
        x, _ = place(step, 0)
        if step:
            arrow(
                axes,
                (x - wide + 0.5, y + 0.06),
                (x - 0.5, y + 0.06),
                colour=ORANGE,
                width=2,
                head=0,
            )
        chip(axes, x, y + 0.06, spelled(token), shade(ORANGE, 0.6), width=1.0, height=0.3, size=8.5)
        label(axes, x, y - 0.18, f"{total:.1f}".replace("-", "−"), INK, 8)
    note = "numbers: ln of the probability of all tokens so far; nearer to 0 is likelier"
    label(axes, 0.1, 0.16, note, GREY, 8.5, align="left")
    return axes


def writers(names, nats, repeated, distinct=None, real=None):
    """How likely and how repetitive the texts of several writers are: a dot for each text.

    names           of the writers
    nats, repeated  [n_writers][n_texts]
    real            the index of the one that is no model's
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.4, 0.42 * len(names) + 1.15), sharey=True)
    rng = np.random.default_rng(0)
    columns = (
        (nats, "nats per token, under the model", "Searched text is likelier …"),
        (
            100 * np.asarray(repeated),
            "% of three words in a row said before",
            "… and repeats itself",
        ),
    )
    for axes, (values, name, title) in zip(panels, columns, strict=True):
        for row, points in enumerate(values):
            colour = ORANGE if row == real else BLUE
            y = row + rng.uniform(-0.16, 0.16, len(points))
            axes.plot(points, y, "o", color=shade(colour, 0.45), ms=3.5, zorder=2)
            mean = np.mean(points)
            error = 2 * np.std(points, ddof=1) / np.sqrt(len(points))
            axes.errorbar(mean, row, xerr=error, fmt="D", color=colour, ms=6, lw=2, zorder=3)
        axes.set(xlabel=name, title=title)
        axes.set_xlim(left=0 if np.min(values) > 0.3 else -2)
        axes.grid(False, axis="y")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def coin(tails, p_tails, n):
    """How often so many tails come in n throws, and where the likeliest single sequence lies."""
    figure, axes = plt.subplots(figsize=(7.2, 2.9))
    axes.bar(tails, 100 * p_tails, color=BLUE, width=0.85)
    high = 100 * p_tails.max()
    axes.annotate(
        f"{n} heads in a row:\nthe likeliest sequence",
        (tails[0], 0.02 * high),
        xytext=(tails[0] - 0.4, 0.84 * high),
        ha="left",
        color=RED,
        arrowprops={"arrowstyle": "-|>", "color": RED},
    )
    axes.set(
        xlabel=f"tails in {n} throws of the coin",
        ylabel="% of all series",
        title="The likeliest sequence hardly ever comes",
    )
    axes.grid(False, axis="x")
    return figure
