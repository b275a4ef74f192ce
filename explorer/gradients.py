"""A position's loss on its way back along the residual stream.

The pairs of backward.py are composed once more, as `block_vjp` does it, since here the gradient is
wanted between them, of every state of the stream, and also without the residual connections.
"""

import numpy as np

from backward import cross_entropy, ffn_vjp, layer_norm_vjp, mha_vjp, unembed_vjp
from gpt2_numpy import causal_mask, embed


def stream_gradients(ids, params, n_head, position, target, residual=True):
    """The loss -log p(target) at a position in nats, and the size of its gradient ∂loss/∂x at every
    state of the stream and every position, [2 * n_layer + 1, n_seq].

    residual  False: what a sublayer computes replaces the stream instead of being added to it
    """
    x = embed(ids, params["wte"], params["wpe"])
    mask, backs = causal_mask(len(ids)), []
    for layer in params["blocks"]:
        for norm, sublayer_vjp, weights, settings in (
            (layer["ln_1"], mha_vjp, layer["attn"], {"n_head": n_head, "mask": mask}),
            (layer["ln_2"], ffn_vjp, layer["mlp"], {}),
        ):
            normed, norm_back = layer_norm_vjp(x, **norm)
            added, sublayer_back = sublayer_vjp(normed, **weights, **settings)
            x = x + added if residual else added
            backs.append((norm_back, sublayer_back))
    normed, ln_f_back = layer_norm_vjp(x, **params["ln_f"])
    row = slice(position, position + 1)
    logits, unembed_back = unembed_vjp(normed[row], params["wte"])
    loss, d_logits = cross_entropy(logits, np.array([target]), 1)
    dy = np.zeros_like(x)
    dy[row] = unembed_back(d_logits)[0]
    dy = ln_f_back(dy)[0]
    sizes = [np.linalg.norm(dy, axis=-1)]
    for norm_back, sublayer_back in reversed(backs):
        dx = norm_back(sublayer_back(dy)[0])[0]
        dy = dy + dx if residual else dx
        sizes.insert(0, np.linalg.norm(dy, axis=-1))
    return loss, np.stack(sizes)
