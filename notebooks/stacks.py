"""GPT-2's sublayers joined in other ways than GPT-2 joins them, for the third notebook.

`sublayer` is the heart: a layer norm before f, or after it, or after the sum, or none; a residual
connection, or none. It returns its output and a function for the way back, as the functions of
backward.py do, of which it is composed. Shapes are [..., n_seq, n_embd] everywhere.
"""

import functools
import math

import numpy as np

from backward import cross_entropy, embed_vjp, ffn_vjp, layer_norm_vjp, mha_vjp, unembed_vjp
from gpt2_numpy import causal_mask
from train import adamw, init_params, new_moments

# Of each: is there a residual connection, and where is the layer norm?
WAYS = {
    "pre-LN": (True, "before f"),
    "post-LN": (True, "after the sum"),
    "LN on branch": (True, "after f"),
    "no layer norm": (True, None),
    "no residual": (False, "before f"),
    "neither": (False, None),
}


N_HEAD = 2  # of the small models
GUESSING = math.log(16)  # the loss of whoever guesses one of 16 tokens


def sublayer(x, f_vjp, parameters, ln, residual, place):
    """The sublayer f, joined in one of the WAYS, and back: dy -> dx, d_parameters, d_ln."""
    y = x
    if place == "before f":
        y, norm_back = layer_norm_vjp(y, **ln)
    y, f_back = f_vjp(y, **parameters)
    if place == "after f":
        y, norm_back = layer_norm_vjp(y, **ln)
    if residual:
        y = x + y
    if place == "after the sum":
        y, norm_back = layer_norm_vjp(y, **ln)

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


def loss_and_gradients(params, ids, targets, n_head, way):
    """As in backward.py, for `gpt2` joined in one of the WAYS; and the sizes of ∂loss/∂x, [2 *
    n_layer + 1], where the blocks begin and after each sublayer."""
    residual, place = WAYS[way]
    attend_vjp = functools.partial(mha_vjp, n_head=n_head, mask=causal_mask(ids.shape[-1]))
    x, embed_back = embed_vjp(ids, params["wte"], params["wpe"])
    backs = []
    for block in params["blocks"]:
        for f_vjp, name, ln in ((attend_vjp, "attn", "ln_1"), (ffn_vjp, "mlp", "ln_2")):
            x, back = sublayer(x, f_vjp, block[name], block[ln], residual, place)
            backs.append((back, name, ln))
    x, ln_f_back = layer_norm_vjp(x, **params["ln_f"])
    logits, unembed_back = unembed_vjp(x, params["wte"])
    loss, d_logits = cross_entropy(logits, targets, targets.size)

    dx, d_wte = unembed_back(d_logits)
    dx, d_ln_f = ln_f_back(dx)
    sizes, d_blocks = [size(dx)], [{} for _ in params["blocks"]]
    for i in reversed(range(len(backs))):
        back, name, ln = backs[i]
        dx, d_parameters, d_ln = back(dx)
        if d_ln is None:  # this way has no layer norm to change
            d_ln = {"g": np.zeros(x.shape[-1], x.dtype), "b": np.zeros(x.shape[-1], x.dtype)}
        d_blocks[i // 2] |= {name: d_parameters, ln: d_ln}
        sizes.append(size(dx))
    gradients = {**embed_back(dx, d_wte), "blocks": d_blocks, "ln_f": d_ln_f}
    return loss, gradients, sizes[::-1]


def size(array):
    """Its length as a vector, sqrt(Σ x²), by float64, in which no square overflows."""
    return float(np.linalg.norm(array.astype(np.float64)))


def init(n_layer, start, seed=0, n_vocab=16, n_ctx=8, n_embd=32):
    """Parameters of a small model: "0.02" as GPT-2 begins, or "1/sqrt(n_in)", with which each
    matrix makes vectors about as long as those it was given."""
    params = init_params(
        dict(n_vocab=n_vocab, n_ctx=n_ctx, n_embd=n_embd, n_head=N_HEAD, n_layer=n_layer), seed
    )
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


def train_stack(way, n_layer, peak, n_warmup, n_steps, start="1/sqrt(n_in)", seed=0, give_up=False):
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
