"""Training, drawn: noise that becomes words, the way downhill, and losses on their way."""

import re

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from .base import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    TOKEN,
    arrow,
    canvas,
    chip,
    label,
    shade,
)

ADAMW, MUON = BLUE, PURPLE
READ, HELD_OUT = ORANGE, BLUE


def printable(text):
    """The text on one line; what is no character of English as □."""
    return re.sub(r"[^ -~↵]", "□", text.replace("\n", "↵"))


def flip_book(lines, losses, known, n_shown=60):
    """What a model writes at each stop of its training, and its loss there.

    lines   {step: text}
    losses  {step: nats per token}
    known   the words that are marked, a set of str
    """
    row, advance, left, start = 0.3, 0.08, 0.95, 6.0  # advance is that of a character, in inches
    size = 72 * advance / 0.602
    height = row * len(lines) + 0.75
    axes = canvas(8.3, height)
    for x, name, align in (
        (left - 0.15, "step", "right"),
        (left, "what it writes", "left"),
        (start, "loss on text that it never reads", "left"),
    ):
        label(axes, x, height - 0.2, name, GREY, align=align)
    longest = max(losses.values())
    for place, (step, text) in enumerate(lines.items()):
        y = height - 0.5 - row * place
        shown = printable(text)[:n_shown]
        for word in re.finditer(r"[A-Za-z]+|[^A-Za-z ]+", shown):
            x, wide = left + advance * word.start(), advance * len(word.group())
            whole = word.end() < n_shown  # of what is cut off it cannot be seen
            if whole and len(word.group()) > 2 and word.group() in known:
                face = shade(GREEN, 0.35)
                axes.add_patch(Rectangle((x, y - 0.12), wide, 0.24, facecolor=face))
            label(axes, x, y - 0.01, word.group(), size=size, align="left", mono=True, zorder=4)
        label(axes, left - 0.15, y, f"{step:,}", align="right", weight="bold")
        wide = 1.6 * losses[step] / longest
        axes.add_patch(Rectangle((start, y - 0.09), wide, 0.18, facecolor=HELD_OUT))
        label(axes, start + wide + 0.06, y, f"{losses[step]:.2f}", align="left")
    note = "green: a word of three letters or more that stands in the text it learns from"
    label(axes, left, 0.12, f"{note};   □: no English character", GREY, 8, align="left")
    return axes


def shifted(pieces, n_seq, n_windows=5):
    """A text cut into windows, and of one window what is read and what has to be said.

    pieces  [n_seq + 1] tokens, str
    """
    step = 0.86
    left = 1.8
    axes = canvas(left + step * (n_seq + 1) + 0.2, 2.75)
    wide = (step * (n_seq + 1)) / n_windows
    for i in range(n_windows):
        face = shade(TOKEN, 0.35) if i == 1 else PALE
        x = left + wide * i
        axes.add_patch(Rectangle((x, 2.3), wide - 0.04, 0.24, facecolor=face))
    label(axes, left - 0.12, 2.42, "the text, in windows", align="right", size=9)
    for side, x in ((0, left), (1, left + step * n_seq)):
        arrow(axes, (left + wide * (1 + side), 2.28), (x, 1.9), colour=GREEN, width=0.8, head=0)
    xs = left + step * (np.arange(n_seq) + 0.5)
    for t, x in enumerate(xs):
        chip(axes, x, 1.65, pieces[t], shade(TOKEN, 0.35), width=step - 0.08, size=8)
        chip(axes, x, 0.65, pieces[t + 1], shade(BLUE, 0.3), width=step - 0.08, size=8)
        arrow(axes, (x, 1.48), (x, 0.82))
        if t:
            arrow(axes, (x - 0.1, 1.48), (x - step + 0.1, 0.82), colour=GREY, width=1.3, style=":",
                  head=0)  # fmt: skip
    label(axes, left - 0.12, 1.65, "inputs: it reads", align="right", weight="bold")
    label(axes, left - 0.12, 0.65, "targets: it must say", align="right", weight="bold")
    label(axes, left, 0.22, "dotted: the same token, one place further left", GREY, 8, align="left")
    return axes


def direct(axes, x, y, text, colour, dy=0, align="left", weight="bold", size=9):
    """A label at the end of a curve, in its colour, dy points higher."""
    axes.annotate(
        text,
        (x, y),
        xytext=(5 if align == "left" else -5, dy),
        textcoords="offset points",
        color=colour,
        ha=align,
        va="center",
        fontsize=size,
        weight=weight,
        annotation_clip=False,
    )


def downhill(changes, one, slope, rates, every, n_numbers):
    """A step downhill: of one number, and of all at once.

    changes, one  the loss where a single number is changed by so much
    slope         its gradient
    rates, every  the loss where every number is moved by -rate times its gradient
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3))
    here, reach = every[0], 0.8 * max(changes)
    left.plot(changes, one, color=BLUE, linewidth=2)
    left.plot([-reach, reach], [here - slope * reach, here + slope * reach], "--", color=RED)
    left.plot(0, here, "o", color=INK, zorder=5)
    low = -1 if slope > 0 else 1  # the side on which the tangent is low, below the curve
    direct(left, low * reach, here - abs(slope) * reach, "the slope here: its gradient", RED,
           align="left" if low < 0 else "right", dy=-12)  # fmt: skip
    left.margins(y=0.12)
    left.set(title="One number: the slope says which way", ylabel="loss (nats per token)")
    left.set_xlabel("change of this number")
    best = int(np.argmin(every))
    right.plot(rates, every, color=BLUE, linewidth=2)
    for place, name, colour, align, dy in (
        (0, "here", INK, "left", 6),
        (best, "far enough", GREEN, "left", -10),
        (len(rates) - 1, "too far", RED, "right", 6),
    ):
        right.plot(rates[place], every[place], "o", color=colour, zorder=5)
        direct(right, rates[place], every[place], name, colour, align=align, dy=dy)
    right.margins(y=0.12)
    right.set(title=f"All {n_numbers:,} at once: not too far", xlabel="learning rate")
    return figure


def one_number(gradients, first, rate, paths):
    """AdamW's way with one number: its first step, and how far it gets in many.

    gradients, first  sizes of a gradient, and of the first step that each leads to
    paths             {what the gradient is: distance gone after each step}
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.4), width_ratios=(1, 1.1))
    left.loglog(gradients, first, "o-", color=ADAMW, markersize=4)
    left.loglog(gradients, rate * gradients, color=GREY)
    direct(left, gradients[4], first[4], "AdamW", ADAMW, dy=14)
    direct(left, gradients[-3], rate * gradients[-3], "plain descent:\nrate × gradient", GREY,
           align="right")  # fmt: skip
    left.set(
        title="The first step: as long as the rate",
        xlabel="size of the gradient",
        ylabel="size of the step",
        ylim=(1e-9, 10),
    )
    end = len(next(iter(paths.values()))) - 1
    for (name, path), colour in zip(paths.items(), (GREEN, BLUE, ORANGE, RED), strict=False):
        right.plot(path, color=colour)
        direct(right, end, path[-1], name, colour)
    right.set(
        title="A steady gradient gets far, noise does not", xlabel="step", ylabel="distance gone"
    )
    right.set_xlim(0, 1.65 * end)
    right.set_xticks([0, end // 2, end])
    return figure


def schedule(rates, n_warmup):
    """The learning rate at each step."""
    figure, axes = plt.subplots(figsize=(7, 2.3))
    axes.plot(rates, color=BLUE, linewidth=2)
    axes.set(title="Up in a line, down along half a wave", xlabel="step", ylabel="learning rate")
    axes.set(ylim=(0, None))
    direct(axes, n_warmup, rates[n_warmup], "warm-up ends", INK, weight="normal", dy=-18)
    direct(axes, len(rates) - 1, rates[-1], "small steps\nat the end", INK, align="right", dy=22,
           weight="normal")  # fmt: skip
    return figure


def singular_values(before, after):
    """Of one update, before and after it is orthogonalised: each in units of its largest."""
    figure, axes = plt.subplots(figsize=(6.6, 3))
    for values, name, colour in (
        (before, "the gradient", ADAMW),
        (after, "after Muon's step", MUON),
    ):
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, linewidth=2)
        middle = len(values) // 3
        direct(axes, middle, values[middle], name, colour, dy=13)
    axes.set(
        title="The gradient goes in few directions, Muon's step in nearly all",
        xlabel="direction, the strongest first",
        ylabel="singular value ÷ largest",
        ylim=(0, 1.1),
    )
    return figure


def curves(axes, at, runs, colour, name, style="-", dy=0, align="left"):
    """Runs [n_runs, n_stops] as thin lines, their mean as a thick one with its name at the end."""
    runs = np.atleast_2d(runs)
    for run in runs:
        axes.plot(at, run, style, color=colour, linewidth=0.7, alpha=0.6)
    mean = runs.mean(axis=0)
    axes.plot(at, mean, style, color=colour, linewidth=2)
    direct(axes, at[-1], mean[-1], name, colour, dy=dy, align=align)


def race(at, adamw, muon):
    """Losses [n_seeds, n_stops] of two optimizers at the same steps."""
    figure, axes = plt.subplots(figsize=(6.6, 3.2))
    curves(axes, at, adamw, ADAMW, "AdamW", dy=4)
    curves(axes, at, muon, MUON, "Muon", dy=-4)
    axes.set(
        title="For as many steps, Muon gets further here",
        xlabel="step",
        ylabel="loss (nats per token)",
        xlim=(0, 1.16 * at[-1]),
    )
    return figure


def first_learned(at, losses, distances, yardsticks):
    """The loss beside those of simpler models, and how far the model is from each of them.

    distances   {name: [n_stops]}
    yardsticks  {name: loss}
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    x = np.maximum(at, 0.5)  # step 0 has no place on a logarithmic axis
    colours = dict(zip(distances, (ORANGE, GREEN, PURPLE), strict=True))
    left.plot(x, losses, "o-", color=INK, markersize=4)
    for name, value in yardsticks.items():
        colour = colours.get(name, GREY)
        left.axhline(value, color=colour, linestyle="--", linewidth=1.2)
        left.text(0.55, value - 0.07, name, color=colour, va="top", weight="bold", fontsize=9)
    left.set(title="It passes one simple model after another", ylabel="loss (nats per token)")
    for name, values in distances.items():
        nearest = int(np.argmin(values))
        right.plot(x, values, "o-", color=colours[name], markersize=3)
        right.plot(x[nearest], values[nearest], "o", color=colours[name], markersize=11,
                   fillstyle="none")  # fmt: skip
        direct(right, x[0], values[0], name, colours[name], dy=9)
    right.set(
        title="It is nearest to each of them in turn (circles)", ylabel="KL divergence (nats)"
    )
    right.set(ylim=(0, 1.12 * max(max(values) for values in distances.values())))
    for axes in (left, right):
        axes.set(xscale="log", xlabel="step")
        axes.set_xticks([0.5, 1, 10, 100, 1000], ["0", "1", "10", "100", "1,000"])
        axes.minorticks_off()
    return figure


def two_units(sizes, measured, same_bytes):
    """One training with vocabularies of several sizes, in two units.

    measured    [n_sizes, n_seeds, 2]: nats per token and bits per byte
    same_bytes  [n_seeds]: bits per byte with the smallest, when it reads as many bytes as the last
    """
    figure, panels = plt.subplots(1, 2, figsize=(8.6, 3.2))
    places = np.arange(len(sizes))
    for axes, values, title, unit in (
        (panels[0], measured[..., 0], "Per token, single bytes look best", "nats per token"),
        (panels[1], measured[..., 1], "Per byte, they are worst", "bits per byte"),
    ):
        axes.plot(places, values.mean(axis=1), color=BLUE, linewidth=2)
        axes.plot(places, values, "o", color=BLUE, markersize=4)
        axes.set(title=title, ylabel=unit, xlabel="tokens in the vocabulary", ylim=(0, None))
        axes.set_xticks(places, [f"{size:,}" for size in sizes])
        axes.margins(x=0.15)
    panels[1].plot(np.zeros(len(same_bytes)), same_bytes, "o", color=ORANGE, markersize=4)
    where = (0, float(np.mean(same_bytes)))
    direct(panels[1], *where, "if it reads as\nmany bytes as\nthe largest", ORANGE, dy=-24)
    return figure


def by_heart(at, runs):
    """Losses of a text that is read again and again, and of one that is not.

    runs  {name: [n_seeds, n_stops, 2]}, the two losses
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True)
    for (name, losses), colour in zip(runs.items(), (RED, BLUE, GREEN), strict=True):
        if name != "all of the text":
            curves(left, at, losses[..., 0], colour, name)
        curves(right, at, losses[..., 1], colour, name, dy=-5 if name == "dropout" else 5)
    left.set(title="What it reads gets ever easier", ylabel="loss (nats per token)")
    right.set(title="What it does not read, only for a while")
    for axes in (left, right):
        axes.set(xlabel="step", xlim=(0, 1.55 * at[-1]))
        axes.set_xticks([0, at[len(at) // 2], at[-1]])
    return figure


def seeds(rows, title):
    """Bits per byte of several runs each: {name: [n_seeds]} from the top down, a dot for each."""
    figure, axes = plt.subplots(figsize=(7.8, 0.42 * len(rows) + 1))
    colours = (GREY, GREEN, ORANGE, BLUE, BLUE)
    for place, (values, colour) in enumerate(zip(rows.values(), colours, strict=True)):
        axes.barh(place, np.mean(values), 0.5, color=colour, alpha=0.35)
        axes.plot(values, [place] * len(values), "o", color=colour, markersize=5)
        direct(axes, max(values), place, f"{np.mean(values):.2f}", INK, weight="normal")
    axes.set(title=title, xlim=(0, 1.1 * max(map(max, rows.values()))))
    axes.set_xlabel("bits per byte of the manual's held-out part")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure


def gained_and_lost(at, bits, names):
    """Two texts while a model is tuned to the first of them: bits per byte [n_seeds, n_stops, 2]"""
    figure, axes = plt.subplots(figsize=(6.6, 3.2))
    curves(axes, at, bits[..., 0], GREEN, names[0], dy=6)
    curves(axes, at, bits[..., 1], RED, names[1])
    axes.set(
        title="What it gains, and what it forgets",
        xlabel="step of fine-tuning",
        ylabel="bits per byte",
        ylim=(0, None),
        xlim=(0, 1.3 * at[-1]),
    )
    axes.set_xticks(at)
    return figure


def unmasked(at, masked, bare, blind):
    """Losses of a model with a mask, and of one without: [(answer in sight, not there yet, ...)] at
    each stop."""
    figure, axes = plt.subplots(figsize=(7.4, 3.4))
    in_sight, writing = ([stop[i] for stop in bare] for i in (0, 1))
    curves(axes, at, writing, RED, "no mask, the answer\nis not there yet")
    curves(axes, at, [stop[1] for stop in masked], BLUE, "with the mask")
    curves(axes, at, in_sight, ORANGE, "no mask, the answer\nis in sight", dy=16)
    axes.axhline(blind, color=GREY, linestyle="--", linewidth=1)
    axes.text(at[-1] * 1.02, blind, "a blind guess", color=GREY, va="bottom", fontsize=9)
    axes.set(
        title="Without a mask it learns to copy, and no longer to guess",
        xlabel="step",
        ylabel="loss (nats per token)",
        xlim=(0, 1.4 * at[-1]),
        ylim=(0, None),
    )
    axes.set_xticks([0, at[len(at) // 2], at[-1]])
    return figure
