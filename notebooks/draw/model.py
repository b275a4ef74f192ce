"""GPT-2 as a whole, drawn: the poster, the guesses, the costs, and the cache as it grows."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from .base import (
    ATTENTION,
    BLUES,
    FFN,
    GREEN,
    GREY,
    INK,
    KEY,
    NORM,
    PALE,
    POSITION,
    QUERY,
    SIGNED,
    TOKEN,
    VALUE,
    arrow,
    box,
    canvas,
    chip,
    heatmap,
    is_dark,
    label,
    shade,
    spelled,
    strip,
)

N_SHOWN = 10  # features of a vector that the poster shows
N_HIDDEN = 36  # units of a hidden layer that it shows
FFN_INK = "#A87000"  # its orange, dark enough to be read
COLUMN, BAND, BLOCK = 0.42, 0.38, 1.86  # inches: a position, a row of vectors, one block


class Spine:
    """The residual stream in the middle of the poster: a column for each position."""

    def __init__(self, axes, n_seq, middle):
        self.axes, self.n_seq = axes, n_seq
        self.left, self.right = middle - COLUMN * n_seq / 2, middle + COLUMN * n_seq / 2
        self.xs = self.left + COLUMN * (np.arange(n_seq) + 0.5)

    def vectors(self, y, values, colour=None):
        """One state of all columns around y: values [n_seq, n_embd], in a scale of their own."""
        limit = np.quantile(np.abs(values[:, :N_SHOWN]), 0.97)
        for x, vector in zip(self.xs, values, strict=True):
            self.axes.add_patch(
                Rectangle((x - 0.13, y - BAND / 2), 0.26, BAND, facecolor="white", zorder=2)
            )
            strip(self.axes, x, y, vector[:N_SHOWN], colour, 0.24, BAND, limit=limit)

    def flow(self, top, bottom):
        """The columns as lines from top to bottom."""
        for x in self.xs:
            self.axes.plot([x, x], [top, bottom], color="#9A9A9A", linewidth=1.1, zorder=1)

    def read(self, y, to, colour=GREY):
        """A line that every column is read from, on its way to x = to."""
        far = self.right if to < self.left else self.left
        self.axes.plot(self.xs, [y] * self.n_seq, ".", color=colour, markersize=5, zorder=3)
        arrow(self.axes, (far + 0.21 * np.sign(to - far), y), (to, y), colour=colour, width=1.1)

    def add(self, y, start, colour):
        """A line from x = start on, that is added to every column."""
        near, far = sorted((self.left, self.right), key=lambda x: abs(x - start))
        self.axes.plot(
            [start, far + 0.21 * np.sign(near - far)], [y, y], color=colour, linewidth=1.6, zorder=2
        )
        self.axes.plot(
            self.xs, [y] * self.n_seq, "o", color="white", markeredgecolor=colour, markersize=8.5,
            markeredgewidth=1.3, zorder=3,
        )  # fmt: skip
        self.axes.plot(
            self.xs,
            [y] * self.n_seq,
            "+",
            color=colour,
            markersize=6,
            markeredgewidth=1.3,
            zorder=4,
        )


def attention_map(axes, x, y, size, weights):
    """Weights [n, n] as a square, its lower left corner at x, y; what the mask hides is hatched."""
    n = len(weights)
    axes.imshow(
        weights, BLUES, vmin=0, vmax=1, extent=(x, x + size, y, y + size), aspect="auto",
        interpolation="nearest", zorder=4,
    )  # fmt: skip
    stairs = [(x + size, y + size)]
    for i in range(n):
        top = y + size * (1 - i / n)
        stairs += [(x + size * (i + 1) / n, top), (x + size * (i + 1) / n, top - size / n)]
    axes.add_patch(
        Polygon(
            stairs, facecolor="#F7F7F7", edgecolor="#CFCFCF", hatch="//////", linewidth=0, zorder=5
        )
    )
    frame(axes, x, y, size, size, GREY, 0.6)


def frame(axes, x, y, width, height, colour, line=1.4):
    """The outline of a rectangle, its lower left corner at x, y."""
    axes.add_patch(
        Rectangle(
            (x, y), width, height, facecolor="none", edgecolor=colour, linewidth=line, zorder=6
        )
    )


def panel(axes, x, y, width, height, colour, strength=0.1, line=1.5, zorder=2):
    """A rounded box, its lower left corner at x, y."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=shade(colour, strength), edgecolor=colour if line else "none",
            linewidth=line, zorder=zorder,
        )
    )  # fmt: skip


def poster(tokens, hparams, seen, decode):
    """GPT-2 from a prompt to the next token, each box with what it computed for this prompt.

    tokens  [n_seq], str
    seen    what `trace` saw of the prompt
    decode  a function of a token's id: its text
    """
    n_vocab, n_ctx, n_embd, _, n_layer = hparams.values()
    n_seq = len(tokens)
    width, height = COLUMN * n_seq + 6.1, BLOCK * n_layer + 6.1
    axes = canvas(width, height)
    axes.figure.set_dpi(120)
    spine = Spine(axes, n_seq, width / 2 + 0.05)
    left, right = 0.4, width - 0.2  # the outer edges of the branches

    title = "One prompt on its way through GPT-2: a column for each token, and a guess at its end"
    label(axes, 0.2, height - 0.24, title, size=14, weight="bold", align="left")
    what = (
        "Every strip, map and bar is what the model computed for this prompt. Of each vector the "
        f"first {N_SHOWN} of its {n_embd} numbers are shown: blue below 0, red above, each row of "
        "strips in a scale of its own."
    )
    label(axes, 0.2, height - 0.5, what, GREY, 8, align="left")

    y = height - 0.95
    panel(axes, spine.xs[-1] - COLUMN / 2, 1.6, COLUMN, y - 1.4, VALUE, 0.13, 0, 0)
    for t, (x, token) in enumerate(zip(spine.xs, tokens, strict=True)):
        face = shade(VALUE, 0.45) if t == n_seq - 1 else PALE
        chip(axes, x, y, spelled(token), face, COLUMN - 0.04, 0.28, size=7)
    aside(axes, spine.left - 0.15, y, f"the prompt\nids [{n_seq}]", "right")

    embed = seen["embed"]
    spine.flow(y - 0.15, y - 1.5)
    rows_of = f"wte [{n_vocab:,}, {n_embd}]\nlook up each token's row"
    box(axes, left + 1.0, y - 0.5, rows_of, TOKEN, 2.0, 0.46, 8)
    arrow(axes, (left + 2.0, y - 0.5), (spine.left + 0.05, y - 0.5), colour=TOKEN, width=1.6)
    spine.vectors(y - 0.5, embed["wte"][embed["ids"]], TOKEN)
    panel(axes, right - 2.0, y - 1.16, 2.0, 0.82, POSITION)
    rows_of = f"wpe [{n_ctx}, {n_embd}]: a row for each position"
    label(axes, right - 1.0, y - 0.47, rows_of, size=6.8)
    thumbnail(axes, right - 1.9, y - 1.09, 1.8, 0.5, embed["wpe"][:n_seq, :N_SHOWN])
    spine.add(y - 0.92, right - 2.0, POSITION)
    states = seen["residual"]
    spine.vectors(y - 1.28, states[0])
    aside(axes, spine.left - 0.15, y - 1.28, f"the stream\n[{n_seq}, {n_embd}]", "right")

    top = y - 1.6
    spine.flow(top + 0.1, top - BLOCK * n_layer - 1.5)
    n_attention = 4 * n_embd * (n_embd + 1)
    n_ffn = 8 * n_embd**2 + 5 * n_embd
    what = f"positions look at earlier ones\n{n_attention:,} parameters a block"
    aside(axes, left + 0.1, top + 0.27, what, "left", ATTENTION)
    what = f"each position on its own\n{n_ffn:,} parameters a block"
    aside(axes, right - 1.9, top + 0.27, what, "left", FFN_INK)
    for dy, way in ((0, "read"), (0.26, "add")):
        aside(axes, spine.right + 0.06, top - 0.16 - dy, way, "left", GREY)
        aside(axes, spine.left - 0.06, top - 1.06 - dy, way, "right", GREY)
    limit = np.quantile([b["ffn"]["activation"][:, :N_HIDDEN] for b in seen["blocks"]], 0.99)
    for layer, block in enumerate(seen["blocks"]):
        draw_block(spine, layer, block, states[2 * layer + 1 :][:2], top, left, right, limit)
        top -= BLOCK

    y = top - 0.12
    panel(axes, spine.left, y - 0.13, spine.right - spine.left, 0.26, NORM, 0.25)
    label(axes, width / 2, y, "ln_f: every position to one scale", size=8.5)
    spine.vectors(y - 0.42, seen["ln_f"]["return"])
    panel(axes, spine.left, y - 1.07, spine.right - spine.left, 0.34, TOKEN, 0.2)
    product = f"× wteᵀ [{n_embd}, {n_vocab:,}]: how well does it fit each token's row?"
    label(axes, width / 2, y - 0.9, product, size=8.5)
    margin = [(left, top + BLOCK * n_layer + 1.1), (0.2, top + BLOCK * n_layer + 1.1)]
    margin += [(0.2, y - 0.9), (spine.left, y - 0.9)]
    arrow(axes, *margin, colour=TOKEN, style="--", width=1.3)
    label(
        axes,
        0.2,
        height / 2 - 0.6,
        "the same array",
        TOKEN,
        8.5,
        rotation=90,
        backgroundcolor="white",
    )
    draw_guesses(spine, y - 1.33, seen["logits"], decode, right)
    parts = {
        "wte": n_vocab * n_embd,
        "wpe": n_ctx * n_embd,
        "attention": n_layer * n_attention,
        "feed-forward": n_layer * n_ffn,
        "layer norms": (4 * n_layer + 2) * n_embd,
    }
    draw_parameters(axes, 0.4, 0.72, 3.9, parts)
    return axes


def draw_parameters(axes, x, y, width, parts):
    """All parameters as one bar around y, cut into parts: {part: number}."""
    total = sum(parts.values())
    label(axes, x, y + 0.31, f"where its {total:,} parameters are", size=8.5, align="left")
    for part, number in parts.items():
        share, colour = number / total, PART_COLOURS[part]
        axes.add_patch(
            Rectangle((x, y - 0.13), width * share, 0.26, facecolor=colour, edgecolor="white")
        )
        if share > 0.08:
            ink = "white" if is_dark(colour) else INK
            label(axes, x + width * share / 2, y, f"{share:.0%}", ink, 8, weight="bold")
            ink = FFN_INK if colour == FFN else colour
            label(axes, x + width * share / 2, y - 0.26, part, ink, 8)
        x += width * share


def aside(axes, x, y, text, align="left", colour=INK):
    label(axes, x, y, text, colour, 8, align=align, linespacing=1.35)


def thumbnail(axes, x, y, width, height, rows, limit=None, cmap=SIGNED):
    """Vectors [n_seq, n] as columns, the lower left corner at x, y."""
    limit = limit or np.quantile(np.abs(rows), 0.97)
    axes.imshow(
        rows.T, cmap, vmin=-limit, vmax=limit, extent=(x, x + width, y, y + height),
        aspect="auto", interpolation="nearest", zorder=4,
    )  # fmt: skip
    frame(axes, x, y, width, height, GREY, 0.6)


def draw_block(spine, layer, block, states, top, left, right, limit):
    """One block: attention on the left, the feed-forward network on the right of the stream."""
    axes, wide, high = spine.axes, 2.0, 1.66
    panel(
        axes, left - 0.08, top - BLOCK + 0.05, right - left + 0.16, BLOCK - 0.08, GREY, 0.05, 0, -1
    )
    weights = block["attention"]["weights"]
    hidden = block["ffn"]["activation"]
    n_head, n_seq, _ = weights.shape
    inside, outside = left + wide, right - wide

    panel(axes, left, top - high - 0.06, wide, high, ATTENTION)
    label(axes, left + 0.1, top - 0.2, f"attention {layer}", ATTENTION, 9, "left", weight="bold")
    label(axes, inside - 0.1, top - 0.2, f"[{n_head}, {n_seq}, {n_seq}]", GREY, 7, "right")
    n_columns = int(np.ceil(np.sqrt(n_head)))
    size = 1.3 / int(np.ceil(n_head / n_columns)) - 0.05
    start = left + (wide - n_columns * (size + 0.06)) / 2
    for head in range(n_head):
        row, column = divmod(head, n_columns)
        y = top - 0.33 - (row + 1) * (size + 0.05)
        attention_map(axes, start + 0.03 + column * (size + 0.06), y, size, weights[head])

    panel(axes, outside, top - high - 0.06, wide, high, FFN)
    label(
        axes, outside + 0.1, top - 0.2, f"feed-forward {layer}", FFN_INK, 9, "left", weight="bold"
    )
    shape = f"{N_HIDDEN} of [{n_seq}, {hidden.shape[-1]}]"
    label(axes, right - 0.1, top - 0.2, shape, GREY, 7, "right")
    thumbnail(axes, outside + 0.1, top - 1.64, wide - 0.2, 1.28, hidden[:, :N_HIDDEN], limit)

    spine.read(top - 0.16, inside)
    chip(axes, (inside + spine.left) / 2, top - 0.16, "ln_1", shade(NORM, 0.35), 0.42, 0.22, size=7)
    spine.add(top - 0.42, inside, ATTENTION)
    spine.vectors(top - 0.75, states[0])
    spine.read(top - 1.06, outside)
    chip(
        axes, (outside + spine.right) / 2, top - 1.06, "ln_2", shade(NORM, 0.35), 0.42, 0.22, size=7
    )
    spine.add(top - 1.31, outside, FFN)
    spine.vectors(top - 1.62, states[1])
    length = np.linalg.norm(states[1], axis=-1).mean()
    aside(axes, spine.left - 0.06, top - 1.62, f"length {length:.0f}", "right", GREY)


def draw_guesses(spine, y, logits, decode, right):
    """At each position the likeliest next token, and of the last one the best few."""
    axes = spine.axes
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    for x, share in zip(spine.xs, shares, strict=True):
        best = int(share.argmax())
        arrow(axes, (x, y + 0.25), (x, y + 0.13), colour=INK, width=1, head=7)
        chip(
            axes,
            x,
            y,
            spelled(decode(best)),
            shade(VALUE, share[best]),
            COLUMN - 0.04,
            0.26,
            size=7,
        )
        label(axes, x, y - 0.22, f"{share[best]:.0%}", GREY, 7)
    aside(axes, spine.left - 0.15, y, "the likeliest next token,\nat each position", "right")
    x, bottom = spine.xs[-1] - 1.0, y - 0.7
    arrow(axes, (spine.xs[-1], y - 0.33), (spine.xs[-1], bottom + 0.13), width=1, head=7)
    longest = (right - x) / shares[-1].max() * 0.8
    for row, token in enumerate(np.argsort(-shares[-1])[:6]):
        y_bar, share = bottom - 0.2 * row, shares[-1, token]
        label(axes, x - 0.06, y_bar, spelled(decode(int(token))), size=8, align="right", mono=True)
        axes.add_patch(Rectangle((x, y_bar - 0.07), longest * share, 0.14, facecolor=VALUE))
        label(axes, x + longest * share + 0.06, y_bar, f"{share:.0%}", size=8, align="left")
    what = "what comes next?\nat the last position,\nas shares of 100 %"
    aside(axes, x - 1.0, bottom - 0.4, what, "right")


def guesses(tokens, best, shares):
    """Each token, and below it what the position before it had guessed.

    best    [n_seq], str: the likeliest next token at each position
    shares  [n_seq]: how likely
    """
    step, left = 0.62, 1.75
    axes = canvas(left + step * (len(tokens) + 1) + 0.15, 1.75)
    xs = left + step * (np.arange(len(tokens) + 1) + 0.5)
    hits = sum(a == b for a, b in zip(tokens[1:], best, strict=False))
    title = f"What each position expects next: {hits} of {len(tokens) - 1} are what was written"
    label(axes, 0.1, 1.57, title, size=11, weight="bold", align="left")
    for name, y in (("the prompt", 1.1), ("guessed one position before", 0.5)):
        label(axes, 0.1, y, name, align="left")
    for t, token in enumerate(tokens):
        chip(axes, xs[t], 1.1, spelled(token), PALE, step - 0.06, size=7.5)
        arrow(axes, (xs[t] + 0.05, 0.93), (xs[t + 1] - 0.1, 0.67), colour=GREY, width=0.9, head=7)
        right = t + 1 < len(tokens) and tokens[t + 1] == best[t]
        edge = GREEN if right else "none"
        face = shade(VALUE, 0.35) if right else "#F1F1F1"
        chip(axes, xs[t + 1], 0.5, spelled(best[t]), face, step - 0.06, edge=edge, size=7.5)
        label(axes, xs[t + 1], 0.22, f"{shares[t]:.0%}", GREY, 7.5)
    label(axes, xs[-1], 1.1, "?", GREY, 12, weight="bold")
    return axes


def reach(tokens, panels):
    """Whose guess changes when one token is replaced: {title: change [n_seq, n_seq]}, in per cent,
    a row for each replaced token; where a guess is equal to the last bit, the cell is hatched."""
    names = [spelled(token) for token in tokens]
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 4.7), sharey=True)
    for panel, (title, change) in zip(axes, panels.items(), strict=True):
        heatmap(panel, change, title, names, names, 100.0, hidden=change == 0)
        panel.set_xlabel("… moves so much of the guess here (white 0, dark 100 %)")
    axes[0].set_ylabel("replacing this token …")
    return figure


def ranked(losses, right, blind, most=11.0):
    """Losses {name: nats per token} from the best on, and what becomes of the right tokens' shares
    beside those of the formula named `right`; bars of more than `most` nats are cut."""
    left, wide, line = 3.3, 3.2, 0.3
    axes = canvas(8.6, line * len(losses) + 1.05, "No slip raises an error: nats per token")
    y, inch = axes.get_ylim()[1] - 0.85, wide / most
    x_shares = left + wide + 0.75
    label(axes, x_shares, y + 0.3, "the right tokens' shares", GREY, 8, "left")
    axes.plot([left + inch * blind] * 2, [0.3, y + 0.2], "--", color=GREY, linewidth=1, zorder=0)
    label(axes, left + inch * blind, 0.16, "a blind guess", GREY, 8)
    for name in sorted(losses, key=losses.get):
        loss, colour = losses[name], GREEN if name == right else ATTENTION
        shown = inch * min(loss, most)
        label(axes, left - 0.08, y, name, align="right")
        axes.add_patch(Rectangle((left, y - 0.1), shown, 0.2, facecolor=colour))
        if loss > most:
            for x in (left + shown - 0.38, left + shown - 0.3):
                cut = (x - 0.05, y - 0.14), (x + 0.05, y + 0.14)
                arrow(axes, *cut, colour="white", width=2, head=0, zorder=5)
        number = axes.text(left + shown + 0.06, y, f"{loss:.2f}", fontsize=9, va="center")
        number.set_bbox(dict(facecolor="white", edgecolor="none", pad=1))
        factor = np.exp(losses[right] - loss)
        what = "× 1" if name == right else f"× {factor:.3f}" if factor >= 5e-4 else "nearly × 0"
        label(axes, x_shares, y, what, align="left")
        y -= line
    return axes


PART_COLOURS = {
    "wte": TOKEN,
    "wpe": POSITION,
    "token table": TOKEN,
    "unembedding": TOKEN,
    "positions": POSITION,
    "attention": ATTENTION,
    "attention's matrices": ATTENTION,
    "scores and mixing": "#00304D",
    "feed-forward": FFN,
    "layer norms": NORM,
    "the rest": shade(GREY, 0.5),
}


def stacked(rows, title, left=1.9, width=8.6, name_all=False):
    """Bars of 100 %, cut into parts: {name: {part: amount}}; a part is named above the first bar
    in which it is wide enough, or, if name_all, above all of them."""
    axes = canvas(width, 0.62 * len(rows) + 0.55, title)
    y, inch, named = axes.get_ylim()[1] - 0.92, width - left - 0.2, set()
    for name, parts in rows.items():
        label(axes, left - 0.1, y, name, align="right", linespacing=1.25)
        x, total, free = left, sum(parts.values()), left  # where there is room for a name
        for part, amount in parts.items():
            share = amount / total
            colour = PART_COLOURS[part]
            axes.add_patch(
                Rectangle((x, y - 0.16), inch * share, 0.32, facecolor=colour, edgecolor="white")
            )
            ink = "white" if is_dark(colour) else INK
            if share > 0.045:
                label(axes, x + inch * share / 2, y, f"{share:.0%}", ink, 9, weight="bold")
            if (name_all or part not in named) and share > 0.055:
                named.add(part)
                ink = FFN_INK if colour == FFN else GREY if is_pale(colour) else colour
                at_end = x + 0.075 * len(part) > width - 0.1
                x_name = left + inch if at_end else max(x + 0.02, free)
                free = x_name + 0.066 * len(part) + 0.1
                label(axes, x_name, y + 0.26, part, ink, 8, align="right" if at_end else "left")
            x += inch * share
        y -= 0.62
    return axes


def is_pale(colour):
    return not isinstance(colour, str)


def quadratic(curves, title):
    """The share of scores and mixing as a text grows: {name: (lengths, per cent, n_ctx)}; up to
    n_ctx, a dot, a line is drawn firmly, beyond it dashed."""
    figure, axes = plt.subplots(figsize=(7.6, 3.6))
    colours = (GREY, "#00304D", ATTENTION, "#5AA3D0", GREEN)
    heights = iter(spread([share[-1] for _, share, _ in curves.values()], 6.5))
    for (name, (lengths, share, n_ctx)), colour in zip(curves.items(), colours, strict=True):
        within = lengths <= n_ctx
        axes.plot(lengths[within], share[within], color=colour, linewidth=2)
        axes.plot(lengths[~within], share[~within], "--", color=colour, linewidth=1)
        axes.plot(n_ctx, np.interp(n_ctx, lengths, share), "o", color=colour, markersize=7)
        axes.text(lengths[-1] * 1.06, next(heights), name, color=colour, va="center")
    axes.axhline(50, color=INK, linewidth=0.8, linestyle=":")
    axes.text(lengths[0], 52, "half of everything", fontsize=9, color=INK)
    axes.set(
        xscale="log", ylim=(0, 100), xlim=(lengths[0], lengths[-1] * 1.9), title=title,
        xlabel="tokens that a position looks at (logarithmic)",
        ylabel="scores and mixing,\n% of the multiply-adds",
    )  # fmt: skip
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


def spread(heights, least):
    """The heights of labels that fall from one to the next, moved down to be `least` apart."""
    placed = []
    for height in heights:
        placed.append(min(height, placed[-1] - least) if placed else height)
    return placed


def timeline(whole, steps):
    """The same tokens read at once and one by one, in milliseconds, to scale: whole [n_runs],
    steps [n_runs, n_tokens]; drawn are the runs in the middle."""
    totals = steps.sum(axis=1)
    once, each = np.median(whole), steps[np.argsort(totals)[len(totals) // 2]]
    title = f"{len(each)} tokens, read at once: {each.sum() / once:.0f} times as fast"
    axes = canvas(8.6, 1.95, title)
    left, inch = 1.2, 6.4 / each.sum()
    axes.add_patch(Rectangle((left, 1.05), inch * once, 0.34, facecolor=VALUE))
    ends = left + inch * np.cumsum(each)
    for i, (end, ms) in enumerate(zip(ends, each, strict=True)):
        face = shade(ATTENTION, 0.9 if i % 2 else 0.55)
        axes.add_patch(Rectangle((end - inch * ms, 0.5), inch * ms, 0.34, facecolor=face))
    for y, name, x, total, spread in (
        (1.22, "at once", left + inch * once, once, whole),
        (0.67, "one by one", ends[-1], each.sum(), totals),
    ):
        label(axes, left - 0.1, y, name, align="right")
        low, high = np.min(spread), np.max(spread)
        label(axes, x + 0.08, y, f"{total:.0f} ms", size=9, align="left")
        label(axes, x + 0.08, y - 0.19, f"({low:.0f} to {high:.0f})", GREY, 7.5, align="left")
    label(
        axes, left, 0.2, "each stripe is one token; time runs to the right", GREY, 8, align="left"
    )
    return axes


def cache_grows(tokens, steps, keys, values, n_features=6):
    """What the cache holds after each step: old columns stay, one is new.

    tokens        [n_positions], str: those read, then those written
    steps         (n_read, n_new) for each step: how many columns are there, and how many are new
    keys, values  [n_positions, d_head] of one head
    """
    step, left, high = 0.5, 1.65, 1.42
    n = max(n_read for n_read, _ in steps)
    axes = canvas(left + step * (n + 1) + 1.0, high * len(steps) + 0.42)
    top = axes.get_ylim()[1]
    title = "The cache keeps every old column; each new token adds one"
    label(axes, 0.1, top - 0.2, title, size=11, weight="bold", align="left")
    xs = left + step * (np.arange(n + 1) + 0.5)
    limits = [np.abs(a[:, :n_features]).max() for a in (keys, values)]
    for number, (n_read, n_new) in enumerate(steps):
        y = top - 0.72 - high * number
        label(axes, 0.1, y, f"pass {number + 1}", align="left", weight="bold")
        for name, y_row, colour in (("keys", y - 0.42, KEY), ("values", y - 0.85, VALUE)):
            label(
                axes, left - 0.1, y_row, name, FFN_INK if colour == KEY else colour, align="right"
            )
        for t in range(n):
            if t >= n_read:
                for y_row in (y - 0.42, y - 0.85):
                    frame(axes, xs[t] - 0.09, y_row - 0.18, 0.18, 0.36, "#CCCCCC", 0.7)
                continue
            is_new = t >= n_read - n_new
            face = shade(QUERY, 0.35) if is_new else "#F1F1F1"
            chip(axes, xs[t], y, spelled(tokens[t]), face, step - 0.05, 0.26, size=7)
            for a, limit, y_row, colour in zip(
                (keys, values), limits, (y - 0.42, y - 0.85), (KEY, VALUE), strict=True
            ):
                strip(
                    axes, xs[t], y_row, a[t, :n_features], colour if is_new else None, 0.18, 0.36,
                    limit=limit,
                )  # fmt: skip
        out = xs[n_read]
        label(axes, out, y + 0.22, "written", VALUE, 7)
        chip(axes, out, y, spelled(tokens[n_read]), "white", step - 0.05, 0.26, edge=VALUE, size=7)
        if number:
            what = f"{n_read - n_new} kept,\n{n_new} computed"
        else:
            what = f"{n_new} computed,\nat once"
        aside(axes, 0.1, y - 0.36, what, "left", GREY)
    return axes


def edited(tokens, change, s):
    """How far cached rows are from those of the edited prompt, in per cent of their length.

    change  {"keys": [n_layer, n_seq], "values": ...}; 0 where they are equal to the last bit
    s       the position that was edited
    """
    n_layer, n_seq = next(iter(change.values())).shape
    step, line, left = 0.62, 0.29, 1.35
    axes = canvas(left + step * n_seq + 0.2, 2 * (line * n_layer + 0.5) + 0.85)
    top = axes.get_ylim()[1]
    title = "One word changes: what was cached before it stays true, to the last bit"
    label(axes, 0.1, top - 0.2, title, size=11, weight="bold", align="left")
    xs = left + step * (np.arange(n_seq) + 0.5)
    for t, token in enumerate(tokens):
        face = shade(QUERY, 0.45) if t == s else PALE
        chip(axes, xs[t], top - 0.62, spelled(token), face, step - 0.05, 0.27, size=7.5)
    label(axes, left - 0.12, top - 0.62, "the new prompt", align="right")
    largest = max(values.max() for values in change.values())
    for number, (name, values) in enumerate(change.items()):
        y = top - 1.0 - number * (line * n_layer + 0.42)
        label(axes, 0.1, y - line * n_layer / 2, name, size=10, align="left", weight="bold")
        for (layer, t), value in np.ndenumerate(values):
            y_cell = y - line * (layer + 0.5)
            if t == 0:
                label(axes, left - 0.12, y_cell, f"layer {layer}", GREY, 8, align="right")
            colour = BLUES(value / largest)[:3] if value else "#F4F4F4"
            axes.add_patch(
                Rectangle(
                    (xs[t] - step / 2, y_cell - line / 2), step, line, facecolor=colour,
                    edgecolor="white",
                )
            )  # fmt: skip
            ink = GREY if value == 0 else "white" if is_dark(colour) else INK
            written = "=" if value == 0 else f"{value:.0f} %" if value >= 0.5 else "< 1 %"
            label(axes, xs[t], y_cell, written, ink, 8)
    note = "= equal to the last bit;  otherwise the change, in % of the row's length"
    label(axes, left, 0.18, note, GREY, 8, align="left")
    return axes


def next_words(ways, decode, title, n_words=4):
    """What each way makes of the next token: {name: shares [n_vocab]}, the last one being right;
    columns for the tokens that are likeliest in the first or the last."""
    first, *_, last = ways.values()
    words = np.argsort(-np.maximum(first, last))[:n_words]
    wide, left, line = 1.45, 2.75, 0.36
    axes = canvas(left + wide * n_words + 1.0, line * len(ways) + 0.85, title)
    largest = max(shares[words].max() for shares in ways.values())
    top = axes.get_ylim()[1] - 0.55
    for column, word in enumerate(words):
        name = spelled(decode(int(word)))
        label(axes, left + wide * column, top, name, align="left", mono=True)
    label(axes, left + wide * n_words, top, "misplaced", GREY, align="left")
    for row, (name, shares) in enumerate(ways.items()):
        y = top - line * (row + 0.85)
        label(axes, left - 0.15, y, name, align="right")
        for column, share in enumerate(shares[words]):
            x, length = left + wide * column, (wide - 0.6) * share / largest
            colour = GREEN if row == len(ways) - 1 else ATTENTION
            axes.add_patch(Rectangle((x, y - 0.09), length, 0.18, facecolor=colour))
            label(axes, x + length + 0.05, y, f"{share:.1%}", size=8, align="left")
        wrong = 0.5 * np.abs(shares - last).sum()
        label(axes, left + wide * n_words, y, f"{wrong:.1%}", GREY, align="left")
    return axes
