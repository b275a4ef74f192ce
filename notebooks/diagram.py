"""GPT-2 as a diagram: boxes, arrows, and the shapes of a model, for the fourth notebook."""

import matplotlib.pyplot as plt
from common import BLUE, GREEN, GREY, ORANGE, SKY
from matplotlib.patches import FancyBboxPatch


def box(axes, x, y, text, colour, width=2.4, height=0.8):
    """A rounded box around x, y."""
    for face, alpha in (("white", 1.0), (colour, 0.15)):
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2),
                width,
                height,
                facecolor=face,
                alpha=alpha,
                zorder=3,
                boxstyle="round,pad=0,rounding_size=0.12",
                edgecolor="none",
            )
        )
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            edgecolor=colour,
            facecolor="none",
            boxstyle="round,pad=0,rounding_size=0.12",
            linewidth=1.6,
            zorder=4,
        )
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=9, zorder=5, linespacing=1.35)


def arrow(axes, *points, colour="black", style="-"):
    """A line through the points, with an arrow head at its end."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs[:-1], ys[:-1], style, color=colour, linewidth=1.4, zorder=1)
    axes.annotate(
        "",
        points[-1],
        points[-2],
        zorder=2,
        arrowprops=dict(
            arrowstyle="-|>",
            color=colour,
            linewidth=1.4,
            linestyle=style,
            shrinkA=0,
            shrinkB=0,
            mutation_scale=13,
        ),
    )


def plus(axes, x, y):
    """The circle in which two arrows are added."""
    axes.add_patch(plt.Circle((x, y), 0.2, facecolor="white", edgecolor="black", zorder=3))
    axes.text(x, y - 0.01, "+", ha="center", va="center", fontsize=12, zorder=4)


def draw_sublayer(axes, y, norm, text, colour, stream):
    """One branch: off the stream, through norm and sublayer, and back onto it at y + 1.4."""
    arrow(axes, (0, y), (1.2, y))
    box(axes, 2.0, y, norm, GREY, width=1.6)
    arrow(axes, (2.8, y), (3.7, y))
    box(axes, 5.4, y, text, colour, width=3.4, height=1.7)
    arrow(axes, (5.4, y + 0.85), (5.4, y + 1.4), (0.2, y + 1.4))
    plus(axes, 0, y + 1.4)
    axes.text(2.6, y + 1.5, stream, fontsize=8, ha="center")


def draw_model(axes, hparams, n_seq):
    """GPT-2 from ids to logits, with the shapes for n_seq positions."""
    n_vocab, n_ctx, n_embd, n_head, n_layer = hparams.values()
    stream, gain = f"[{n_seq}, {n_embd}]", f"g, b [{n_embd}]"
    axes.text(0, 0, f"ids [{n_seq}]", ha="center", va="center", fontsize=10)
    arrow(axes, (0, 0.25), (0, 0.9))
    box(axes, 0, 1.3, f"wte: look up rows\n[{n_vocab}, {n_embd}]", GREEN)
    arrow(axes, (0, 1.7), (0, 2.5), (0, 11.0))
    box(axes, 5.4, 2.5, f"wpe: rows 0 to {n_seq - 1}\n[{n_ctx}, {n_embd}]", SKY, width=3.4)
    arrow(axes, (3.7, 2.5), (0.2, 2.5))
    plus(axes, 0, 2.5)
    axes.add_patch(
        plt.Rectangle(
            (-1.35, 3.4), 8.75, 6.6, facecolor="#f4f4f4", edgecolor=GREY, linestyle="--", zorder=0
        )
    )
    axes.text(
        7.4,
        10.15,
        f"one block; n_layer = {n_layer} of them follow each other",
        ha="right",
        fontsize=9,
    )
    draw_sublayer(
        axes,
        4.6,
        f"ln_1\n{gain}",
        f"attention\nc_attn [{n_embd}, {3 * n_embd}]\n"
        f"{n_head} heads, weights [{n_head}, {n_seq}, {n_seq}]\n"
        f"c_proj [{n_embd}, {n_embd}]",
        BLUE,
        stream,
    )
    draw_sublayer(
        axes,
        7.8,
        f"ln_2\n{gain}",
        "feed-forward network\n"
        f"c_fc [{n_embd}, {4 * n_embd}]\ngelu of [{n_seq}, {4 * n_embd}]\n"
        f"c_proj [{4 * n_embd}, {n_embd}]",
        ORANGE,
        stream,
    )
    for y in (3.0, 6.9, 9.65, 10.5):
        axes.text(-0.12, y, stream, fontsize=8, ha="right", va="center")
    axes.text(0.15, 10.5, "the residual stream", fontsize=9, va="center", style="italic")
    box(axes, 0, 11.4, f"ln_f\n{gain}", GREY, width=1.6)
    arrow(axes, (0, 11.8), (0, 12.4))
    box(axes, 0, 12.8, f"times wteᵀ\n[{n_embd}, {n_vocab}]", GREEN)
    arrow(axes, (0, 13.2), (0, 13.9))
    axes.text(0, 14.15, f"logits [{n_seq}, {n_vocab}]", ha="center", va="center", fontsize=10)
    arrow(axes, (-1.2, 1.3), (-2.1, 1.3), (-2.1, 12.8), (-1.2, 12.8), colour=GREEN, style="--")
    axes.text(-2.35, 7.0, "the same array", rotation=90, color=GREEN, ha="center", va="center")
    axes.set(xlim=(-2.7, 7.6), ylim=(-0.3, 14.4), aspect="equal")
    axes.axis("off")
