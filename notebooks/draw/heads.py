"""Heads, drawn: their maps as a poster, all heads as dots in a row, what happens without them."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Polygon, Rectangle

from .base import (
    ATTENTION,
    BLUES,
    GREY,
    HIDDEN_BY_MASK,
    INK,
    PALE,
    QUERY,
    RED,
    VALUE,
    arrow,
    canvas,
    chip,
    heatmap,
    is_dark,
    label,
    shade,
    spelled,
)


def name(head):
    """(4, 1) is written L4H1: layer 4, head 1."""
    return f"L{head[0]}H{head[1]}"


def poster(maps, tokens, large):
    """The maps of all heads, small, and a few of them large beside: one scale of colours.

    maps    [n_layer, n_head, n_seq, n_seq], shares from 0 to 1
    large   {(layer, head): what it does}
    """
    n_layer, n_head, n_seq, _ = maps.shape
    step, side = 1.0, 0.92
    left = 0.75
    beside = left + step * n_head + 0.95
    big = 1.85
    high = max(step * n_layer, (big + 0.4) * len(large))
    axes = canvas(beside + big + 1.4, high + 1.05)
    top = high + 0.62

    def draw_map(head, x, y, size):
        """With its upper left corner at x, y."""
        place = axes.inset_axes((x, y - size, size, size), transform=axes.transData)
        heatmap(place, np.tril(maps[head]), limit=1.0)
        hatch_future(place, n_seq)
        colour = RED if head in large else HIDDEN_BY_MASK
        for spine in place.spines.values():
            spine.set(visible=True, color=colour, linewidth=1.8 if head in large else 0.6)
        return place

    for i in range(n_layer):
        y = top - step * i
        label(axes, left - 0.1, y - side / 2, f"layer {i}", GREY, align="right")
        for h in range(n_head):
            draw_map((i, h), left + step * h, y, side)
    for h in range(n_head):
        label(axes, left + step * h + side / 2, top + 0.16, f"head {h}", GREY)
    for row, (head, what) in enumerate(large.items()):
        y = top - (big + 0.4) * row
        label(axes, beside, y + 0.14, f"{name(head)}: {what}", RED, 9, "left", weight="bold")
        place = draw_map(head, beside, y, big)
        names = [spelled(token) for token in tokens]
        place.yaxis.set_ticks(range(n_seq), names, family="monospace", fontsize=6.5)
        if row == len(large) - 1:
            place.xaxis.set_ticks(range(n_seq), names, family="monospace", fontsize=6.5)
            place.tick_params(axis="x", rotation=90)
    scale_of_shares(axes, beside + big + 0.45, top - big / 2 - 0.2)
    return axes


def scale_of_shares(axes, x, y, height=1.3):
    """What the colours of a map mean, from 0 to 100 %."""
    axes.imshow(
        np.linspace(1, 0, 64)[:, None], BLUES, vmin=0, vmax=1, aspect="auto", zorder=2,
        extent=(x, x + 0.14, y - height / 2, y + height / 2),
    )  # fmt: skip
    axes.set(xlim=(0, axes.figure.get_figwidth()), ylim=(0, axes.figure.get_figheight()))
    for share in (0, 50, 100):
        at = y + height * (share / 100 - 0.5)
        label(axes, x + 0.2, at, f"{share} %", GREY, 8, "left")
    hatched = Rectangle((x, y - height / 2 - 0.34), 0.14, 0.18, zorder=2)
    hatched.set(facecolor="#F2F2F2", edgecolor="#C8C8C8", hatch="/////", linewidth=0)
    axes.add_patch(hatched)
    label(axes, x + 0.2, y - height / 2 - 0.25, "future", GREY, 8, "left")


def hatch_future(axes, n_seq):
    """Hatch what the mask hides of a map [n_seq, n_seq]: all above its diagonal."""
    corners = [(-0.5, -0.5)]
    for i in range(n_seq):
        corners += [(i + 0.5, i - 0.5), (i + 0.5, i + 0.5)]
    corners += [(n_seq - 0.5, -0.5)]
    axes.add_patch(
        Polygon(corners, facecolor="#F2F2F2", edgecolor="#C8C8C8", hatch="////", linewidth=0)
    )


def dots(rows, title, even=None, errors=None, percent=False, unit="", n_named=3, zero=False):
    """All heads as dots, a row for each question; within a row the first layer stands uppermost.

    rows     {question: values [n_layer, n_head]}
    even     {question: what an even head would get}
    errors   {question: [n_layer, n_head]}: drawn as lines of twice that to both sides
    n_named  so many of the highest of each row get their names, where there is room
    """
    n_layer, n_head = next(iter(rows.values())).shape
    line = 0.095
    tall = line * n_layer + 0.22
    _, axes = plt.subplots(figsize=(9.2, tall * len(rows) + 0.95))
    spread = {key: 0.0 if errors is None else 2 * errors[key] for key in rows}
    highest = max(float((values + spread[key]).max()) for key, values in rows.items())
    lowest = min(0.0, *(float((values - spread[key]).min()) for key, values in rows.items()))
    wide = highest - lowest
    shades = [shade(ATTENTION, s) for s in np.linspace(0.45, 1.0, n_layer)]
    for row, (question, values) in enumerate(rows.items()):
        middle = -tall * row
        axes.axhspan(middle - tall / 2, middle + tall / 2, color=PALE, alpha=0.6 * (row % 2), lw=0)
        ys = middle + line * ((n_layer - 1) / 2 - np.arange(n_layer))
        for i in range(n_layer):
            if errors is not None:
                axes.errorbar(
                    values[i], [ys[i]] * n_head, xerr=spread[question][i], fmt="none",
                    ecolor=shade(shades[i], 0.6), elinewidth=1.1, zorder=2,
                )  # fmt: skip
            axes.plot(values[i], [ys[i]] * n_head, "o", color=shades[i], markersize=5, zorder=3)
        if even:
            edges = [middle - tall / 2 + 0.04, middle + tall / 2 - 0.04]
            axes.plot([even[question]] * 2, edges, color=RED, linewidth=1.6, zorder=1)
        taken = []
        order = [np.unravel_index(k, values.shape) for k in np.argsort(-values, axis=None)]
        for i, h in order[:n_named]:
            x = values[i, h] + 0.011 * wide
            if all(abs(ys[i] - b) > 0.06 or abs(x - a) > 0.05 * wide for a, b in taken):
                beside = (values[i] > values[i, h]) & (values[i] < values[i, h] + 0.045 * wide)
                if not beside.any():
                    behind = {"facecolor": "white", "alpha": 0.75, "pad": 0.6, "linewidth": 0}
                    label(axes, x, ys[i], name((i, h)), INK, 8, "left", zorder=5, bbox=behind)
                    taken.append((x, ys[i]))
    if even:
        first = next(iter(rows))
        axes.annotate(
            "an even head", (even[first], tall / 2), (0, 3), textcoords="offset points",
            color=RED, fontsize=8, ha="left" if even[first] < 0.05 * wide else "center",
        )  # fmt: skip
    for i, end in ((0, "layer 0 above"), (n_layer - 1, f"layer {n_layer - 1} below")):
        y = line * ((n_layer - 1) / 2 - i)
        label(axes, highest + 0.06 * wide, y, end, shades[i], 8, "left")
    axes.set(
        xlim=(lowest - 0.02 * wide, highest + 0.05 * wide),
        ylim=(-tall * (len(rows) - 0.5), tall / 2),
        yticks=[-tall * row for row in range(len(rows))],
        yticklabels=list(rows),
        xlabel=unit,
    )
    axes.set_title(title, pad=16 if even else 8)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    if percent:
        axes.xaxis.set_major_formatter(lambda x, _: f"{round(100 * x, 1):g} %")
    if zero:
        axes.axvline(0, color=GREY, linewidth=1, zorder=1)
    return axes


def favourites(found, n_layer, n_head, title):
    """The tokens that each head favours, as chips: found {(layer, head): [(token, times)]}."""
    wide, chip_step = 2.3, 0.45
    axes = canvas(0.7 + wide * n_head, 0.42 * n_layer + 0.85, title)
    for (i, h), tokens in found.items():
        x, y = 0.7 + wide * h, 0.42 * (n_layer - i) + 0.16
        if h == 0:
            label(axes, 0.62, y, f"layer {i}", GREY, 9, "right")
        label(axes, x + 0.14, y, name((i, h)), INK, 9, weight="bold")
        for place, (token, times) in enumerate(tokens):
            strength = float(np.clip(np.log2(max(times, 1.0)) / 3, 0.04, 1.0))
            at, shown = x + 0.53 + chip_step * place, spelled(token)
            size = min(9.0, (chip_step - 0.09) / (0.0086 * len(shown)))
            chip(axes, at, y, shown, shade(ATTENTION, strength), chip_step - 0.03, size=size)
    label(axes, 0.7, 0.2, "times the weight that an even head would give:", GREY, 9, "left")
    for place, times in enumerate((1, 2, 4, 8)):
        face = shade(ATTENTION, max(0.04, place / 3))
        shown = f"{times}" if times < 8 else "8 and more"
        at = 4.1 + 0.5 * place + 0.25 * (times == 8)
        chip(axes, at, 0.2, shown, face, 0.42 + 0.5 * (times == 8), 0.22, size=8)
    return axes


def losses(mean, error, title, unit="more nats per token"):
    """What each head is worth: a dot with its error, [n_layer, n_head] each, layer after layer."""
    n_layer, n_head = mean.shape
    _, axes = plt.subplots(figsize=(9.2, 3.0))
    for i in range(n_layer):
        xs = i * (n_head + 1) + np.arange(n_head)
        axes.errorbar(
            xs, mean[i], yerr=2 * error[i], fmt="o", color=ATTENTION, ecolor=shade(ATTENTION, 0.55),
            elinewidth=2, markersize=6,
        )  # fmt: skip
    places = [(i, h) for i in range(n_layer) for h in range(n_head)]
    axes.set(
        xticks=[i * (n_head + 1) + h for i, h in places],
        xticklabels=[name(place) for place in places],
        ylabel=unit,
        title=title,
    )
    axes.axhline(0, color=GREY, linewidth=1)
    axes.set_ylim(bottom=min(0.0, float((mean - 2 * error).min())) - 0.03 * float(mean.max()))
    axes.tick_params(axis="x", length=0, labelsize=9)
    axes.grid(False, axis="x")
    return axes


def look_and_need(panels, title):
    """Two panels of dots, a dot for each head: how much it looks, and how much it is needed.

    panels  [(name of x, x [n_layer, n_head], name of y, y, its error, even head's x)]
    """
    figure, both = plt.subplots(1, 2, figsize=(9.2, 3.6))
    for axes, (x_name, x, y_name, y, error, even) in zip(both, panels, strict=True):
        axes.axhline(0, color=GREY, linewidth=1)
        axes.axvline(even, color=RED, linewidth=1.4)
        axes.errorbar(
            x.ravel(), y.ravel(), yerr=2 * error.ravel(), fmt="o", color=ATTENTION,
            ecolor=shade(ATTENTION, 0.45), markersize=5,
        )  # fmt: skip
        named = {*np.argsort(-x, axis=None)[:3], *np.argsort(-y, axis=None)[:3]}
        taken = []
        for k in sorted(named, key=lambda k: -y.flat[k]):
            at = np.array([x.flat[k] / x.max(), y.flat[k] / y.max()])
            if all(abs(at - other)[0] > 0.1 or abs(at - other)[1] > 0.07 for other in taken):
                taken.append(at)
                axes.annotate(
                    name(np.unravel_index(k, x.shape)), (x.flat[k], y.flat[k]), (6, 3),
                    textcoords="offset points", fontsize=8, color=INK,
                )  # fmt: skip
        axes.set(xlabel=x_name, ylabel=y_name, xlim=(0, 1.12 * x.max()))
        most_x, most_y = ({*np.argsort(-values, axis=None)[:3].tolist()} for values in (x, y))
        agree = [name(np.unravel_index(k, x.shape)) for k in sorted(most_x & most_y)]
        both_most = (
            f"among the 3 that look most and the 3 missed most: {', '.join(agree) or 'none'}"
        )
        axes.set_title(both_most, fontweight="normal", fontsize=9)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.annotate(
            "even head", (even, 1), (4, -8), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=RED, fontsize=8,
        )  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def pairs(panels, title):
    """Costs of silent heads: alone and added up (hollow), and together (full), with its error.

    panels  [(title, {name: (the sum, together, error of their difference)})]
    """
    tall = 0.32 * max(len(rows) for _, rows in panels) + 1.2
    figure, all_axes = plt.subplots(1, len(panels), figsize=(9.2, tall), squeeze=False)
    for axes, (panel_title, rows) in zip(all_axes[0], panels, strict=True):
        for row, (first, second, error) in enumerate(rows.values()):
            axes.plot([first, second], [-row, -row], color=shade(ATTENTION, 0.5), linewidth=2)
            axes.plot(first, -row, "o", color=ATTENTION, markerfacecolor="white", markersize=7)
            axes.errorbar(
                second, -row, xerr=2 * error, fmt="o", color=ATTENTION, markersize=7,
                ecolor=INK, elinewidth=1.2, capsize=2, zorder=4,
            )  # fmt: skip
        first, second, _ = max(rows.values(), key=lambda row: abs(row[1] - row[0]))
        row = next(k for k, v in enumerate(rows.values()) if v[:2] == (first, second))
        near = abs(first - second) < 0.3 * np.ptp([value for r in rows.values() for value in r[:2]])
        for value, other, text in ((first, second, "the sum"), (second, first, "together")):
            align = "center" if not near else "right" if value < other else "left"
            axes.annotate(
                text, (value, -row), (0, 8), textcoords="offset points", fontsize=8,
                color=ATTENTION, ha=align,
            )  # fmt: skip
        axes.set(
            yticks=[-row for row in range(len(rows))],
            yticklabels=list(rows),
            ylim=(-len(rows) + 0.4, 0.75),
            xlabel="more nats per token",
        )
        axes.set_title(panel_title, fontweight="normal", fontsize=10)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        low, high = axes.get_xlim()
        axes.set_xlim(min(0.0, low) - 0.02 * (high - low), high + 0.04 * (high - low))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def influence(tokens, matrix, by_distance, title):
    """How much each loss depends on each position, [n, n], and its mean by distance.

    by_distance  [n_windows, n_distances]
    """
    n = len(matrix)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.6, 4.3), gridspec_kw={"width_ratios": [1.25, 1]}
    )
    names = [spelled(token) for token in tokens]
    rows = [f"{a} → {b}" for a, b in itertools.pairwise(names)]
    image = heatmap(left, matrix, "", rows, names[:n], hidden=~np.tri(n, dtype=bool))
    left.set(ylabel="loss here (→ the token to guess)", xlabel="vector that is moved")
    bar = figure.colorbar(image, ax=left, shrink=0.6, aspect=14)
    bar.set_label("nats per unit moved", size=8)
    bar.outline.set_visible(False)
    label(left, 0.72 * n, 0.2 * n, "future: exactly 0", GREY, 9, backgroundcolor="white")
    for line in by_distance:
        right.plot(line, color=shade(ATTENTION, 0.35), linewidth=0.8)
    right.plot(by_distance.mean(axis=0), color=ATTENTION, linewidth=2.4)
    right.set(xlabel="positions back", ylabel="nats per unit moved", ylim=(0, None))
    right.set_title("the tale: each window, and their mean", fontweight="normal", fontsize=10)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def gains(rows, title):
    """How much is gained, with two standard errors: rows {name: (mean, error)}."""
    _, axes = plt.subplots(figsize=(8.6, 0.5 * len(rows) + 0.85))
    for row, (mean, error) in enumerate(rows.values()):
        axes.errorbar(
            mean, -row, xerr=2 * error, fmt="o", color=ATTENTION, ecolor=shade(ATTENTION, 0.55),
            elinewidth=2.4, markersize=7,
        )  # fmt: skip
        axes.annotate(
            f"{mean:.2f}".replace("-", "−"),
            (mean, -row),
            (0, 7),
            textcoords="offset points",
            fontsize=9,
            ha="center",
        )
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set(
        yticks=[-row for row in range(len(rows))],
        yticklabels=list(rows),
        ylim=(-len(rows) + 0.5, 0.6),
        xlabel="nats per token less surprising, the second time",
    )
    axes.set_title(title)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return axes


def lookup_task(letters, t, offsets):
    """The small task: at position t, say which letters stand so many places back, in order."""
    step, y = 0.55, 0.62
    axes = canvas(step * len(letters) + 3.55, 1.75, "The task: say the last four, in this order")
    xs = 0.4 + step * np.arange(len(letters))
    for s, (x, letter) in enumerate(zip(xs, letters, strict=True)):
        face = shade(QUERY, 0.5) if s == t else "#EFEFEF" if s > t else shade(VALUE, 0.3)
        chip(axes, x, y, letter, face, 0.4, 0.36, size=11)
        under = "here" if s == t else f"−{t - s}" if s < t else ""
        label(axes, x, y - 0.32, under, GREY, 8)
    for offset in offsets:
        start, end = (xs[t], y + 0.2), (xs[t - offset], y + 0.2)
        arrow(axes, start, end, colour=ATTENTION, bend=0.75 - 0.1 * offset)
    x = xs[-1] + 0.55
    label(axes, x, y, "answer:", INK, 10, "left")
    for place, offset in enumerate(offsets):
        at = x + 0.9 + 0.46 * place
        chip(axes, at, y, letters[t - offset], shade(VALUE, 0.3), 0.4, 0.36, size=11)
        label(axes, at, y - 0.32, f"−{offset}", GREY, 8)
    return axes


def trained(panels, chance, title):
    """Accuracy by number of heads, a dot for each seed: panels {title: {n_head: [n_seeds]}}."""
    figure, all_axes = plt.subplots(1, len(panels), figsize=(8.6, 3.2), sharey=True)
    for axes, (panel_title, found) in zip(all_axes, panels.items(), strict=True):
        xs = np.arange(len(found))
        means = [np.mean(values) for values in found.values()]
        axes.plot(xs, means, color=shade(ATTENTION, 0.4), linewidth=2, zorder=1)
        for x, values in zip(xs, found.values(), strict=True):
            beside = x + 0.09 * (np.arange(len(values)) - (len(values) - 1) / 2)
            axes.plot(beside, values, "o", color=ATTENTION, markersize=6)
        axes.axhline(chance, linestyle="--", color=GREY, linewidth=1)
        axes.set(
            xticks=xs,
            xticklabels=[f"{n}" for n in found],
            xlim=(-0.5, len(found) - 0.5),
            ylim=(0, 1.05),
            yticks=[0, 0.5, 1],
            yticklabels=["0", "50 %", "100 %"],
            xlabel="heads (all together always 32 features)",
        )
        axes.set_title(panel_title, fontweight="normal", fontsize=10)
        axes.grid(False, axis="x")
    all_axes[0].set_ylabel("right answers")
    label(all_axes[0], 0, chance + 0.05, "guessing", GREY, 8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def shares(models, title):
    """Where trained heads look: {name: [n_head, n_offsets]}, the share of so many places back."""
    rows = sum(len(values) for values in models.values())
    tall = 0.34 * rows + 0.35 * len(models) + 0.75
    wide = next(iter(models.values())).shape[1]
    axes = canvas(max(1.75 + 0.75 * wide + 0.2, 0.2 + 0.092 * len(title)), tall, title)
    y = tall - 0.62
    for offset in range(wide):
        above = "itself" if offset == 0 else f"−{offset}"
        label(axes, 1.75 + 0.75 * (offset + 0.5), y, above, GREY, 9)
    y -= 0.3
    for model, values in models.items():
        label(axes, 0.12, y, model, INK, 10, "left", weight="bold")
        for row in values[np.argsort(values.argmax(axis=1))]:
            for offset, share in enumerate(row):
                face = BLUES(float(share))
                box = Rectangle((1.75 + 0.75 * offset + 0.02, y - 0.14), 0.71, 0.28, facecolor=face)
                axes.add_patch(box)
                ink = "white" if is_dark(face[:3]) else INK
                label(axes, 1.75 + 0.75 * (offset + 0.5), y, f"{100 * share:.0f} %", ink, 9)
            y -= 0.34
        y -= 0.25
    return axes
