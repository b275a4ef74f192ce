"""The gradients of GPT-2 by hand: the vector-Jacobian product of each function of the model.

Read it beside gpt2_numpy.py, function by function. Where the forward pass computes y = f(x), the
backward pass is given dy, short for ∂loss/∂y and of y's shape, and returns dx = ∂loss/∂x, of x's
shape: dy times the Jacobian ∂y/∂x, a matrix that is never formed. By the chain rule the functions
are called in the reverse order, each handing its dx on as the dy of the function before it.

Three rules make most of what follows.

    y = x + f(x)          dx = dy + (what f's backward makes of dy)     where paths part, gradients
                                                                        add up where they meet again
    y = x w               dx = dy wᵀ,   dw = xᵀ dy                      matrix product
    y = f(x), elementwise dx = dy · f'(x)

Nothing of the forward pass is computed anew: `trace` runs it and keeps what is needed here. Shapes
stand at the ends of the lines, with the names of gpt2_numpy.py.
"""

import math

import numpy as np

from gpt2_numpy import (
    GPT2Error,
    check_ids,
    log_softmax,
    merge_heads,
    split_heads,
    trace,
    with_dropout,
)

# Of what `trace` can keep, this is all that the functions below read.
NEEDED = {"normed", "variance", "y", "q", "k", "v", "weights", "heads", "tanh", "hidden",
          "activation"}


def gelu_backward(dy, x, tanh):
    """[...] to the same. With t = tanh(u) and u = c (x + a x³):

    y = x/2 (1 + t),   dy/dx = (1 + t)/2 + x/2 (1 - t²) du/dx = (1 + t)/2 · (1 + x (1 - t) du/dx)
    """
    c, a = math.sqrt(2.0 / math.pi), 0.044715
    slope = c * (1.0 + 3.0 * a * x * x)                           # du/dx
    return dy * (0.5 * (1.0 + tanh) * (1.0 + x * (1.0 - tanh) * slope))


def softmax_backward(dy, y):
    """[..., n] to the same. The Jacobian is diag(y) - y yᵀ: dx = y · (dy - Σ dy · y)."""
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def layer_norm_backward(dy, normed, variance, g, eps=1e-5):
    """[..., n_embd] to the same, and the gradients of gain and bias.

    With y = n g + b and n = (x - mean) / sqrt(variance + eps), and dn = dy g:
    dx = (dn - mean(dn) - n mean(dn n)) / sqrt(variance + eps): of dn, what points along (1, ..., 1)
    and along n is taken away, as neither moves y (the mean and the variance would undo it).
    """
    n_embd = dy.shape[-1]
    dy_normed = dy * normed
    d_normed = dy * g
    mean = d_normed.sum(axis=-1, keepdims=True) / n_embd                  # [..., 1]
    along = (dy_normed @ g)[..., None] / n_embd                           # [..., 1]: mean(dn n)
    dx = (d_normed - mean - normed * along) / np.sqrt(variance + eps)
    return dx, {"g": sum_rows(dy_normed), "b": sum_rows(dy)}


def linear_backward(dy, x, w):
    """[..., n_out] to [..., n_in], and the gradients of w and b: y = x w + b."""
    rows_dy, rows_x = dy.reshape(-1, w.shape[1]), x.reshape(-1, w.shape[0])
    dx = (rows_dy @ w.T).reshape(x.shape)
    return dx, {"w": rows_x.T @ rows_dy, "b": sum_rows(dy)}


def sum_rows(dy):
    """[..., n] to [n]: a parameter that every position shares gathers the gradients of all."""
    return dy.reshape(-1, dy.shape[-1]).sum(axis=0)


def attention_backward(dy, x, q, k, v, weights, heads, masks, c_attn, c_proj):
    """[..., n_seq, n_embd] to the same, and the gradients of both projections."""
    n_head, d_head = q.shape[-3], q.shape[-1]
    d_heads, d_c_proj = linear_backward(dy, heads, c_proj["w"])
    d_heads = split_heads(d_heads, n_head)                        # [..., n_head, n_seq, d_head]
    mask = masks.pop() if masks else None                         # of dropout on the weights
    dropped = weights if mask is None else weights * mask
    d_v = dropped.swapaxes(-1, -2) @ d_heads                      # heads = dropped v
    d_weights = d_heads @ v.swapaxes(-1, -2)                      # [..., n_head, n_seq, n_keys]
    if mask is not None:
        d_weights *= mask
    # Where the causal mask is, the weight is 0, and so is this gradient: nothing to mask again.
    d_scores = softmax_backward(d_weights, weights)
    d_scores /= math.sqrt(d_head)                                 # scores = q kᵀ / sqrt(d_head)
    d_q = d_scores @ k
    d_k = d_scores.swapaxes(-1, -2) @ q
    d_qkv = merge_heads(np.concatenate([d_q, d_k, d_v], axis=-3))     # [..., n_seq, 3 * n_embd]
    dx, d_c_attn = linear_backward(d_qkv, x, c_attn["w"])
    return dx, {"c_attn": d_c_attn, "c_proj": d_c_proj}


def ffn_backward(dy, x, hidden, tanh, activation, c_fc, c_proj):
    """[..., n_seq, n_embd] to the same, and the gradients of both layers."""
    d_activation, d_c_proj = linear_backward(dy, activation, c_proj["w"])
    d_hidden = gelu_backward(d_activation, hidden, tanh)
    dx, d_c_fc = linear_backward(d_hidden, x, c_fc["w"])
    return dx, {"c_fc": d_c_fc, "c_proj": d_c_proj}


def block_backward(dy, kept, masks, mlp, attn, ln_1, ln_2):
    """[..., n_seq, n_embd] to the same, and the gradients of all parameters of a block.

    Each sum x + f(layer_norm(x)) hands its dy on twice: past the sublayer, unchanged, and through
    it. So the gradient reaches the first block even where the sublayers pass little of it on.
    """
    d_ffn, d_mlp = ffn_backward(dropout_backward(dy, masks), kept["ln_2"]["y"], **kept["mlp"],
                                **kept["gelu"], **mlp)
    dx, d_ln_2 = norm_backward(d_ffn, kept["ln_2"], ln_2)
    dy = dy + dx
    d_attention, d_attn = attention_backward(dropout_backward(dy, masks), kept["ln_1"]["y"],
                                             **kept["attn"], masks=masks, **attn)
    dx, d_ln_1 = norm_backward(d_attention, kept["ln_1"], ln_1)
    return dy + dx, {"ln_1": d_ln_1, "attn": d_attn, "ln_2": d_ln_2, "mlp": d_mlp}


def norm_backward(dy, kept, parameters):
    return layer_norm_backward(dy, kept["normed"], kept["variance"], parameters["g"])


def gpt2_backward(d_logits, traced, ids, masks, wte, wpe, blocks, ln_f):
    """∂loss/∂logits [n_batch, n_seq, n_vocab] to the gradients of all parameters, nested like them.

    traced and masks are what the forward pass kept; they are used up on the way.
    """
    # wte has two uses, so its two gradients add up. As the output's matrix, logits = x wteᵀ, it
    # gets one from every logit; as a table, one for each row that was looked up.
    dx, d_wte = unembedding_backward(d_logits, traced["ln_f"]["y"], wte)
    dx, d_ln_f = norm_backward(dx, traced["ln_f"], ln_f)
    d_blocks = []
    for parameters in reversed(blocks):
        dx, d_block = block_backward(dx, traced["blocks"].pop(), masks, **parameters)
        d_blocks.append(d_block)
    dx = dropout_backward(dx, masks)                              # of wte[ids] + wpe[:n_seq]
    np.add.at(d_wte, ids, dx)                                     # a token may stand there often
    d_wpe = np.zeros_like(wpe)
    d_wpe[:ids.shape[-1]] = dx.sum(axis=0)
    return {"wte": d_wte, "wpe": d_wpe, "blocks": d_blocks[::-1], "ln_f": d_ln_f}


def unembedding_backward(dy, x, wte):
    """[..., n_vocab] to [..., n_embd], and the gradient of wte: y = x wteᵀ."""
    rows_dy, rows_x = dy.reshape(-1, wte.shape[0]), x.reshape(-1, wte.shape[1])
    return (rows_dy @ wte).reshape(x.shape), rows_dy.T @ rows_x


def cross_entropy(logits, targets, n_tokens):
    """The loss -Σ log softmax(logits)[target] / n_tokens in nats, and its gradient [..., n_vocab].

    Logarithm and softmax p together have a simple derivative: p, and at the target p - 1.
    """
    logs = log_softmax(logits)                                    # [..., n_vocab]
    targets = targets[..., None]
    loss = -np.take_along_axis(logs, targets, axis=-1).sum() / n_tokens
    d_logits = np.exp(logs)
    p = np.take_along_axis(d_logits, targets, axis=-1)
    np.put_along_axis(d_logits, targets, p - 1.0, axis=-1)
    d_logits /= n_tokens
    return float(loss), d_logits


def random_dropout(probability, rng, masks):
    """What `with_dropout` calls: a function that zeroes each element of x with this probability and
    divides the others by 1 - probability, so that the sum keeps its expectation. It appends what it
    multiplied with to masks: the backward pass, in reverse order, takes them from the end."""
    rng = np.random.default_rng(rng)

    def drop(x):
        mask = (rng.random(x.shape, dtype=np.float32) >= probability).astype(x.dtype)
        mask /= 1.0 - probability
        masks.append(mask)
        return x * mask

    return drop


def dropout_backward(dy, masks):
    """y = x mask: dx = dy mask."""
    return dy * masks.pop() if masks else dy


def loss_and_gradients(params, ids, targets, n_head, dropout=0.0, rng=None, n_tokens=None):
    """Mean cross-entropy in nats per token (a float), and its gradients, nested like params.

    ids, targets   integers [n_batch, n_seq]: targets[i, t] is the token that follows ids[i, :t + 1]
    dropout, rng   the probability of `random_dropout`, and its np.random.Generator or a seed
    n_tokens       what the sum over all tokens is divided by, if not by their number: divided by
                   the size of a whole batch, losses and gradients of its parts add up to the whole

    GPT2Error when ids and targets are not two integer arrays of one shape [n_batch, n_seq], or hold
    what is not in the vocabulary, or when n_seq is more than the model's context.
    """
    ids, targets = check_ids(ids, params), check_ids(targets, params)
    if ids.ndim != 2 or ids.shape != targets.shape:
        raise GPT2Error(f"ids {ids.shape} and targets {targets.shape} are not two [n_batch, n_seq]")
    masks = []
    with with_dropout(random_dropout(dropout, rng, masks) if dropout else None):
        traced = trace(ids, params, n_head, names=NEEDED)
    loss, d_logits = cross_entropy(traced.pop("logits"), targets, n_tokens or targets.size)
    return loss, gpt2_backward(d_logits, traced, ids, masks, **params)
