"""The encoder against PyTorch's, finite differences, and what it must not depend on."""

import math

import numpy as np
import pytest

from gpt2_numpy import GPT2Error, block, layer_norm
from helpers import (
    assert_all_close,
    assert_close,
    assert_gradients,
    derivative,
    stacks_golden,
    stir,
)
from stacks.encoder import (
    embed_sinusoidal,
    embed_sinusoidal_vjp,
    encode_ids,
    encoder,
    encoder_only,
    encoder_only_loss_and_gradients,
    encoder_only_vjp,
    encoder_vjp,
    init_encoder_only,
    sinusoidal_positions,
)
from stacks.padding import PADDING, mask_from_ids, mask_from_lengths
from utils import tree_map


def make_params(dtype=np.float32):
    return stir(init_encoder_only(n_vocab=11, n_embd=12, n_layer=2, rng=0), dtype)


def stack_of(params):
    return {"blocks": params["blocks"], "ln_f": params["ln_f"]}


def test_the_encoder_and_its_gradients_equal_pytorchs():
    golden, params, gradients = stacks_golden("encoder")
    x, n_head = golden["x"], int(golden["n_head"])
    mask = mask_from_lengths(golden["lengths"], x.shape[1])
    y = encoder(x, **params, n_head=n_head, mask=mask)
    assert y.dtype == np.float32
    assert_close(y, golden["y"])
    paired, back = encoder_vjp(x, **params, n_head=n_head, mask=mask)
    assert np.array_equal(paired, y)
    dx, found = back(golden["dy"])
    assert_close(dx, golden["d_x"])
    assert_all_close(found, gradients)


@pytest.mark.parametrize("n_embd", [8, 7, 1])
def test_positions_are_the_papers_sines_and_cosines(n_embd):
    table = sinusoidal_positions(50, n_embd)
    assert table.shape == (50, n_embd) and table.dtype == np.float32
    for position in range(50):
        for column in range(n_embd):
            wave = math.cos if column % 2 else math.sin
            expected = wave(position / 10000 ** (2 * (column // 2) / n_embd))
            assert abs(table[position, column] - expected) < 1e-6


def test_a_step_along_the_positions_is_one_rotation_wherever_it_is_taken():
    """Why they are sines and cosines: position t + 3 is a matrix times position t."""
    table, rotation = sinusoidal_positions(40, 12), np.zeros((12, 12))
    for i in range(0, 12, 2):
        sine, cosine = np.sin(3 / 10000 ** (i / 12)), np.cos(3 / 10000 ** (i / 12))
        rotation[i : i + 2, i : i + 2] = [[cosine, -sine], [sine, cosine]]
    assert np.allclose(table[:-3] @ rotation, table[3:], atol=1e-6)


def test_tokens_are_as_large_as_their_positions_and_go_on_where_others_ended():
    wte = make_params()["wte"]
    ids = np.array([[3, 1, 4, 1, 5]])
    x = embed_sinusoidal(ids, wte)
    assert x.dtype == np.float32
    assert_close(x, math.sqrt(12) * wte[ids] + sinusoidal_positions(5, 12))
    assert np.array_equal(embed_sinusoidal(ids[:, 2:], wte, n_past=2), x[:, 2:])


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("masked", [False, True])
def test_back_is_the_product_with_the_jacobian(batch, masked):
    params, rng = stack_of(make_params(np.float64)), np.random.default_rng(1)
    x, dy = rng.standard_normal((2, *batch, 5, 12))
    mask = mask_from_lengths(rng.integers(1, 6, batch), 5) if masked else None
    y, back = encoder_vjp(x, **params, n_head=3, mask=mask)
    assert np.array_equal(y, encoder(x, **params, n_head=3, mask=mask))
    dx, gradients = back(dy)

    def loss():
        return np.sum(dy * encoder(x, **params, n_head=3, mask=mask))

    assert_gradients(loss, {"x": x, **params}, {"x": dx, **gradients})


def test_the_embedding_and_its_gradient():
    wte, rng = make_params(np.float64)["wte"], np.random.default_rng(2)
    ids = np.array([[3, 1, 3], [3, 0, 10]])
    x, back = embed_sinusoidal_vjp(ids, wte)
    assert np.array_equal(x, embed_sinusoidal(ids, wte))
    dy = rng.standard_normal(x.shape)
    direction = rng.standard_normal(wte.shape)
    expected = derivative(lambda: np.sum(dy * embed_sinusoidal(ids, wte)), wte, direction)
    assert abs(np.sum(back(dy) * direction) - expected) < 1e-8
    assert np.allclose(back(dy, np.ones_like(wte)), back(dy) + 1)


IDS = np.array([[5, 2, 9, 2], [7, 7, PADDING, PADDING]])
TARGETS = np.array([[5, PADDING, 3, PADDING], [PADDING, 8, PADDING, PADDING]])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_parameter_against_finite_differences(dropout):
    params = make_params(np.float64)

    def loss():
        return encoder_only_loss_and_gradients(params, IDS, TARGETS, 3, dropout, rng=4)[0]

    gradients = encoder_only_loss_and_gradients(params, IDS, TARGETS, 3, dropout, rng=4)[1]
    assert_gradients(loss, params, gradients)


@pytest.mark.parametrize("ids", [IDS, IDS[0], IDS[:, None]])
def test_the_paired_forward_pass_gives_the_same_bits(ids):
    params, mask = make_params(), mask_from_ids(ids)
    logits = encoder_only(ids, **params, n_head=3, mask=mask)
    paired, _ = encoder_only_vjp(ids, **params, n_head=3, mask=mask)
    assert logits.shape == (*ids.shape, 11) and logits.dtype == np.float32
    assert np.array_equal(paired, logits)


def test_the_loss_is_the_mean_over_the_targets():
    params = make_params(np.float64)
    logits = encoder_only(IDS, **params, n_head=3, mask=mask_from_ids(IDS))
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = -np.mean(np.log([p[0, 0, 5], p[0, 2, 3], p[1, 1, 8]]))
    loss, gradients = encoder_only_loss_and_gradients(params, IDS, TARGETS, 3)
    assert type(loss) is float and abs(loss - expected) < 1e-12
    parts = [
        encoder_only_loss_and_gradients(params, IDS[i : i + 1], TARGETS[i : i + 1], 3, n_tokens=3)
        for i in range(2)
    ]
    assert abs(sum(part for part, _ in parts) - loss) < 1e-12
    total = tree_map(np.add, *(part for _, part in parts))
    tree_map(
        lambda ours, exact: np.testing.assert_allclose(ours, exact, atol=1e-12), total, gradients
    )


def test_without_positions_a_permutation_goes_through_unchanged():
    params, rng = stack_of(make_params(np.float64)), np.random.default_rng(5)
    x, order = rng.standard_normal((2, 6, 12)), rng.permutation(6)
    y = encoder(x, **params, n_head=3)
    assert np.allclose(encoder(x[:, order], **params, n_head=3), y[:, order], atol=1e-12)
    ids = rng.integers(0, 11, 6)  # and with them it does not
    logits = encoder_only(ids, **make_params(), n_head=3)
    assert not np.allclose(encoder_only(ids[order], **make_params(), n_head=3), logits[order])


def test_every_position_sees_every_other():
    params = stack_of(make_params(np.float64))
    x, others = np.random.default_rng(6).standard_normal((2, 6, 12))
    for place in range(6):
        moved = x.copy()
        moved[place] = others[place]
        difference = encoder(moved, **params, n_head=3) - encoder(x, **params, n_head=3)
        assert np.all(np.abs(difference).max(axis=-1) > 1e-3)


def test_what_stands_in_the_padding_changes_nothing():
    params = make_params(np.float64)
    x = embed_sinusoidal(np.arange(6), params["wte"])
    mask = mask_from_lengths(4, 6)
    y = encoder(x, **stack_of(params), n_head=3, mask=mask)
    x[4:] = 1e3
    assert np.array_equal(encoder(x, **stack_of(params), n_head=3, mask=mask)[:4], y[:4])
    alone = encoder(x[:4], **stack_of(params), n_head=3)
    assert np.allclose(y[:4], alone, atol=1e-12)
    padded = [5, 2, PADDING, PADDING]
    filled = encode_ids(np.array(padded), **params, n_head=3, mask=mask_from_lengths(2, 4))
    short = encode_ids(np.array(padded[:2]), **params, n_head=3)
    assert np.allclose(filled[:2], short, atol=1e-12)


def test_it_is_gpt2s_blocks():
    params = stack_of(make_params())
    x = np.random.default_rng(7).standard_normal((2, 5, 12)).astype(np.float32)
    y = x
    for parameters in params["blocks"]:
        y = block(y, **parameters, n_head=3)
    assert np.array_equal(encoder(x, **params, n_head=3), layer_norm(y, **params["ln_f"]))


@pytest.mark.parametrize(
    ("ids", "targets", "message"),
    [
        ([[1, 2]], [[1, 2, 3]], "not of one shape"),
        ([[1, 11]], [[1, 2]], "not in the vocabulary"),
        ([[1, 2]], [[1, -2]], "not in the vocabulary"),
        ([[1.0, 2.0]], [[1, 2]], "whole numbers"),
        ([[1, 2], [PADDING, PADDING]], [[1, 2], [3, 4]], "nothing but padding"),
        ([[1, 2]], [[PADDING, PADDING]], "nothing to learn"),
    ],
)
def test_what_is_no_batch_is_refused(ids, targets, message):
    with pytest.raises(GPT2Error, match=message):
        encoder_only_loss_and_gradients(make_params(), ids, targets, 3)
