"""Attention, drawn: one query on its way, the same for all positions, and heads side by side."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from .base import (
    ATTENTION,
    GREY,
    HIDDEN_BY_MASK,
    INK,
    KEY,
    QUERY,
    VALUE,
    arrow,
    box,
    canvas,
    chip,
    heatmap,
    label,
    matrix,
    shade,
    spelled,
    strip,
)

N_SHOWN = 12  # features of a vector that a picture shows


def one_query(tokens, t, q, k, v, scores, weights):
    """The way of one query through attention, with its numbers; of each vector the first features.

    tokens       [n_seq], str
    t            whose query it is; the positions after it are hidden by the mask
    q, k, v      of one head, each [n_seq, d_head]
    scores       [n_seq, n_seq], after the division by √d_head and before the mask
    weights      [n_seq, n_seq]
    """
    n_seq, d_head = q.shape
    left, step = 2.05, 0.56
    xs = left + step * (np.arange(n_seq) + 0.5)
    axes = canvas(left + step * n_seq + 0.85, 5.3)
    y_token, y_key, y_score, y_weight, y_value, y_out = 4.85, 3.95, 3.08, 2.2, 1.35, 0.3
    limits = [np.abs(a[:, :N_SHOWN]).max() for a in (q, k, v)]

    def vector(x, y, values, colour, limit):
        strip(axes, x, y, values[:N_SHOWN], colour, width=0.17, height=0.95, limit=limit)

    vector(1.62, y_key, q[t], QUERY, limits[0])
    arrow(axes, (1.74, y_key), (xs[0] - 0.14, y_key), colour=QUERY)
    for s, (x, token) in enumerate(zip(xs, tokens, strict=True)):
        face = shade(QUERY, 0.35) if s == t else "#EFEFEF"
        chip(axes, x, y_token, spelled(token), face, width=step - 0.05, size=7.5)
        label(axes, x, y_token + 0.26, str(s), GREY, 7)
        if s > t:
            bottom, top = y_value - 0.5, y_key + 0.5
            blind(axes, x - step / 2 + 0.03, bottom, step - 0.06, top - bottom)
            continue
        share = weights[t, s]
        vector(x, y_key, k[s], KEY, limits[1])
        label(axes, x, y_score, f"{scores[t, s]:.1f}".replace("-", "−"))
        tall = 0.5 * share / weights[t].max()
        axes.add_patch(Rectangle((x - 0.17, y_weight - 0.1), 0.34, tall, facecolor=INK))
        label(axes, x, y_weight - 0.21, f"{100 * share:.0f} %", size=8)
        vector(x, y_value, v[s], VALUE, limits[2])
        foot, mix = (x, y_value - 0.49), (xs[t], y_out + 0.15)
        arrow(axes, foot, mix, colour=VALUE, width=0.4 + 9 * share, head=0, zorder=1)
    chip(axes, xs[t], y_out, f"what {spelled(tokens[t])} takes in", shade(VALUE, 0.3), size=8)
    label(axes, 1.62, y_key + 0.6, "query", QUERY, 9, weight="bold")
    for y, name, colour in ((y_key, "keys", KEY), (y_value, "values", VALUE)):
        label(axes, xs[-1] + 0.35, y, name, colour, align="left", weight="bold")
    if t + 1 < n_seq:
        label(axes, xs[t + 1 :].mean(), y_score, "hidden by the mask", GREY, 8, zorder=6)
    for y, name, what in (
        (y_key, "1  one query\n    meets all keys", f"{N_SHOWN} of {d_head} numbers"),
        (y_score, "2  scores", "q · k / √d"),
        (y_weight, "3  softmax", "shares of 100 %"),
        (y_value, "4  the values,", "mixed in these shares"),
    ):
        two_lines = 0.12 * name.count("\n")
        label(axes, 0.1, y + 0.1 + two_lines, name, align="left", weight="bold")
        label(axes, 0.1, y - 0.13 - two_lines, f"    {what}", GREY, 8, align="left")
    return axes


def blind(axes, x, y, width, height):
    """Hatching over what the mask hides, with its lower left corner at x, y."""
    axes.add_patch(
        Rectangle(
            (x, y),
            width,
            height,
            facecolor="#F7F7F7",
            edgecolor=HIDDEN_BY_MASK,
            hatch="////",
            linewidth=0,
            zorder=1,
        )
    )


def all_queries(tokens, scores, weights):
    """Scores and weights [n_seq, n_seq] of one head, a row for each query."""
    hidden = ~np.tri(len(tokens), dtype=bool)
    names = [spelled(token) for token in tokens]
    rows = [f"{name} {t:2}" for t, name in enumerate(names)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.8, 4.4), sharey=True)
    image = heatmap(left, scores, "scores: q kᵀ / √d", rows, names, signed=True, hidden=hidden)
    figure.colorbar(image, ax=left, shrink=0.7, label="score (red: large)")
    image = heatmap(right, weights, "weights: softmax of each row", rows, names, 1.0, hidden=hidden)
    figure.colorbar(image, ax=right, shrink=0.7, label="share")
    left.set(ylabel="position that asks (query)", xlabel="position that is asked (key)")
    right.set(xlabel="position that is asked (key)")
    return figure


def heads(tokens, weights, d_head):
    """All heads of a layer: each looks in its own way, and one matrix joins what they bring.

    weights  [n_head, n_seq, n_seq]
    """
    n_head = len(weights)
    hidden = ~np.tri(len(tokens), dtype=bool)
    wide = 2.05
    axes = canvas(wide * n_head + 0.5, 4.5)
    middle = wide * n_head / 2 + 0.25
    chip(axes, middle, 4.28, f"x, normalised: [n_seq, {n_head * d_head}]", size=9)
    for h in range(n_head):
        x = 0.25 + wide * (h + 0.5)
        arrow(axes, (middle, 4.12), (x, 3.72))
        label(axes, x, 3.58, f"head {h}", ATTENTION, 10, weight="bold")
        inset = axes.inset_axes((x - 0.85, 1.75, 1.7, 1.7), transform=axes.transData)
        heatmap(inset, weights[h], limit=1.0, hidden=hidden)
        arrow(axes, (x, 1.68), (x, 1.36))
        chip(axes, x, 1.2, f"[n_seq, {d_head}]", shade(VALUE, 0.3), width=wide, size=9)
    label(axes, 0.28, 0.92, "side by side again", GREY, 9, align="left")
    arrow(axes, (middle, 1.04), (middle, 0.62))
    join = (
        f"c_proj: one more matrix [{n_head * d_head}, {n_head * d_head}], then added to the stream"
    )
    box(axes, middle, 0.35, join, ATTENTION, width=5.2, height=0.46)
    return axes


def masks(ways, scores):
    """What each way to mask makes of the same scores: its weights and what their rows add up to.

    ways    {name: function of scores [n, n], to weights [n, n]}
    scores  [n, n]
    """
    n = len(scores)
    wide = 0.5 * n
    axes = canvas((wide + 1.1) * (len(ways) + 1) + 0.1, 0.27 * n + 0.85)
    top = 0.27 * n + 0.32
    matrix(axes, 0.2, top, scores, "scores")
    above = [(i, j) for i in range(n) for j in range(i + 1, n)]
    for column, (name, way) in enumerate(ways.items(), start=1):
        x = 0.2 + column * (wide + 1.1)
        weights = way(scores)
        edge = matrix(axes, x, top, weights, name, marked=above)
        for i, total in enumerate(weights.sum(axis=-1)):
            right = abs(total - 1) < 1e-6
            ink = GREY if right else QUERY
            label(axes, edge + 0.12, top - 0.27 * (i + 0.5), f"Σ {total:.2f}", ink, align="left")
    label(axes, 0.2, 0.14, "red: the future", QUERY, 9, align="left")
    return axes


def sharpness(rows, titles):
    """Softmaxes as bars: rows {name: [n_columns, n_keys]}, a row of panels for each name."""
    figure, axes = plt.subplots(
        len(rows), len(titles), figsize=(8.6, 1.35 * len(rows) + 0.4), sharex=True, sharey=True
    )
    for line, (name, distributions) in zip(axes, rows.items(), strict=True):
        for panel, weights in zip(line, distributions, strict=True):
            panel.bar(range(len(weights)), weights, color=ATTENTION, width=0.85)
            panel.set(ylim=(0, 1), xticks=[], yticks=[0, 1], yticklabels=["0", "100 %"])
            panel.grid(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title)
    return figure


def by_hand(beginnings, steps, marked=None):
    """Small matrices in a row, [(name, [n, m], digits)]: what one begins with, and then step after
    step."""
    marked, n_beginnings = marked or {}, len(beginnings)
    steps = [*beginnings, *steps]
    wide = [0.46 * np.atleast_2d(values).shape[1] for _, values, _ in steps]
    axes = canvas(sum(wide) + 0.55 * len(steps) + 0.2, 1.55)
    x = 0.2
    for step, (name, values, digits) in enumerate(steps):
        edge = matrix(
            axes,
            x,
            1.12,
            values,
            name,
            digits=digits,
            cell=(0.46, 0.3),
            marked=marked.get(name, ()),
        )
        if n_beginnings <= step < len(steps) - 1:
            arrow(axes, (edge + 0.12, 0.75), (edge + 0.42, 0.75), colour=GREY)
        x = edge + 0.55
    return axes
