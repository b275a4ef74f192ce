"""What GPT-2 costs: multiply-adds as the model itself counts them, and the time of its parts."""

import time
from unittest import mock

import numpy as np

import gpt2_numpy
from gpt2_numpy import gpt2, new_cache
from utils import tree_map


class Counting(np.ndarray):
    """An array whose matrix products are counted, in Counting.n, as are those of its results.

    NumPy hands every elementwise function and matrix product with such an array to its method
    __array_ufunc__, and einsum to __array_function__.
    """

    n = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **others):
        # Whoever wants the result in `out`, such as `mean`, goes on with what is returned.
        result = getattr(ufunc, method)(*(np.asarray(x) for x in inputs), **others)
        if ufunc is np.matmul:
            Counting.n += result.size * inputs[0].shape[-1]
        return result.view(Counting)

    def __array_function__(self, function, types, inputs, others):
        if function is not np.einsum:
            return super().__array_function__(function, types, inputs, others)
        subscripts, a, b = inputs
        result = np.einsum(subscripts, np.asarray(a), np.asarray(b), **others)
        Counting.n += result.size * b.shape[-1]  # the axis that `attention` sums over
        return result.view(Counting)


def count(ids, params, n_head):
    """The multiply-adds of one forward pass, counted while it runs."""
    Counting.n = 0
    gpt2(ids, **tree_map(lambda array: array.view(Counting), params), n_head=n_head)
    return Counting.n


def block_of(formula):
    """A block like `gpt2_numpy.block` of a formula of x, attention, the feed-forward network, and
    the two layer norms."""

    def block(x, mlp, attn, ln_1, ln_2, n_head, mask, cache):
        return formula(
            x,
            lambda y: gpt2_numpy.mha(y, **attn, n_head=n_head, mask=mask),
            lambda y: gpt2_numpy.ffn(y, **mlp),
            lambda y: gpt2_numpy.layer_norm(y, **ln_1),
            lambda y: gpt2_numpy.layer_norm(y, **ln_2),
        )

    return block


def one_by_one(ids, params, n_head):
    """Logits [n_seq, n_vocab] and milliseconds [n_seq] of a text that a cache takes in token by
    token."""
    cache, logits, clock = new_cache(params, n_head, len(ids)), [], [time.perf_counter()]
    for token in ids:
        logits.append(gpt2([token], **params, n_head=n_head, cache=cache)[0])
        clock.append(time.perf_counter())
    return np.array(logits), 1e3 * np.diff(clock)


def at_once(ids, params, n_head):
    """Logits [n_seq, n_vocab] and milliseconds of a text that is read in one pass."""
    start = time.perf_counter()
    logits = gpt2(ids, **params, n_head=n_head)  # [n_seq, n_vocab]
    return logits, 1e3 * (time.perf_counter() - start)


def milliseconds(function, *arguments):
    """The time of `function(*arguments)`."""
    start = time.perf_counter()
    function(*arguments)
    return 1e3 * (time.perf_counter() - start)


def time_of_parts(n_runs, function, *arguments):
    """Milliseconds of `function(*arguments)` by part, each the least of all runs, as whatever else
    runs on the machine can only make it longer: {part: ms}. The rest is the embeddings, the
    unembedding, and what Python does between them."""
    parts = {"attention": "mha", "feed-forward": "ffn", "layer norms": "layer_norm"}
    spent, runs = dict.fromkeys(parts, 0.0), []

    def timed(part, inner):
        def call(*inputs, **settings):
            start = time.perf_counter()
            result = inner(*inputs, **settings)
            spent[part] += 1e3 * (time.perf_counter() - start)
            return result

        return call

    functions = {name: timed(part, getattr(gpt2_numpy, name)) for part, name in parts.items()}
    with mock.patch.multiple(gpt2_numpy, **functions):
        for _ in range(n_runs):
            spent.update(dict.fromkeys(parts, 0.0))
            total = milliseconds(function, *arguments)
            runs.append(spent | {"the rest": total - sum(spent.values())})
    return {part: min(run[part] for run in runs) for part in runs[0]}
