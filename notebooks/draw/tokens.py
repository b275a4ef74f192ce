"""Tokens, drawn: a sentence and its ids, bytes and their letters, merges, guesses, splittings."""

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
    RED,
    TOKEN,
    arrow,
    canvas,
    chip,
    chip_width,
    label,
    shade,
    spelled,
)

LIGHT, STRONG = shade(TOKEN, 0.25), shade(TOKEN, 0.5)  # two in turn, so that borders are seen
GAP = 0.05  # between two chips


def sentence(tokens, ids, notes=()):
    """Tokens in a row, with their ids; notes are [(first, last, text)]: what is to be said of the
    tokens from first to last."""
    wide = [chip_width(spelled(token)) for token in tokens]
    edges = 0.75 + np.cumsum([0.0, *(w + GAP for w in wide)])
    axes = canvas(edges[-1] + 0.1, 1.75)
    label(axes, 0.1, 1.45, "tokens", TOKEN, 10, "left", weight="bold")
    label(axes, 0.1, 0.85, "ids", INK, 10, "left", weight="bold")
    for i, (token, w, left) in enumerate(zip(tokens, wide, edges, strict=False)):
        x = left + w / 2
        chip(axes, x, 1.45, spelled(token), STRONG if i % 2 else LIGHT, w)
        arrow(axes, (x, 1.27), (x, 1.0), colour=GREY, head=7, width=0.9)
        label(axes, x, 0.85, ids[i], size=8.5, mono=True)
    for first, last, text in notes:
        left, right = edges[first], edges[last] + wide[last]
        axes.plot([left, left, right, right], [0.66, 0.59, 0.59, 0.66], color=GREY, linewidth=1)
        label(axes, (left + right) / 2, 0.36, text, GREY, linespacing=1.2)
    return axes


def letters_of_bytes(text, alphabet):
    """Characters, their bytes, and the letter that stands for each byte; {byte: letter}."""
    cell = 0.62
    data = [(character, character.encode()) for character in text]
    n_bytes = sum(len(part) for _, part in data)
    axes = canvas(1.5 + cell * n_bytes + 0.2, 2.1)
    for y, name in ((1.75, "characters"), (1.05, "bytes"), (0.35, "letters in\nthe files")):
        label(axes, 0.1, y, name, align="left", weight="bold")
    place = 0
    for character, part in data:
        middle = 1.5 + cell * (place + len(part) / 2)
        shown = "space" if character == " " else character
        chip(
            axes,
            middle,
            1.75,
            shown,
            PALE,
            cell * len(part) - 0.1,
            size=9 if shown == character else 8,
        )
        for byte in part:
            x = 1.5 + cell * (place + 0.5)
            moved = ord(alphabet[byte]) != byte
            arrow(
                axes, (middle + 0.6 * (x - middle), 1.57), (x, 1.22), colour=GREY, head=7, width=0.9
            )
            label(axes, x, 1.05, byte, mono=True)
            arrow(axes, (x, 0.9), (x, 0.55), colour=GREY, head=7, width=0.9)
            chip(axes, x, 0.35, alphabet[byte], shade(RED, 0.3) if moved else LIGHT, 0.42, size=10)
            place += 1
    return axes


def rows(texts, tokens, width=5.0):
    """A row for each text: how it is written, and its tokens ([[str]])."""
    step = 0.4
    axes = canvas(width, step * len(texts) + 0.1)
    left = 0.0087 * 10 * max(len(text) + 2 for text in texts) + 0.35
    for row, (text, pieces) in enumerate(zip(texts, tokens, strict=True)):
        y = step * (len(texts) - row - 0.5) + 0.05
        label(axes, left - 0.25, y, f'"{text}"', size=10, align="right", mono=True)
        x = left
        for i, piece in enumerate(pieces):
            w = chip_width(piece, 10)
            x += chip(axes, x + w / 2, y, piece, STRONG if i % 2 else LIGHT, size=10) + GAP
        n = len(pieces)
        label(axes, x + 0.1, y, f"{n} token" + "s" * (n > 1), GREY, 8.5, "left")
    return axes


def merges(words):
    """Words while they are merged, side by side: [(name, steps)]; a step is the word's symbols,
    and what is new in it stands out."""
    cell = 0.4
    most = max(len(steps) for _, steps in words)
    wide = [cell * len(steps[0]) for _, steps in words]
    axes = canvas(sum(wide) + 0.9 * len(words) + 0.2, 0.36 * most + 0.55)
    top, left = 0.36 * most + 0.1, 0.75
    for (name, steps), extent in zip(words, wide, strict=True):
        label(axes, left, top + 0.28, f'"{name}"', size=11, align="left", mono=True, weight="bold")
        for row, symbols in enumerate(steps):
            y, x, before = top - 0.36 * (row + 0.5), left, set(steps[max(row - 1, 0)])
            note = "bytes" if row == 0 else f"{row}"
            label(axes, left - 0.12, y, note, GREY, 8, "right")
            for symbol in symbols:
                w = cell * len(symbol)
                new = symbol not in before
                face = STRONG if new else LIGHT if len(symbol) > 1 else PALE
                chip(axes, x + w / 2, y, symbol, face, w - 0.05, 0.29, GREEN if new else "none", 10)
                x += w
        left += extent + 0.9
    return axes


def learning(rounds):
    """A small text while its vocabulary grows: [(words [[str]], pair, count)]. The pair is merged
    next, and stands out; the text has it count times."""
    cell, step = 0.21, 0.55
    length = sum(len("".join(word)) + 1 for word in rounds[0][0])
    beside = cell * length + 0.25
    axes = canvas(beside + 2.2, step * len(rounds) + 0.35)
    top = step * len(rounds) + 0.15
    label(axes, beside, top, "most frequent pair", GREY, 9, "left")
    for row, (words, pair, count) in enumerate(rounds):
        y, x = step * (len(rounds) - row - 0.5), 0.15
        for word in words:
            neighbours = [None, *word, None]
            for i, symbol in enumerate(word, start=1):
                w = cell * len(symbol)
                chosen = pair in ((symbol, neighbours[i + 1]), (neighbours[i - 1], symbol))
                face = STRONG if chosen else LIGHT if len(symbol) > 1 else PALE
                edge = GREEN if chosen else "none"
                chip(axes, x + w / 2, y, symbol, face, w - 0.03, 0.3, edge, 9.5)
                x += w
            x += cell
        text = f"{pair[0]} + {pair[1]}"
        label(axes, beside, y, text, size=10, align="left", mono=True)
        label(axes, beside + 1.25, y, f"{count} times", GREY, 9, "left")
    return axes


def compression(sizes, curves, star):
    """Bytes per token against the number of tokens: curves {name: [n_sizes]}, labelled at their
    ends, and a star (x, y, text) for another vocabulary on the text of the last curve."""
    figure, axes = plt.subplots(figsize=(8.2, 3.9))
    for (name, values), colour in zip(curves.items(), (BLUE, GREEN), strict=True):
        axes.plot(sizes, values, "o-", color=colour, markersize=4)
        axes.annotate(
            name,
            (sizes[-1], values[-1]),
            (8, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontweight="bold",
        )
    x, y, text = star
    below = np.interp(np.log(x), np.log(sizes), values)
    axes.plot([x, x], [below, y], ":", color=GREEN, linewidth=1.5)
    axes.plot(x, y, "*", color=GREEN, markersize=15)
    axes.annotate(
        text,
        (x, y),
        (-12, 6),
        textcoords="offset points",
        color=GREEN,
        ha="right",
        fontweight="bold",
    )
    axes.set(
        xscale="log",
        xlabel="tokens in the vocabulary",
        ylabel="bytes per token",
        title="A vocabulary shortens texts of the kind that it was learned from",
        ylim=(0.8, None),
        xlim=(sizes[0] * 0.93, sizes[-1] * 2.2),
    )
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
    axes.minorticks_off()
    return figure


def guesses(lists, title, note):
    """Lists of guesses side by side: [(heading, [(token, probability, whether it is a word that
    has its space)])]; those that have none are grey, and the note says so."""
    wide, n = 3.9, max(len(rows) for _, rows in lists)
    axes = canvas(wide * len(lists), 0.3 * n + 1.15, title)
    largest = max(p for _, rows in lists for _, p, _ in rows)
    for column, (heading, rows) in enumerate(lists):
        left = wide * column
        label(axes, left + 0.1, 0.3 * n + 0.58, heading, size=10, align="left", mono=True)
        for row, (token, p, has_space) in enumerate(rows):
            y = 0.3 * (n - row) + 0.25
            colour = GREEN if has_space else GREY
            label(axes, left + 1.35, y, spelled(token), size=10, align="right", mono=True)
            long = 1.7 * p / largest
            axes.add_patch(Rectangle((left + 1.45, y - 0.1), long, 0.2, facecolor=colour))
            digits = 0 if p >= 0.095 else 1
            label(axes, left + 1.52 + long, y, f"{100 * p:.{digits}f} %", size=9, align="left")
    label(axes, 0.1, 0.17, note, GREY, 9, align="left")
    return axes


def splittings(n_tokens, powers, usual, in_bytes):
    """How probable other splittings of one text are beside the usual one, as powers of ten, against
    their numbers of tokens. usual is a number of tokens, in_bytes such a number and a power."""
    figure, axes = plt.subplots(figsize=(8.2, 3.8))
    axes.scatter(n_tokens, powers, s=18, color=GREY, alpha=0.7, linewidths=0)
    axes.scatter(*in_bytes, s=60, color=ORANGE, marker="s", zorder=3)
    axes.scatter(usual, 0, s=190, color=GREEN, marker="*", zorder=3)
    for place, text, colour, offset, side in (
        ((usual, 0), "as encode splits it", GREEN, (11, -4), "left"),
        (in_bytes, "byte by byte", ORANGE, (-9, -4), "right"),
    ):
        axes.annotate(
            text,
            place,
            offset,
            textcoords="offset points",
            color=colour,
            ha=side,
            fontweight="bold",
        )
    lowest = min(*powers, in_bytes[1])
    step = 25 if lowest > -120 else 50
    ticks = range(0, int(lowest) - step, -step)
    axes.set_yticks(ticks, ["1", *(f"$10^{{{tick}}}$" for tick in ticks[1:])])
    axes.set(
        xlabel="tokens that the sentence is split into",
        ylabel="probability,\nthe usual splitting = 1",
        title="One sentence, many splittings: the model expects the usual one",
        ylim=(lowest - 0.06 * abs(lowest), 0.06 * abs(lowest)),
    )
    return figure
