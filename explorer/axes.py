"""What the axes of an array are called, as the comments at the ends of the lines say it."""

import ast
import re

import numpy as np

from explorer.source import read_lines, statements

ANY = "..."


def comment_axes(function_name, line):
    """The axes that the comment behind a statement names, as a list; of "[in] -> [out]" the second.
    None where there is no such comment. "..." stands for any number of them."""
    statement = statements(function_name)[line]
    source = "\n".join(read_lines()[statement.lineno - 1 : statement.end_lineno])
    groups = re.findall(r"\[([^\[\]]*)\]", source.partition("#")[2])
    if not groups:
        return None
    group = groups[1] if "->" in source.partition("#")[2] else groups[0]
    return [name.strip() for name in group.split(",")]


def reshape_axes(function_name, line):
    """The axes of `y = x.reshape(*batch, n_seq, 3, …)`, named by these arguments; or None."""
    expression = getattr(statements(function_name)[line], "value", None)
    if not isinstance(expression, ast.Call) or getattr(expression.func, "attr", "") != "reshape":
        return None
    names = [ANY if isinstance(a, ast.Starred) else ast.unparse(a) for a in expression.args]
    return names if ANY in names and not {"-1"} & set(names) else None


def fit(names, n_axes):
    """One name for each axis, None for those that "..." stands for; None where they do not fit."""
    if ANY not in names:
        return list(names) if len(names) == n_axes else None
    n_missing = n_axes - (len(names) - 1)
    if n_missing < 0:
        return None
    i = names.index(ANY)
    return [*names[:i], *[None] * n_missing, *names[i + 1 :]]


def parameter_axes(shape, hparams):
    """The axes of a parameter, by their sizes."""
    n_embd = hparams["n_embd"]
    sizes = {n_embd: "n_embd", 3 * n_embd: "3 * n_embd", 4 * n_embd: "4 * n_embd"}
    sizes = {hparams["n_ctx"]: "n_ctx", hparams["n_vocab"]: "n_vocab"} | sizes
    return [sizes.get(size) for size in shape]


def name_axes(calls):
    """Name the axes of all values of a run, in place.

    calls: for each call the values of its variables, those that it assigns before its arguments.
    What a comment does not name is called as in another variable of the same call: one of the same
    shape first, then one that has an axis of this size in this place.
    """
    for _ in range(3):  # names pass from call to call through the values that they share
        for values in calls:
            for value in values:
                if None in value.axes:
                    borrow(value, [other for other in values if other is not value])
    for values in calls:
        for value in values:
            value.axes = [name or str(n) for name, n in zip(value.axes, value.shape, strict=True)]


def borrow(value, others):
    same_shape = [other for other in others if other.shape == value.shape]
    same_number = [other for other in others if len(other.shape) == len(value.shape)]
    suffix = [other for other in others if len(other.shape) > len(value.shape)]
    for other in (*same_shape, *same_number, *suffix):
        start = len(other.shape) - len(value.shape)
        if start and other.shape[start:] != value.shape:
            continue
        for i, size in enumerate(value.shape):
            if value.axes[i] is None and other.shape[start + i] == size:
                value.axes[i] = other.axes[start + i]


def is_array(thing):
    return isinstance(thing, np.ndarray) and thing.ndim > 0
