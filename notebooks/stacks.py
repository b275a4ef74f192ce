"""GPT-2's sublayers joined in other ways than GPT-2 joins them, for the third notebook.

`sublayer` is the heart: a layer norm before f, or after it, or after the sum, or none; a residual
connection, or none. It returns its output and its backward pass, as `norm`, `attend` and `feed` do,
which call the project's own functions. Shapes are [..., n_seq, n_embd] everywhere.
"""

import math

import numpy as np

from backward import (
    NEEDED,
    attention_backward,
    cross_entropy,
    ffn_backward,
    norm_backward,
    unembedding_backward,
)
from gpt2_numpy import attention, ffn, keeping, layer_norm
from train import adamw, init_params, new_moments

#                 residual connection?, where is the layer norm?
WAYS = {
    "pre-LN":        (True, "before f"),
    "post-LN":       (True, "after the sum"),
    "LN on branch":  (True, "after f"),
    "no layer norm": (True, None),
    "no residual":   (False, "before f"),
    "neither":       (False, None),
}


N_HEAD = 2                       # of the small models
GUESSING = math.log(16)          # the loss of whoever guesses one of 16 tokens


def sublayer(x, f, parameters, ln, residual, place):
    """The sublayer f, joined in one of the WAYS; and a function from dy to (dx, d_parameters,
    d_ln)."""
    y, norm_back = x, None
    if place == "before f":
        y, norm_back = norm(y, ln)
    y, f_back = f(y, parameters)
    if place == "after f":
        y, norm_back = norm(y, ln)
    if residual:
        y = x + y
    if place == "after the sum":
        y, norm_back = norm(y, ln)

    def back(dy):
        d_ln = None
        if place == "after the sum":
            dy, d_ln = norm_back(dy)
        dx = dy
        if place == "after f":
            dx, d_ln = norm_back(dx)
        dx, d_parameters = f_back(dx)
        if place == "before f":
            dx, d_ln = norm_back(dx)
        if residual:
            dx = dx + dy
        return dx, d_parameters, d_ln

    return y, back


def norm(x, ln):
    """`layer_norm`, and a function from dy to (dx, gradients of gain and bias)."""
    with keeping(NEEDED) as kept:
        y = layer_norm(x, **ln)
    return y, lambda dy: norm_backward(dy, kept[0], ln)


def attend(x, attn, n_head):
    """`attention`, and a function from dy to (dx, gradients of its parameters)."""
    with keeping(NEEDED) as kept:
        y = attention(x, **attn, n_head=n_head)
    return y, lambda dy: attention_backward(dy, x, **kept[0], masks=(), **attn)


def feed(x, mlp):
    """`ffn`, and a function from dy to (dx, gradients of its parameters)."""
    with keeping(NEEDED) as kept:
        y = ffn(x, **mlp)
    inner, outer = kept                              # of gelu, and of ffn
    return y, lambda dy: ffn_backward(dy, x, **inner, **outer, **mlp)


def loss_and_gradients(params, ids, targets, n_head, way):
    """As in backward.py, for `gpt2` joined in one of the WAYS; and the sizes of ∂loss/∂x, [2 *
    n_layer + 1], where the blocks begin and after each sublayer."""
    residual, place = WAYS[way]
    x = params["wte"][ids] + params["wpe"][:ids.shape[-1]]
    backs = []
    for block in params["blocks"]:
        for f, name, ln in ((lambda y, p: attend(y, p, n_head), "attn", "ln_1"),
                            (feed, "mlp", "ln_2")):
            x, back = sublayer(x, f, block[name], block[ln], residual, place)
            backs.append((back, name, ln))
    x, ln_back = norm(x, params["ln_f"])
    loss, d_logits = cross_entropy(x @ params["wte"].T, targets, targets.size)

    dx, d_wte = unembedding_backward(d_logits, x, params["wte"])
    dx, d_ln_f = ln_back(dx)
    sizes, d_blocks = [size(dx)], [{} for _ in params["blocks"]]
    for i in reversed(range(len(backs))):
        back, name, ln = backs[i]
        dx, d_parameters, d_ln = back(dx)
        if d_ln is None:                             # this way has no layer norm to change
            d_ln = {"g": np.zeros(x.shape[-1], x.dtype), "b": np.zeros(x.shape[-1], x.dtype)}
        d_blocks[i // 2] |= {name: d_parameters, ln: d_ln}
        sizes.append(size(dx))
    np.add.at(d_wte, ids, dx)
    d_wpe = np.zeros_like(params["wpe"])
    d_wpe[:ids.shape[-1]] = dx.sum(axis=0)
    gradients = {"wte": d_wte, "wpe": d_wpe, "blocks": d_blocks, "ln_f": d_ln_f}
    return loss, gradients, sizes[::-1]


def size(array):
    """Its length as a vector, sqrt(Σ x²), by float64, in which no square overflows."""
    return float(np.linalg.norm(array.astype(np.float64)))


def init(n_layer, start, seed=0, n_vocab=16, n_ctx=8, n_embd=32):
    """Parameters of a small model: "0.02" as GPT-2 begins, or "1/sqrt(n_in)", with which each
    matrix makes vectors about as long as those it was given."""
    params = init_params(dict(n_vocab=n_vocab, n_ctx=n_ctx, n_embd=n_embd, n_head=N_HEAD,
                              n_layer=n_layer), seed)
    if start == "1/sqrt(n_in)":
        for block in params["blocks"]:
            for part in (*block["attn"].values(), *block["mlp"].values()):
                part["w"] /= part["w"].std() * math.sqrt(len(part["w"]))
    return params


def parrot(rng, n_batch=16, n_seq=8, n_vocab=16):
    """Inputs and targets of a task: at each position, say the token that stood before it (at the
    first one, the token itself). Whoever only guesses has a loss of ln n_vocab."""
    ids = rng.integers(0, n_vocab, (n_batch, n_seq))
    targets = np.concatenate([ids[:, :1], ids[:, :-1]], axis=1)
    return ids, targets


def train_stack(way, n_layer, peak, n_warmup, n_steps, start="1/sqrt(n_in)", seed=0,
                give_up=False):
    """AdamW on `parrot`: the losses in nats, and the sizes of ∂loss/∂x, at each step. The learning
    rate rises in a line over n_warmup steps and then stays at its peak. It ends early where the
    last ten losses are below 0.1 on average, and where the loss is no longer a number; with give_up
    also from step 50 on, where the last ten were no better than guessing."""
    params, rng = init(n_layer, start, seed), np.random.default_rng([seed, n_layer])
    moments, losses, sizes = new_moments(params), [], []
    with np.errstate(all="ignore"):
        for step in range(n_steps):
            ids, targets = parrot(rng)
            loss, gradients, along = loss_and_gradients(params, ids, targets, N_HEAD, way)
            losses.append(loss)
            sizes.append(along)
            recent = np.mean(losses[-10:])
            hopeless = give_up and step >= 50 and recent > GUESSING - 0.03
            if not np.isfinite(loss) or recent < 0.1 or hopeless:
                break
            lr = peak * min(1.0, (step + 1) / max(1, n_warmup))
            adamw(params, gradients, moments, step, lr, weight_decay=0.0)
    return losses, sizes


def course(run):
    """`train_stack` for a dict of its arguments, to be called by a pool of processes."""
    return train_stack(**run)


def final_loss(run):
    """The same, with give_up; only the mean of the last ten losses."""
    losses, _ = train_stack(**run, give_up=True)
    return float(np.mean(losses[-10:]))
