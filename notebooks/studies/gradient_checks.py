"""Ways to find out whether gradients are right that know nothing of the chain rule."""

import math

import numpy as np

import backward
import gpt2_numpy
import train
from files.tree_names import flatten
from studies.bugs import SMALL
from utils import leaves, tree_map

TINY = {"n_vocab": 61, "n_ctx": 16, "n_embd": 32, "n_head": 2, "n_layer": 2}


def tiny_model():
    """Parameters of a tiny model in float64, none of them 0 and none of its gradients tiny: the
    matrices are five times as large as at the start of a training. And ids [2, 17]."""
    rng = np.random.default_rng(0)
    params = tree_map(
        lambda p: p.astype(np.float64) * (5.0 if p.ndim > 1 else 1.0), train.init_params(TINY, 0)
    )
    for array in leaves(params):
        array += 0.1 * rng.standard_normal(array.shape)
    return params, rng.integers(TINY["n_vocab"], size=(2, 17))


def loss_and_gradients(params, ids):
    return backward.loss_and_gradients(params, ids[:, :-1], ids[:, 1:], TINY["n_head"])


def direction_in(params, tensor, rng):
    """A random direction: a tree like params, of length 1, 0 outside the tensor of this name."""
    drawn = tree_map(lambda p: rng.standard_normal(p.shape), params)
    for name, array in flatten(drawn).items():
        array *= tensor in (name, None)
    length = math.sqrt(sum(np.vdot(array, array) for array in leaves(drawn)))
    return tree_map(lambda array: array / length, drawn)


def loss_of(params, ids):
    """The mean loss of tokens 1 to 16, by the forward pass alone."""
    logs = gpt2_numpy.log_softmax(gpt2_numpy.gpt2(ids[:, :-1], **params, n_head=TINY["n_head"]))
    return -float(np.take_along_axis(logs, ids[:, 1:, None], axis=-1).mean())


def claimed_and_measured(params, ids, gradients, direction, h=1e-4):
    """How fast the loss grows along a direction: what the gradients say, and what two forward
    passes say, one a little ahead and one a little behind."""

    def loss_at(step):
        return loss_of(tree_map(lambda p, d: p + step * d, params, direction), ids)

    claimed = sum(leaves(tree_map(np.vdot, gradients, direction)))
    return claimed, (loss_at(h) - loss_at(-h)) / (2 * h)


def relative_errors(params, ids, seed=0):
    """{name of a tensor: relative error of its gradient along a random direction}."""
    rng = np.random.default_rng(seed)
    _, gradients = loss_and_gradients(params, ids)
    errors = {}
    for name in flatten(params):
        direction = direction_in(params, name, rng)
        claimed, measured = claimed_and_measured(params, ids, gradients, direction)
        errors[name] = abs(claimed - measured) / max(abs(claimed), abs(measured))
    return errors


def step_errors(params, ids, steps, n_directions=5):
    """Relative errors of the slope along a direction, by the length of the step: {"float64":
    [n_steps], "float32": [n_steps]}, each the median of some directions."""
    rng, errors = np.random.default_rng(1), {}
    directions = [direction_in(params, None, rng) for _ in range(n_directions)]
    _, gradients = loss_and_gradients(params, ids)
    for dtype in (np.float64, np.float32):
        cast = tree_map(lambda p, dtype=dtype: p.astype(dtype), params)
        pairs = np.array(
            [
                [
                    claimed_and_measured(cast, ids, gradients, as_dtype(d, dtype), float(h))
                    for h in steps
                ]
                for d in directions
            ]
        )  # [n_directions, n_steps, 2]
        errors[dtype.__name__] = np.median(np.abs(pairs[..., 1] / pairs[..., 0] - 1.0), axis=0)
    return errors


def as_dtype(tree, dtype):
    return tree_map(lambda array: array.astype(dtype), tree)


def causal_leak(params, ids):
    """How far the logits of earlier positions move when the last token is another: 0, if the mask
    is right."""
    other = ids.copy()
    other[:, -1] = (other[:, -1] + 1) % TINY["n_vocab"]
    here, there = (gpt2_numpy.gpt2(i[:, 1:], **params, n_head=TINY["n_head"]) for i in (ids, other))
    return float(np.abs(here - there)[:, :-1].max())


def layer_norm_leak():
    """The sum over the features of what layer norm hands back: 0, if it takes the mean away."""
    x, dy = np.random.default_rng(4).standard_normal((2, 5, 32))
    _, back = backward.layer_norm_vjp(x, np.ones(32), np.zeros(32))
    dx, _ = back(dy)
    return float(np.abs(dx.sum(axis=-1)).max())


def one_batch_by_heart(ids, n_steps=150):
    """The loss of the small model on a single batch, after it was trained on nothing else."""
    params = train.init_params(SMALL, 0)
    moments, (inputs, targets) = train.new_moments(params), train.batch(ids, 32, 2, 0, 0)
    for step in range(n_steps):
        loss, gradients = backward.loss_and_gradients(params, inputs, targets, SMALL["n_head"])
        train.clip_gradients(gradients, 1.0)
        train.adamw(params, gradients, moments, step, 3e-3)
    return loss
