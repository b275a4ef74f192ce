"""The encoder–decoder: one stack reads a sequence, the other writes another, looking back at it.

    logits = transformer(source, target, **params, n_head=4)
    ids = translate(source, params, n_head=4, start=1, end=2, n_tokens=50)

What the encoder makes of the source is the memory. Between GPT-2's two sublayers, each block of the
decoder has a third: `cross_attention`, whose queries come from the target and whose keys and values
from the memory (Vaswani et al. 2017, arXiv:1706.03762; there layer norm came after each sum, here
it comes before each sublayer, as in GPT-2). Both sides share one vocabulary, and its embedding is
the output's matrix too (section 3.4).

    params = {"wte": [n_vocab, n_embd],
              "encoder": {"blocks": [...], "ln_f"},         the blocks of gpt2_numpy.py
              "decoder": {"blocks": [{"ln_1", "attn",       for each layer
                                      "ln_2", "cross_attn": {"c_q", "c_kv", "c_proj"},
                                      "ln_3", "mlp"}, ...], "ln_f"}}

Sources of different lengths are filled up with PADDING, which source_mask hides. Targets need no
mask for theirs: it stands at the end, where the causal mask hides it from all that count.
"""

import operator

import numpy as np

from backward import (
    attention_vjp,
    draw_dropout,
    ffn_vjp,
    layer_norm_vjp,
    linear_vjp,
    mha_vjp,
    unembed_vjp,
)
from gpt2_numpy import (
    NOT_FINITE,
    GPT2Error,
    attention,
    causal_mask,
    check_ids,
    ffn,
    layer_norm,
    linear,
    log_softmax,
    mha,
    new_cache,
    sample,
)
from stacks.encoder import (
    embed_sinusoidal,
    embed_sinusoidal_vjp,
    encode_ids,
    encode_ids_vjp,
    encoder_shapes,
)
from stacks.initialisation import block_shapes, draw_params, linear_shapes, norm_shapes
from stacks.padding import (
    PADDING,
    check_padded_ids,
    check_pair,
    mask_from_ids,
    padded_cross_entropy,
)


def split_heads(x, n_head):
    """[..., n_seq, n_embd] -> [..., n_head, n_seq, d_head]"""
    *batch, n_seq, n_embd = x.shape
    return x.reshape(*batch, n_seq, n_head, n_embd // n_head).swapaxes(-2, -3)


def join_heads(heads):
    """[..., n_head, n_seq, d_head] -> [..., n_seq, n_embd], side by side again"""
    *batch, n_head, n_seq, d_head = heads.shape
    return heads.swapaxes(-2, -3).reshape(*batch, n_seq, n_head * d_head)


def project_memory(memory, c_kv, n_head):
    """The memory's keys and values, each [..., n_head, n_memory, d_head]: c_kv makes the keys of
    all heads, then the values."""
    k, v = np.split(linear(memory, **c_kv), 2, axis=-1)  # each [..., n_memory, n_embd]
    return split_heads(k, n_head), split_heads(v, n_head)


def cross_attention(x, memory, c_q, c_kv, c_proj, n_head, mask=None, kv=None):
    """Multi-head attention to another sequence: queries from x, keys and values from memory
    [..., n_memory, n_embd]; kv, if given, are these, from `project_memory`."""
    q = split_heads(linear(x, **c_q), n_head)  # [..., n_head, n_seq, d_head]
    k, v = project_memory(memory, c_kv, n_head) if kv is None else kv
    heads = attention(q, k, v, mask)  # [..., n_head, n_seq, d_head]
    return linear(join_heads(heads), **c_proj)  # [..., n_seq, n_embd] -> [..., n_seq, n_embd]


def decoder_block(
    x,
    memory,
    mlp,
    attn,
    cross_attn,
    ln_1,
    ln_2,
    ln_3,
    n_head,
    mask=None,
    memory_mask=None,
    cache=None,
):
    """One pre-LN residual block with cross-attention between its two sublayers. A cache holds the
    positions before x, and the keys and values of memory, which are the same at every step."""
    kv = cache["memory"] if cache else None
    x = x + mha(layer_norm(x, **ln_1), **attn, n_head=n_head, mask=mask, cache=cache)
    x = x + cross_attention(
        layer_norm(x, **ln_2), memory, **cross_attn, n_head=n_head, mask=memory_mask, kv=kv
    )
    x = x + ffn(layer_norm(x, **ln_3), **mlp)
    return x  # [..., n_seq, n_embd] -> [..., n_seq, n_embd]


def decode_ids(ids, memory, wte, blocks, ln_f, n_head, memory_mask=None, cache=None):
    """Target ids, and the memory [..., n_memory, n_embd] that they are written from, to logits. A
    cache, from `new_decoder_cache`, holds the positions before these ids and takes in theirs."""
    n_seq, n_past = ids.shape[-1], cache[0]["n_past"] if cache else 0
    x = embed_sinusoidal(ids, wte, n_past)
    mask = causal_mask(n_seq, n_past + n_seq) if n_seq > 1 else None  # one alone sees all
    for parameters, layer_cache in zip(blocks, cache or [None] * len(blocks), strict=True):
        x = decoder_block(
            x,
            memory,
            **parameters,
            n_head=n_head,
            mask=mask,
            memory_mask=memory_mask,
            cache=layer_cache,
        )
    return linear(layer_norm(x, **ln_f), wte.T, b=0.0)  # [..., n_seq] -> [..., n_seq, n_vocab]


def transformer(source, target, wte, encoder, decoder, n_head, source_mask=None):
    """Source ids [..., n_source] and target ids [..., n_seq] to logits [..., n_seq, n_vocab]:
    logits[..., t, :] are for target token t + 1, given tokens 0 to t and the whole source."""
    source, target = np.asarray(source), np.asarray(target)
    memory = encode_ids(source, wte, **encoder, n_head=n_head, mask=source_mask)
    return decode_ids(target, memory, wte, **decoder, n_head=n_head, memory_mask=source_mask)


def new_decoder_cache(memory, params, n_head, n_positions, batch=()):
    """`new_cache` for the decoder, with each layer's keys and values of memory beside the room for
    those of the target, whose leading axes are batch."""
    blocks = params["decoder"]["blocks"]
    cache = new_cache({"wte": params["wte"], "blocks": blocks}, n_head, n_positions, batch)
    for layer, parameters in zip(cache, blocks, strict=True):
        layer["memory"] = project_memory(memory, parameters["cross_attn"]["c_kv"], n_head)
    return cache


def translate(source, params, n_head, start, end, n_tokens):
    """Greedy decoding: the best token each time, until there is the end or there are n_tokens.
    Source ids [..., n_source] to target ids [..., n_found].

    start and end are the ids of the tokens that stand before every target and behind it. The result
    begins after start and holds end; behind it there is PADDING where other rows are longer.
    GPT2Error when an id is not in the vocabulary, when a source holds no token, or when the model's
    weights give no numbers.
    """
    source = check_padded_ids(source, params)
    start, end = check_ids([start, end], params)
    mask, batch = mask_from_ids(source), source.shape[:-1]
    memory = encode_ids(source, params["wte"], **params["encoder"], n_head=n_head, mask=mask)
    cache = new_decoder_cache(memory, params, n_head, n_tokens, batch)
    settings = dict(n_head=n_head, memory_mask=mask, cache=cache)
    ids, has_ended = np.full((*batch, 1), start), np.zeros(batch, bool)
    while ids.shape[-1] <= n_tokens and not has_ended.all():
        logits = decode_ids(ids[..., -1:], memory, params["wte"], **params["decoder"], **settings)
        chosen = np.where(has_ended, PADDING, sample(logits[..., -1, :]))
        has_ended = has_ended | (chosen == end)
        ids = np.concatenate([ids, chosen[..., None]], axis=-1)
    return ids[..., 1:]


def beam_search(source, params, n_head, start, end, n_tokens, n_beams):
    """The n_beams most probable targets that were found, best first, [..., n_beams, n_found], and
    their log-probabilities in nats, [..., n_beams].

    At each step all continuations of the beams by one token compete, and the n_beams best stay; one
    that has ended stays as it is. So a first token that is second best may win in the end, which
    `translate` never sees. The log-probability sums up all tokens with the end, and so favours
    short targets; it is -inf where there are fewer targets than beams. The rest is that of
    `translate`.
    """
    source = check_padded_ids(source, params)
    start, end = check_ids([start, end], params)
    if operator.index(n_beams) < 1:
        raise GPT2Error(f"cannot search with {n_beams} beams")
    mask, batch = mask_from_ids(source), (*source.shape[:-1], n_beams)
    memory = encode_ids(source, params["wte"], **params["encoder"], n_head=n_head, mask=mask)
    memory, mask = memory[..., None, :, :], mask[..., None, :, :, :]  # one for all of its beams
    cache = new_decoder_cache(memory, params, n_head, n_tokens, batch)
    settings = dict(n_head=n_head, memory_mask=mask, cache=cache)
    ids, has_ended = np.full((*batch, 1), start), np.zeros(batch, bool)
    totals = np.full(batch, -np.inf)
    totals[..., 0] = 0.0  # all beams are still the same, so that the first alone counts
    while ids.shape[-1] <= n_tokens and not has_ended[..., 0].all():  # totals never rise
        logits = decode_ids(ids[..., -1:], memory, params["wte"], **params["decoder"], **settings)
        totals, parents, tokens = find_continuations(totals, logits[..., -1, :], has_ended)
        for layer in cache:
            for name in ("k", "v"):  # of the memory all beams have the same
                places = parents[..., None, None, None]
                layer[name] = np.take_along_axis(layer[name], places, axis=-4)
        ids = np.take_along_axis(ids, parents[..., None], axis=-2)
        ids = np.concatenate([ids, tokens[..., None]], axis=-1)
        has_ended = (tokens == end) | (tokens == PADDING)
    return ids[..., 1:], totals


def find_continuations(totals, logits, has_ended):
    """The best continuations of beams by one token: their log-probabilities, which beams they
    continue, and by which tokens, each [..., n_beams], best first.

    totals, logits, has_ended  of the beams: log-probabilities [..., n_beams], the next token's
                               logits [..., n_beams, n_vocab], and whether there is no next: then
                               the one continuation is PADDING, of probability 1
    """
    *batch, n_beams, n_vocab = logits.shape
    logs = log_softmax(logits)
    if not np.all(np.isfinite(logs)):
        raise GPT2Error(NOT_FINITE)
    first_only = np.where(np.arange(n_vocab) == 0, 0.0, -np.inf)
    logs = np.where(has_ended[..., None], first_only, logs)
    candidates = (totals[..., None] + logs).reshape(*batch, n_beams * n_vocab)
    best = np.argsort(-candidates, axis=-1, kind="stable")[..., :n_beams]
    parents, tokens = np.divmod(best, n_vocab)
    tokens = np.where(np.take_along_axis(has_ended, parents, axis=-1), PADDING, tokens)
    return np.take_along_axis(candidates, best, axis=-1), parents, tokens


def cross_attention_vjp(x, memory, c_q, c_kv, c_proj, n_head, mask=None, dropout=0.0, rng=None):
    """`cross_attention`, and back: dy -> dx, d_memory, {"c_q", "c_kv", "c_proj"}. x and memory have
    the same leading axes."""
    q, c_q_back = linear_vjp(x, **c_q)
    kv, c_kv_back = linear_vjp(memory, **c_kv)
    k, v = np.split(kv, 2, axis=-1)
    q, k, v = (split_heads(y, n_head) for y in (q, k, v))  # [..., n_head, n_seq, d_head]
    heads, attention_back = attention_vjp(q, k, v, mask, dropout, rng)
    y, c_proj_back = linear_vjp(join_heads(heads), **c_proj)

    def back(dy):
        d_heads, d_c_proj = c_proj_back(dy)
        dq, dk, dv = map(join_heads, attention_back(split_heads(d_heads, n_head)))
        dx, d_c_q = c_q_back(dq)
        d_memory, d_c_kv = c_kv_back(np.concatenate([dk, dv], axis=-1))
        return dx, d_memory, {"c_q": d_c_q, "c_kv": d_c_kv, "c_proj": d_c_proj}

    return y, back


def decoder_block_vjp(
    x,
    memory,
    mlp,
    attn,
    cross_attn,
    ln_1,
    ln_2,
    ln_3,
    n_head,
    mask=None,
    memory_mask=None,
    dropout=0.0,
    rng=None,
):
    """`decoder_block`, with dropout on what each sublayer adds, and back: dy -> dx, d_memory,
    gradients."""
    settings = dict(n_head=n_head, dropout=dropout, rng=rng)
    normed, ln_1_back = layer_norm_vjp(x, **ln_1)
    added, mha_back = mha_vjp(normed, **attn, mask=mask, **settings)
    drop_1 = draw_dropout(added, dropout, rng)
    x = x + drop_1(added)
    normed, ln_2_back = layer_norm_vjp(x, **ln_2)
    added, cross_back = cross_attention_vjp(
        normed, memory, **cross_attn, mask=memory_mask, **settings
    )
    drop_2 = draw_dropout(added, dropout, rng)
    x = x + drop_2(added)
    normed, ln_3_back = layer_norm_vjp(x, **ln_3)
    added, ffn_back = ffn_vjp(normed, **mlp)
    drop_3 = draw_dropout(added, dropout, rng)
    x = x + drop_3(added)

    def back(dy):
        dx, d_mlp = ffn_back(drop_3(dy))
        dx, d_ln_3 = ln_3_back(dx)
        dy = dy + dx
        dx, d_memory, d_cross_attn = cross_back(drop_2(dy))
        dx, d_ln_2 = ln_2_back(dx)
        dy = dy + dx
        dx, d_attn = mha_back(drop_1(dy))
        dx, d_ln_1 = ln_1_back(dx)
        norms = {"ln_1": d_ln_1, "ln_2": d_ln_2, "ln_3": d_ln_3}
        return dy + dx, d_memory, norms | {"attn": d_attn, "cross_attn": d_cross_attn, "mlp": d_mlp}

    return x, back


def decode_ids_vjp(ids, memory, wte, blocks, ln_f, n_head, memory_mask=None, dropout=0.0, rng=None):
    """`decode_ids`, with dropout on the embeddings too, and back: d_logits -> d_memory, {"wte",
    "blocks", "ln_f"}."""
    x, embed_back = embed_sinusoidal_vjp(ids, wte)
    drop = draw_dropout(x, dropout, rng)
    x = drop(x)
    masks = dict(mask=causal_mask(ids.shape[-1]), memory_mask=memory_mask)
    block_backs = []
    for parameters in blocks:
        x, block_back = decoder_block_vjp(
            x, memory, **parameters, n_head=n_head, **masks, dropout=dropout, rng=rng
        )
        block_backs.append(block_back)
    x, ln_f_back = layer_norm_vjp(x, **ln_f)
    logits, unembed_back = unembed_vjp(x, wte)

    def back(d_logits):
        dx, d_wte = unembed_back(d_logits)
        dx, d_ln_f = ln_f_back(dx)
        d_memory, d_blocks = np.zeros_like(memory), []
        for block_back in reversed(block_backs):
            dx, d_read, d_block = block_back(dx)
            d_memory += d_read  # every block reads the same memory
            d_blocks.insert(0, d_block)
        d_wte = embed_back(drop(dx), d_wte)
        return d_memory, {"wte": d_wte, "blocks": d_blocks, "ln_f": d_ln_f}

    return logits, back


def transformer_vjp(
    source, target, wte, encoder, decoder, n_head, source_mask=None, dropout=0.0, rng=None
):
    """`transformer`, with dropout, and back: d_logits -> the gradients of all parameters."""
    source, target = np.asarray(source), np.asarray(target)
    settings = dict(n_head=n_head, dropout=dropout, rng=rng)
    memory, encode_back = encode_ids_vjp(source, wte, **encoder, mask=source_mask, **settings)
    logits, decode_back = decode_ids_vjp(
        target, memory, wte, **decoder, memory_mask=source_mask, **settings
    )

    def back(d_logits):
        d_memory, d_decoder = decode_back(d_logits)
        d_encoder = encode_back(d_memory, d_decoder.pop("wte"))
        return {"wte": d_encoder.pop("wte"), "encoder": d_encoder, "decoder": d_decoder}

    return logits, back


def transformer_loss_and_gradients(
    params, source, ids, targets, n_head, dropout=0.0, rng=None, n_tokens=None
):
    """Mean cross-entropy in nats per target (a float), and its gradients, nested like params.

    source        integers [n_batch, n_source], filled up with PADDING
    ids, targets  integers [n_batch, n_seq]: targets[i, t] is the token that follows
                  ids[i, :t + 1], or PADDING where there is none
    The rest is that of `encoder_only_loss_and_gradients`.
    """
    source, (ids, targets) = check_padded_ids(source, params), check_pair(ids, targets, params)
    if source.shape[:-1] != ids.shape[:-1]:
        raise GPT2Error(f"source {source.shape} and ids {ids.shape} do not have as many rows")
    rng = np.random.default_rng(rng)
    settings = dict(n_head=n_head, source_mask=mask_from_ids(source), dropout=dropout, rng=rng)
    logits, back = transformer_vjp(source, ids, **params, **settings)
    loss, d_logits = padded_cross_entropy(logits, targets, n_tokens)
    return loss, back(d_logits)


def init_transformer(n_vocab, n_embd, n_layer, rng, std=0.02):
    """Parameters of `transformer` to begin with, n_layer blocks in each stack. rng: an
    np.random.Generator or a seed; std: as in `draw_params`."""
    rng = np.random.default_rng(rng)
    encoder = encoder_shapes(n_embd, n_layer)
    decoder = {
        "blocks": [decoder_block_shapes(n_embd) for _ in range(n_layer)],
        "ln_f": norm_shapes(n_embd),
    }
    return {
        **draw_params({"wte": (n_vocab, n_embd)}, rng, std),
        "encoder": draw_params(encoder, rng, std, n_sums=2 * n_layer),
        "decoder": draw_params(decoder, rng, std, n_sums=3 * n_layer),
    }


def decoder_block_shapes(n_embd):
    """The shapes of `decoder_block`'s parameters."""
    cross_attn = {
        "c_q": linear_shapes(n_embd, n_embd),
        "c_kv": linear_shapes(n_embd, 2 * n_embd),
        "c_proj": linear_shapes(n_embd, n_embd),
    }
    return block_shapes(n_embd) | {"ln_3": norm_shapes(n_embd), "cross_attn": cross_attn}
