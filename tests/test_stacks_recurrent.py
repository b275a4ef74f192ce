"""The LSTM against PyTorch's, finite differences, and what a state is for."""

import warnings

import numpy as np
import pytest

from gpt2_numpy import GPT2Error, log_softmax
from helpers import assert_all_close, assert_close, assert_gradients, stacks_golden, stir
from stacks.padding import PADDING
from stacks.recurrent import (
    init_lstm,
    lstm,
    lstm_cell,
    lstm_cell_vjp,
    lstm_generate,
    lstm_language_model,
    lstm_language_model_vjp,
    lstm_loss_and_gradients,
    lstm_vjp,
    sigmoid,
)


def make_params(dtype=np.float32):
    return stir(init_lstm(n_vocab=11, n_embd=6, n_layer=2, rng=0), dtype)


def draw(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def test_the_lstm_and_its_gradients_equal_pytorchs():
    golden, blocks, gradients = stacks_golden("lstm")
    state = list(zip(golden["h"], golden["c"], strict=True))
    y, after = lstm(golden["x"], blocks, state)
    assert y.dtype == np.float32
    assert_close(y, golden["y"])
    for (h, c), h_after, c_after in zip(after, golden["h_after"], golden["c_after"], strict=True):
        assert_close(h, h_after)
        assert_close(c, c_after)
    _, back = lstm_vjp(golden["x"], blocks, state)
    d_state = list(zip(golden["dh"], golden["dc"], strict=True))
    dx, found, d_before = back(golden["dy"], d_state)
    assert_close(dx, golden["d_x"])
    assert_all_close(found, gradients)
    for (dh, dc), exact_dh, exact_dc in zip(d_before, golden["d_h"], golden["d_c"], strict=True):
        assert_close(dh, exact_dh)
        assert_close(dc, exact_dc)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("begun", [False, True])
def test_back_is_the_product_with_the_jacobian(batch, begun):
    blocks, x = make_params(np.float64)["blocks"], draw(*batch, 4, 6)
    state = [(draw(*batch, 6, seed=i), draw(*batch, 6, seed=i + 9)) for i in (2, 3)]
    d_state = [(draw(*batch, 6, seed=i), draw(*batch, 6, seed=i + 9)) for i in (4, 5)]
    given = state if begun else None
    (y, after), back = lstm_vjp(x, blocks, given)
    same_y, same_after = lstm(x, blocks, given)
    assert np.array_equal(y, same_y) and np.array_equal(after, same_after)
    dy = draw(*y.shape, seed=6)
    dx, gradients, d_before = back(dy, d_state if begun else None)

    def loss():
        y, after = lstm(x, blocks, given)
        return np.sum(dy * y) + begun * np.sum(np.array(d_state) * np.array(after))

    arrays, found = {"x": x, "blocks": blocks}, {"x": dx, "blocks": gradients}
    if begun:
        arrays["state"], found["state"] = list(map(list, state)), list(map(list, d_before))
    assert_gradients(loss, arrays, found)


def test_a_cell_is_a_pair_too():
    gates, c, dh, dc = draw(3, 24), draw(3, 6, seed=2), draw(3, 6, seed=3), draw(3, 6, seed=4)
    (h, c_after), back = lstm_cell_vjp(gates, c)
    assert np.array_equal((h, c_after), lstm_cell(gates, c))
    d_gates, d_before = back(dh, dc)

    def loss():
        h, c_after = lstm_cell(gates, c)
        return np.sum(dh * h) + np.sum(dc * c_after)

    assert_gradients(loss, {"gates": gates, "c": c}, {"gates": d_gates, "c": d_before})


IDS = np.array([[5, 2, 9, 2], [7, 7, 5, PADDING]])
TARGETS = np.array([[2, PADDING, 2, 3], [7, 5, PADDING, PADDING]])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_parameter_against_finite_differences(dropout):
    params = make_params(np.float64)

    def loss():
        return lstm_loss_and_gradients(params, IDS, TARGETS, dropout, rng=4)[0]

    gradients = lstm_loss_and_gradients(params, IDS, TARGETS, dropout, rng=4)[1]
    assert_gradients(loss, params, gradients)


def test_the_paired_forward_pass_gives_the_same_bits():
    params = make_params()
    for ids in (IDS, IDS[0], IDS[:, None]):
        logits, state = lstm_language_model(ids, **params)
        assert logits.shape == (*ids.shape, 11) and logits.dtype == np.float32
        (paired, after), _ = lstm_language_model_vjp(ids, **params)
        assert np.array_equal(paired, logits) and np.array_equal(after, state)


def test_the_loss_is_the_mean_over_the_targets():
    params = make_params(np.float64)
    logs = log_softmax(lstm_language_model(IDS, **params)[0])
    chosen = [logs[row, t, TARGETS[row, t]] for row, t in np.argwhere(TARGETS != PADDING)]
    loss, _ = lstm_loss_and_gradients(params, IDS, TARGETS)
    assert type(loss) is float and len(chosen) == 5 and abs(loss + np.mean(chosen)) < 1e-12


def test_two_halves_are_the_whole():
    params, ids = make_params(np.float64), np.random.default_rng(7).integers(0, 11, (2, 9))
    logits, state = lstm_language_model(ids, **params)
    first, half = lstm_language_model(ids[:, :4], **params)
    second, after = lstm_language_model(ids[:, 4:], **params, state=half)
    assert np.allclose(np.concatenate([first, second], axis=1), logits, atol=1e-12)
    assert np.allclose(after, state, atol=1e-12)
    anew, _ = lstm_language_model(ids[:, 4:], **params)
    assert not np.allclose(anew, second, atol=1e-3)


def test_gradients_of_two_halves_are_those_of_the_whole():
    blocks, x, dy = make_params(np.float64)["blocks"], draw(2, 9, 6), draw(2, 9, 6, seed=2)
    dx, gradients, _ = lstm_vjp(x, blocks)[1](dy)
    (_, half), first_back = lstm_vjp(x[:, :4], blocks)
    _, second_back = lstm_vjp(x[:, 4:], blocks, half)
    second_dx, second, d_half = second_back(dy[:, 4:])
    first_dx, first, _ = first_back(dy[:, :4], d_half)
    assert np.allclose(np.concatenate([first_dx, second_dx], axis=1), dx, atol=1e-12)
    for layer, exact in enumerate(gradients):
        for name in ("c_x", "c_h"):
            added = first[layer][name]["w"] + second[layer][name]["w"]
            assert np.allclose(added, exact[name]["w"], atol=1e-12)


def test_it_is_causal():
    params, ids = make_params(np.float64), IDS[0]
    logits, _ = lstm_language_model(ids, **params)
    for place in range(4):
        changed = ids.copy()
        changed[place] = 1
        moved = lstm_language_model(changed, **params)[0] - logits
        assert np.all(moved[:place] == 0) and np.all(np.abs(moved[place:]).max(axis=-1) > 1e-4)


def test_generation_carries_the_state_on():
    params = make_params()
    ids = IDS[:, :3]
    found = np.stack(list(lstm_generate(ids, params, 6)), axis=-1)
    for _ in range(6):
        logits, _ = lstm_language_model(ids, **params)
        ids = np.concatenate([ids, logits[:, -1:].argmax(axis=-1)], axis=1)
    assert np.array_equal(found, ids[:, 3:])
    assert [int(i) for i in lstm_generate(IDS[0, :3], params, 6)] == found[0].tolist()
    draws = [[int(i) for i in lstm_generate([1], params, 9, 2.0, rng=rng)] for rng in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_a_forget_gate_that_is_open_keeps_the_cell():
    gates = np.zeros((1, 8))
    gates[:, :2], gates[:, 2:4] = -100, 100  # nothing is written, all is kept
    c = np.array([[0.5, -0.7]])
    h, after = lstm_cell(gates, c)
    assert np.array_equal(after, c) and np.allclose(h, 0.5 * np.tanh(c))
    assert np.all(init_lstm(11, 6, 2, 0)["blocks"][1]["c_x"]["b"][6:12] == 1)


def test_sigmoid_does_not_overflow():
    x = np.array([-1000, -3, 0, 3, 1000], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = sigmoid(x)
    assert y.dtype == np.float32
    assert np.allclose(y, [0, 1 / (1 + np.exp(3)), 0.5, 1 / (1 + np.exp(-3)), 1], atol=1e-7)


def test_what_makes_no_sense_is_refused():
    params = make_params()
    with pytest.raises(GPT2Error, match="not of one shape"):
        lstm_loss_and_gradients(params, IDS, TARGETS[:, :2])
    with pytest.raises(GPT2Error, match="not in the vocabulary"):
        lstm_loss_and_gradients(params, IDS + 5, TARGETS)
    with pytest.raises(GPT2Error, match="nothing to learn"):
        lstm_loss_and_gradients(params, IDS, np.full_like(IDS, PADDING))
    with pytest.raises(GPT2Error, match="not in the vocabulary"):
        lstm_generate([11], params, 3)
    with pytest.raises(GPT2Error, match="-1 tokens"):
        lstm_generate([1], params, -1)
