"""Every change against the same change made here: by replacing functions, or by hand."""

import math
from unittest import mock

import numpy as np
import pytest

import gpt2_numpy
from explorer.what_if import compare, list_changes, run_changed
from gpt2_numpy import GPT2Error, attention, causal_mask, ffn, gpt2, layer_norm, mha, softmax
from helpers import assert_close

IDS = [5, 3, 3, 60, 0, 17]


@pytest.fixture(scope="module")
def params(random_params):
    return random_params()


def logits_of(params, *changes, ids=IDS):
    return run_changed(ids, params, 3, changes)[0]


def run_with(params, ids=IDS, **functions):
    """The model's logits while some of its functions are others."""
    with mock.patch.multiple(gpt2_numpy, **functions):
        return gpt2(ids, **params, n_head=3)


def without_head(head):
    """Attention of which one head gives nothing."""

    def function(q, k, v, mask=None):
        heads = attention(q, k, v, mask)
        heads[head] = 0.0
        return heads

    return function


def run_by_hand(params, head=None, off=None, residual=True):
    """The forward pass written down once more: without a head (layer, head), without what a
    sublayer (layer, function) adds, or without residual connections."""
    x, mask = params["wte"][IDS] + params["wpe"][: len(IDS)], causal_mask(len(IDS))
    for i, layer in enumerate(params["blocks"]):
        ours = without_head(head[1]) if head and head[0] == i else attention
        with mock.patch.object(gpt2_numpy, "attention", ours):
            added = mha(layer_norm(x, **layer["ln_1"]), **layer["attn"], n_head=3, mask=mask)
        added = 0.0 * added if off == (i, mha) else added
        x = x + added if residual else added
        added = ffn(layer_norm(x, **layer["ln_2"]), **layer["mlp"])
        added = 0.0 * added if off == (i, ffn) else added
        x = x + added if residual else added
    return layer_norm(x, **params["ln_f"]) @ params["wte"].T


def test_no_change_of_consequence_is_the_model_itself(params):
    same = {"kind": "token", "position": 2, "id": IDS[2]}
    assert np.array_equal(logits_of(params, same), gpt2(IDS, **params, n_head=3))


def test_a_head_off(params):
    ours = logits_of(params, {"kind": "head", "layer": 1, "head": 2})
    assert_close(ours, run_by_hand(params, head=(1, 2)))


@pytest.mark.parametrize(("kind", "function"), [("attention", mha), ("ffn", ffn)])
def test_a_sublayer_off(params, kind, function):
    ours = logits_of(params, {"kind": kind, "layer": 0})
    assert_close(ours, run_by_hand(params, off=(0, function)))


def test_no_layer_norm(params):
    expected = run_with(params, layer_norm=lambda x, g, b: x)
    assert np.array_equal(logits_of(params, {"kind": "layer_norm"}), expected)


def test_no_residual_connection(params):
    assert_close(logits_of(params, {"kind": "residual"}), run_by_hand(params, residual=False))


def test_no_scale(params):
    def unscaled(q, k, v, mask):
        scores = np.where(mask, q @ k.swapaxes(-1, -2), -np.inf)
        return softmax(scores) @ v

    assert_close(logits_of(params, {"kind": "scale"}), run_with(params, attention=unscaled))


def test_no_mask(params):
    def see_all(n_seq, n_keys=None):
        return np.ones((n_seq, n_seq), bool)

    expected = run_with(params, causal_mask=see_all)
    ours, weights = run_changed(IDS, params, 3, [{"kind": "mask"}])
    assert np.array_equal(ours, expected)
    assert len(weights) == 2 and weights[0].shape == (3, 6, 6) and np.all(weights[0] > 0)


def test_no_positions(params):
    expected = gpt2(IDS, **{**params, "wpe": 0 * params["wpe"]}, n_head=3)
    assert np.array_equal(logits_of(params, {"kind": "positions"}), expected)


def test_another_token_in_the_past(params):
    changed = logits_of(params, {"kind": "token", "position": 1, "id": 40})
    assert np.array_equal(changed, gpt2([5, 40, 3, 60, 0, 17], **params, n_head=3))
    assert np.array_equal(changed[0], gpt2(IDS, **params, n_head=3)[0])


def test_changes_together(params):
    both = logits_of(params, {"kind": "positions"}, {"kind": "ffn", "layer": 1})
    expected = logits_of({**params, "wpe": 0 * params["wpe"]}, {"kind": "ffn", "layer": 1})
    assert np.array_equal(both, expected)


def test_nothing_is_changed_in_place(params):
    before = gpt2(IDS, **params, n_head=3)
    functions = dict(vars(gpt2_numpy))
    for change in list_changes(2, 3):
        logits_of(params, change)
    assert np.array_equal(before, gpt2(IDS, **params, n_head=3))
    assert dict(vars(gpt2_numpy)) == functions and math.isfinite(before.sum())


def test_every_change_changes_something_and_all_are_listed(params):
    changes, before = list_changes(2, 3), gpt2(IDS, **params, n_head=3)
    assert len(changes) == 5 + 2 * (2 + 3)
    for change in changes:
        assert not np.allclose(logits_of(params, change), before), change


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "heads"},
        {},
        {"kind": "head", "layer": 2, "head": 0},
        {"kind": "head", "layer": 0, "head": 3},
        {"kind": "head", "layer": 0},
        {"kind": "ffn", "layer": -1},
        {"kind": "ffn", "layer": True},
        {"kind": "token", "position": 6, "id": 0},
        {"kind": "token", "position": 0, "id": 61},
        {"kind": ["mask"]},
    ],
)
def test_what_does_not_fit_the_model_is_refused(params, change):
    with pytest.raises(GPT2Error):
        logits_of(params, change)


def test_the_comparison_has_the_best_of_both_and_how_much_went_elsewhere(params):
    before = gpt2(IDS, **params, n_head=3)
    after = logits_of(params, {"kind": "residual"})
    compared, p, q = compare(before, after), softmax(before), softmax(after)
    for t in range(6):
        assert {p[t].argmax(), q[t].argmax()} <= set(compared["ids"][t])
        assert np.allclose(compared["before"][t], p[t, compared["ids"][t]], atol=1e-6)
        assert np.allclose(compared["after"][t], q[t, compared["ids"][t]], atol=1e-6)
        assert np.isclose(compared["moved"][t], np.maximum(p[t] - q[t], 0).sum(), atol=1e-5)
    assert compare(before, np.full_like(before, np.nan)) == {"is_finite": False}
