"""GPT-2 in plain NumPy: the model, a sampler, and a command line.

    python gpt2_numpy.py "Once upon a time"

Read it from the top: `gelu`, `softmax`, `layer_norm` and `linear` are the parts, `attention` and
`ffn` the two sublayers, `block` joins them to the residual stream, `gpt2` is the whole model.
Parameters are named as in OpenAI's checkpoint, and their names are the functions' arguments, so
that `gpt2(ids, **params, n_head=12)` is a call:

    params = {"wte", "wpe",                                 token and position embeddings
              "blocks": [{"ln_1": {"g", "b"},               for each layer
                          "attn": {"c_attn": {"w", "b"}, "c_proj": {"w", "b"}},
                          "ln_2": {"g", "b"},
                          "mlp":  {"c_fc": {"w", "b"}, "c_proj": {"w", "b"}}}, ...],
              "ln_f": {"g", "b"}}

Shapes stand at the ends of the lines: n_seq positions, n_embd features, n_head heads of d_head =
n_embd / n_head features, n_vocab tokens; "..." is any number of batch axes. Arithmetic keeps the
parameters' dtype (float32) from end to end. `keep` does nothing, except while `trace` looks inside,
and `dropout` returns its argument, except in training.
"""

import argparse
import contextlib
import errno
import itertools
import math
import numbers
import operator
import os
import secrets
import sys
import time
import warnings
from contextvars import ContextVar

import numpy as np


class GPT2Error(ValueError):
    """What the model or the sampler was asked for makes no sense; the message says why."""


def gelu(x):
    """Gaussian error linear unit of each element, in the tanh form: [...] to the same
    (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    # Python floats: a NumPy float64 scalar would turn the whole model into float64.
    tanh = np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x))
    keep(tanh=tanh)                                                       # for `trace`
    return 0.5 * x * (1.0 + tanh)


def softmax(x):
    """exp(x) / sum(exp(x)) over the last axis: [...] to the same. Subtracting the maximum cancels
    out, and keeps exp from overflowing."""
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def layer_norm(x, g, b, eps=1e-5):
    """Each position on its own: mean 0, variance 1 over its features, then gain g and bias b.

    (x - mean) / sqrt(variance + eps) * g + b, with the population variance (divided by n_embd).
    Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """
    n_embd = x.shape[-1]      # sum() / n_embd, as mean() takes longer for a single position
    mean = x.sum(axis=-1, keepdims=True) / n_embd                         # [..., 1]
    centred = x - mean                                                    # [..., n_embd]
    variance = (centred * centred).sum(axis=-1, keepdims=True) / n_embd   # [..., 1]
    normed = centred / np.sqrt(variance + eps)                            # [..., n_embd]
    y = normed * g + b
    keep(x=x, mean=mean, variance=variance, normed=normed, y=y)
    return y


def linear(x, w, b):
    """x w + b over the last axis: [..., n_in] to [..., n_out] by w [n_in, n_out] and b [n_out]."""
    rows = x.reshape(-1, w.shape[0])     # one matrix product for all leading axes: w is read once
    return (rows @ w + b).reshape(*x.shape[:-1], w.shape[1])


def attention(x, c_attn, c_proj, n_head, cache=None):
    """Causal multi-head self-attention with both its projections: [..., n_seq, n_embd] to the same.

    softmax(q kᵀ / sqrt(d_head)) v in each head (Vaswani et al. 2017, arXiv:1706.03762, eq. 1): how
    much of every earlier position's value v each position takes in, by how well its query q fits
    that position's key k. A cache holds the keys and values of n_past positions before those of x.
    """
    # c_attn makes the queries of all heads, then all keys, then all values: 3 * n_head in a row.
    qkv = split_heads(linear(x, **c_attn), 3 * n_head)            # [..., 3 * n_head, n_seq, d_head]
    q, k, v = (qkv[..., i * n_head:(i + 1) * n_head, :, :] for i in range(3))
    if cache is not None:
        k, v = remember(cache, k, v)                              # [..., n_head, n_keys, d_head]
    # The two matrix products are einsum("...qd,...kd->...qk") and ("...qk,...kd->...qd"), written
    # with @ because that reaches BLAS at every size and in every version of NumPy.
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])      # [..., n_head, n_seq, n_keys]
    n_seq, n_keys = scores.shape[-2:]                             # n_keys = n_past + n_seq
    if n_seq > 1:                # the causal mask; a single new position sees itself and all before
        visible = np.tri(n_seq, n_keys, n_keys - n_seq, dtype=bool)   # row t: n_past + t + 1 × True
        scores = np.where(visible, scores, -np.inf)
    weights = softmax(scores)                                     # over the keys, adding up to 1
    heads = merge_heads(dropout(weights) @ v)                     # [..., n_seq, n_embd]
    keep(q=q, k=k, v=v, scores=scores, weights=weights, heads=heads)
    return linear(heads, **c_proj)


def split_heads(x, n_head):
    """[..., n_seq, n_head * d_head] to [..., n_head, n_seq, d_head]: to each head its features."""
    return x.reshape(*x.shape[:-1], n_head, x.shape[-1] // n_head).swapaxes(-2, -3)


def merge_heads(x):
    """[..., n_head, n_seq, d_head] back to [..., n_seq, n_embd]."""
    x = x.swapaxes(-2, -3)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def ffn(x, c_fc, c_proj):
    """The feed-forward network, each position on its own: [..., n_seq, n_embd] to the same
    (Vaswani et al. 2017, eq. 2, with gelu for relu)."""
    hidden = linear(x, **c_fc)                                    # [..., n_seq, 4 * n_embd]
    activation = gelu(hidden)
    keep(hidden=hidden, activation=activation)
    return linear(activation, **c_proj)


def block(x, mlp, attn, ln_1, ln_2, n_head, cache=None):
    """One pre-LN residual block: each sublayer reads a normalised copy of the residual stream x,
    and what it computes is added back; x itself runs through unchanged. [..., n_seq, n_embd]."""
    x = x + dropout(attention(layer_norm(x, **ln_1), **attn, n_head=n_head, cache=cache))
    x = x + dropout(ffn(layer_norm(x, **ln_2), **mlp))
    return x


def gpt2(ids, wte, wpe, blocks, ln_f, n_head, cache=None, n_logits=None):
    """Token ids [..., n_seq] to logits [..., n_seq, n_vocab] (Radford et al. 2019).

    logits[..., t, :] are the unnormalised log-probabilities of token t + 1, given tokens 0 to t.
    cache, from `new_cache`, holds the positions before these ids and takes in theirs. n_logits
    computes the logits of the last so many positions alone. GPT2Error when there are more positions
    than the model's context, n_ctx rows of wpe, has room for. Ids have to be 0 to n_vocab - 1: see
    `check_ids`.
    """
    ids = np.asarray(ids)
    n_past = cache[0]["n_past"] if cache else 0                   # the same in every layer
    n_positions = n_past + ids.shape[-1]
    if n_positions > wpe.shape[0]:
        raise GPT2Error(f"{n_positions} positions, but the model's context has {wpe.shape[0]}")
    x = dropout(wte[ids] + wpe[n_past:n_positions])               # the residual stream begins
    for parameters, layer_cache in zip(blocks, cache or [None] * len(blocks), strict=True):
        x = block(x, **parameters, n_head=n_head, cache=layer_cache)
    if n_logits is not None:
        x = x[..., max(0, x.shape[-2] - n_logits):, :]
    return linear(layer_norm(x, **ln_f), wte.T, b=0.0)            # [..., n_seq, n_vocab]: no bias


def new_cache(params, n_head, n_positions, batch=()):
    """Room for the keys and values of n_positions positions: for each layer a dict of k and v,
    [*batch, n_head, n_positions, d_head], and n_past, how many positions they hold so far."""
    d_head = params["wte"].shape[1] // n_head
    shape, dtype = (*batch, n_head, n_positions, d_head), params["wte"].dtype
    return [{"k": np.empty(shape, dtype), "v": np.empty(shape, dtype), "n_past": 0}
            for _ in params["blocks"]]


def remember(cache, k, v):
    """Write one layer's new k, v [..., n_head, n_seq, d_head] behind the ones in its cache; return
    old and new together, [..., n_head, n_past + n_seq, d_head]."""
    n_past, capacity = cache["n_past"], cache["k"].shape[-2]
    n_positions = n_past + k.shape[-2]
    if n_positions > capacity:
        raise GPT2Error(f"{n_positions} positions, but the cache has room for {capacity}")
    cache["k"][..., n_past:n_positions, :] = k
    cache["v"][..., n_past:n_positions, :] = v
    cache["n_past"] = n_positions
    return cache["k"][..., :n_positions, :], cache["v"][..., :n_positions, :]


def repeat_cache(cache, n_samples):
    """Widen the cache of one prompt to [n_samples, ...]: each sample goes on from its own copy."""
    for layer in cache:     # one after the other, so that memory never holds all of them twice
        layer["k"] = np.repeat(layer["k"][None], n_samples, axis=0)
        layer["v"] = np.repeat(layer["v"][None], n_samples, axis=0)


NOT_FINITE = "the logits hold NaN or infinity: the model's weights are damaged"


def sample(logits, temperature=0.0, top_k=0, top_p=1.0, rng=None):
    """Draw the next token: logits [..., n_vocab] to ids [...].

    temperature  divides the logits: below 1 the likely become likelier; 0 is greedy, the best token
    top_k        only the k best tokens; 0 is no limit
    top_p        only the best tokens that together reach probability p (nucleus sampling, Holtzman
                 et al. 2019, arXiv:1904.09751); 1 is no limit
    rng          a np.random.Generator, or a seed for one

    Applied in this order. The best token always stays; of equal logits the lower id is the better.
    GPT2Error when an argument is out of its range, or when the best logit is not a finite number.
    """
    check_sampling(temperature, top_k, top_p)
    logits = np.asarray(logits)
    if not np.all(np.isfinite(np.max(logits, axis=-1))):   # a maximum with NaN among them is NaN
        raise GPT2Error(NOT_FINITE)
    if temperature == 0:
        return np.argmax(logits, axis=-1)
    rng = np.random.default_rng(rng)
    rows = logits.reshape(-1, logits.shape[-1])
    ids = [draw(row, temperature, top_k, top_p, rng) for row in rows]
    return np.array(ids).reshape(logits.shape[:-1])


def check_sampling(temperature, top_k, top_p):
    """GPT2Error when `sample` cannot work with these."""
    if not 0 <= temperature < math.inf:
        raise GPT2Error(f"temperature is {temperature}; it must be 0 (greedy) or a number above")
    if not isinstance(top_k, numbers.Integral) or top_k < 0:
        raise GPT2Error(f"top_k is {top_k}; it must be 0 (no limit) or a whole number above")
    if not 0 < top_p <= 1:
        raise GPT2Error(f"top_p is {top_p}; it must be above 0 and at most 1 (no limit)")


def draw(logits, temperature, top_k, top_p, rng):
    """One id from one row of logits [n_vocab]."""
    ids, limited = np.arange(len(logits)), 0 < top_k < len(logits)
    if limited:
        ids = np.flatnonzero(logits >= np.partition(logits, -top_k)[-top_k])   # k, or more by ties
    if limited or top_p < 1:
        ids = ids[np.argsort(-logits[ids], kind="stable")]                     # the best come first
    if limited:
        ids = ids[:top_k]
    with np.errstate(over="ignore"):       # to -inf, at temperatures next to 0: a probability of 0
        scaled = (logits[ids].astype(np.float64) - np.max(logits)) / temperature
    cumulative = np.cumsum(softmax(scaled))
    n_nucleus = 1 + np.searchsorted(cumulative[:-1], top_p)    # all but the last may be too few
    cumulative = cumulative[:n_nucleus] / cumulative[n_nucleus - 1]
    return ids[np.searchsorted(cumulative, rng.random(), side="right")]


class ContextWarning(UserWarning):
    """The context is full: generation goes on from its newest half."""


def generate(ids, params, n_head, n_tokens, temperature=0.0, top_k=0, top_p=1.0, rng=None,
             n_samples=None, watch=None):
    """Continue a prompt: an iterator over n_tokens new ids, each computed when it is asked for.

    ids is the prompt, [n_seq], and each new id an int; or prompts of one length [..., n_seq], and
    arrays [...]. With n_samples, as many continuations of one prompt grow side by side, the prompt
    being processed once: arrays [n_samples, ...]. temperature, top_k, top_p and rng are those of
    `sample`. watch(logits [..., n_vocab], ids [...]), if given, is called before each id is handed
    out.

    The keys and values of all positions are kept, so that each step computes only the new one. When
    the model's context of n_ctx positions is full, its newest half is processed anew, as if the
    text began there: a ContextWarning says so, once. GPT2Error when there is no prompt, when an id
    is not in the vocabulary, when n_tokens or n_samples makes no sense, or when `sample` raises it.
    """
    check_sampling(temperature, top_k, top_p)
    prompt = check_ids(ids, params)
    if operator.index(n_tokens) < 0 or (n_samples is not None and operator.index(n_samples) < 1):
        raise GPT2Error(f"cannot generate {n_tokens} tokens in {n_samples} samples")
    rng = np.random.default_rng(rng)
    sampling = dict(temperature=temperature, top_k=top_k, top_p=top_p, rng=rng)
    reuse_memory()
    return continuation(prompt, params, n_head, n_tokens, n_samples, watch, sampling)


def continuation(context, params, n_head, n_tokens, n_samples, watch, sampling):
    """The loop of `generate`: predict, sample, append."""
    n_ctx = params["wpe"].shape[0]
    new, n_past, cache, warned = context, 0, None, False
    for n_left in range(n_tokens, 0, -1):
        if n_past + new.shape[-1] > n_ctx:
            new, n_past, cache = context[..., -max(1, n_ctx // 2):], 0, None
            if not warned:
                warnings.warn(f"the context of {n_ctx} tokens is full; the model goes on from its "
                              "newest half and no longer sees what came before", ContextWarning,
                              stacklevel=2)
                warned = True
        if cache is None:
            n_positions = min(n_ctx, new.shape[-1] + n_left - 1)
            cache = new_cache(params, n_head, n_positions, context.shape[:-1])
        logits = predict(new, params, n_head, cache)
        n_past += new.shape[-1]
        if n_samples is not None and n_left == n_tokens:
            logits, context = (np.repeat(x[None], n_samples, axis=0) for x in (logits, context))
            repeat_cache(cache, n_samples)
        chosen = sample(logits, **sampling)
        if watch is not None:
            watch(logits, chosen)
        new = np.array(chosen)[..., None]                                  # a copy: what is handed
        context = np.concatenate([context, new], axis=-1)[..., -n_ctx:]    # out is the caller's
        yield int(chosen) if chosen.ndim == 0 else chosen


def predict(ids, params, n_head, cache):
    """Logits [..., n_vocab] of the token that follows ids [..., n_seq] and what is in the cache."""
    # A long prompt goes in by the piece: its activations then stay within the processor's caches,
    # and of the scores that the causal mask would only throw away, half are never computed.
    n_piece, n_seq = 128, ids.shape[-1]
    for start in range(0, n_seq, n_piece):
        piece = ids[..., start:start + n_piece]
        n_logits = int(start + n_piece >= n_seq)
        logits = gpt2(piece, **params, n_head=n_head, cache=cache, n_logits=n_logits)
    return logits[..., -1, :]


def reuse_memory():
    """Take a third off the time of a long prompt.

    glibc gives the memory of large arrays back to the system at once and fetches it anew, page by
    page, for the next ones, until a program has freed a block as large as these: see mallopt(3) on
    the dynamic mmap threshold. So one is freed here, never touched; elsewhere this does nothing.
    """
    np.empty(31 * 2**20, np.uint8)


def check_ids(ids, params):
    """A copy of the ids, an integer array [..., n_seq]; GPT2Error when there are none, or when one
    is not in the vocabulary."""
    ids, n_vocab = np.array(ids), params["wte"].shape[0]
    if ids.ndim == 0 or ids.shape[-1] == 0:
        raise GPT2Error("there are no token ids to start from; the shortest prompt is one token")
    if not np.issubdtype(ids.dtype, np.integer):
        raise GPT2Error(f"token ids are whole numbers, not {ids.dtype}")
    outside = ids[(ids < 0) | (ids >= n_vocab)]
    if outside.size:
        raise GPT2Error(f"token id {outside[0]} is not in the vocabulary, 0 to {n_vocab - 1}")
    return ids


def log_softmax(x):
    """log(softmax(x)) over the last axis, exact where softmax itself would round to 0."""
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def log_probs(ids, params, n_head):
    """log p(ids[t] | ids[0], ..., ids[t-1]) in nats for t = 1, 2, ...: [n_seq] to [n_seq - 1].

    Their sum is the log-probability of the text after its first token, exp(-mean) its perplexity.
    In a text of more than n_ctx tokens each is predicted from at least the n_ctx // 2 before it.
    GPT2Error when there are no ids, when one is not in the vocabulary, or when the model's weights
    give no numbers.
    """
    ids, n_ctx = check_ids(ids, params), params["wpe"].shape[0]
    n_half = n_ctx // 2
    n_chunk = min(64, n_ctx - n_half)    # the logits of all positions at once would fill memory
    cache, chunks = None, []
    reuse_memory()
    for start in range(0, ids.shape[-1] - 1, n_chunk):
        targets = ids[..., start + 1:start + 1 + n_chunk]
        inputs = ids[..., start:start + targets.shape[-1]]
        if cache is None or cache[0]["n_past"] + inputs.shape[-1] > n_ctx:
            cache = new_cache(params, n_head, n_ctx, ids.shape[:-1])
            if start > 0 and n_half > 0:
                before = ids[..., start - n_half:start]
                gpt2(before, **params, n_head=n_head, cache=cache, n_logits=0)
        logits = gpt2(inputs, **params, n_head=n_head, cache=cache)    # [..., n_chunk, n_vocab]
        chosen = np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)
        chunks.append(chosen[..., 0])                                  # [..., n_chunk]
    nothing = np.empty((*ids.shape[:-1], 0), params["wte"].dtype)
    logs = np.concatenate([nothing, *chunks], axis=-1)
    if not np.all(np.isfinite(logs)):
        raise GPT2Error(NOT_FINITE)
    return logs


_keep = ContextVar("_keep", default=None)          # each thread has its own
_dropout = ContextVar("_dropout", default=None)


def keep(**arrays):
    """Hand a function's intermediate results to the `keeping` that surrounds its call, if any."""
    take = _keep.get()
    if take is not None:
        take(arrays)


def dropout(x):
    """x, except while `with_dropout` trains a model."""
    drop = _dropout.get()
    return x if drop is None else drop(x)


@contextlib.contextmanager
def with_dropout(drop):
    """with with_dropout(drop): the functions call drop(x) where GPT-2 has dropout (Srivastava et
    al. 2014): on the sum of the embeddings, on the attention weights, on what a sublayer adds."""
    token = _dropout.set(drop)
    try:
        yield
    finally:
        _dropout.reset(token)


@contextlib.contextmanager
def keeping(names=None):
    """with keeping() as kept: each layer_norm, attention, gelu and ffn (of this thread) appends a
    dict of what it computed on the way to the list kept, when it has finished: [ln_1, attn, ln_2,
    gelu, mlp] for a block. An inner keeping takes them from an outer one. names, if given, are the
    only arrays in these dicts; `trace` lists them all."""
    kept = []

    def take(arrays):
        kept.append({name: arrays[name] for name in arrays if names is None or name in names})

    token = _keep.set(take)
    try:
        yield kept
    finally:
        _keep.reset(token)


def trace(ids, params, n_head, names=None):
    """One forward pass with everything that it computed on the way, as a nested dict.

    {"logits":   [..., n_seq, n_vocab],
     "residual": 2 * n_layer + 1 states of the residual stream, each [..., n_seq, n_embd]: as the
                 embeddings start it, then after each attention and each ffn,
     "blocks":   for each layer a dict of
                 "ln_1", "ln_2": x, mean, variance, normed, and the output y
                 "attn": q, k, v [..., n_head, n_seq, d_head], scores (masked with -inf) and weights
                         [..., n_head, n_seq, n_seq], and heads joined [..., n_seq, n_embd]
                 "gelu": tanh, [..., n_seq, 4 * n_embd]
                 "mlp":  hidden and activation, before and after gelu, [..., n_seq, 4 * n_embd],
     "ln_f":     x, mean, variance, normed, y}

    names, if given, are the only arrays that are kept; "residual" needs "x".
    """
    with keeping(names) as kept:
        logits = gpt2(check_ids(ids, params), **params, n_head=n_head)
    *layers, ln_f = kept
    parts = ("ln_1", "attn", "ln_2", "gelu", "mlp")
    blocks = [dict(zip(parts, layers[i:i + 5], strict=True)) for i in range(0, len(layers), 5)]
    norms = [layer[norm] for layer in blocks for norm in ("ln_1", "ln_2")] + [ln_f]
    residual = [norm["x"] for norm in norms if "x" in norm]
    return {"logits": logits, "residual": residual, "blocks": blocks, "ln_f": ln_f}


USAGE = """\
Continue a text with GPT-2, computed in plain NumPy. The text goes to standard output as it is
generated, everything else to standard error."""

EXAMPLES = """\
examples:
  python gpt2_numpy.py "Once upon a time"               forty tokens that may follow
  python gpt2_numpy.py --greedy -n 100 "In the forest"  always the likeliest token
  python gpt2_numpy.py --seed 7 --top-p 0.9 "The king"  a run that can be repeated
  python gpt2_numpy.py --score "The cat sat."           how probable the text is, token by token
  python gpt2_numpy.py --explain -n 5 "One, two,"       what the model chose from, step by step
  python gpt2_numpy.py - < story.txt                    the prompt from a file

Each step the model gives every token of its vocabulary a probability, one token is drawn, and the
text with that token is the next step's input. --temperature, then --top-k, then --top-p reshape the
distribution before the draw. Each token is drawn knowing only the text to its left."""


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the command line in one line instead of the whole usage."""

    def error(self, message):
        if message.startswith("unrecognized arguments") and " -" not in message:
            message += " (put quotes around a prompt of several words)"
        self.exit(2, f"{self.prog}: {message}; --help explains every option\n")


def argument_parser():
    """The options, explained in the field's terms."""
    parser = OneLineParser(
        prog="gpt2_numpy.py", description=USAGE, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("prompt", nargs="?", default="",
        help="the text to continue; - reads it from standard input; without one the model starts "
             "from <|endoftext|>, the mark between two documents, and makes up a text of its own; "
             "one that begins with a dash goes last, after --")
    add("--model", metavar="NAME|FOLDER",
        help="tales, the small model that comes with the code; one of OpenAI's, 124M, 355M, 774M "
             "or 1558M (downloaded the first time); or a folder with a model's files (default: "
             "tales)")
    add("--models-dir", metavar="FOLDER",
        help="where downloads are kept (default: $GPT2_MODELS_DIR, else models/ beside the code)")
    add("-n", "--n-tokens", type=int, default=40, metavar="N",
        help="how many tokens to generate; an English word is 1.3 tokens or so (default: 40)")
    add("--temperature", type=float, default=0.8, metavar="T",
        help="divides the logits before the softmax: towards 0 the likeliest tokens win ever more "
             "often, above 1 unlikely ones get their chance (default: 0.8)")
    add("--top-k", type=int, default=40, metavar="K",
        help="draw from the K likeliest tokens only; 0 means all (default: 40)")
    add("--top-p", type=float, default=1.0, metavar="P",
        help="nucleus sampling: draw from the fewest tokens whose probabilities together reach P "
             "(default: 1, all)")
    add("--greedy", action="store_true", help="always take the likeliest token: temperature 0")
    add("--seed", type=int, metavar="S",
        help="start of the random numbers: same seed, same text (default: a new one, printed)")
    add("--n-samples", type=int, default=1, metavar="N",
        help="generate N continuations side by side (default: 1)")
    add("--score", action="store_true",
        help="instead of continuing the prompt, print the log-probability of each of its tokens "
             "given those before it, their sum, and the perplexity exp(-mean)")
    add("--show-tokens", action="store_true",
        help="also show the tokens into which the prompt is split, with their ids")
    add("--explain", action="store_true",
        help="at each step also show the five likeliest next tokens and their probabilities before "
             "temperature, top-k and top-p; an arrow marks the token drawn")
    return parser


def parse_arguments(argv):
    """The options' values, checked; what is wrong with them ends the program in one line."""
    parser = argument_parser()
    arguments = parser.parse_args(argv)
    if arguments.n_tokens < 0:
        parser.error("-n/--n-tokens must be 0 or more")
    if not 1 <= arguments.n_samples <= 10**6:
        parser.error("--n-samples must be 1 to 1,000,000")
    if arguments.seed is not None and arguments.seed < 0:
        parser.error("--seed must be 0 or more")
    if arguments.explain and arguments.n_samples > 1:
        parser.error("--explain follows one sample; leave out --n-samples")
    if arguments.greedy:
        arguments.temperature = 0.0
    try:
        check_sampling(arguments.temperature, arguments.top_k, arguments.top_p)
    except GPT2Error as error:
        parser.error(str(error))
    return arguments


def say(text):
    """What is not generated text goes to stderr; if that is full, the text goes on."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def write(text):
    """Generated text goes to stdout at once, token by token."""
    sys.stdout.write(text)
    sys.stdout.flush()


def read_prompt(argument):
    """The prompt that the argument stands for."""
    if argument != "-":
        return argument
    if sys.stdin is None:
        raise GPT2Error("the prompt - is to be read from standard input, which is closed")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")   # a byte-order mark is no text
    except OSError as error:
        raise GPT2Error(f"cannot read the prompt from standard input: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise GPT2Error(f"standard input is not UTF-8 (byte {error.start}: {error.reason}); "
                        "convert the text first, for example with iconv") from error


def spell(encoder, token_id):
    """A token in quotes, or its bytes where they are only a part of a character."""
    token = bytes(encoder.byte_decoder[character] for character in encoder.decoder[token_id])
    try:
        return repr(token.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(token)


def show_tokens(encoder, ids):
    """How the text was split, one token a line."""
    for token_id in ids:
        say(f"{token_id:>7}  {spell(encoder, token_id)}")


def score(encoder, params, n_head, ids):
    """Each token's log-probability, given those before it, to standard output."""
    if len(ids) < 2:
        raise GPT2Error("--score needs a prompt of two tokens or more; nothing comes before the "
                        "first that could predict it")
    say(f"scoring {len(ids)} tokens")
    logs = log_probs(ids, params, n_head)
    total = float(np.sum(logs, dtype=np.float64))
    lines = [f"{'log p':>9}  {'p':>8}  {'id':>6}  token",
             f"{'-':>9}  {'-':>8}  {ids[0]:>6}  {spell(encoder, ids[0])}"]
    for log_p, token_id in zip(logs.tolist(), ids[1:], strict=True):
        lines.append(f"{log_p:9.4f}  {math.exp(log_p):8.2%}  {token_id:>6}  "
                     f"{spell(encoder, token_id)}")
    tokens = "token" if len(logs) == 1 else "tokens"
    lines.append(f"{total:9.4f}  nats in total for the {len(logs)} {tokens} after the first")
    lines.append(f"{np.exp(-total / len(logs)):9.4f}  perplexity, exp(-total / {len(logs)})")
    write("\n".join(lines) + "\n")


def explain(encoder, logits, chosen):
    """One step's five likeliest tokens [n_vocab], and the chosen one if it is not among them."""
    probabilities = softmax(logits)
    best = np.argsort(-probabilities, kind="stable")[:5].tolist()
    say("")
    for token_id in best + [chosen] * (chosen not in best):
        p = float(probabilities[token_id])
        arrow = "->" if token_id == chosen else "  "
        say(f"  {arrow} {p:7.2%}  {'#' * round(30 * p):<30}  {spell(encoder, token_id)}")


def until_end(ids, end):
    """The ids before the first end-of-text token, which begins another, unrelated document."""
    return itertools.takewhile(lambda token_id: token_id != end, ids)


def continue_prompt(arguments, encoder, params, n_head, prompt, ids):
    """Stream the prompt and its first continuation to stdout; further samples follow it whole."""
    n_samples, end, steps, times = arguments.n_samples, encoder.eot, [], [time.perf_counter()]
    rng = random_numbers(arguments)

    def watch(logits, chosen):
        if arguments.explain:
            explain(encoder, logits[0], int(chosen[0]))

    def first_sample():
        """The first sample's ids as they come, until every sample has ended its text."""
        ended = set()
        for step in generate(ids, params, n_head, arguments.n_tokens, arguments.temperature,
                             arguments.top_k, arguments.top_p, rng, n_samples, watch):
            steps.append(step.tolist())
            times.append(time.perf_counter())
            yield steps[-1][0]
            ended.update(np.flatnonzero(step == end))
            if len(ended) == n_samples:
                return

    def heading(number):
        return f"--- sample {number} of {n_samples} ---\n" if n_samples > 1 else ""

    stream = first_sample()
    try:
        write(heading(1) + prompt)
        for piece in encoder.decode_stream(until_end(stream, end)):
            write(piece)
        for _ in stream:      # the first sample has ended its text, others may not have
            pass
    finally:
        write("\n")
        n_shown = n_samples if steps or arguments.n_tokens == 0 else 1   # nothing after a failure
        for number in range(2, n_shown + 1):
            text = encoder.decode(until_end((step[number - 1] for step in steps), end))
            write(f"\n{heading(number)}{prompt}{text}\n")
        say_speed(len(ids), n_samples, times)
    if len(steps) < arguments.n_tokens:
        say(f"the model ended its text with <|endoftext|> after {len(steps)} tokens")


def say_speed(n_prompt, n_samples, times):
    """How fast it went: times are those of the start and after each step, in seconds."""
    if len(times) > 2:
        rate = n_samples * (len(times) - 2) / (times[-1] - times[1])
        say(f"{n_samples * (len(times) - 1)} tokens, {rate:.1f} tokens/s; the first after "
            f"{times[1] - times[0]:.2f} s, for a prompt of {n_prompt}")


def random_numbers(arguments):
    """The generator for this run; its seed is told when the user has not chosen it."""
    if arguments.seed is None and arguments.temperature > 0:
        arguments.seed = secrets.randbelow(2**32)
        say(f"seed {arguments.seed}: the same with --seed {arguments.seed} repeats this text")
    return np.random.default_rng(arguments.seed)


def run(arguments, prompt, encoder, params, n_head):
    """Do what the command line asks for."""
    ids = encoder.encode(prompt)
    if prompt[-1:].isspace():
        say("hint: the prompt ends in white space; most tokens bring the space before them, so the "
            "text usually goes on better without it (echo adds a line break, printf does not)")
    if arguments.show_tokens:
        show_tokens(encoder, ids)
    with warnings.catch_warnings(), np.errstate(all="ignore"):   # what matters is a GPT2Error
        if arguments.score:
            return score(encoder, params, n_head, ids)
        if not ids and encoder.eot is None:
            raise GPT2Error("this vocabulary has no <|endoftext|> to start from; give a prompt")
        warnings.simplefilter("always", ContextWarning)
        warnings.showwarning = lambda message, *_: say(f"\n[{message}]")
        continue_prompt(arguments, encoder, params, n_head, prompt, ids or [encoder.eot])


def main(argv=None):
    """The command line. Returns the exit status; whatever is wrong is one line on stderr."""
    if sys.stderr is None:                         # closed; print would turn to standard output
        sys.stderr = open(os.devnull, "w")
    arguments = parse_arguments(argv)
    if sys.stdout is None:
        return fail("standard output is closed; there is nowhere to write the text")
    if hasattr(sys.stdout, "reconfigure"):         # as not in a notebook
        sys.stdout.reconfigure(errors="replace")   # a terminal that lacks a character shows "?"
    try:
        import utils  # here, so that the model itself needs nothing but NumPy

        prompt = read_prompt(arguments.prompt)
        encoder, hparams, params = utils.load_encoder_hparams_and_params(
            arguments.model or utils.BUNDLED, arguments.models_dir)
        if arguments.model is None:
            millions = utils.n_parameters(hparams) / 1e6
            say(f"this is {utils.BUNDLED}, {millions:.1f} million parameters that have read only "
                "fairy tales; --model 124M downloads OpenAI's GPT-2")
        run(arguments, prompt, encoder, params, hparams["n_head"])
        return 0
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except ModuleNotFoundError as error:
        return fail(f"{error.name} is not installed; pip install -r requirements.txt")
    except (GPT2Error, utils.ModelError, utils.EncoderError) as error:
        return fail(error)
    except MemoryError:
        return fail("not enough memory; a smaller model or a shorter text needs less")
    except OSError as error:
        # Standard output is the only file here. Nothing more can be written to it, not even by the
        # flush at exit; and a reader that has seen enough, such as head, is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno in (errno.EPIPE, errno.EINVAL):   # the second on Windows
            return 0
        return fail(f"cannot write the text to standard output: {error.strerror}")


def fail(error):
    say(f"gpt2_numpy.py: {error}")
    return 1


if __name__ == "__main__":
    from command_line import start

    raise SystemExit(start("generate"))
