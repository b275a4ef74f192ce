"""The model with something changed: its real functions, some of them replaced or given other
parameters, all from outside. Nothing is changed in place: the functions are those of a private
copy of the module, and parameters are copied where they differ.
"""

import importlib.util
import math

import numpy as np

import gpt2_numpy
from gpt2_numpy import GPT2Error, softmax
from look_inside import look

N_BEST = 6


def run_changed(ids, params, n_head, changes):
    """One forward pass with these changes, each a dict with its "kind":

    head        attention head "head" of layer "layer" adds nothing to the stream
    attention   nor does the whole attention of "layer"
    ffn         nor the feed-forward network of "layer"
    layer_norm  layer norm hands on what it is given
    residual    what a sublayer computes replaces the stream instead of being added to it
    scale       scores are not divided by sqrt(d_head)
    mask        every position sees all others
    positions   the position embeddings are 0
    token       the token at "position" is "id"

    The logits [n_seq, n_vocab], and the attention's weights, a list of [n_head, n_seq, n_seq].
    GPT2Error where a change does not fit the model.
    """
    model, ids = copy_model(), np.array(ids)
    for change in changes:
        kind = str(change.get("kind"))
        if kind in REPLACE:
            REPLACE[kind](model)
        elif kind in REPARAMETRISE:
            params = REPARAMETRISE[kind](params, n_head, change)
        elif kind == "token":
            ids[within(change, "position", len(ids))] = within(change, "id", len(params["wte"]))
        else:
            raise GPT2Error(f"there is no change called {kind}")
    with np.errstate(all="ignore"):  # without layer norm the numbers may get out of hand
        logits, seen = look(model.gpt2, ids, **params, n_head=n_head, names={"weights"})
    return logits, [call["weights"] for call in seen["attention"]]


def copy_model():
    """A second gpt2_numpy, whose functions can be replaced without the first one's noticing."""
    spec = importlib.util.spec_from_file_location("gpt2_numpy_changed", gpt2_numpy.__file__)
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    return model


def within(change, name, end):
    """The whole number of this name in a change, from 0 and below end. GPT2Error."""
    number = change.get(name)
    if type(number) is not int or not 0 <= number < end:
        raise GPT2Error(f"{name} {number!r} is not a whole number from 0 to {end - 1}")
    return number


def drop_layer_norm(model):
    model.layer_norm = lambda x, g, b, eps=0.0: x


def drop_residual(model):
    def block(x, mlp, attn, ln_1, ln_2, n_head, mask=None, cache=None):
        x = model.mha(model.layer_norm(x, **ln_1), **attn, n_head=n_head, mask=mask, cache=cache)
        return model.ffn(model.layer_norm(x, **ln_2), **mlp)

    model.block = block


def drop_scale(model):
    attention = model.attention

    def unscaled(q, k, v, mask=None):
        return attention(q * math.sqrt(q.shape[-1]), k, v, mask)

    # looked for by its name, "attention", as the one that it calls
    model.attention = unscaled


def drop_mask(model):
    causal_mask = model.causal_mask
    model.causal_mask = lambda n_seq, n_keys=None: np.ones_like(causal_mask(n_seq, n_keys))


REPLACE = {
    "layer_norm": drop_layer_norm,
    "residual": drop_residual,
    "scale": drop_scale,
    "mask": drop_mask,
}


def drop_positions(params, n_head, change):
    return params | {"wpe": np.zeros_like(params["wpe"])}


def drop_head(params, n_head, change):
    layer = within(change, "layer", len(params["blocks"]))
    head = within(change, "head", n_head)
    c_proj = params["blocks"][layer]["attn"]["c_proj"]
    w, d_head = c_proj["w"].copy(), len(c_proj["w"]) // n_head
    w[head * d_head : (head + 1) * d_head] = 0.0  # the rows that read what this head computed
    return with_projection(params, layer, "attn", {"w": w, "b": c_proj["b"]})


def drop_sublayer(params, n_head, change):
    layer = within(change, "layer", len(params["blocks"]))
    sublayer = "attn" if change["kind"] == "attention" else "mlp"
    c_proj = params["blocks"][layer][sublayer]["c_proj"]
    zeros = {name: np.zeros_like(array) for name, array in c_proj.items()}
    return with_projection(params, layer, sublayer, zeros)


def with_projection(params, layer, sublayer, c_proj):
    """The parameters with another output projection of one sublayer."""
    blocks = list(params["blocks"])
    changed = blocks[layer][sublayer] | {"c_proj": c_proj}
    blocks[layer] = blocks[layer] | {sublayer: changed}
    return params | {"blocks": blocks}


REPARAMETRISE = {
    "positions": drop_positions,
    "head": drop_head,
    "attention": drop_sublayer,
    "ffn": drop_sublayer,
}


def list_changes(n_layer, n_head):
    """Every change by itself, but for those of a token."""
    single = [{"kind": kind} for kind in ("mask", "positions", "scale", "layer_norm", "residual")]
    for layer in range(n_layer):
        single += [{"kind": kind, "layer": layer} for kind in ("attention", "ffn")]
        single += [{"kind": "head", "layer": layer, "head": head} for head in range(n_head)]
    return single


def compare(before, after):
    """What a change does to the next token at every position, of logits [n_seq, n_vocab]:

    {"ids", "before", "after"}   for each position a list of tokens, the best before and the best
                                 after, and their probabilities
    {"moved"}                    for each position the share of probability that went elsewhere:
                                 half the sum of the differences, 0 to 1
    {"is_finite"}                whether the changed model still gives numbers; else nothing above
    """
    if not np.all(np.isfinite(after)):
        return {"is_finite": False}
    p, q = softmax(before.astype(np.float64)), softmax(after.astype(np.float64))
    best = np.argsort(-p, axis=-1, kind="stable")[:, :N_BEST]
    best_after = np.argsort(-q, axis=-1, kind="stable")[:, :N_BEST]
    ids = [list(dict.fromkeys([*b, *a])) for b, a in zip(best.tolist(), best_after.tolist())]  # noqa: B905
    return {
        "is_finite": True,
        "ids": ids,
        "before": [p[t, row].tolist() for t, row in enumerate(ids)],
        "after": [q[t, row].tolist() for t, row in enumerate(ids)],
        "moved": (0.5 * np.abs(p - q).sum(axis=-1)).tolist(),
    }
