"""What the notebooks have in common: colours, maps of numbers, checked answers, and two texts."""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from utils import is_complete, load_encoder_hparams_and_params, models_folder

HERE = Path(__file__).resolve().parent

# The runs that take longest are cut short where only it matters that every cell runs.
FAST = bool(os.environ.get("NOTEBOOKS_FAST"))

# Okabe and Ito's colours, which readers with any colour vision can tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#666666",
)

plt.rcParams.update(
    {
        "figure.dpi": 100,
        "figure.figsize": (7, 3.6),
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY]),
    }
)


def show_map(axes, values, title="", columns=None, rows=None, limits=None, signed=False):
    """Draw a matrix as a map of colours on these axes, and return the image, for a colour bar.

    columns, rows  labels, such as tokens; none are written where they are left out
    limits         the values of the lightest and the darkest colour (default: 0 and the largest)
    signed         blue below zero, white at zero, red above
    """
    if limits is None:
        largest = float(np.nanmax(np.abs(values)))
        limits = (-largest, largest) if signed else (0.0, largest)
    image = axes.imshow(
        values,
        cmap="RdBu_r" if signed else "Blues",
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_title(title)
    axes.grid(False)
    for labels, axis in ((columns, axes.xaxis), (rows, axes.yaxis)):
        axis.set_ticks([] if labels is None else range(len(labels)))
        if labels is not None:
            axis.set_ticklabels(labels, fontfamily="monospace", fontsize=8)
    if columns is not None:
        axes.tick_params(axis="x", rotation=90)
    return image


def spelled(encoder, ids):
    """Each token as a label for a picture: a space at its beginning is written as ·."""
    return [encoder.decode([int(i)]).replace(" ", "·").replace("\n", "↵") for i in ids]


def check(answer, right, hint="not yet: look at the hint"):
    """Say whether an exercise's answer is right; None is one that has not been given. Whole numbers
    have to be exact, others to a thousandth."""
    if answer is None:
        print("no answer yet")
        return
    try:
        exact = all(np.asarray(part).dtype.kind in "iub" for part in (answer, right))
        same = np.shape(answer) == np.shape(right) and (
            np.array_equal(answer, right)
            if exact
            else np.allclose(answer, right, rtol=1e-3, atol=1e-6)
        )
    except (TypeError, ValueError):  # words, or lists that are no array
        same = isinstance(right, str) and answer == right
    print("right" if same else hint)


def tale():
    """A fairy tale of 1,000 words that was written for these notebooks, so that no model has read
    it: a str."""
    return (HERE / "tale.txt").read_text("utf-8")


def python_manual():
    """The help pages that come with every Python, half a million characters: a str. They are
    English as people write it, and differ a little from one version of Python to the next."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name].strip() for name in sorted(topics))


def big_model(name="124M"):
    """(encoder, hparams, params) of one of OpenAI's models if it is here, else None: nothing is
    downloaded."""
    if is_complete(models_folder() / name):
        return load_encoder_hparams_and_params(name)
    print(f"{name} is not here; `python gpt2_numpy.py --model {name}` downloads it")
    return None
