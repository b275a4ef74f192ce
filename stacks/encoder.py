"""The encoder: GPT-2's blocks without the causal mask, so that every position sees every other.

    encoder(x, blocks, ln_f, n_head)       vectors to vectors, each of which has seen all of them
    encoder_only(ids, **params, n_head=4)  the same with tokens at both ends: ids to logits

A decoder such as GPT-2 predicts the token after each position, which none may see. Here the token
at the position itself is asked for, which says something where the input hides it (Devlin et al.
2019, arXiv:1810.04805). Attention alone does not know in which order the vectors stand, so
`embed_sinusoidal` adds the sines and cosines of Vaswani et al. 2017, which are no parameters.

    params = {"wte": [n_vocab, n_embd], "blocks": [... as in gpt2_numpy.py], "ln_f": {"g", "b"}}

A mask is True where a query may see a key, and of any shape that [..., n_head, n_queries, n_keys]
can be made of: [..., 1, 1, n_seq] hides padding, from `mask_from_ids` or `mask_from_lengths`.
"""

import math

import numpy as np

from backward import block_vjp, draw_dropout, embed_vjp, layer_norm_vjp, unembed_vjp
from gpt2_numpy import block, layer_norm, linear
from stacks.initialisation import block_shapes, draw_params, norm_shapes
from stacks.padding import check_pair, mask_from_ids, padded_cross_entropy


def sinusoidal_positions(n_ctx, n_embd):
    """float32 [n_ctx, n_embd]: a position as the sines, in the even columns, and the cosines, in
    the odd ones, of waves whose length grows from 2π to 10,000 · 2π positions (Vaswani et al. 2017,
    arXiv:1706.03762, section 3.5)."""
    rates = 10000.0 ** (-np.arange(0, n_embd, 2) / n_embd)  # of sine and cosine 2i: [n_embd / 2]
    angles = np.arange(n_ctx)[:, None] * rates  # [n_ctx, n_embd / 2]
    waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1)  # side by side
    return waves.reshape(n_ctx, -1)[:, :n_embd].astype(np.float32)


def embed_sinusoidal(ids, wte, n_past=0):
    """The row of each token times sqrt(n_embd), which makes it as large as the sines, and those of
    its position, added (Vaswani et al. 2017, sections 3.4 and 3.5); n_past positions come before.
    For PADDING, the row of another token stands there, which the masks hide from all that count."""
    n_positions, n_embd = n_past + ids.shape[-1], wte.shape[1]
    positions = sinusoidal_positions(n_positions, n_embd)[n_past:]
    return math.sqrt(n_embd) * wte[ids] + positions  # [..., n_seq] -> [..., n_seq, n_embd]


def encoder(x, blocks, ln_f, n_head, mask=None):
    """Every position sees every other that the mask does not hide."""
    for parameters in blocks:
        x = block(x, **parameters, n_head=n_head, mask=mask)
    return layer_norm(x, **ln_f)  # [..., n_seq, n_embd] -> [..., n_seq, n_embd]


def encode_ids(ids, wte, blocks, ln_f, n_head, mask=None):
    """Token ids to what the encoder makes of them."""
    return encoder(embed_sinusoidal(ids, wte), blocks, ln_f, n_head, mask)
    # [..., n_seq] -> [..., n_seq, n_embd]


def encoder_only(ids, wte, blocks, ln_f, n_head, mask=None):
    """Token ids to logits: logits[..., t, :] are for position t itself, given all positions."""
    x = encode_ids(np.asarray(ids), wte, blocks, ln_f, n_head, mask)
    return linear(x, wte.T, b=0.0)  # [..., n_seq] -> [..., n_seq, n_vocab]


def embed_sinusoidal_vjp(ids, wte):
    """`embed_sinusoidal`, and back: dy, d_wte -> the gradient of wte, added to d_wte, if given, in
    place, as in `embed_vjp`."""
    scale, positions = math.sqrt(wte.shape[1]), sinusoidal_positions(ids.shape[-1], wte.shape[1])
    x, embed_back = embed_vjp(ids, scale * wte, positions)

    def back(dy, d_wte=None):
        return embed_back(scale * dy, d_wte)["wte"]

    return x, back


def encoder_vjp(x, blocks, ln_f, n_head, mask=None, dropout=0.0, rng=None):
    """`encoder`, with dropout as in `block_vjp`, and back: dy -> dx, {"blocks", "ln_f"}."""
    block_backs = []
    for parameters in blocks:
        x, block_back = block_vjp(
            x, **parameters, n_head=n_head, mask=mask, dropout=dropout, rng=rng
        )
        block_backs.append(block_back)
    y, ln_f_back = layer_norm_vjp(x, **ln_f)

    def back(dy):
        dx, d_ln_f = ln_f_back(dy)
        d_blocks = []
        for block_back in reversed(block_backs):
            dx, d_block = block_back(dx)
            d_blocks.insert(0, d_block)
        return dx, {"blocks": d_blocks, "ln_f": d_ln_f}

    return y, back


def encode_ids_vjp(ids, wte, blocks, ln_f, n_head, mask=None, dropout=0.0, rng=None):
    """`encode_ids`, with dropout on the embeddings too, and back: dy, d_wte -> {"wte", "blocks",
    "ln_f"}; wte's is added to d_wte, if given, in place."""
    x, embed_back = embed_sinusoidal_vjp(ids, wte)
    drop = draw_dropout(x, dropout, rng)
    y, encoder_back = encoder_vjp(drop(x), blocks, ln_f, n_head, mask, dropout, rng)

    def back(dy, d_wte=None):
        dx, gradients = encoder_back(dy)
        return {"wte": embed_back(drop(dx), d_wte), **gradients}

    return y, back


def encoder_only_vjp(ids, wte, blocks, ln_f, n_head, mask=None, dropout=0.0, rng=None):
    """`encoder_only`, with dropout, and back: d_logits -> the gradients of all parameters."""
    ids = np.asarray(ids)
    x, encode_back = encode_ids_vjp(ids, wte, blocks, ln_f, n_head, mask, dropout, rng)
    logits, unembed_back = unembed_vjp(x, wte)

    def back(d_logits):
        return encode_back(*unembed_back(d_logits))  # wte has two uses

    return logits, back


def encoder_only_loss_and_gradients(
    params, ids, targets, n_head, dropout=0.0, rng=None, n_tokens=None
):
    """Mean cross-entropy in nats per target (a float), and its gradients, nested like params.

    ids, targets  integers [n_batch, n_seq]: targets[i, t] is what stands at t itself, or PADDING
                  where nothing is asked; ids may hold PADDING where a row ends
    The rest is that of `backward.loss_and_gradients`; n_tokens is by default the number of targets
    that are no padding. GPT2Error when ids and targets are not two of one shape, hold what is not
    in the vocabulary, or nothing but padding.
    """
    ids, targets = check_pair(ids, targets, params)
    rng = np.random.default_rng(rng)
    mask = mask_from_ids(ids)
    logits, back = encoder_only_vjp(
        ids, **params, n_head=n_head, mask=mask, dropout=dropout, rng=rng
    )
    loss, d_logits = padded_cross_entropy(logits, targets, n_tokens)
    return loss, back(d_logits)


def init_encoder_only(n_vocab, n_embd, n_layer, rng, std=0.02):
    """Parameters of `encoder_only` to begin with. rng: an np.random.Generator or a seed; std: as in
    `draw_params`."""
    rng = np.random.default_rng(rng)
    shapes = {"wte": (n_vocab, n_embd), **encoder_shapes(n_embd, n_layer)}
    return draw_params(shapes, rng, std, n_sums=2 * n_layer)


def encoder_shapes(n_embd, n_layer):
    """The shapes of `encoder`'s parameters."""
    return {"blocks": [block_shapes(n_embd) for _ in range(n_layer)], "ln_f": norm_shapes(n_embd)}
