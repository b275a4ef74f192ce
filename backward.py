"""The gradients of GPT-2 by hand: each function of the model with its vector-Jacobian product.

Read it beside gpt2_numpy.py, function by function. Where the model computes y = f(x), here

    y, back = f_vjp(x)        the same y, and a function for the way back
    dx = back(dy)             dy times the Jacobian ∂y/∂x, a matrix that is never formed

dy is short for ∂loss/∂y and has y's shape, dx has x's. Where f has parameters, back returns their
gradients, too, nested like them. By the chain rule the backs are called in the reverse order of the
forward pass, each handing its dx on as the dy of the function before it; what they need of the
forward pass they remember. Three rules make most of what follows.

    y = x + f(x)          dx = dy + (what f's back makes of dy)     x is used twice, and its two
                                                                    gradients add up
    y = x w               dx = dy wᵀ,   dw = xᵀ dy                  matrix product
    y = f(x), elementwise dx = dy · f'(x)

Any other stack of these functions is differentiated in the same way, by composing the pairs. Where
the way back needs what the model's function keeps to itself, such as the tanh in `gelu`, the
function's formula stands here once more; tests hold both to the same bits.
"""

import math

import numpy as np

from gpt2_numpy import (
    GPT2Error,
    causal_mask,
    check_ids,
    embed,
    linear,
    log_softmax,
    softmax,
)


def gelu_vjp(x):
    """`gelu`, and back: dy -> dx. With t = tanh(u) and u = c (x + a x³):

    y = x/2 (1 + t),   dy/dx = (1 + t)/2 + x/2 (1 - t²) du/dx = (1 + t)/2 · (1 + x (1 - t) du/dx)
    """
    c, a = math.sqrt(2.0 / math.pi), 0.044715
    tanh = np.tanh(c * (x + a * x * x * x))

    def back(dy):
        slope = c * (1.0 + 3.0 * a * x * x)  # du/dx
        return dy * (0.5 * (1.0 + tanh) * (1.0 + x * (1.0 - tanh) * slope))

    return 0.5 * x * (1.0 + tanh), back


def softmax_vjp(x):
    """`softmax`, and back: dy -> dx. The Jacobian is diag(y) - y yᵀ: dx = y · (dy - Σ dy · y)."""
    y = softmax(x)

    def back(dy):
        return y * (dy - (dy * y).sum(axis=-1, keepdims=True))

    return y, back


def layer_norm_vjp(x, g, b, eps=1e-5):
    """`layer_norm`, and back: dy -> dx, {"g", "b"}.

    With y = n g + b and n = (x - mean) / s and dn = dy g: dx = (dn - mean(dn) - n mean(dn n)) / s.
    Of dn, what points along (1, ..., 1) and along n is taken away, as neither moves y (the mean and
    the variance would undo it).
    """
    mean = x.mean(axis=-1, keepdims=True)  # [..., 1]
    centred = x - mean
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    std = np.sqrt(variance + eps)  # [..., 1]
    normed = centred / std  # [..., n_embd]

    def back(dy):
        d_normed, dy_normed = dy * g, dy * normed
        along = (dy_normed @ g)[..., None] / dy.shape[-1]  # [..., 1]: mean(dn n)
        dx = (d_normed - d_normed.mean(axis=-1, keepdims=True) - normed * along) / std
        return dx, {"g": sum_rows(dy_normed), "b": sum_rows(dy)}

    return normed * g + b, back


def linear_vjp(x, w, b):
    """`linear`, y = x w + b, and back: dy -> dx, {"w", "b"}."""

    def back(dy):
        rows_dy, rows_x = dy.reshape(-1, w.shape[1]), x.reshape(-1, w.shape[0])
        dx = (rows_dy @ w.T).reshape(x.shape)
        return dx, {"w": rows_x.T @ rows_dy, "b": sum_rows(dy)}

    return linear(x, w, b), back


def sum_rows(dy):
    """[..., n] -> [n]: a parameter that every position shares gathers the gradients of all."""
    return dy.reshape(-1, dy.shape[-1]).sum(axis=0)


def draw_dropout(x, probability, rng):
    """Dropout for arrays of x's shape (Srivastava et al. 2014): a function that zeroes elements
    with this probability, always the same ones, and divides the others by 1 - probability, so that
    their sum keeps its expectation. y = x · mask, so dx = dy · mask: it is its own back."""
    if probability == 0:
        return lambda x: x
    mask = (rng.random(x.shape, dtype=np.float32) >= probability).astype(x.dtype)
    mask /= 1.0 - probability
    return lambda x: x * mask


def attention_vjp(q, k, v, mask=None, dropout=0.0, rng=None):
    """`attention`, with dropout on its weights, and back: dy -> dq, dk, dv."""
    root = math.sqrt(q.shape[-1])
    scores = q @ k.swapaxes(-1, -2) / root  # [..., n_queries, n_keys]
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights, softmax_back = softmax_vjp(scores)
    drop = draw_dropout(weights, dropout, rng)

    def back(dy):
        dv = drop(weights).swapaxes(-1, -2) @ dy  # y = drop(weights) v
        d_weights = drop(dy @ v.swapaxes(-1, -2))
        # Where the mask hides a key, the weight is 0, and so is this gradient.
        d_scores = softmax_back(d_weights)
        d_scores /= root
        dq = d_scores @ k  # scores = q kᵀ / sqrt(d_head)
        dk = d_scores.swapaxes(-1, -2) @ q
        return dq, dk, dv

    return drop(weights) @ v, back
    # speed: with einsum, as in the model, a training step of 6 layers × 192 takes 8 % more.


def mha_vjp(x, c_attn, c_proj, n_head, mask=None, dropout=0.0, rng=None):
    """`mha`, and back: dy -> dx, {"c_attn", "c_proj"}."""
    *batch, n_seq, n_embd = x.shape
    qkv, c_attn_back = linear_vjp(x, **c_attn)
    qkv = qkv.reshape(*batch, n_seq, 3, n_head, n_embd // n_head)
    q, k, v = (qkv[..., i, :, :].swapaxes(-2, -3) for i in range(3))  # [..., n_head, n_seq, d_head]
    heads, attention_back = attention_vjp(q, k, v, mask, dropout, rng)
    y, c_proj_back = linear_vjp(heads.swapaxes(-2, -3).reshape(x.shape), **c_proj)

    def back(dy):
        d_heads, d_c_proj = c_proj_back(dy)
        d_heads = d_heads.reshape(*batch, n_seq, n_head, n_embd // n_head).swapaxes(-2, -3)
        d_qkv = np.stack([d.swapaxes(-2, -3) for d in attention_back(d_heads)], axis=-3)
        dx, d_c_attn = c_attn_back(d_qkv.reshape(*batch, n_seq, 3 * n_embd))
        return dx, {"c_attn": d_c_attn, "c_proj": d_c_proj}

    return y, back


def ffn_vjp(x, c_fc, c_proj):
    """`ffn`, and back: dy -> dx, {"c_fc", "c_proj"}."""
    hidden, c_fc_back = linear_vjp(x, **c_fc)
    activation, gelu_back = gelu_vjp(hidden)
    y, c_proj_back = linear_vjp(activation, **c_proj)

    def back(dy):
        d_activation, d_c_proj = c_proj_back(dy)
        dx, d_c_fc = c_fc_back(gelu_back(d_activation))
        return dx, {"c_fc": d_c_fc, "c_proj": d_c_proj}

    return y, back


def block_vjp(x, mlp, attn, ln_1, ln_2, n_head, mask=None, dropout=0.0, rng=None):
    """`block`, with dropout on what each sublayer adds, and back: dy -> dx, gradients.

    Each sum x + f(layer_norm(x)) hands its dy on twice: past the sublayer, unchanged, and through
    it. So the gradient reaches the first block even where the sublayers pass little of it on.
    """
    normed, ln_1_back = layer_norm_vjp(x, **ln_1)
    added, mha_back = mha_vjp(normed, **attn, n_head=n_head, mask=mask, dropout=dropout, rng=rng)
    drop_1 = draw_dropout(added, dropout, rng)
    x = x + drop_1(added)
    normed, ln_2_back = layer_norm_vjp(x, **ln_2)
    added, ffn_back = ffn_vjp(normed, **mlp)
    drop_2 = draw_dropout(added, dropout, rng)
    x = x + drop_2(added)

    def back(dy):
        dx, d_mlp = ffn_back(drop_2(dy))
        dx, d_ln_2 = ln_2_back(dx)
        dy = dy + dx
        dx, d_attn = mha_back(drop_1(dy))
        dx, d_ln_1 = ln_1_back(dx)
        return dy + dx, {"ln_1": d_ln_1, "attn": d_attn, "ln_2": d_ln_2, "mlp": d_mlp}

    return x, back


def embed_vjp(ids, wte, wpe):
    """`embed`, and back: dy, d_wte -> {"wte", "wpe"}. d_wte, if given, is the gradient of another
    use of wte; this one is added to it, in place."""
    n_seq = ids.shape[-1]

    def back(dy, d_wte=None):
        d_wte = np.zeros_like(wte) if d_wte is None else d_wte
        np.add.at(d_wte, ids, dy)  # a token may stand there often
        d_wpe = np.zeros_like(wpe)
        d_wpe[:n_seq] = dy.reshape(-1, *dy.shape[-2:]).sum(axis=0)
        return {"wte": d_wte, "wpe": d_wpe}

    return embed(ids, wte, wpe), back


def unembed_vjp(x, wte):
    """The logits, y = x wteᵀ, and back: dy -> dx, the gradient of wte."""

    def back(dy):
        rows_dy, rows_x = dy.reshape(-1, wte.shape[0]), x.reshape(-1, wte.shape[1])
        return (rows_dy @ wte).reshape(x.shape), rows_dy.T @ rows_x

    return linear(x, wte.T, b=0.0), back


def gpt2_vjp(ids, wte, wpe, blocks, ln_f, n_head, dropout=0.0, rng=None):
    """`gpt2`, with dropout on the embeddings too: ids [..., n_seq] to logits [..., n_seq, n_vocab],
    and back: d_logits -> gradients of all parameters, nested like them.

    On its way back each block gives its memory free, so that this back can be called only once.
    """
    ids, backs = np.asarray(ids), []
    n_seq = ids.shape[-1]
    x, embed_back = embed_vjp(ids, wte, wpe)
    drop = draw_dropout(x, dropout, rng)
    x = drop(x)
    mask = causal_mask(n_seq) if n_seq > 1 else None
    for parameters in blocks:
        x, block_back = block_vjp(
            x, **parameters, n_head=n_head, mask=mask, dropout=dropout, rng=rng
        )
        backs.append(block_back)
    x, ln_f_back = layer_norm_vjp(x, **ln_f)
    logits, unembed_back = unembed_vjp(x, wte)

    def back(d_logits):
        if len(backs) < len(blocks):
            raise GPT2Error("the gradients of a forward pass can be asked for once")
        # wte has two uses, so its two gradients add up. As the output's matrix, logits = x wteᵀ, it
        # gets one from every logit; as a table, one for each row that was looked up.
        dx, d_wte = unembed_back(d_logits)
        dx, d_ln_f = ln_f_back(dx)
        d_blocks = []
        while backs:
            dx, d_block = backs.pop()(dx)
            d_blocks.insert(0, d_block)
        return {**embed_back(drop(dx), d_wte), "blocks": d_blocks, "ln_f": d_ln_f}

    return logits, back


def cross_entropy(logits, targets, n_tokens):
    """The loss -Σ log softmax(logits)[target] / n_tokens in nats, and its gradient [..., n_vocab].

    Logarithm and softmax p together have a simple derivative: p, and at the target p - 1.
    """
    logs = log_softmax(logits)  # [..., n_vocab]
    targets = targets[..., None]
    loss = -np.take_along_axis(logs, targets, axis=-1).sum() / n_tokens
    d_logits = np.exp(logs)
    p = np.take_along_axis(d_logits, targets, axis=-1)
    np.put_along_axis(d_logits, targets, p - 1.0, axis=-1)
    d_logits /= n_tokens
    return float(loss), d_logits


def loss_and_gradients(params, ids, targets, n_head, dropout=0.0, rng=None, n_tokens=None):
    """Mean cross-entropy in nats per token (a float), and its gradients, nested like params.

    ids, targets   integers [n_batch, n_seq]: targets[i, t] is the token that follows ids[i, :t + 1]
    dropout, rng   the probability of `draw_dropout`, and its np.random.Generator or a seed
    n_tokens       what the sum over all tokens is divided by, if not by their number: divided by
                   the size of a whole batch, losses and gradients of its parts add up to the whole

    GPT2Error when ids and targets are not two integer arrays of one shape [n_batch, n_seq], or hold
    what is not in the vocabulary, or when n_seq is more than the model's context.
    """
    ids, targets = check_ids(ids, params), check_ids(targets, params)
    if ids.ndim != 2 or ids.shape != targets.shape:
        raise GPT2Error(f"ids {ids.shape} and targets {targets.shape} are not two [n_batch, n_seq]")
    rng = np.random.default_rng(rng)
    logits, back = gpt2_vjp(ids, **params, n_head=n_head, dropout=dropout, rng=rng)
    loss, d_logits = cross_entropy(logits, targets, n_tokens or targets.size)
    del logits  # often the largest array of all
    return loss, back(d_logits)
