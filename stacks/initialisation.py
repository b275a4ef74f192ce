"""Parameters to begin with, for any stack: their shapes, and numbers drawn for them."""

import math

import numpy as np


def linear_shapes(n_in, n_out):
    """The shapes of `linear`'s parameters."""
    return {"w": (n_in, n_out), "b": (n_out,)}


def norm_shapes(n_embd):
    """The shapes of `layer_norm`'s parameters."""
    return {"g": (n_embd,), "b": (n_embd,)}


def block_shapes(n_embd):
    """The shapes of `block`'s parameters."""
    return {
        "ln_1": norm_shapes(n_embd),
        "attn": {
            "c_attn": linear_shapes(n_embd, 3 * n_embd),
            "c_proj": linear_shapes(n_embd, n_embd),
        },
        "ln_2": norm_shapes(n_embd),
        "mlp": {
            "c_fc": linear_shapes(n_embd, 4 * n_embd),
            "c_proj": linear_shapes(4 * n_embd, n_embd),
        },
    }


def draw_params(shapes, rng, std=0.02, n_sums=1, scopes=()):
    """Parameters of these shapes, a nesting of dicts and lists of tuples, as `init_params` draws
    GPT-2's: gains 1, biases 0, all others normal.

    rng     an np.random.Generator
    std     their standard deviation; None is 1 / sqrt(n_in), for rows of embeddings
            1 / sqrt(n_embd), with which numbers keep their size on their way through a matrix;
            0.02 is that for 2,500 features, and far less for the few of a small model
    n_sums  how many sublayers add to the residual stream: the std of the c_proj that they end with
            is divided by sqrt(n_sums), so that the sum does not grow with the depth
    scopes  the names on the way to them
    """
    if isinstance(shapes, dict):
        return {
            name: draw_params(child, rng, std, n_sums, (*scopes, name))
            for name, child in shapes.items()
        }
    if isinstance(shapes, list):
        return [draw_params(child, rng, std, n_sums, scopes) for child in shapes]
    shape, name = shapes, scopes[-1]
    if name in ("g", "b"):
        return np.full(shape, 1.0 if name == "g" else 0.0, np.float32)
    if std is None:
        std = 1.0 / math.sqrt(shape[0] if name == "w" else shape[-1])
    if "c_proj" in scopes:
        std /= math.sqrt(n_sums)
    return (std * rng.standard_normal(shape)).astype(np.float32)
