"""The LSTM: what Transformers are compared with. It reads one position after the other, and all
that it knows of those before is a state of fixed size.

    logits, state = lstm_language_model(ids, **params)

At each position, from what it reads, x, and from its state, h and c, it makes four vectors side by
side: the input gate i, the forget gate f, the candidate g and the output gate o (Hochreiter &
Schmidhuber 1997; the forget gate is that of Gers, Schmidhuber & Cummins 2000).

    c = σ(f) · c + σ(i) · tanh(g)       what is kept of the cell, and what is written into it
    h = σ(o) · tanh(c)                  what is shown of it

From one c to the next the gradient is only multiplied by σ(f), which may be nearly 1, so that it
reaches back further than through the matrices and the tanh of plain recurrent networks.

    params = {"wte": [n_vocab, n_embd],                       the output's matrix, too
              "blocks": [{"c_x": {"w", "b"},                  [n_in, 4 * n_hidden], for each layer
                          "c_h": {"w"}}, ...]}                [n_hidden, 4 * n_hidden]

A state is [(h, c), ...], each [..., n_hidden], for each layer; None is one of zeros.
"""

import operator

import numpy as np

from backward import draw_dropout, linear_vjp, unembed_vjp
from gpt2_numpy import GPT2Error, check_ids, linear, sample
from stacks.initialisation import draw_params, linear_shapes
from stacks.padding import check_pair, padded_cross_entropy


def sigmoid(x):
    """1 / (1 + exp(-x)), as a tanh, which cannot overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))  # [...] -> [...]


def lstm_cell(gates, c):
    """One step: the four vectors [..., 4 * n_hidden] and the cell before it [..., n_hidden] to the
    new h and c."""
    i, f, g, o = np.split(gates, 4, axis=-1)  # each [..., n_hidden]
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def zero_state(x, c_h):
    """h and c before anything was read, [..., n_hidden] each, for x [..., n_seq, n_in]."""
    zeros = np.zeros((*x.shape[:-2], len(c_h["w"])), x.dtype)
    return zeros, zeros


def lstm_layer(x, c_x, c_h, state=None):
    """x [..., n_seq, n_in] and a state (h, c) to every h, [..., n_seq, n_hidden], and the state
    after the last."""
    h, c = state or zero_state(x, c_h)
    from_x = linear(x, **c_x)  # [..., n_seq, 4 * n_hidden]: of all positions at once
    seen = []
    for t in range(x.shape[-2]):  # but this waits for the position before
        h, c = lstm_cell(from_x[..., t, :] + h @ c_h["w"], c)
        seen.append(h)
    return np.stack(seen, axis=-2), (h, c)


def lstm(x, blocks, state=None):
    """Several layers, each reading every h of the one below: x [..., n_seq, n_in] to
    [..., n_seq, n_hidden] and the state, with which a sequence can go on."""
    after = []
    for parameters, layer_state in zip(blocks, state or [None] * len(blocks), strict=True):
        x, layer_state = lstm_layer(x, **parameters, state=layer_state)
        after.append(layer_state)
    return x, after


def lstm_language_model(ids, wte, blocks, state=None):
    """Token ids [..., n_seq] to logits [..., n_seq, n_vocab] for the token after each, and the
    state after the last."""
    x, state = lstm(wte[np.asarray(ids)], blocks, state)
    return linear(x, wte.T, b=0.0), state


def lstm_generate(ids, params, n_tokens, temperature=0.0, top_k=0, top_p=1.0, rng=None):
    """Continue prompts of one length, ids [..., n_seq]: an iterator over n_tokens arrays of new ids
    [...], drawn by `sample`. GPT2Error as from `generate`."""
    unread, rng = check_ids(ids, params), np.random.default_rng(rng)
    if operator.index(n_tokens) < 0:
        raise GPT2Error(f"cannot generate {n_tokens} tokens")

    def steps(unread, state=None):
        for _ in range(n_tokens):
            logits, state = lstm_language_model(unread, **params, state=state)
            chosen = sample(logits[..., -1, :], temperature, top_k, top_p, rng)
            unread = np.array(chosen)[..., None]  # a copy: what is handed out is the caller's
            yield chosen

    return steps(unread)


def lstm_cell_vjp(gates, c):
    """`lstm_cell`, and back: dh, dc -> d_gates, the gradient of the c before. With s = σ(u),
    ds/du = s (1 - s); with t = tanh(u), dt/du = 1 - t²."""
    i, f, g, o = np.split(gates, 4, axis=-1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    before, c = c, f * c + i * g
    tanh = np.tanh(c)

    def back(dh, dc):
        dc = dc + dh * o * (1.0 - tanh * tanh)  # c has two uses: in h, and one step later
        di, df, dg, do = dc * g, dc * before, dc * i, dh * tanh
        d_gates = [di * i * (1.0 - i), df * f * (1.0 - f), dg * (1.0 - g * g), do * o * (1.0 - o)]
        return np.concatenate(d_gates, axis=-1), dc * f

    return (o * tanh, c), back


def lstm_layer_vjp(x, c_x, c_h, state=None):
    """`lstm_layer`, and back: dy, (dh, dc) -> dx, {"c_x", "c_h"}, the gradient of the state before.
    dh and dc are those of the state after, if anything read it."""
    h, c = state or zero_state(x, c_h)
    from_x, c_x_back = linear_vjp(x, **c_x)
    seen, cell_backs = [h], []
    for t in range(x.shape[-2]):
        (h, c), cell_back = lstm_cell_vjp(from_x[..., t, :] + h @ c_h["w"], c)
        seen.append(h)
        cell_backs.append(cell_back)

    def back(dy, d_state=None):
        dh, dc = d_state or zero_state(x, c_h)
        d_gates = np.empty_like(from_x)
        for t in reversed(range(x.shape[-2])):
            d_gates[..., t, :], dc = cell_backs[t](dy[..., t, :] + dh, dc)
            dh = d_gates[..., t, :] @ c_h["w"].T
        dx, d_c_x = c_x_back(d_gates)
        rows_h = np.stack(seen[:-1], axis=-2).reshape(-1, len(c_h["w"]))
        d_c_h = {"w": rows_h.T @ d_gates.reshape(-1, d_gates.shape[-1])}
        return dx, {"c_x": d_c_x, "c_h": d_c_h}, (dh, dc)

    return (np.stack(seen[1:], axis=-2), (h, c)), back


def lstm_vjp(x, blocks, state=None, dropout=0.0, rng=None):
    """`lstm`, with dropout on what each layer reads and on what the last one shows (Zaremba et al.
    2014, arXiv:1409.2329), and back: dy, d_state -> dx, the gradients of blocks, a list, and that
    of the state before. d_state, if given, is the gradient of the state after."""
    after, backs, drops = [], [], [draw_dropout(x, dropout, rng)]
    x = drops[0](x)
    for parameters, layer_state in zip(blocks, state or [None] * len(blocks), strict=True):
        (x, layer_state), layer_back = lstm_layer_vjp(x, **parameters, state=layer_state)
        drops.append(draw_dropout(x, dropout, rng))
        x = drops[-1](x)
        after.append(layer_state)
        backs.append(layer_back)

    def back(dy, d_state=None):
        dx, d_blocks, d_before = drops[-1](dy), [], []
        d_state = d_state or [None] * len(blocks)
        for drop, layer_back, d_layer in zip(
            drops[-2::-1], backs[::-1], d_state[::-1], strict=True
        ):
            dx, d_block, d_layer_before = layer_back(dx, d_layer)
            dx = drop(dx)
            d_blocks.insert(0, d_block)
            d_before.insert(0, d_layer_before)
        return dx, d_blocks, d_before

    return (x, after), back


def lstm_language_model_vjp(ids, wte, blocks, state=None, dropout=0.0, rng=None):
    """`lstm_language_model`, with dropout, and back: d_logits -> {"wte", "blocks"}; the state is
    taken as given."""
    ids = np.asarray(ids)
    (x, state), lstm_back = lstm_vjp(wte[ids], blocks, state, dropout, rng)
    logits, unembed_back = unembed_vjp(x, wte)

    def back(d_logits):
        dx, d_wte = unembed_back(d_logits)
        dx, d_blocks, _ = lstm_back(dx)
        np.add.at(d_wte, ids, dx)  # its other use
        return {"wte": d_wte, "blocks": d_blocks}

    return (logits, state), back


def lstm_loss_and_gradients(params, ids, targets, dropout=0.0, rng=None, n_tokens=None):
    """Mean cross-entropy of the language model in nats per target (a float), and its gradients,
    nested like params.

    ids, targets  integers [n_batch, n_seq]: targets[i, t] is the token that follows
                  ids[i, :t + 1], or PADDING where nothing is asked
    The rest is that of `backward.loss_and_gradients`; n_tokens is by default the number of targets
    that are no padding. GPT2Error when ids and targets are not two of one shape, hold what is not
    in the vocabulary, or nothing but padding.
    """
    ids, targets = check_pair(ids, targets, params)
    rng = np.random.default_rng(rng)
    (logits, _), back = lstm_language_model_vjp(ids, **params, dropout=dropout, rng=rng)
    loss, d_logits = padded_cross_entropy(logits, targets, n_tokens)
    return loss, back(d_logits)


def init_lstm(n_vocab, n_embd, n_layer, rng, std=0.02):
    """Parameters of `lstm_language_model` to begin with. Forget gates begin with a bias of 1, that
    is, open (Gers et al. 2000). rng: an np.random.Generator or a seed; std: as in `draw_params`."""
    rng = np.random.default_rng(rng)
    block = {"c_x": linear_shapes(n_embd, 4 * n_embd), "c_h": {"w": (n_embd, 4 * n_embd)}}
    params = draw_params({"wte": (n_vocab, n_embd), "blocks": [block] * n_layer}, rng, std)
    for parameters in params["blocks"]:
        parameters["c_x"]["b"][n_embd : 2 * n_embd] = 1.0
    return params
