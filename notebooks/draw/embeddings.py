"""Embeddings, drawn: rows that are looked up and added, what the rows have learned, positions."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from .base import (
    BLUE,
    GREEN,
    GREY,
    INK,
    NORM,
    ORANGE,
    POSITION,
    PURPLE,
    RED,
    SKY,
    TOKEN,
    arrow,
    canvas,
    chip,
    heatmap,
    label,
    plus,
    shade,
    spelled,
    strip,
)

N_SHOWN = 24  # features of a vector that a picture shows


def lookup(tokens, ids, t, wte, wpe, names):
    """How the token at position t becomes a vector: a row of each table, and their sum.

    tokens, ids  [n_seq]
    wte, wpe     [n_vocab, n_embd], [n_ctx, n_embd]
    names        the tokens of the whole vocabulary, [n_vocab]
    """
    axes = canvas(11.6, 5.1)
    wide, step, left, column = 3.3, 0.29, 2.95, 8.0
    limit = 0.8 * np.abs(np.concatenate([wte[ids, :N_SHOWN], wpe[:5, :N_SHOWN]])).max()

    def row(x, y, values, colour=None):
        strip(axes, x + wide / 2, y, values[:N_SHOWN], colour, 0.21, wide, False, limit)

    def table(top, rows, chosen, texts, colour, title):
        """Some rows of a table, one of them chosen: where that is."""
        label(axes, left, top + 0.62, title, colour, 10, "left", weight="bold")
        label(axes, left - 0.27, top + 0.3, "one-hot", GREY, 8)
        for i, (number, text) in enumerate(zip(rows, texts, strict=True)):
            y, here = top - step * i, number == chosen
            row(left, y, rows[number], colour if here else None)
            label(axes, left - 0.5, y, text, INK if here else GREY, 8, "right", mono=True)
            face = shade(colour, 0.5) if here else "white"
            chip(axes, left - 0.27, y, "1" if here else "0", face, 0.24, 0.22, size=8.5)
        for y in (top + step * 0.85, top - step * (len(rows) - 0.15)):
            label(axes, left + wide / 2, y, "⋮", GREY, 11)
        return top - step * list(rows).index(chosen)

    near = {i: wte[i] for i in range(ids[t] - 3, ids[t] + 4)}
    first = {i: wpe[i] for i in range(5)}
    spellings = [f"{spelled(names[i])} {i:5}" for i in near]
    token_y = table(4.1, near, ids[t], spellings, TOKEN, f"wte: a row for each token {wte.shape}")
    place_y = table(
        1.3, first, t, list(map(str, first)), POSITION, f"wpe: a row for each position {wpe.shape}"
    )
    for y, text, colour, below, to in (
        (token_y, spelled(tokens[t]), TOKEN, f"id {ids[t]}", 1.35),
        (place_y, str(t), POSITION, "position", 2.3),
    ):
        chip(axes, 0.5, y, text, shade(colour, 0.5), size=10)
        label(axes, 0.5, y - 0.27, below, size=9)
        arrow(axes, (0.9, y), (to, y), colour=colour, width=2)

    sum_y = [2.72, 2.36, 1.9]  # of the two rows, and of what they add up to
    for y, to, colour, text in (
        (token_y, sum_y[0], TOKEN, f"wte[{ids[t]}]"),
        (place_y, sum_y[1], POSITION, f"wpe[{t}]"),
    ):
        bend = 6.9
        arrow(axes, (left + wide + 0.04, y), (bend, y), (bend, to), (column - 0.85, to),
              colour=colour, width=2)  # fmt: skip
        label(axes, column - 0.1, to, text, colour, 9, "right", mono=True)
    row(column, sum_y[0], wte[ids[t]], TOKEN)
    row(column, sum_y[1], wpe[t], POSITION)
    plus(axes, column + wide + 0.18, sum_y[1], 0.1)
    axes.plot([column, column + wide], [2.13, 2.13], color=INK, linewidth=1.5)
    row(column, sum_y[2], wte[ids[t]] + wpe[t], INK)
    label(axes, column - 0.1, sum_y[2], f"x[{t}]", size=10, align="right", weight="bold", mono=True)
    label(axes, column, 1.6, f"{N_SHOWN} of {wte.shape[1]} numbers are shown", GREY, 8.5, "left")
    return axes


def neighbours(columns, title):
    """Tokens and their nearest ones: [(token, [(neighbour, cosine)])], a column for each."""
    n, wide = len(columns[0][1]), 2.35
    axes = canvas(wide * len(columns) + 0.1, 0.3 * n + 1.25, title)
    for i, (token, near) in enumerate(columns):
        left, top = wide * i + 0.1, 0.3 * n + 0.55
        chip(axes, left + 1.05, top, spelled(token), shade(TOKEN, 0.5), size=10)
        for row, (name, cosine) in enumerate(near):
            y = top - 0.42 - 0.3 * row
            label(axes, left + 1.0, y, spelled(name), size=9.5, align="right", mono=True)
            axes.add_patch(Rectangle((left + 1.08, y - 0.09), 0.75 * cosine, 0.18, facecolor=GREEN))
            label(axes, left + 1.13 + 0.75 * cosine, y, f"{cosine:.2f}", size=8, align="left")
    return axes


def apart(places, sizes, n_rounds=600):
    """Labels around places [n, 2], of these sizes [n, 2], pushed up and down until none covers
    another: their places."""
    moved = np.array(places, float)
    moved[:, 1] += 1e-3 * np.arange(len(moved))  # no two at the same height
    for _ in range(n_rounds):
        gaps = moved[:, None] - moved[None]  # [n, n, 2]
        overlap = (sizes[:, None] + sizes[None]) / 2 - np.abs(gaps)
        cover = (overlap > 0).all(axis=-1) & ~np.eye(len(moved), dtype=bool)
        if not cover.any():
            break
        moved[:, 1] += 0.2 * np.where(cover, overlap[..., 1] * np.sign(gaps[..., 1]), 0).sum(axis=1)
    return moved


def groups(points, words, title):
    """Words on a plane: points [n, 2], words {group: [str]} in the same order, a colour each."""
    wide, high = 7.8, 5.2
    axes = canvas(wide, high + 0.4, title)
    low, top = points.min(axis=0), points.max(axis=0)
    scale = min((wide - 1.4) / (top[0] - low[0]), (high - 0.7) / (top[1] - low[1]))
    places = (wide / 2, high / 2) + scale * (points - (low + top) / 2)
    names = [word for members in words.values() for word in members]
    palette = dict(zip(words, (BLUE, RED, GREEN, PURPLE, ORANGE), strict=False))
    colours = [palette[group] for group, members in words.items() for _ in members]
    sizes = np.array([(0.085 * len(name), 0.165) for name in names])
    above = places + np.array([0.0, 0.13])  # a dot, and its word above
    for dot, at, name, colour in zip(places, apart(above, sizes), names, colours, strict=True):
        axes.plot(*dot, "o", color=colour, markersize=3.5)
        axes.plot(*zip(dot, at, strict=True), color=colour, linewidth=0.5, alpha=0.6)
        ground = dict(facecolor="white", edgecolor="none", pad=0.3, alpha=0.75)
        label(axes, *at, name, colour, 10, bbox=ground)
    for row, (group, colour) in enumerate(palette.items()):
        label(
            axes, wide - 0.1, 0.2 * (len(palette) - row), group, colour, 9, "right", weight="bold"
        )
    return axes


def unread(cosines, lengths, impossible, note, title):
    """All rows of a table: their cosine with the mean of some of them, and their lengths.

    impossible  the indices of these, which are drawn in red, with a note
    """
    figure, axes = plt.subplots(figsize=(7.6, 3.7))
    axes.scatter(cosines, lengths, s=9, color=TOKEN, alpha=0.5, linewidths=0)
    axes.scatter(cosines[impossible], lengths[impossible], s=26, color=RED, linewidths=0)
    axes.annotate(
        note,
        (cosines[impossible].mean(), lengths[impossible].mean()),
        (-32, -4),
        textcoords="offset points",
        color=RED,
        ha="right",
        va="center",
        fontweight="bold",
        arrowprops={"arrowstyle": "-", "color": RED, "linewidth": 0.8},
    )
    axes.set(xlabel="cosine with the mean of the red ones", ylabel="length of the row", title=title)
    axes.set_ylim(0, 1.12 * lengths.max())
    return figure


def order_noticed(curves, title):
    """How much an exchange of words changes what comes last, by the number of layers: curves is
    [(name, [n_layer], the depth at which the name stands, its offset in points)]."""
    figure, axes = plt.subplots(figsize=(7.6, 3.7))
    for (name, values, at, offset), colour in zip(curves, (SKY, BLUE, GREY), strict=True):
        depths = np.arange(1, len(values) + 1)
        axes.plot(depths, values, "o-", color=colour, markersize=5)
        axes.annotate(
            name,
            (at, values[at - 1]),
            offset,
            textcoords="offset points",
            color=colour,
            va="center",
            fontweight="bold",
        )
    axes.set(
        yscale="log",
        xlabel="layers",
        ylabel="largest change of a logit",
        title=title,
        xticks=depths,
        ylim=(3e-7, 9),
    )
    return figure


def position_maps(tables):
    """The cosine of every two rows of each table: {title: [n_ctx, n_embd]}, on one scale."""
    figure, panels = plt.subplots(1, len(tables), figsize=(4.6 * len(tables), 4.1), sharey=True)
    for axes, (title, rows) in zip(panels, tables.items(), strict=True):
        unit = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
        image = heatmap(axes, unit @ unit.T, title, limit=1.0, signed=True)
        ticks = range(0, len(rows) + 1, 64)
        axes.set(xlabel="position", xticks=ticks, yticks=ticks, aspect="equal")
    panels[0].set_ylabel("position")
    bar = figure.colorbar(image, ax=panels, label="cosine of two rows", shrink=0.85)
    bar.outline.set_visible(False)
    return figure


def rows_given(grids):
    """Which row of the table each position of each text is given: {title: [n_texts, n_seq]}."""
    figure, panels = plt.subplots(1, len(grids), figsize=(4.3 * len(grids), 2.2))
    shades = [shade(POSITION, strength) for strength in np.linspace(0.15, 1.0, 6)]
    for axes, (title, grid) in zip(panels, grids.items(), strict=True):
        for (b, t), row in np.ndenumerate(grid):
            axes.add_patch(
                Rectangle((t - 0.46, b - 0.42), 0.92, 0.84, facecolor=shades[row % len(shades)])
            )
            label(axes, t, b, f"row {row}", size=9)
        n_texts, n_seq = grid.shape
        axes.set(xlim=(-0.5, n_seq - 0.5), ylim=(n_texts - 0.5, -0.5), xlabel="position")
        axes.set_title(title, family="monospace")
        axes.set_yticks(range(n_texts), [f"text {b}" for b in range(n_texts)])
        axes.set_xticks(range(n_seq))
        axes.tick_params(length=0)
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def washed_out(steps, title):
    """A vector and what is made of it, as strips one below the other: [(name, [n_embd])]."""
    axes = canvas(8.6, 0.5 * len(steps) + 0.65, title)
    for row, (name, values) in enumerate(steps):
        y = 0.5 * (len(steps) - row) - 0.1
        shown = np.asarray(values)[:N_SHOWN]
        colour = NORM if "norm" in name else INK
        limit = min(np.abs(shown).max(), 3.0)
        strip(axes, 4.55, y, shown, colour, 0.28, 4.1, vertical=False, limit=limit)
        label(axes, 2.4, y, name, size=10, align="right", mono=True)
        text = f"from {values.min():,.2f} to {values.max():,.2f}".replace("-", "−")
        label(axes, 6.75, y, text, GREY, 9, "left")
    return axes


def stream(tokens, x):
    """The residual stream at its beginning: x [n_seq, n_embd], a row for each position."""
    figure, axes = plt.subplots(figsize=(9.4, 3.7))
    names = [f"{t:2} {spelled(token):6}" for t, token in enumerate(tokens)]
    limit = np.quantile(np.abs(x), 0.99)
    heatmap(
        axes, x, f"x: {list(x.shape)}, the residual stream begins", names, limit=limit, signed=True
    )
    axes.set(xlabel="feature", xticks=[0, *range(50, x.shape[1], 50), x.shape[1] - 1])
    return figure
