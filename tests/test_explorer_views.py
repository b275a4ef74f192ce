"""The residual stream, layer norm, the logit lens, heads' habits and surprise, against NumPy."""

import numpy as np
import pytest

from explorer.run import make_run
from explorer.views import (
    list_states,
    measure_habits,
    measure_norms,
    measure_stream,
    measure_surprise,
    read_lens,
)
from gpt2_numpy import gpt2, log_probs, softmax
from look_inside import trace

HPARAMS = {"n_vocab": 61, "n_ctx": 20, "n_embd": 24, "n_head": 3, "n_layer": 2}
IDS = [5, 3, 3, 60, 0, 17]


@pytest.fixture(scope="module")
def params(random_params):
    return random_params()


@pytest.fixture(scope="module")
def run(params):
    return make_run(IDS, params, 3, HPARAMS)


@pytest.fixture(scope="module")
def seen(params):
    return trace(IDS, params, n_head=3)


def test_the_states_of_the_stream_are_those_of_trace(run, seen):
    states = list_states(run)
    assert len(states) == len(seen["residual"]) == 5
    assert all(np.array_equal(a, b) for a, b in zip(states, seen["residual"], strict=True))


def test_what_is_added_is_split_along_and_across_the_stream(run, seen):
    stream = measure_stream(run)
    before, after = (seen["residual"][i].astype(np.float64) for i in (1, 2))
    added = after - before
    assert np.allclose(stream["length"][2], np.linalg.norm(after, axis=-1))
    assert np.allclose(stream["added"][2], np.linalg.norm(added, axis=-1))
    unit = before / np.linalg.norm(before, axis=-1, keepdims=True)
    along = np.einsum("td,td->t", added, unit)
    assert np.allclose(stream["along"][2], along)
    across = np.linalg.norm(added - along[:, None] * unit, axis=-1)
    assert np.allclose(stream["across"][2], across)
    assert np.all(stream["added"][0] == 0)


def test_layer_norm_is_measured_before_normalised_and_after(run, seen):
    norms = measure_norms(run, position=3)
    assert len(norms) == 5
    x, ln_2 = seen["blocks"][0]["ln_2"]["x"][3], seen["blocks"][0]["ln_2"]["return"][3]
    second = norms[1]
    assert np.isclose(second["mean"], x.mean()) and np.isclose(second["std"], x.std())
    assert abs(second["normed_mean"]) < 1e-6 and np.isclose(second["normed_std"], 1, atol=1e-3)
    assert np.isclose(second["out_mean"], ln_2.mean()) and np.isclose(second["out_std"], ln_2.std())


def test_the_last_row_of_the_lens_is_what_the_model_says(run, params):
    lens, p = read_lens(run, params), softmax(gpt2(IDS, **params, n_head=3))
    assert lens["ids"].shape == (3, 6)
    assert np.array_equal(lens["ids"][-1], p.argmax(axis=-1))
    assert np.allclose(lens["p"][-1], p.max(axis=-1), atol=1e-6)
    assert np.allclose(lens["p_next"][-1, :-1], [p[t, IDS[t + 1]] for t in range(5)], atol=1e-6)
    assert np.isnan(lens["p_next"][:, -1]).all()


def test_habits_are_mean_weights_at_the_token_before_at_itself_and_at_the_first(run, seen):
    habits, weights = measure_habits(run), seen["blocks"][1]["attention"]["weights"]
    for name, column in (
        ("previous", lambda t: t - 1),
        ("itself", lambda t: t),
        ("first", lambda t: 0),
    ):
        mean = np.mean([weights[2, t, column(t)] for t in range(2, 6)])
        assert np.isclose(habits[name][1, 2], mean), name


def test_two_tokens_show_no_habits(params):
    assert measure_habits(make_run([1, 2], params, 3, HPARAMS)) is None


def test_surprise_is_the_negative_log_probability_in_bits(run, params):
    expected = -log_probs(IDS, params, n_head=3) / np.log(2)
    assert np.allclose(measure_surprise(run), expected, atol=1e-4)
    assert measure_surprise(make_run([1], params, 3, HPARAMS)).shape == (0,)
