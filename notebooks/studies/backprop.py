"""What the notebook on backpropagation looks at inside a model: a block's vectors, both ways."""

import numpy as np

import backward
import gpt2_numpy


def question(ids, answer, params, n_head):
    """The loss of a single answer, -ln p(answer) after the last of ids [1, n_seq], in nats, and its
    gradient at the logits, [1, n_seq, n_vocab]: 0 but at the last position."""
    logits = gpt2_numpy.gpt2(ids, **params, n_head=n_head)
    loss, d_last = backward.cross_entropy(logits[:, -1:], np.array([[answer]]), 1)
    d_logits = np.zeros_like(logits)
    d_logits[:, -1:] = d_last
    return loss, d_logits


def one_block(ids, d_logits, params, n_head, layer):
    """The vectors of one block, at all positions: two dicts, those of the forward pass and the
    gradients at the same places, each [1, n_seq, n_embd]. The places: x, read_1, added_1, between,
    read_2, added_2, y; and for the gradients through_1 and through_2, what came through a sublayer
    and its layer norm before it was added."""
    mask = gpt2_numpy.causal_mask(ids.shape[-1])
    x = gpt2_numpy.embed(ids, params["wte"], params["wpe"])
    for parameters in params["blocks"][:layer]:
        x = gpt2_numpy.block(x, **parameters, n_head=n_head, mask=mask)
    ours, forward, grad = params["blocks"][layer], {"x": x}, {}
    forward["read_1"], ln_1_back = backward.layer_norm_vjp(x, **ours["ln_1"])
    forward["added_1"], mha_back = backward.mha_vjp(
        forward["read_1"], **ours["attn"], n_head=n_head, mask=mask
    )
    forward["between"] = x + forward["added_1"]
    forward["read_2"], ln_2_back = backward.layer_norm_vjp(forward["between"], **ours["ln_2"])
    forward["added_2"], ffn_back = backward.ffn_vjp(forward["read_2"], **ours["mlp"])
    forward["y"] = x = forward["between"] + forward["added_2"]

    backs = []
    for parameters in params["blocks"][layer + 1 :]:
        x, back = backward.block_vjp(x, **parameters, n_head=n_head, mask=mask)
        backs.append(back)
    x, ln_f_back = backward.layer_norm_vjp(x, **params["ln_f"])
    _, unembed_back = backward.unembed_vjp(x, params["wte"])
    for back in [unembed_back, ln_f_back, *backs[::-1]]:
        d_logits, _ = back(d_logits)
    grad["y"] = grad["added_2"] = d_logits
    grad["read_2"], _ = ffn_back(grad["added_2"])
    grad["through_2"], _ = ln_2_back(grad["read_2"])
    grad["between"] = grad["added_1"] = grad["y"] + grad["through_2"]
    grad["read_1"], _ = mha_back(grad["added_1"])
    grad["through_1"], _ = ln_1_back(grad["read_1"])
    grad["x"] = grad["between"] + grad["through_1"]
    return forward, grad
