"""The model against transformers' answers, mathematics, and input chosen to hurt.

The golden files and the script that made them lie in fixtures/.
"""

import ast
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

import gpt2_numpy
from gpt2_numpy import (
    ContextWarning,
    GPT2Error,
    attention,
    gelu,
    generate,
    gpt2,
    keeping,
    layer_norm,
    linear,
    log_probs,
    new_cache,
    sample,
    softmax,
    trace,
)

FIXTURES = Path(__file__).parent / "fixtures"
GOLDEN = ["transformers_two_layers", "transformers_one_head"]


def golden(name):
    """A golden file: its answers, its parameters nested, and n_head."""
    answers = dict(np.load(FIXTURES / f"{name}.npz"))
    n_head = int(answers.pop("n_head"))
    params = {"blocks": [{} for _ in range(len(answers["residual"]) - 1)]}
    for key in [key for key in answers if key.startswith(("h", "w", "ln_f")) and key != "weights"]:
        *scopes, leaf = key.split("/")
        node = params
        for scope in scopes:
            if scope[0] == "h":
                node = params["blocks"][int(scope[1:])]
            else:
                node = node.setdefault(scope, {})
        node[leaf] = answers.pop(key)
    return answers, params, n_head


def assert_close(ours, exact, tolerance=1e-5):
    """Equal up to float32 rounding, measured against the largest number around."""
    assert ours.shape == exact.shape
    assert np.max(np.abs(ours - exact)) <= tolerance * np.max(np.abs(exact))


@pytest.mark.parametrize("name", GOLDEN)
def test_logits_and_all_inner_states_equal_those_of_transformers(name):
    answers, params, n_head = golden(name)
    assert_close(gpt2(answers["ids"], **params, n_head=n_head), answers["logits"])

    seen = trace(answers["ids"], params, n_head)
    assert_close(seen["logits"], answers["logits"])
    assert len(seen["residual"]) == 2 * len(params["blocks"]) + 1
    for ours, exact in zip(seen["residual"][::2], answers["residual"], strict=True):
        assert_close(ours, exact)
    for layer, exact in zip(seen["blocks"], answers["weights"], strict=True):
        assert_close(layer["attn"]["weights"], exact)


@pytest.mark.parametrize("name", GOLDEN)
def test_log_probs_and_greedy_text_equal_those_of_transformers(name):
    answers, params, n_head = golden(name)
    ours = log_probs(answers["ids"], params, n_head)
    assert_close(ours, answers["log_probs"])
    n = answers["greedy"].size
    assert list(generate(answers["greedy"][:4], params, n_head, n - 4)) == list(
        answers["greedy"][4:])


def test_the_reference_model_gives_the_answers_that_lie_beside_it(shared):
    from utils import load_encoder_hparams_and_params

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
    assert np.allclose(y.var(-1), 1, atol=1e-4)          # the population variance
    g, b = (np.random.default_rng(i).standard_normal(64).astype(np.float32) for i in (1, 2))
    assert np.allclose(layer_norm(x, g, b), g * y + b, atol=1e-5)


def test_layer_norm_is_unmoved_by_shift_and_scale_and_survives_a_constant():
    x = np.random.default_rng(0).standard_normal((4, 32))
    assert np.allclose(layer_norm(x, 1.0, 0.0, eps=0.0), layer_norm(7 * x - 3, 1.0, 0.0, eps=0.0))
    assert np.all(layer_norm(np.full((2, 8), 3.0, np.float32), 1.0, 0.5) == 0.5)
    tiny = np.array([1e-3, -1e-3])      # a variance of 1e-6: eps = 1e-5 inside the root dominates
    assert np.allclose(layer_norm(tiny, 1.0, 0.0), tiny / math.sqrt(1.1e-5))


def test_attention_equals_its_einsum_and_its_loop(random_params):
    n_head, n_seq, n_embd = 3, 7, 24
    attn = random_params(dtype=np.float64)["blocks"][0]["attn"]
    x = np.random.default_rng(0).standard_normal((2, n_seq, n_embd))
    qkv = np.einsum("bsi,ij->bsj", x, attn["c_attn"]["w"]) + attn["c_attn"]["b"]
    q, k, v = np.moveaxis(qkv.reshape(2, n_seq, 3, n_head, 8), 2, 0)        # [b, s, h, d]
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(8)
    scores[..., np.triu(np.ones((n_seq, n_seq), bool), 1)] = -np.inf
    heads = np.einsum("bhqk,bkhd->bqhd", softmax(scores), v)
    exact = heads.reshape(2, n_seq, n_embd) @ attn["c_proj"]["w"] + attn["c_proj"]["b"]
    assert np.allclose(attention(x, **attn, n_head=n_head), exact)

    for b, h, t in np.ndindex(2, n_head, n_seq):
        fits = [math.exp(q[b, t, h] @ k[b, s, h] / math.sqrt(8)) for s in range(t + 1)]
        mixed = sum(fit * v[b, s, h] for s, fit in enumerate(fits)) / sum(fits)
        assert np.allclose(heads[b, t, h], mixed)


def test_no_position_sees_the_future(random_params):
    params, ids = random_params(), np.arange(20)
    logits = gpt2(ids, **params, n_head=3)
    for t in range(20):
        changed = np.concatenate([ids[:t], (ids[t:] + 7) % 61])
        after = gpt2(changed, **params, n_head=3)
        assert np.array_equal(after[:t], logits[:t])
        assert not np.allclose(after[t:], logits[t:])


def test_every_array_has_the_parameters_dtype(random_params):
    for dtype in (np.float32, np.float64):
        params = random_params(dtype=dtype)
        seen = trace(np.arange(6), params, n_head=3)
        arrays = [seen["logits"], *seen["residual"], *seen["ln_f"].values()]
        for layer in seen["blocks"]:
            arrays += [array for part in layer.values() for array in part.values()]
        assert {array.dtype for array in arrays} == {np.dtype(dtype)}
        cache = new_cache(params, 3, 8)
        assert gpt2(np.arange(6), **params, n_head=3, cache=cache).dtype == dtype
        assert log_probs(np.arange(6), params, 3).dtype == dtype
        x = params["wte"]
        assert {gelu(x).dtype, softmax(x).dtype} == {np.dtype(dtype)}


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

    def freeze(node):
        for value in node.values() if isinstance(node, dict) else node:
            value.setflags(write=False) if isinstance(value, np.ndarray) else freeze(value)

    freeze(params)
    ids.setflags(write=False)
    gpt2(ids, **params, n_head=3)
    list(generate(ids, params, 3, 30, temperature=1, rng=0, n_samples=2))
    log_probs(ids, params, 3)
    trace(ids, params, 3)


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
        assert np.allclose(logits, exact[8 - n:], rtol=1e-4, atol=1e-4)
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
            ids = ids[-max(1, n_ctx // 2):]
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
    assert len(caught) == 1 and caught[0].filename == __file__     # it points to the caller
    assert ours == plain_greedy(prompt, params, 3, 50)


def test_generation_within_the_context_warns_of_nothing(random_params):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(generate([1, 2, 3], random_params(), 3, 18))) == 18


def test_a_prompt_of_many_pieces_equals_one_in_a_single_pass(random_params):
    params = random_params(n_ctx=300)
    ids = np.random.default_rng(0).integers(0, 61, 290)
    assert list(generate(ids, params, 3, 8)) == plain_greedy(ids, params, 3, 8)


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
    drawn = np.array(list(generate(ids, params, 3, 10, temperature=1.5, rng=1, n_samples=4,
                                   watch=lambda logits, ids: seen.append((logits, ids))))).T
    assert drawn.shape == (4, 10) and len({tuple(row) for row in drawn}) == 4
    for row in range(4):                     # each sample was predicted from its own past
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


@pytest.mark.parametrize("ids, message", [
    ([], "no token ids"), (3, "no token ids"), ([1, 61], "61 is not in the vocabulary, 0 to 60"),
    ([-1], "-1 is not"), ([1.0], "whole numbers, not float64"), (["a"], "whole numbers"),
])
def test_prompts_that_make_no_sense_are_refused_at_the_call(random_params, ids, message):
    for function in (generate, log_probs):
        with pytest.raises(GPT2Error, match=message):
            function(ids, random_params(), 3, *([5] if function is generate else []))


@pytest.mark.parametrize("arguments, message", [
    ({"temperature": -0.1}, "temperature is -0.1"),
    ({"temperature": math.nan}, "temperature is nan"),
    ({"temperature": math.inf}, "temperature is inf"),
    ({"top_k": -1}, "top_k is -1"),
    ({"top_k": 2.5}, "top_k is 2.5"),
    ({"top_p": 0}, "top_p is 0"),
    ({"top_p": 1.01}, "top_p is 1.01"),
    ({"top_p": -1}, "top_p is -1"),
    ({"top_p": math.nan}, "top_p is nan"),
])
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
            answers["settings"], answers["logits"], answers["probabilities"], strict=True):
        drawn = sample(np.broadcast_to(logits, (n, 40)), temperature, int(top_k), top_p, rng)
        share = np.bincount(drawn, minlength=40) / n
        assert np.all(share[exact == 0] == 0)
        assert np.all(np.abs(share - exact) <= 5 * np.sqrt(exact * (1 - exact) / n) + 3 / n)


def drawn_ids(logits, **settings):
    rows = np.broadcast_to(np.array(logits, np.float32), (500, len(logits)))
    return set(sample(rows, rng=0, **settings).tolist())


def test_ties_and_limits_at_their_edges():
    assert drawn_ids([1, 1, 1, 1, 0], temperature=1, top_k=2) == {0, 1}
    assert drawn_ids([0, 1, 1, 1], temperature=1, top_k=1) == {1}       # as greedy does
    odd_ones = [i % 2 for i in range(200)]
    drawn = drawn_ids(odd_ones, temperature=5, top_k=110)
    assert {i for i in drawn if i % 2 == 0} <= set(range(0, 20, 2))     # the first ten of the zeros
    assert drawn_ids([1, 2, 3], temperature=1, top_k=99) == {0, 1, 2}
    assert drawn_ids([1, 2, 3], temperature=1, top_k=0) == {0, 1, 2}
    assert drawn_ids([1, 2, 3], temperature=1, top_p=1e-9) == {2}       # the best always stays
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
    ours = log_probs(ids, params, 3)
    assert ours.shape == (46,)
    for t in range(1, 47):
        candidates = []
        for n_seen in range(min(t, n_ctx // 2), min(t, n_ctx) + 1):
            logits = gpt2(ids[t - n_seen:t], **params, n_head=3)[-1]
            candidates.append(np.log(softmax(logits.astype(np.float64)))[ids[t]])
        assert np.min(np.abs(np.array(candidates) - ours[t - 1])) < 1e-4
    nothing = log_probs([3], params, 3)
    assert nothing.shape == (0,) and nothing.dtype == np.float32
    assert log_probs([3, 4, 5], random_params(n_ctx=1), 3).shape == (2,)


def test_log_probs_do_not_underflow(random_params):
    params = random_params()
    params["wte"] = params["wte"] * 100
    ours = log_probs(np.arange(10), params, 3)
    assert np.all(np.isfinite(ours)) and ours.min() < -200      # exp(-200) is 0 in float32


def test_trace_keeps_what_the_functions_computed_and_stops_when_it_is_done(random_params):
    params, ids = random_params(), np.arange(5)
    seen = trace(ids, params, 3)
    for layer, parameters in zip(seen["blocks"], params["blocks"], strict=True):
        ln_1, mlp = layer["ln_1"], layer["mlp"]
        assert np.allclose(ln_1["mean"], ln_1["x"].mean(-1, keepdims=True), atol=1e-6)
        assert np.allclose(ln_1["variance"], ln_1["x"].var(-1, keepdims=True), atol=1e-5)
        after = ln_1["x"] + attention(layer_norm(ln_1["x"], **parameters["ln_1"]),
                                      **parameters["attn"], n_head=3)
        assert np.array_equal(layer["ln_2"]["x"], after)
        assert np.array_equal(mlp["activation"], gelu(mlp["hidden"]))
        attn, c_attn = layer["attn"], parameters["attn"]["c_attn"]
        qkv = layer_norm(ln_1["x"], **parameters["ln_1"]) @ c_attn["w"] + c_attn["b"]
        for name, part in zip("qkv", np.split(qkv, 3, axis=-1), strict=True):
            for head in range(3):
                assert np.allclose(attn[name][head], part[:, 8 * head:8 * head + 8], atol=1e-5)
        assert np.array_equal(attn["weights"], softmax(attn["scores"]))
        assert np.array_equal(np.isinf(attn["scores"][0]), np.triu(np.ones((5, 5), bool), 1))
        mixed = np.einsum("hqk,hkd->qhd", attn["weights"], attn["v"]).reshape(5, 24)
        assert np.allclose(attn["heads"], mixed, atol=1e-5)
    assert np.array_equal(seen["residual"][0], params["wte"][ids] + params["wpe"][:5])
    before = len(seen["residual"])
    gpt2(ids, **params, n_head=3)
    assert len(seen["residual"]) == before
    with pytest.raises(GPT2Error):
        trace(np.zeros(21, int), params, 3)
    with pytest.raises(GPT2Error, match="-1 is not in the vocabulary"):
        trace([-1], params, 3)
    assert gpt2_numpy._keep.get() is None     # also after an error


def test_keeping_looks_into_any_use_of_the_functions(random_params):
    params = random_params()
    x, block = params["wpe"][:5], params["blocks"][0]
    with keeping() as kept:
        y = attention(layer_norm(x, **block["ln_1"]), **block["attn"], n_head=3)
    ln_1, attn = kept
    assert np.array_equal(ln_1["x"], x) and np.array_equal(attn["weights"], softmax(attn["scores"]))
    assert np.array_equal(linear(attn["heads"], **block["attn"]["c_proj"]), y)
    with keeping(["y", "weights"]) as kept:
        attention(layer_norm(x, **block["ln_1"]), **block["attn"], n_head=3)
    assert [set(part) for part in kept] == [{"y"}, {"weights"}]
    layer_norm(x, **block["ln_1"])
    assert len(kept) == 2


def test_importing_the_model_needs_numpy_and_the_standard_library_only():
    import sys

    tree = ast.parse(Path(gpt2_numpy.__file__).read_text("utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name.split(".")[0] for node in imported if isinstance(node, ast.Import)
             for alias in node.names} | {node.module for node in imported
                                         if isinstance(node, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == {"numpy"}
