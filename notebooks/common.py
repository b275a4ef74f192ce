"""What every notebook begins with: the project's modules, the pictures, checked answers, a tale.

from common import check, draw, gpt2_numpy, np, trace, utils
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
# Small matrices, and processes that share the work: more threads would only wait for each other.
for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import copy
import inspect
import itertools
import math
import time
from unittest import mock

import draw
import matplotlib.pyplot as plt
import measure
import numpy as np
import studies

import backward
import encoder as bpe
import gpt2_numpy
import train
import utils
from look_inside import trace

__all__ = [
    "FAST",
    "backward",
    "bpe",
    "check",
    "copy",
    "draw",
    "gpt2_numpy",
    "itertools",
    "math",
    "measure",
    "np",
    "plt",
    "python_manual",
    "source",
    "studies",
    "swapped",
    "tale",
    "time",
    "trace",
    "train",
    "utils",
]

# The runs that take longest are cut short where only it matters that every cell runs.
FAST = bool(os.environ.get("NOTEBOOKS_FAST"))


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


def source(function):
    """Print a function as it stands in the project."""
    print(inspect.getsource(function))


def swapped(module, **functions):
    """Within `with swapped(gpt2_numpy, attention=other):`, the model runs with `other` in the place
    of its own function; afterwards it is as it was."""
    return mock.patch.multiple(module, **functions)


def tale():
    """A fairy tale of 1,000 words that was written for these notebooks, so that no model has read
    it: a str."""
    return (HERE / "tale.txt").read_text("utf-8")


def python_manual():
    """The help pages that come with every Python, half a million characters: a str. They are
    English as people write it, and differ a little from one version of Python to the next."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name].strip() for name in sorted(topics))
