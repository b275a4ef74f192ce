"""The model against transformers' answers, mathematics, and input chosen to hurt.

The golden files and the script that made them lie in fixtures/.
"""

import ast
import json
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import gpt2_numpy
from gpt2_numpy import (
    Context,
    ContextWarning,
    GPT2Error,
    attention,
    block,
    causal_mask,
    gelu,
    generate,
    gpt2,
    layer_norm,
    linear,
    log_probs,
    mha,
    new_cache,
    sample,
    softmax,
)
from helpers import FIXTURES, GOLDEN, assert_close, golden
from utils import leaves, load_encoder_hparams_and_params


@pytest.mark.parametrize("name", GOLDEN)
def test_logits_equal_those_of_transformers(name):
    answers, params, n_head = golden(name)
    assert_close(gpt2(answers["ids"], **params, n_head=n_head), answers["logits"])


@pytest.mark.parametrize("name", GOLDEN)
def test_log_probs_and_greedy_text_equal_those_of_transformers(name):
    answers, params, n_head = golden(name)
    ours = log_probs(answers["ids"], params, n_head)
    assert_close(ours, answers["log_probs"])
    n = answers["greedy"].size
    assert list(generate(answers["greedy"][:4], params, n_head, n - 4)) == list(
        answers["greedy"][4:]
    )


def test_the_reference_model_gives_the_answers_that_lie_beside_it(shared):
    folder = shared("reference-model")
    encoder, hparams, params = load_encoder_hparams_and_params(str(folder))
    n_head = hparams["n_head"]
    for answer in json.loads((folder / "answers.json").read_text())["answers"]:
        ids = encoder.encode(answer["prompt"])
        assert ids == answer["ids"]
        logits = gpt2(ids, **params, n_head=n_head)[-1]
        best = np.argsort(-logits)[:5]
        assert best.tolist() == answer["top5_ids"]
        assert np.allclose(logits[best], answer["top5_logits"], atol=2e-4)
        assert math.isclose(-log_probs(ids, params, n_head).sum(), answer["nll_nats"], abs_tol=1e-3)
        greedy = list(generate(ids, params, n_head, 40))
        assert greedy == answer["greedy_ids"]
        assert encoder.decode(greedy) == answer["greedy_text"]


def test_gelu_at_known_points():
    x = np.array([-100.0, -1.0, 0.0, 1.0, 3.0, 100.0], np.float32)
    exact = [0.0, -0.15880800939, 0.0, 0.84119199060, 2.99636263888, 100.0]
    assert np.allclose(gelu(x), exact, atol=1e-6)


def test_softmax_is_a_distribution_unmoved_by_a_shift_and_by_huge_scores():
    x = np.random.default_rng(0).standard_normal((3, 4, 50)).astype(np.float32) * 5
    p = softmax(x)
    assert np.all(p >= 0) and np.allclose(p.sum(-1), 1, atol=1e-6)
    assert np.allclose(p, softmax(x + 100), atol=1e-5)
    with np.errstate(over="raise", invalid="raise"):
        assert np.allclose(softmax(np.array([1e30, 1e30, -1e30], np.float32)), [0.5, 0.5, 0])


def test_layer_norm_gives_each_position_mean_0_and_variance_1_before_gain_and_bias():
    x = np.random.default_rng(0).standard_normal((2, 5, 64)).astype(np.float32) * 30 + 100
    y = layer_norm(x, np.float32(1), np.float32(0))
    assert np.allclose(y.mean(-1), 0, atol=1e-5)
    assert np.allclose(y.var(-1), 1, atol=1e-4)  # the population variance
    g, b = (np.random.default_rng(i).standard_normal(64).astype(np.float32) for i in (1, 2))
    assert np.allclose(layer_norm(x, g, b), g * y + b, atol=1e-5)


def test_layer_norm_is_unmoved_by_shift_and_scale_and_survives_a_constant():
    x = np.random.default_rng(0).standard_normal((4, 32))
    assert np.allclose(layer_norm(x, 1.0, 0.0, eps=0.0), layer_norm(7 * x - 3, 1.0, 0.0, eps=0.0))
    assert np.all(layer_norm(np.full((2, 8), 3.0, np.float32), 1.0, 0.5) == 0.5)
    tiny = np.array([1e-3, -1e-3])  # a variance of 1e-6: eps = 1e-5 inside the root dominates
    assert np.allclose(layer_norm(tiny, 1.0, 0.0), tiny / math.sqrt(1.1e-5))


def random_qkv(n_queries=5, n_keys=7, batch=(2, 3), d_head=8):
    rng = np.random.default_rng(0)
    shapes = ((n_queries, d_head), (n_keys, d_head), (n_keys, d_head))
    return [rng.standard_normal((*batch, *shape)) for shape in shapes]


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_its_einsum_and_its_loop(masked):
    q, k, v = random_qkv()
    mask = causal_mask(5, 7) if masked else np.ones((5, 7), bool)
    ours = attention(q, k, v, mask if masked else None)

    scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(8), -np.inf)
    assert np.allclose(ours, softmax(scores) @ v)

    for b, h, t in np.ndindex(2, 3, 5):
        seen = np.flatnonzero(mask[t])
        fits = [math.exp(q[b, h, t] @ k[b, h, s] / math.sqrt(8)) for s in seen]
        mixed = sum(fit * v[b, h, s] for fit, s in zip(fits, seen, strict=True)) / sum(fits)
        assert np.allclose(ours[b, h, t], mixed)


def test_attention_without_a_mask_sees_every_key_and_knows_no_order():
    q, k, v = random_qkv()
    order = np.random.default_rng(1).permutation(7)
    assert np.allclose(attention(q, k, v), attention(q, k[..., order, :], v[..., order, :]))


def test_causal_mask_by_hand():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True] * 3]
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True] * 4]
    assert causal_mask(1, 3).tolist() == [[True] * 3]


def test_multi_head_attention_is_attention_in_each_head_between_two_projections(random_params):
    attn = random_params(dtype=np.float64)["blocks"][0]["attn"]
    x = np.random.default_rng(0).standard_normal((2, 7, 24))
    qkv = x @ attn["c_attn"]["w"] + attn["c_attn"]["b"]
    parts = np.split(qkv, 9, axis=-1)  # the queries of three heads, their keys, their values
    heads = [attention(*parts[head::3], causal_mask(7)) for head in range(3)]
    exact = np.concatenate(heads, axis=-1) @ attn["c_proj"]["w"] + attn["c_proj"]["b"]
    assert np.allclose(mha(x, **attn, n_head=3, mask=causal_mask(7)), exact)


def test_without_a_mask_a_block_treats_all_positions_alike(random_params):
    """As an encoder's layer has to: whoever permutes the positions permutes the result."""
    parameters = random_params(dtype=np.float64)["blocks"][0]
    x = np.random.default_rng(0).standard_normal((2, 7, 24))
    order = np.random.default_rng(1).permutation(7)
    y = block(x, **parameters, n_head=3)
    assert np.allclose(block(x[:, order], **parameters, n_head=3), y[:, order])
    causal = block(x, **parameters, n_head=3, mask=causal_mask(7))
    assert np.allclose(causal[:, -1], y[:, -1]) and not np.allclose(causal[:, :-1], y[:, :-1])


@pytest.mark.parametrize("shape", [(), (1,), (2,), (4,), (5,), (2, 2), (2, 3), (1, 1, 4), (0,)])
def test_linear_is_one_sum_of_products_for_each_row(shape):
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((*shape, 6)), rng.standard_normal((6, 3)), rng.standard_normal(3)
    y = linear(x, w, b)
    assert y.shape == (*shape, 3)
    for place in np.ndindex(y.shape):
        exact = sum(x[place[:-1]][i] * w[i, place[-1]] for i in range(6)) + b[place[-1]]
        assert math.isclose(y[place], exact, abs_tol=1e-12)


def test_no_position_sees_the_future(random_params):
    params, ids = random_params(), np.arange(20)
    logits = gpt2(ids, **params, n_head=3)
    for t in range(20):
        changed = np.concatenate([ids[:t], (ids[t:] + 7) % 61])
        after = gpt2(changed, **params, n_head=3)
        assert np.array_equal(after[:t], logits[:t])
        assert not np.allclose(after[t:], logits[t:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_parameters_dtype(random_params, dtype):
    params = random_params(dtype=dtype)
    x, ids = params["wte"], np.arange(6)
    cache = new_cache(params, 3, 8)
    results = [gelu(x), softmax(x), gpt2(ids, **params, n_head=3), log_probs(ids, params, 3)]
    results += [gpt2(ids, **params, n_head=3, cache=cache), cache[0]["k"], cache[0]["v"]]
    assert {array.dtype for array in results} == {np.dtype(dtype)}


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_any_leading_axes_give_what_each_row_gives_alone(random_params, shape):
    params = random_params()
    ids = np.random.default_rng(0).integers(0, 61, (*shape, 9))
    logits = gpt2(ids, **params, n_head=3)
    assert logits.shape == (*shape, 9, 61)
    for i in np.ndindex(shape):
        assert_close(logits[i], gpt2(ids[i], **params, n_head=3))
        assert_close(log_probs(ids, params, 3)[i], log_probs(ids[i], params, 3))
    w, b = params["blocks"][0]["mlp"]["c_fc"].values()
    x = np.random.default_rng(1).standard_normal((*shape, 24)).astype(np.float32)
    assert np.allclose(linear(x, w, b), x @ w + b, atol=1e-5)


@pytest.mark.filterwarnings("ignore::gpt2_numpy.ContextWarning")
def test_nothing_that_is_passed_in_is_written_to(random_params):
    params, ids = random_params(), np.arange(10)

    for array in leaves(params):
        array.setflags(write=False)
    ids.setflags(write=False)
    gpt2(ids, **params, n_head=3)
    list(generate(ids, params, 3, 30, temperature=1, rng=0, n_samples=2))
    log_probs(ids, params, 3)


def test_the_cache_changes_nothing_at_any_split_of_the_prompt(random_params):
    params, ids = random_params(), np.random.default_rng(0).integers(0, 61, (2, 20))
    exact = gpt2(ids, **params, n_head=3)
    for split in range(1, 20):
        cache = new_cache(params, 3, 20, (2,))
        first = gpt2(ids[:, :split], **params, n_head=3, cache=cache)
        second = gpt2(ids[:, split:], **params, n_head=3, cache=cache)
        assert_close(np.concatenate([first, second], axis=1), exact)
    cache = new_cache(params, 3, 20, (2,))
    steps = [gpt2(ids[:, [t]], **params, n_head=3, cache=cache) for t in range(20)]
    assert_close(np.concatenate(steps, axis=1), exact)


def test_n_logits_computes_the_last_ones_only(random_params):
    params, ids = random_params(), np.arange(8)
    exact = gpt2(ids, **params, n_head=3)
    for n in (0, 1, 3, 8):
        logits = gpt2(ids, **params, n_head=3, n_logits=n)
        assert logits.shape == (n, 61)
        assert np.allclose(logits, exact[8 - n :], rtol=1e-4, atol=1e-4)
    assert gpt2(ids, **params, n_head=3, n_logits=10).shape == (8, 61)


def test_too_many_positions_are_refused(random_params):
    params = random_params()
    with pytest.raises(GPT2Error, match="21 positions, but the model's context has 20"):
        gpt2(np.zeros(21, int), **params, n_head=3)
    cache = new_cache(params, 3, 20)
    gpt2(np.zeros(20, int), **params, n_head=3, cache=cache)
    with pytest.raises(GPT2Error, match="21 positions"):
        gpt2(np.zeros(1, int), **params, n_head=3, cache=cache)
    small = new_cache(params, 3, 4)
    with pytest.raises(GPT2Error, match="5 positions, but the cache has room for 4"):
        gpt2(np.zeros(5, int), **params, n_head=3, cache=small)


def plain_greedy(ids, params, n_head, n_tokens):
    """Greedy generation without a cache, with the documented rule at the end of the context."""
    ids, n_ctx, chosen = list(ids), len(params["wpe"]), []
    for _ in range(n_tokens):
        if len(ids) > n_ctx:
            ids = ids[-max(1, n_ctx // 2) :]
        chosen.append(int(np.argmax(gpt2(ids, **params, n_head=n_head)[-1])))
        ids.append(chosen[-1])
    return chosen


@pytest.mark.parametrize("n_prompt", [1, 10, 19, 20, 21, 33, 300])
@pytest.mark.parametrize("n_ctx", [20, 7, 1])
def test_generation_past_the_context_goes_on_from_its_newest_half(random_params, n_prompt, n_ctx):
    params = random_params(n_ctx=n_ctx, seed=5)
    prompt = np.random.default_rng(n_prompt).integers(0, 61, n_prompt)
    with pytest.warns(ContextWarning) as caught:
        ours = list(generate(prompt, params, 3, 50))
    assert len(caught) == 1 and caught[0].filename == __file__  # it points to the caller
    assert ours == plain_greedy(prompt, params, 3, 50)


def test_generation_within_the_context_warns_of_nothing(random_params):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(generate([1, 2, 3], random_params(), 3, 18))) == 18


def test_a_prompt_of_many_pieces_equals_one_in_a_single_pass(random_params):
    params = random_params(n_ctx=300)
    ids = np.random.default_rng(0).integers(0, 61, 290)
    assert list(generate(ids, params, 3, 8)) == plain_greedy(ids, params, 3, 8)


@pytest.mark.parametrize("n_logits", [0, 1, 40, 130, 290])
def test_a_context_gives_the_logits_of_the_last_positions_whatever_its_pieces(
    random_params, n_logits
):
    params = random_params(n_ctx=300)
    ids = np.random.default_rng(0).integers(0, 61, (2, 290))
    exact = gpt2(ids, **params, n_head=3, n_logits=n_logits)
    context = Context(params, 3, 290, (2,))
    assert_close(context.read(ids[:, :7], n_logits=7), gpt2(ids[:, :7], **params, n_head=3))
    logits = context.read(ids[:, 7:], n_logits=min(n_logits, 283))
    assert logits.shape == (2, min(n_logits, 283), 61)
    if n_logits:
        assert_close(logits, exact[:, -283:])


def test_ids_may_be_of_any_integer_type(random_params):
    params = random_params()
    exact = list(generate([1, 2, 3], params, 3, 5))
    for dtype in (np.uint8, np.int32, np.uint64):
        assert list(generate(np.array([1, 2, 3], dtype), params, 3, 5)) == exact


def test_generation_yields_as_it_goes(random_params):
    steps = generate([1, 2], random_params(), 3, 10**9)
    assert all(isinstance(next(steps), int) for _ in range(3))


@pytest.mark.filterwarnings("ignore::gpt2_numpy.ContextWarning")
def test_samples_of_one_prompt_go_on_side_by_side(random_params):
    params, ids = random_params(), [5, 6, 7, 8]
    greedy = list(generate(ids, params, 3, 30))
    side_by_side = list(generate(ids, params, 3, 30, n_samples=3))
    assert [step.tolist() for step in side_by_side] == [[i, i, i] for i in greedy]

    seen = []
    drawn = np.array(
        list(
            generate(
                ids,
                params,
                3,
                10,
                temperature=1.5,
                rng=1,
                n_samples=4,
                watch=lambda logits, ids: seen.append((logits, ids)),
            )
        )
    ).T
    assert drawn.shape == (4, 10) and len({tuple(row) for row in drawn}) == 4
    for row in range(4):  # each sample was predicted from its own past
        alone = gpt2([*ids, *drawn[row][:-1]], **params, n_head=3)[3:]
        assert_close(np.stack([logits[row] for logits, _ in seen]), alone)
    assert np.array_equal(np.stack([ids for _, ids in seen], axis=1), drawn)


@pytest.mark.filterwarnings("ignore::gpt2_numpy.ContextWarning")
def test_a_batch_of_prompts_continues_each(random_params):
    params = random_params()
    prompts = np.random.default_rng(0).integers(0, 61, (3, 5))
    steps = np.array(list(generate(prompts, params, 3, 30)))
    assert steps.T.tolist() == [plain_greedy(prompt, params, 3, 30) for prompt in prompts]


def test_what_is_handed_out_and_handed_in_belongs_to_the_caller(random_params):
    params, prompt = random_params(), np.array([5, 6, 7])
    exact = [ids.tolist() for ids in generate(prompt, params, 3, 8, n_samples=2)]
    steps, ours = generate(prompt, params, 3, 8, n_samples=2), []
    prompt[:] = 0
    for ids in steps:
        ours.append(ids.tolist())
        ids[:] = 0
    assert ours == exact


def test_only_the_last_positions_logits_are_computed_while_generating(random_params, monkeypatch):
    computed, params = [], random_params(n_ctx=300)

    def counting(*arguments, **settings):
        logits = gpt2(*arguments, **settings)
        computed.append((settings["cache"][0]["n_past"], logits.shape[-2]))
        return logits

    monkeypatch.setattr(gpt2_numpy, "gpt2", counting)
    list(generate(np.arange(290) % 61, params, 3, 3))
    assert computed == [(128, 0), (256, 0), (290, 1), (291, 1), (292, 1)]


def test_jax_runs_the_same_file(random_params, monkeypatch):
    """With jax.numpy as the array module it compiles, differentiates and maps."""
    jax = pytest.importorskip("jax", reason="needs jax, which is not among the requirements")
    params, ids = random_params(), np.arange(12)
    exact = gpt2(ids, **params, n_head=3)
    monkeypatch.setattr(gpt2_numpy, "np", jax.numpy)
    params = jax.tree_util.tree_map(jax.numpy.asarray, params)

    def logits(params, ids):
        return gpt2(ids, **params, n_head=3)

    assert_close(np.asarray(jax.jit(logits)(params, ids)), exact)
    assert jax.vmap(logits, (None, 0))(params, np.stack([ids, ids])).shape == (2, 12, 61)
    gradients = jax.grad(lambda params: logits(params, ids)[5, 7])(params)
    assert jax.tree_util.tree_structure(gradients) == jax.tree_util.tree_structure(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree_util.tree_leaves(gradients))


def test_same_seed_same_text(random_params):
    params = random_params()

    def draw(rng):
        return list(generate([1], params, 3, 15, temperature=1.0, top_k=20, top_p=0.95, rng=rng))

    assert draw(7) == draw(7) == draw(np.random.default_rng(7))
    assert draw(7) != draw(8)


@pytest.mark.parametrize(
    "ids, message",
    [
        ([], "no token ids"),
        (3, "no token ids"),
        ([1, 61], "61 is not in the vocabulary, 0 to 60"),
        ([-1], "-1 is not"),
        ([1.0], "whole numbers, not float64"),
        (["a"], "whole numbers"),
    ],
)
def test_prompts_that_make_no_sense_are_refused_at_the_call(random_params, ids, message):
    for function in (generate, log_probs):
        with pytest.raises(GPT2Error, match=message):
            function(ids, random_params(), 3, *([5] if function is generate else []))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.01}, "top_p is 1.01"),
        ({"top_p": -1}, "top_p is -1"),
        ({"top_p": math.nan}, "top_p is nan"),
    ],
)
def test_nonsense_settings_are_refused(random_params, arguments, message):
    with pytest.raises(GPT2Error, match=message):
        sample(np.zeros(4), **arguments)
    with pytest.raises(GPT2Error, match=message):
        generate([1], random_params(), 3, 5, **arguments)


@pytest.mark.parametrize("arguments", [{"n_tokens": -1}, {"n_tokens": 3, "n_samples": 0}])
def test_numbers_of_tokens_and_samples_that_make_no_sense_are_refused(random_params, arguments):
    with pytest.raises(GPT2Error, match="cannot generate"):
        generate([1], random_params(), 3, **arguments)


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("bad", [[0, math.nan], [0, math.inf], [-math.inf, -math.inf]])
def test_logits_without_a_finite_best_are_refused(temperature, bad):
    with pytest.raises(GPT2Error, match="NaN or infinity"):
        sample(np.array(bad), temperature)


def test_greedy_takes_the_best_and_the_lowest_id_of_equals():
    assert sample(np.array([1.0, 3.0, 3.0])) == 1
    assert sample(np.array([[0, 2, 1], [5, 2, 1]])).tolist() == [1, 0]


def test_distributions_equal_those_of_transformers():
    answers = np.load(FIXTURES / "sampling.npz")
    n, rng = 4000, np.random.default_rng(0)
    for (temperature, top_k, top_p), logits, exact in zip(
        answers["settings"], answers["logits"], answers["probabilities"], strict=True
    ):
        drawn = sample(np.broadcast_to(logits, (n, 40)), temperature, int(top_k), top_p, rng)
        share = np.bincount(drawn, minlength=40) / n
        assert np.all(share[exact == 0] == 0)
        assert np.all(np.abs(share - exact) <= 5 * np.sqrt(exact * (1 - exact) / n) + 3 / n)


def drawn_ids(logits, **settings):
    rows = np.broadcast_to(np.array(logits, np.float32), (500, len(logits)))
    return set(sample(rows, rng=0, **settings).tolist())


def test_ties_and_limits_at_their_edges():
    assert drawn_ids([1, 1, 1, 1, 0], temperature=1, top_k=2) == {0, 1}
    assert drawn_ids([0, 1, 1, 1], temperature=1, top_k=1) == {1}  # as greedy does
    odd_ones = [i % 2 for i in range(200)]
    drawn = drawn_ids(odd_ones, temperature=5, top_k=110)
    assert {i for i in drawn if i % 2 == 0} <= set(range(0, 20, 2))  # the first ten of the zeros
    assert drawn_ids([1, 2, 3], temperature=1, top_k=99) == {0, 1, 2}
    assert drawn_ids([1, 2, 3], temperature=1, top_k=0) == {0, 1, 2}
    assert drawn_ids([1, 2, 3], temperature=1, top_p=1e-9) == {2}  # the best always stays
    assert drawn_ids([0, 0, 0, 0], temperature=1, top_p=0.5) == {0, 1}
    assert drawn_ids([0, 0, 0, 0], temperature=1, top_p=0.51) == {0, 1, 2}
    assert drawn_ids([-math.inf, 0, -math.inf, 0], temperature=1) == {1, 3}
    assert drawn_ids([-math.inf, 0, -math.inf, 0], temperature=1, top_k=3) == {1, 3}
    assert drawn_ids([1, 2, 3], temperature=1e-300) == {2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn_ids([1, 2, -3], temperature=5e-324) == {1}
    assert drawn_ids([1e30, -1e30], temperature=1e30) == {0, 1}


def test_sampled_ids_are_integers_shaped_like_the_leading_axes():
    logits = np.zeros((2, 3, 5), np.float32)
    for temperature in (0, 1):
        ids = sample(logits, temperature, rng=0)
        assert ids.shape == (2, 3) and np.issubdtype(ids.dtype, np.integer)


def test_log_probs_of_a_long_text_predict_each_token_from_half_a_context_or_more(random_params):
    params, n_ctx = random_params(n_ctx=10), 10
    ids = np.random.default_rng(0).integers(0, 61, 47)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that the context is full is nobody's concern here
        ours = log_probs(ids, params, 3)
    assert ours.shape == (46,)
    for t in range(1, 47):
        candidates = []
        for n_seen in range(min(t, n_ctx // 2), min(t, n_ctx) + 1):
            logits = gpt2(ids[t - n_seen : t], **params, n_head=3)[-1]
            candidates.append(np.log(softmax(logits.astype(np.float64)))[ids[t]])
        assert np.min(np.abs(np.array(candidates) - ours[t - 1])) < 1e-4
    nothing = log_probs([3], params, 3)
    assert nothing.shape == (0,) and nothing.dtype == np.float32
    assert log_probs([3, 4, 5], random_params(n_ctx=1), 3).shape == (2,)


def test_log_probs_do_not_underflow(random_params):
    params = random_params()
    params["wte"] = params["wte"] * 100
    ours = log_probs(np.arange(10), params, 3)
    assert np.all(np.isfinite(ours)) and ours.min() < -200  # exp(-200) is 0 in float32


def test_importing_the_model_needs_numpy_and_the_standard_library_only():
    tree = ast.parse(Path(gpt2_numpy.__file__).read_text("utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        alias.name.split(".")[0]
        for node in imported
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {node.module for node in imported if isinstance(node, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == {"numpy"}
