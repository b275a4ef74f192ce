"""The residual stream and layer norm, drawn; and ways to join a sublayer to the stream."""

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
    PURPLE,
    RED,
    SKY,
    TOKEN,
    arrow,
    box,
    canvas,
    heatmap,
    is_dark,
    label,
    plus,
    shade,
    strip,
)

N_SHOWN = 10  # features of a vector that a picture shows
WAY_COLOURS = {
    "pre-LN": BLUE,
    "post-LN": ORANGE,
    "no layer norm": GREEN,
    "LN on branch": SKY,
    "no residual": PURPLE,
    "neither": GREY,
}


def bus(states, token):
    """The stream of one position, from the embedding on: what each sublayer adds, and what is then
    there. states [2 * n_layer + 1, n_embd]."""
    added = np.diff(states, axis=0)
    n = len(added)
    step = 0.86
    axes = canvas(1.3 + step * (n + 1), 3.9)
    y_stream, y_plus, y_added, y_box = 0.85, 1.62, 2.3, 3.25
    limit = np.percentile(np.abs(states[1:, :N_SHOWN]), 95)
    xs = 1.1 + step * np.arange(n + 1)
    axes.plot([xs[0], xs[-1] + 0.35], [y_plus, y_plus], color=INK, linewidth=3, zorder=1)
    arrow(axes, (xs[-1] + 0.2, y_plus), (xs[-1] + 0.6, y_plus), width=3)
    for i, x in enumerate(xs):
        strip(axes, x, y_stream, states[i, :N_SHOWN], INK, width=0.2, height=0.9, limit=limit)
        axes.plot([x, x], [y_stream + 0.46, y_plus - 0.1], color=GREY, linewidth=0.8, zorder=0)
        label(axes, x, 0.2, f"{np.linalg.norm(states[i]):.0f}", size=8)
        if i == 0:
            box(axes, x, y_box, "embed", TOKEN, width=0.74, height=0.34, size=8)
            arrow(axes, (x, y_box - 0.18), (x, y_plus))
            continue
        is_attention = i % 2 == 1
        colour = ATTENTION if is_attention else FFN
        name = f"attn {(i - 1) // 2}" if is_attention else f"ffn {(i - 1) // 2}"
        box(axes, x, y_box, name, colour, width=0.66, height=0.34, size=8)
        strip(axes, x, y_added, added[i - 1, :N_SHOWN], colour, width=0.2, height=0.9, limit=limit)
        arrow(axes, (x, y_added - 0.46), (x, y_plus + 0.1), colour=colour)
        axes.plot([x, x], [y_added + 0.46, y_box - 0.17], color=colour, linewidth=1.3)
        plus(axes, x, y_plus, 0.1)
        arrow(axes, (xs[i - 1] + 0.18, y_plus), (x - 0.2, y_box - 0.19), colour="#BBBBBB", width=1)
    for y, text in ((y_added, "is added"), (y_stream, "is then\nthere"), (0.2, "its length")):
        label(axes, 0.08, y, text, GREY, 8, align="left")
    label(axes, 0.08, y_plus, f"stream of\n{token}", INK, 8, align="left", weight="bold")
    return axes


def layer_norm_steps(x, g, b, eps=1e-5):
    """What layer norm does to one vector, step by step, as bars of its first features."""
    mean, std = x.mean(), np.sqrt(x.var() + eps)
    normed = (x - mean) / std
    steps = (
        ("x", x, f"mean {mean:.2f}, std {std:.2f}"),
        ("− mean", x - mean, "mean 0"),
        ("÷ √(variance + ε)", normed, "mean 0, std 1"),
        ("× g + b", normed * g + b, "learned"),
    )
    figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.3))
    pairs = steps[:2], steps[2:]  # each on a scale of its own
    highest = [1.1 * max(np.abs(v[:N_SHOWN]).max() for _, v, _ in pair) for pair in pairs]
    for i, (panel, (name, values, note)) in enumerate(zip(axes, steps, strict=True)):
        panel.set_ylim(-highest[i // 2], highest[i // 2])
        shown = values[:N_SHOWN]
        panel.bar(range(N_SHOWN), shown, color=np.where(shown < 0, BLUE, RED), width=0.8)
        panel.axhline(0, color=INK, linewidth=0.8)
        panel.set_title(name)
        panel.set_xlabel(note)
        panel.set_xticks([])
        panel.grid(False)
        panel.spines["bottom"].set_visible(False)
    axes[0].set_ylabel(f"{N_SHOWN} of {len(x)} features")
    return figure


def circle(before, after):
    """Three features seen along (1, 1, 1): points [n, 2] before layer norm and after it."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.1))
    hue = np.arctan2(after[:, 1], after[:, 0])
    for panel, points, title in (
        (left, before, "before: any length"),
        (right, after, "after: one length, same direction"),
    ):
        panel.scatter(*points.T, s=26, c=hue, cmap="twilight", vmin=-np.pi, vmax=np.pi, zorder=3)
        panel.plot(0, 0, "+", color=INK, markersize=9)
        panel.set_title(title)
        panel.set(aspect="equal", xticks=[], yticks=[], xlim=(-4.6, 3.4), ylim=(-2.9, 2.9))
        panel.spines[["left", "bottom"]].set_visible(False)
        panel.add_patch(plt.Circle((0, 0), np.sqrt(3), fill=False, color=GREY, linewidth=0.8))
    return figure


def who_writes(names, added, lengths):
    """Bars: how much each sublayer adds; a line: how long the stream is then. added, lengths
    [n_states, n_positions]; names [n_states]."""
    figure, axes = plt.subplots(figsize=(8.6, 3.3))
    colours = [TOKEN] + [ATTENTION if "attn" in name else FFN for name in names[1:]]
    axes.bar(names, np.median(added, axis=1), color=[shade(c, 0.75) for c in colours], width=0.6)
    axes.plot(names, np.median(lengths, axis=1), "o-", color=INK, linewidth=1.6)
    low, high = np.percentile(lengths, [5, 95], axis=1)
    axes.fill_between(names, low, high, color=INK, alpha=0.1, linewidth=0)
    axes.text(len(names) - 0.55, np.median(lengths[-1]), "the stream", va="center", weight="bold")
    axes.text(len(names) - 0.55, high[-1], "90 % of\npositions", va="top", color=GREY, size=8)
    axes.text(
        len(names) - 0.55, np.median(added[-1]), "is added", va="center", color=colours[-1],
        weight="bold",
    )  # fmt: skip
    axes.set(ylabel="length of the vector", xlim=(-0.6, len(names) + 0.7))
    axes.set_title("How long the stream is, and how much each sublayer adds")
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.grid(axis="x", visible=False)
    return figure


def lens(tokens, targets, rows, guesses, probabilities):
    """What each state of the stream would say: guesses [n_rows, n_seq] of str, as a table whose
    cells are as dark as the guess is sure; green frames are guesses that come true."""
    n_rows, n_seq = probabilities.shape
    figure, axes = plt.subplots(figsize=(0.72 * n_seq + 1.0, 0.34 * n_rows + 1.1))
    image = heatmap(axes, probabilities, limit=1.0, columns=tokens, rows=rows)
    for (i, j), p in np.ndenumerate(probabilities):
        dark = is_dark(image.cmap(image.norm(p))[:3])
        label(axes, j, i, guesses[i][j], "white" if dark else INK, 8, mono=True)
        if guesses[i][j] == targets[j]:
            axes.add_patch(
                Rectangle(
                    (j - 0.47, i - 0.44), 0.94, 0.88, fill=False, edgecolor=GREEN, linewidth=2
                )
            )
    axes.tick_params(axis="x", rotation=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xlabel("green: the word that really comes next")
    axes.set_title("What each position would say next, read after each block", pad=22)
    return figure


def icon(axes, x, y, way, size=1.0):
    """One way to join a sublayer f to the stream, as a small diagram around x, y."""
    residual, place = {
        "pre-LN": (True, "before"),
        "post-LN": (True, "sum"),
        "LN on branch": (True, "after"),
        "no layer norm": (True, None),
        "no residual": (False, "before"),
        "neither": (False, None),
    }[way]
    colour = WAY_COLOURS[way]
    low, high = y - 1.05 * size, y + 1.05 * size
    branch = x + 0.55 * size if residual else x

    def part(at, text, tint):
        box(axes, branch if at != "sum" else x, heights[at], text, tint, 0.5 * size, 0.28 * size, 8)

    heights = {"before": y - 0.45 * size, "f": y, "after": y + 0.45 * size, "sum": y + 0.88 * size}
    if residual:
        arrow(axes, (x, low), (x, high + 0.1 * size), colour=colour, width=2.6)
        join = y + (0.5 if place == "sum" else 0.8) * size
        arrow(axes, (x, low + 0.25 * size), (branch, low + 0.25 * size), (branch, join - 0.02),
              (x + 0.1 * size, join - 0.02), colour=colour, width=1.3, head=8)  # fmt: skip
        plus(axes, x, join, 0.09 * size)
    else:
        arrow(axes, (x, low), (x, high + 0.1 * size), colour=colour, width=1.3)
    part("f", "f", colour)
    if place:
        part(place, "LN", NORM)


def ways():
    """The six ways to join a sublayer f to the stream."""
    axes = canvas(9.3, 3.0)
    notes = {
        "pre-LN": "GPT-2",
        "post-LN": "Transformer of 2017",
        "LN on branch": "“normalise the\nresult and add”",
        "no layer norm": "",
        "no residual": "",
        "neither": "",
    }
    for i, (way, note) in enumerate(notes.items()):
        x = 0.55 + 1.55 * i
        icon(axes, x, 1.28, way)
        label(axes, x + 0.25, 2.82, way, WAY_COLOURS[way], 10, weight="bold")
        label(axes, x + 0.25, 2.58 if "\n" not in note else 2.53, note, GREY, 7.5)
    return axes


def gradients_at_the_start(sizes):
    """{way: [n_seeds, n_states]}: the size of the gradient on its way back, one line a start."""
    figure, axes = plt.subplots(figsize=(8, 3.7))
    last = max(values.shape[1] for values in sizes.values()) - 1
    for way, values in sizes.items():
        for line in values:
            axes.semilogy(np.maximum(line, 1e-22), color=WAY_COLOURS[way], linewidth=1, alpha=0.75)
    names = ("no layer norm", 3, 1e16, GREEN), ("neither", 3, 1e-9, GREY)
    for name, x, y, colour in (*names, ("with a layer norm:", 3, 1e6, INK)):
        axes.text(x, y, name, color=colour, weight="bold", va="center")
    others = [way for way in sizes if way not in ("no layer norm", "neither")]
    for i, way in enumerate(others):
        axes.text(24 + 15 * i, 1e6, way, color=WAY_COLOURS[way], weight="bold", va="center")
    axes.set(
        xlim=(0, last),
        xlabel="sublayer, counted from the bottom (the gradient runs from right to left)",
        ylabel="size of ∂loss/∂x (log)",
        title="With a layer norm the gradient changes by thousands at most, without by far more",
    )
    return figure


FROM_DARK_TO_LIGHT = ("#7A4B00", "#B87700", ORANGE, "#F2C76B")
LIMIT = 1500  # steps after which a run of the study is given up


def best_steps(results, **wanted):
    """{seed: the fewest steps over all learning rates, or None} of the runs that are as wanted."""
    found = {}
    for row in results:
        if all(row[key] == value for key, value in wanted.items()):
            best = found.setdefault(row["seed"], None)
            if row["solved"] and (best is None or row["solved"] < best):
                found[row["seed"]] = row["solved"]
    return found


def dots(axes, x, steps, colour):
    """One mark a seed: a dot where it was solved, a hollow triangle at the top where it was not;
    returns the median, in which what was not solved counts as LIMIT."""
    for i, value in enumerate(steps):
        at = x + 0.05 * (i - (len(steps) - 1) / 2)
        if value is None:
            axes.plot(at, LIMIT * 1.12, "^", color=colour, fillstyle="none", markersize=6)
        else:
            axes.plot(at, value, "o", color=colour, markersize=4.5)
    return float(np.median([LIMIT if value is None else value for value in steps]))


def step_axis(axes, depths):
    axes.set(yscale="log", ylim=(55, LIMIT * 1.4), ylabel="steps to learn, best rate (log)")
    axes.set_xticks(range(len(depths)), depths)
    axes.set_yticks([100, 200, 500, LIMIT], ["100", "200", "500", f"{LIMIT:,}"])
    axes.minorticks_off()
    axes.axhline(LIMIT, color=GREY, linewidth=0.8, linestyle="--")
    axes.text(-0.35, LIMIT * 1.12, "△ not learned", color=GREY, fontsize=8, va="center")


def curves(axes, results, depths, kinds):
    """Steps to learn by depth, a curve for each of the kinds {name: (colour, wanted)}, named at its
    end, or where it last learned."""
    ends = []
    shifts = np.linspace(-0.1, 0.1, len(kinds))
    for shift, (name, (colour, wanted)) in zip(shifts, kinds.items(), strict=True):
        found = [list(best_steps(results, n_layer=n, **wanted).values()) for n in depths]
        medians = [dots(axes, i + shift, steps, colour) for i, steps in enumerate(found)]
        axes.plot(np.arange(len(depths)) + shift, medians, color=colour, linewidth=2)
        last = max((i for i, median in enumerate(medians) if median < LIMIT), default=0)
        style = dict(color=colour, weight="bold", va="center")
        if last == len(depths) - 1:
            ends.append((medians[last], name, style))
        elif last == 0:
            axes.text(0.22 + shift, 0.8 * medians[0], name, ha="left", **style)
        else:
            axes.text(last + shift - 0.12, medians[last], name, ha="right", **style)
    at = 0.0
    for median, name, style in sorted(ends, key=lambda end: end[0]):
        at = max(median, 1.22 * at)  # no name upon another
        axes.text(len(depths) - 0.75, at, name, ha="left", **style)


def steps_to_learn(results, depths, shown):
    """Steps until the task is learned, by depth, each way at its best learning rate; the ways'
    diagrams beside it. shown: the names of ways."""
    _, (axes, icons) = plt.subplots(1, 2, figsize=(8.8, 3.9), gridspec_kw={"width_ratios": [3, 2]})
    kinds = {way: (WAY_COLOURS[way], dict(way=way, start="1/√n_in", weight=1.0)) for way in shown}
    curves(axes, results, depths, kinds)
    step_axis(axes, depths)
    axes.set(xlabel="layers", xlim=(-0.4, len(depths) + 0.3))
    axes.set_title("Pre-LN learns as fast with many layers as with two")
    icons.set(xlim=(0, 1.7 * len(shown)), ylim=(0, 3.2), aspect="equal")
    icons.axis("off")
    for i, way in enumerate(shown):
        icon(icons, 0.5 + 1.65 * i, 1.35, way)
        label(icons, 0.75 + 1.65 * i, 2.85, way, WAY_COLOURS[way], 9, weight="bold")
    return axes


def rates_and_depths(results, depths, rates, shown, start="1/√n_in"):
    """For each way a table, depths by learning rates: the median steps to learn, hatched where most
    seeds did not."""
    axes = canvas(0.75 + (0.62 * len(rates) + 0.35) * len(shown), 0.3 * len(depths) + 1.05)
    top = 0.3 * len(depths) + 0.4
    for block, way in enumerate(shown):
        left = 0.75 + (0.62 * len(rates) + 0.35) * block
        label(axes, left + 0.31 * len(rates), top + 0.42, way, WAY_COLOURS[way], weight="bold")
        for j, rate in enumerate(rates):
            label(axes, left + 0.62 * (j + 0.5), top + 0.14, f"{rate:g}", GREY, 8)
            for i, n_layer in enumerate(depths):
                found = [
                    row["solved"] or np.inf
                    for row in results
                    if (row["way"], row["n_layer"], row["rate"], row["start"], row["weight"])
                    == (way, n_layer, rate, start, 1.0)
                ]
                cell(axes, left + 0.62 * j, top - 0.3 * (i + 1), np.median(found or [np.nan]))
    for i, n_layer in enumerate(depths):
        label(axes, 0.68, top - 0.3 * (i + 0.5), f"{n_layer} layers", GREY, 8, align="right")
    label(axes, 0.1, 0.15, "columns: the learning rate; numbers: steps to learn; hatched: not "
          f"within {LIMIT:,}", GREY, 8, align="left")  # fmt: skip
    return axes


def cell(axes, x, y, steps):
    """One cell of a table, 0.62 × 0.3 inches: the darker, the sooner."""
    learned = np.isfinite(steps)
    strength = float(np.clip(1 - np.log(steps / 60) / np.log(LIMIT / 60), 0, 1)) if learned else 0
    face = shade(GREEN, 0.1 + 0.8 * strength) if learned else "#F7F7F7"
    axes.add_patch(
        Rectangle((x + 0.02, y + 0.02), 0.58, 0.26, facecolor=face, edgecolor="#C8C8C8",
                  linewidth=0, hatch=None if learned else "////")
    )  # fmt: skip
    if learned:
        label(axes, x + 0.31, y + 0.15, f"{steps:.0f}", "white" if is_dark(face) else INK, 8)


def alike(results):
    """Each kind of model as one mark a seed, the larger the deeper: how unlike its positions were
    at the top before training, and how long it took to learn at its best rate."""
    _, axes = plt.subplots(figsize=(7.6, 3.9))
    kinds = sorted({(r["way"], r["n_layer"], r["start"], r["weight"]) for r in results}, key=str)
    for way, n_layer, start, weight in kinds:
        if weight != 1.0:
            continue
        wanted = dict(way=way, n_layer=n_layer, start=start, weight=weight)
        for seed, steps in best_steps(results, **wanted).items():
            (x,) = {r["unlike"] for r in results
                    if r["seed"] == seed and all(r[k] == v for k, v in wanted.items())}  # fmt: skip
            mark = "^" if steps is None else "o"
            axes.plot(max(x, 1e-8), LIMIT * 1.12 if steps is None else steps, mark,
                      color=WAY_COLOURS[way], markersize=2 + 1.1 * np.log2(n_layer),
                      fillstyle="none" if steps is None else "full", alpha=0.8)  # fmt: skip
    for i, (way, colour) in enumerate(WAY_COLOURS.items()):
        axes.text(
            0.02, 0.62 - 0.075 * i, way, color=colour, weight="bold", transform=axes.transAxes
        )
    axes.text(0.02, 0.1, "large marks: many layers", color=GREY, transform=axes.transAxes)
    axes.set_xlabel(
        "how much the positions differ at the top, before training (log; at least 1e-8)"
    )
    axes.set_xscale("log")
    axes.set(yscale="log", ylim=(55, LIMIT * 1.4), ylabel="steps to learn, best rate (log)")
    axes.set_yticks([100, 200, 500, LIMIT], ["100", "200", "500", f"{LIMIT:,}"])
    axes.minorticks_off()
    axes.axhline(LIMIT, color=GREY, linewidth=0.8, linestyle="--")
    return axes


def variants(results, depths, kinds):
    """Steps to learn by depth for several kinds of one way: kinds {label: (colour, wanted)}."""
    _, axes = plt.subplots(figsize=(7.4, 3.6))
    curves(axes, results, depths, kinds)
    step_axis(axes, depths)
    axes.set(xlabel="layers", xlim=(-0.4, len(depths) + 0.5))
    return axes
