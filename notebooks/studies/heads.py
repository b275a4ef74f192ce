"""What heads look at and what they are needed for; and one head against many, trained."""

import itertools

import numpy as np

from backward import (
    block_vjp,
    cross_entropy,
    embed_vjp,
    gpt2_vjp,
    layer_norm_vjp,
    unembed_vjp,
)
from gpt2_numpy import causal_mask, gpt2
from look_inside import trace
from train import adamw, clip_gradients, init_params, learning_rate, new_moments


def maps(ids, params, n_head):
    """The attention weights of every head: ids [..., n_seq] to [n_layer, n_head, ..., n_seq,
    n_seq]; row t is where position t looks."""
    blocks = trace(ids, params, n_head, names={"weights"})["blocks"]
    return np.stack([np.moveaxis(block["attention"]["weights"], -3, 0) for block in blocks])


def kinds(tokens):
    """Each token of windows, but the first of each, by kind: tokens [n_windows][n_seq], str, to
    {kind: bool [n_windows, n_seq - 1]}. Letters that follow letters go on with a word."""
    goes_on = np.array(
        [
            [a[-1:].isalpha() and b[:1].isalpha() for a, b in itertools.pairwise(row)]
            for row in tokens
        ]
    )
    is_second = goes_on.copy()
    is_second[:, 1:] &= ~goes_on[:, :-1]
    is_quote = quotes(tokens)[:, 1:]
    return {
        "a word's second piece": is_second,
        "its third and later": goes_on & ~is_second,
        "quotation marks": is_quote,
        "all the rest": ~goes_on & ~is_quote,
    }


def quotes(tokens):
    """Which tokens are, or hold, quotation marks: those with one, and without letters."""
    return np.array(
        [["'" in token and not any(map(str.isalpha, token)) for token in row] for row in tokens]
    )


def mean_and_error(values, chosen=None):
    """The mean of the chosen of values [..., n_windows, n], and its standard error, each [...].

    The windows are taken as the sample, since tokens of one window depend on each other: it is that
    of a ratio of two sums over windows, of the values and of how many were chosen.
    """
    chosen = np.ones(values.shape[-2:], bool) if chosen is None else chosen
    totals, counts = (values * chosen).sum(axis=-1), chosen.sum(axis=-1)  # [..., n_windows]
    mean = totals.sum(axis=-1) / counts.sum()
    off = totals - mean[..., None] * counts
    n = values.shape[-2]
    return mean, np.sqrt(n / (n - 1) * (off * off).sum(axis=-1)) / counts.sum()


def influence(ids, params, n_head):
    """‖∂loss_t/∂x_s‖ for all t and s: ids [n + 1] to [n (t), n (s)], in nats per unit of length.

    x_s is the vector with which position s starts, the sum of both embeddings; loss_t is the
    surprise of token t + 1. One backward pass has all: the batch is the text n times, and copy t
    gets a gradient from its loss at position t alone.
    """
    n = len(ids) - 1
    inputs, targets = (np.tile(part, (n, 1)) for part in (ids[:-1], ids[1:]))
    x, _ = embed_vjp(inputs, params["wte"], params["wpe"])
    backs = []
    for parameters in params["blocks"]:
        x, back = block_vjp(x, **parameters, n_head=n_head, mask=causal_mask(n))
        backs.append(back)
    x, back = layer_norm_vjp(x, **params["ln_f"])
    backs.append(back)
    logits, back = unembed_vjp(x, params["wte"])
    backs.append(back)
    _, gradient = cross_entropy(logits, targets, n_tokens=1)
    gradient *= np.eye(n, dtype=gradient.dtype)[:, :, None]
    for back in reversed(backs):
        gradient, _ = back(gradient)
    return np.linalg.norm(gradient, axis=-1)


def overlap(params, n_head):
    """How much of the directions that a head reads or writes another head of its layer has, too, a
    mean over all pairs: {"queries", "keys", "values", "written": [n_layer]}."""
    parts = {"queries": [], "keys": [], "values": [], "written": []}
    for block in params["blocks"]:
        w_qkv, w_out = block["attn"]["c_attn"]["w"], block["attn"]["c_proj"]["w"]
        matrices = [*np.split(w_qkv, 3, axis=-1), w_out.T]  # [n_embd, n_head * d_head]
        for found, matrix in zip(parts.values(), matrices, strict=True):
            bases = [np.linalg.qr(of_head)[0] for of_head in np.split(matrix, n_head, axis=-1)]
            shared = [
                np.square(a.T @ b).sum() / b.shape[1] for a, b in itertools.combinations(bases, 2)
            ]
            found.append(float(np.mean(shared)))
    return parts


N_TOKENS, N_SEQ = 8, 16  # of the small task: how many tokens there are, how long a sequence is


def lookup_batch(offsets, n_batch, rng):
    """Random sequences, and what stands so many places back: ids [n_batch, N_SEQ], answers
    [n_batch, N_SEQ, n_offsets], which make sense from position max(offsets) on."""
    ids = rng.integers(0, N_TOKENS, (n_batch, N_SEQ))
    return ids, np.stack([np.roll(ids, offset, axis=-1) for offset in offsets], axis=-1)


def lookup_accuracy(params, n_head, offsets, ids, answers):
    """The share of right answers for each offset, [n_offsets]."""
    logits = gpt2(ids, **params, n_head=n_head)
    logits = logits.reshape(*answers.shape, N_TOKENS)[:, max(offsets) :]
    return (logits.argmax(axis=-1) == answers[:, max(offsets) :]).mean(axis=(0, 1))


def train_lookup(n_head, offsets, lr, seed, n_steps, n_embd=32, n_batch=32):
    """Train a model of one layer to say, at each position, which tokens stand so many places back.
    Its logits are N_TOKENS for each offset. Returns params, and for each
    offset the share of right answers in 200 new sequences.
    """
    hparams = {"n_vocab": N_TOKENS * len(offsets), "n_ctx": N_SEQ}
    hparams |= {"n_embd": n_embd, "n_head": n_head, "n_layer": 1}
    params, rng = init_params(hparams, seed), np.random.default_rng([seed, 1])
    moments = new_moments(params)
    for step in range(n_steps):
        ids, answers = lookup_batch(offsets, n_batch, rng)
        logits, back = gpt2_vjp(ids, **params, n_head=n_head)
        logits = logits.reshape(*answers.shape, N_TOKENS)
        asked = slice(max(offsets), None)
        d_logits = np.zeros_like(logits)
        n_answers = answers[:, asked].size
        _, d_logits[:, asked] = cross_entropy(logits[:, asked], answers[:, asked], n_answers)
        gradients = back(d_logits.reshape(*ids.shape, -1))
        clip_gradients(gradients, 1.0)
        rate = learning_rate(step, n_steps, lr, n_warmup=20, final=0.0)
        adamw(params, gradients, moments, step, rate, weight_decay=0.0)
    test = lookup_batch(offsets, 200, np.random.default_rng(0))
    return params, lookup_accuracy(params, n_head, offsets, *test)


def compare_heads(offsets, n_steps, n_heads=(1, 2, 4, 8), rates=(0.01, 0.03, 0.06), n_seeds=3):
    """Models that differ in n_head alone: {n_head: accuracies [n_seeds]}, each at the learning rate
    whose mean is the best, and {n_head: that rate}."""
    found, best = {}, {}
    for n_head in n_heads:
        tried = {
            lr: [
                train_lookup(n_head, offsets, lr, seed, n_steps)[1].mean()
                for seed in range(n_seeds)
            ]
            for lr in rates
        }
        best[n_head] = max(rates, key=lambda lr: np.mean(tried[lr]))
        found[n_head] = np.array(tried[best[n_head]])
    return found, best


def shares_by_offset(params, n_head, n_offsets=6):
    """Where the heads of a trained model look, the mean over positions from n_offsets - 1 on:
    [n_head, n_offsets], the share of what stands 0, 1, 2, ... places back."""
    ids, _ = lookup_batch((1,), 200, np.random.default_rng(0))
    t = np.arange(n_offsets - 1, N_SEQ)
    weights = maps(ids, params, n_head)[0].mean(axis=1)  # [n_head, N_SEQ, N_SEQ]
    return np.stack([weights[:, t, t - back].mean(axis=-1) for back in range(n_offsets)], axis=-1)
