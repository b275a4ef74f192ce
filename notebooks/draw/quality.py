"""How good a model's probabilities are, drawn: surprise in colour, losses beside each other, and
percentages beside what came."""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.ticker import FuncFormatter

from .base import (
    BLUE,
    GREEN,
    GREY,
    INK,
    PALE,
    RED,
    SIGNED,
    canvas,
    chip,
    is_dark,
    label,
    spelled,
)

DEAREST = 8.0  # nats, the deepest colour


def colour_of(nats):
    """White for what was certain, red for what nobody would have guessed; grey where there is no
    surprise, as for a text's first token."""
    if not np.isfinite(nats):
        return PALE
    return SIGNED(0.5 + 0.5 * min(nats / DEAREST, 1.0))[:3]


def passages(rows, title=None, width=9.4, size=10):
    """Texts, one below the other, each token coloured by its surprise, with a scale below.

    rows  {name: (pieces, nats)}: tokens as str, and a number for each; a name may be ""
    """
    step, line, places, y = 0.0087 * size, 0.033 * size, [], 0.5 if title else 0.15
    left = 0.12 + 0.086 * max(len(name) for name in rows)
    names = []
    for name, (pieces, nats) in rows.items():
        names.append((name, y + 0.5 * line))
        x, fresh = left, True
        for piece, value in zip(pieces, nats, strict=True):
            shown = piece.lstrip(" ").replace("\n", "¶") or " "
            gap = 0.0 if fresh else 0.09 if piece.startswith(" ") else 0.02
            wide = step * len(shown) + 0.05
            if x + gap + wide > width - 0.1 and not fresh:
                x, y, gap = left, y + line, 0.0
            places.append((x + gap, y, wide, shown, colour_of(value)))
            x, fresh = x + gap + wide, False
        y += line + 0.16
    height = y + 0.42
    axes = canvas(width, height, title)
    for name, down in names:
        label(axes, 0.12, height - down, name, align="left", weight="bold")
    for x, down, wide, shown, colour in places:
        middle = height - down - 0.5 * line
        axes.add_patch(
            FancyBboxPatch(
                (x, middle - 0.42 * line),
                wide,
                0.84 * line,
                boxstyle="round,pad=0,rounding_size=0.04",
                facecolor=colour,
                edgecolor="#EEEEEE",
                linewidth=0.6,
            )
        )
        ink = "white" if is_dark(colour) else INK
        label(axes, x + wide / 2, middle, shown, ink, size, mono=True)
    scale(axes, left, 0.24)
    return axes


def scale(axes, x, y):
    """What the colours mean."""
    label(axes, x, y, "it had been given:", GREY, 9, align="left")
    x += 1.25
    for nats in (0, 2, 4, 6, 8):
        share = 100 * math.exp(-nats)
        words = "100 %" if nats == 0 else f"{share:.2g} %"
        words = words + " or less" if nats == DEAREST else words
        face = colour_of(nats)
        axes.add_patch(
            Rectangle((x, y - 0.09), 0.3, 0.18, facecolor=face, edgecolor="#CCCCCC", lw=0.6)
        )
        label(axes, x + 0.36, y, words, GREY, 9, align="left")
        x += 1.08 if nats < 6 else 1.12


def surprises(rows, title=None):
    """Sentences as tokens, over each a bar as high as its surprise, with its probability.

    rows  {note: (tokens, nats)}: str, and -ln p of each token after the first
    """
    widest = max(len(tokens) for tokens, _ in rows.values())
    step, tall = 9.1 / widest, 1.0
    largest = max(np.max(nats) for _, nats in rows.values())
    axes = canvas(9.4, 2.05 * len(rows) + 0.45, title)
    for row, (note, (tokens, nats)) in enumerate(rows.items()):
        y = 2.05 * (len(rows) - row - 1) + 0.42
        for i, token in enumerate(tokens):
            x = 0.2 + step * (i + 0.5)
            face = colour_of(nats[i - 1]) if i else PALE
            chip(axes, x, y, spelled(token), face, width=step - 0.04, size=6.7)
            if i == 0:
                continue
            high = tall * nats[i - 1] / largest
            axes.add_patch(Rectangle((x - 0.17, y + 0.2), 0.34, high, facecolor=RED))
            label(axes, x, y + 0.31 + high, f"{nats[i - 1]:.1f}", size=9)
            label(axes, x, y - 0.25, given(math.exp(-nats[i - 1])), GREY, 7)
        label(axes, 0.22, y + tall + 0.3, note, align="left", weight="bold")
    return axes


def given(p):
    if p >= 0.095:
        return f"{100 * p:.0f} %"
    if p >= 0.0095:
        return f"{100 * p:.1f} %"
    return f"1 in {1 / p:,.0f}" if p > 1e-6 else "< 1 in 10⁶"


def ladder(names, nats, title, colours=None):
    """Losses as bars, each with its perplexity."""
    high, left, inch = 0.4, 2.85, 3.6 / max(nats)
    axes = canvas(9.4, high * len(names) + 0.6, title)
    top = high * len(names) + 0.12
    for row, (name, value) in enumerate(zip(names, nats, strict=True)):
        y = top - high * (row + 0.5)
        colour = BLUE if colours is None else colours[row]
        label(axes, left - 0.1, y, name, align="right")
        axes.add_patch(Rectangle((left, y - 0.13), inch * value, 0.26, facecolor=colour))
        number = math.exp(value)
        words = f"{number:,.0f}" if number >= 100 else f"{number:.1f}"
        label(axes, left + inch * value + 0.08, y, f"{value:.2f} nats", align="left")
        label(axes, 7.85, y, words, align="right", size=10, weight="bold")
        label(axes, 7.9, y, " equally likely", GREY, 9, align="left")
    return axes


def context(positions, by_position, contexts, by_context):
    """Loss by position in the window, and by how many tokens the model may see, both on log scales.

    positions    [n], by_position (means, errors)
    contexts     [m], by_context (means, errors)
    """
    figure, panels = plt.subplots(1, 2, figsize=(9.4, 3.5), sharey=True)
    cases = (
        (
            positions,
            by_position,
            "position in the window",
            "The first tokens of a window cost most",
        ),
        (contexts, by_context, "tokens that the model may see", "The nearest tokens matter most"),
    )
    for axes, (xs, (means, errors), name, title) in zip(panels, cases, strict=True):
        axes.errorbar(xs, means, yerr=2 * np.asarray(errors), fmt="o-", color=BLUE, ms=4)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
        axes.set(xlabel=name, title=title, xticks=[1, 4, 16, 64, 256])
        axes.minorticks_off()
    panels[0].set_ylabel("nats per token")
    return figure


def repetition(n_copies, itself, others, between, gain):
    """Sentences after copies of themselves and after other text, and what a copy long ago is worth.

    itself, others  (means, errors) for each number of copies
    between         tokens between a copy and the sentence; gain (means, errors)
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.6))
    for (means, errors), colour, name, place in (
        (others, GREY, "after as many tokens of others", (0.98, 0.93, "right")),
        (itself, RED, "after copies of itself", (0.03, 0.05, "left")),
    ):
        left.errorbar(
            range(len(n_copies)), means, yerr=2 * np.asarray(errors), fmt="o-", color=colour, ms=4
        )
        x, y, side = place
        left.text(x, y, name, color=colour, ha=side, transform=left.transAxes)
    left.set_xticks(range(len(n_copies)), [str(n) for n in n_copies])
    low, high = left.get_ylim()
    left.set_ylim(low - 0.12 * (high - low), high)
    left.set(
        xlabel="copies before it",
        ylabel="nats per token of a sentence",
        title="A copy in front makes a sentence cheaper",
    )
    means, errors = gain
    xs = np.arange(len(between))
    right.bar(xs, means, yerr=2 * np.asarray(errors), color=RED, width=0.7, error_kw={"lw": 1.3})
    right.set_xticks(xs, [str(n) for n in between])
    right.axhline(0, color=INK, linewidth=0.8)
    right.set(
        xlabel="tokens between copy and sentence",
        ylabel="nats per token that a copy saves",
        title="Long ago counts for little",
    )
    right.grid(False, axis="x")
    return figure


def reliability(cases):
    """What was said beside what came, with 95 % intervals: a panel for each of {title: {name:
    (forecast, share, low, high)}}."""
    figure, panels = plt.subplots(1, len(cases), figsize=(4.7 * len(cases), 4.1), sharey=True)
    for axes, (title, curves) in zip(panels, cases.items(), strict=True):
        axes.plot([0, 100], [0, 100], "--", color=GREY, linewidth=1)
        for row, (name, curve) in enumerate(curves.items()):
            colour, marker = (BLUE, "o") if row == 0 else (GREEN, "s")
            said, came, low, high = (100 * np.asarray(values) for values in curve)
            axes.errorbar(
                said,
                came,
                yerr=(came - low, high - came),
                fmt=f"{marker}-",
                color=colour,
                ms=5,
                lw=1.3,
            )
            axes.text(4, 94 - 7 * row, name, color=colour, weight="bold", va="center")
        axes.set(
            xlim=(0, 100),
            ylim=(0, 100),
            xlabel="it said (%)",
            title=title,
            xticks=[0, 25, 50, 75, 100],
            yticks=[0, 25, 50, 75, 100],
        )
        axes.set_aspect("equal")
    panels[0].set_ylabel("it was right (%)")
    panels[0].text(91, 85, "honest", color=GREY, rotation=45, ha="center", va="center")
    return figure
