"""The gradients against PyTorch's autograd, finite differences, and mathematics."""

import gc
import warnings
import weakref

import numpy as np
import pytest

import backward
import gpt2_numpy
from backward import (
    attention_vjp,
    block_vjp,
    cross_entropy,
    draw_dropout,
    embed_vjp,
    ffn_vjp,
    gelu_vjp,
    gpt2_vjp,
    layer_norm_vjp,
    linear_vjp,
    loss_and_gradients,
    mha_vjp,
    softmax_vjp,
    unembed_vjp,
)
from files.tf_names import name_tensors
from files.tree_names import flatten
from gpt2_numpy import GPT2Error, causal_mask, embed, gpt2, linear, log_probs
from helpers import FIXTURES, GOLDEN, derivative, golden
from look_inside import trace
from utils import leaves, tree_map


def autograd(prefix):
    """PyTorch's loss and gradients from the golden file, named as in the checkpoint."""
    file = np.load(FIXTURES / "gradients.npz")
    names = [name for name in file.files if name.startswith(f"{prefix}/")]
    return {name.removeprefix(f"{prefix}/"): file[name] for name in names}


def assert_equals_autograd(loss, gradients, prefix):
    exact = autograd(prefix)
    assert abs(loss - exact["loss"]) < 1e-5 * exact["loss"]
    ours = name_tensors(gradients)
    assert len(ours) == len(exact.keys() - {"loss", "ids", "targets"})
    for name, gradient in ours.items():
        reference = exact[name.removeprefix("model/")].reshape(gradient.shape)
        assert gradient.dtype == np.float32
        difference = np.linalg.norm(gradient - reference) / np.linalg.norm(reference)
        assert difference < 1e-5, name


@pytest.mark.parametrize("name", GOLDEN)
def test_loss_and_gradients_equal_those_of_autograd(name):
    _, params, n_head = golden(name)
    batch = autograd(name)
    loss, gradients = loss_and_gradients(params, batch["ids"], batch["targets"], n_head)
    assert type(loss) is float
    assert_equals_autograd(loss, gradients, name)


def test_with_dropout_they_equal_autograd_under_the_same_masks():
    _, params, n_head = golden(GOLDEN[0])
    batch, settings = autograd(GOLDEN[0]), np.load(FIXTURES / "gradients.npz")
    loss, gradients = loss_and_gradients(
        params, batch["ids"], batch["targets"], n_head, float(settings["p"]), int(settings["seed"])
    )
    assert_equals_autograd(loss, gradients, "dropout")


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("n_seq", [1, 2, 12])
def test_the_paired_forward_pass_gives_the_models_logits_to_the_last_bit(name, n_seq):
    answers, params, n_head = golden(name)
    ids = answers["ids"][:, :n_seq]
    for batch in (ids, ids[0], ids[:, None]):
        logits, _ = gpt2_vjp(batch, **params, n_head=n_head)
        assert np.array_equal(logits, gpt2(batch, **params, n_head=n_head))


PAIRS = {
    "gelu": gelu_vjp,
    "softmax": softmax_vjp,
    "layer_norm": layer_norm_vjp,
    "linear": linear_vjp,
    "attention": attention_vjp,
    "mha": mha_vjp,
    "ffn": ffn_vjp,
    "block": block_vjp,
}


def arguments(name, batch, block, mask=None):
    """(arrays, parameters, settings) for one of PAIRS, of a block's parameters."""
    x = 2 * np.random.default_rng(3).standard_normal((*batch, 5, 24)).astype(
        block["ln_1"]["g"].dtype
    )
    return {
        "gelu": ([x], {}, {}),
        "softmax": ([x], {}, {}),
        "layer_norm": ([x], block["ln_1"], {}),
        "linear": ([x], block["mlp"]["c_fc"], {}),
        "attention": ([x, 1 - x, x * x], {}, {"mask": mask}),
        "mha": ([x], block["attn"], {"n_head": 3, "mask": mask}),
        "ffn": ([x], block["mlp"], {}),
        "block": ([x], block, {"n_head": 3, "mask": mask}),
    }[name]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("mask", [None, causal_mask(5)], ids=["", "causal"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_pair_computes_what_the_model_does_to_the_last_bit(
    random_params, name, batch, mask, dtype
):
    block = random_params(dtype=dtype)["blocks"][0]
    arrays, parameters, settings = arguments(name, batch, block, mask)
    y, _ = PAIRS[name](*arrays, **parameters, **settings)
    assert y.dtype == dtype
    assert np.array_equal(y, getattr(gpt2_numpy, name)(*arrays, **parameters, **settings))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("mask", [None, causal_mask(5)], ids=["", "causal"])
def test_each_back_is_the_product_with_the_jacobian(random_params, name, batch, mask):
    """For its arrays and for each of its parameters, against finite differences of the model."""
    block = random_params(dtype=np.float64)["blocks"][0]
    arrays, parameters, settings = arguments(name, batch, block, mask)
    rng = np.random.default_rng(4)
    y, back = PAIRS[name](*arrays, **parameters, **settings)
    dy = rng.standard_normal(y.shape)
    found = back(dy)
    *d_arrays, gradients = found if isinstance(found, tuple) else (found,)
    if not parameters:
        d_arrays, gradients = [*d_arrays, gradients], {}
    assert flatten(gradients).keys() == flatten(parameters).keys()

    def loss():
        return np.sum(dy * getattr(gpt2_numpy, name)(*arrays, **parameters, **settings))

    pairs = zip(arrays, d_arrays, strict=True)
    named = [(array, flatten(gradients)[key]) for key, array in flatten(parameters).items()]
    for array, gradient in [*pairs, *named]:
        assert gradient.shape == array.shape and gradient.dtype == array.dtype
        direction = rng.standard_normal(array.shape)
        expected = derivative(loss, array, direction, step=1e-4)
        assert abs(np.sum(gradient * direction) - expected) < 1e-7 * max(1.0, abs(expected))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_every_parameter_against_finite_differences(random_params, dropout):
    params = random_params(dtype=np.float64)
    rng = np.random.default_rng(1)
    ids, targets = rng.integers(0, 61, (2, 2, 13))
    ids[0, :5] = 7  # a token that stands there several times

    def loss():
        return loss_and_gradients(params, ids, targets, 3, dropout, rng=5)[0]

    gradients = flatten(loss_and_gradients(params, ids, targets, 3, dropout, rng=5)[1])
    assert flatten(params).keys() == gradients.keys()
    for name, array in flatten(params).items():
        gradient = gradients[name]
        assert gradient.shape == array.shape and gradient.dtype == np.float64
        for _ in range(2):
            direction = rng.standard_normal(array.shape)
            direction /= np.linalg.norm(direction)
            expected = derivative(loss, array, direction)
            found = np.sum(gradient * direction)
            assert abs(found - expected) < 1e-9 * max(1.0, np.linalg.norm(gradient)), name


def test_every_element_of_a_tiny_model_against_finite_differences(random_params):
    """One by one: a wrong element cannot hide among the others of a random direction."""
    sizes = dict(n_vocab=7, n_ctx=5, n_embd=4, n_head=2, n_layer=1)
    params = random_params(**sizes, dtype=np.float64)
    ids, targets = np.array([[1, 2, 1, 6]]), np.array([[2, 1, 6, 0]])

    def loss():
        return loss_and_gradients(params, ids, targets, 2)[0]

    gradients = flatten(loss_and_gradients(params, ids, targets, 2)[1])
    for name, array in flatten(params).items():
        for place in np.ndindex(array.shape):
            direction = np.zeros_like(array)
            direction[place] = 1.0
            assert abs(gradients[name][place] - derivative(loss, array, direction)) < 1e-8, name
    assert np.all(gradients["wpe"][4] == 0)  # no token stands at the last position


def test_layer_norm_passes_nothing_on_along_its_two_null_directions():
    """A constant added to x and a longer x give the same y (but for eps): no gradient there."""
    rng = np.random.default_rng(4)
    x, dy = 100 * rng.standard_normal((5, 6)), rng.standard_normal((5, 6))
    dx, _ = layer_norm_vjp(x, np.ones(6), np.zeros(6))[1](dy)
    scale = np.linalg.norm(dx, axis=-1)
    assert np.all(np.abs(dx.sum(axis=-1)) < 1e-12 * scale)
    centred = x - x.mean(axis=-1, keepdims=True)
    assert np.all(np.abs(np.sum(dx * centred, axis=-1)) < 1e-5 * scale)


def test_logits_gradient_adds_up_to_zero_and_is_exact_far_out():
    logits = np.array([[[0.0, 1000.0, -1000.0], [0.5, 0.25, 0.0]]], np.float32)
    loss, d_logits = cross_entropy(logits, np.array([[0, 2]]), 2)
    p = np.exp([0.5, 0.25, 0.0]) / np.exp([0.5, 0.25, 0.0]).sum()
    assert abs(loss - (1000 - np.log(p[2])) / 2) < 1e-4
    assert np.allclose(d_logits, [[[-0.5, 0.5, 0], [p[0] / 2, p[1] / 2, (p[2] - 1) / 2]]])
    assert np.allclose(d_logits.sum(axis=-1), 0, atol=1e-7)


def test_the_tied_embedding_gets_the_sum_of_both_gradients(random_params):
    """Of its use as the output's matrix every row gets some; of its use as a table those looked up.
    With the output's part taken away, exactly the rows of ids remain."""
    params = random_params(dtype=np.float64)
    ids, targets = np.array([[3, 5, 3]]), np.array([[5, 3, 8]])
    seen = trace(ids, params, 3)
    _, d_logits = cross_entropy(seen["logits"], targets, 3)
    _, output = unembed_vjp(seen["ln_f"]["return"], params["wte"])[1](d_logits)
    gradient = loss_and_gradients(params, ids, targets, 3)[1]["wte"]
    table = gradient - output
    assert np.all(np.linalg.norm(output, axis=-1) > 0)
    assert set(np.flatnonzero(np.abs(table).max(axis=-1) > 1e-12)) == {3, 5}


def test_causality_of_the_gradient(random_params):
    """The loss of the first tokens does not depend on later ones, nor their embeddings on it."""
    ids = np.array([[1, 2, 3, 40, 41]])
    logits, back = gpt2_vjp(ids, **random_params(), n_head=3)
    _, d_logits = cross_entropy(logits, ids, 5)
    d_logits[:, 3:] = 0
    gradients = back(d_logits)
    assert np.all(gradients["wpe"][3:] == 0)
    assert np.all(gradients["wpe"][:3] != 0)


def test_a_forward_pass_gives_its_gradients_once(random_params):
    logits, back = gpt2_vjp(np.array([[1, 2]]), **random_params(), n_head=3)
    back(np.ones_like(logits))
    with pytest.raises(GPT2Error, match="once"):
        back(np.ones_like(logits))


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_gradients_of_any_leading_axes_are_the_sum_of_those_of_each_row(random_params, batch):
    params = random_params(dtype=np.float64)
    rng = np.random.default_rng(5)
    ids = rng.integers(0, 61, (*batch, 7))
    logits, back = gpt2_vjp(ids, **params, n_head=3)
    dy = rng.standard_normal(logits.shape)
    total = tree_map(np.zeros_like, params)
    for i in np.ndindex(batch):
        row = gpt2_vjp(ids[i], **params, n_head=3)[1](dy[i])
        total = tree_map(np.add, total, row)
    for ours, exact in zip(leaves(back(dy)), leaves(total), strict=True):
        assert np.allclose(ours, exact)


def test_parts_of_a_batch_add_up_to_the_whole(random_params):
    params = random_params(dtype=np.float64)
    rng = np.random.default_rng(6)
    ids, targets = rng.integers(0, 61, (2, 5, 9))
    loss, gradients = loss_and_gradients(params, ids, targets, 3)
    parts = [
        loss_and_gradients(params, ids[rows], targets[rows], 3, n_tokens=ids.size)
        for rows in (slice(0, 2), slice(2, 5))
    ]
    assert abs(sum(part for part, _ in parts) - loss) < 1e-12
    total = tree_map(np.add, *(part for _, part in parts))
    for ours, exact in zip(leaves(total), leaves(gradients), strict=True):
        assert np.allclose(ours, exact, rtol=1e-10, atol=1e-14)


def test_loss_is_the_mean_that_log_probs_gives(random_params):
    params = random_params()
    ids = np.random.default_rng(7).integers(0, 61, 15)
    loss, _ = loss_and_gradients(params, ids[None, :-1], ids[None, 1:], 3)
    assert abs(loss + log_probs(ids, params, 3).mean()) < 1e-5


def test_float32_stays_float32_and_nothing_given_is_changed(random_params):
    params = random_params()
    before = tree_map(np.copy, params)
    ids = np.random.default_rng(8).integers(0, 61, (2, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, gradients = loss_and_gradients(params, ids, ids, 3, dropout=0.1, rng=0)
    assert {array.dtype for array in leaves(gradients)} == {np.dtype(np.float32)}
    assert all(map(np.array_equal, leaves(params), leaves(before)))
    for array in leaves(params):
        array.flags.writeable = False
    loss_and_gradients(params, ids, ids, 3)  # as the weights of a model folder are


def test_dropout_is_drawn_by_its_own_generator(random_params):
    params = random_params()
    ids = np.random.default_rng(9).integers(0, 61, (2, 6))
    np.random.seed(0)
    losses = [loss_and_gradients(params, ids, ids, 3, 0.5, seed)[0] for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert np.random.random() == np.random.RandomState(0).random()


def test_dropout_keeps_the_expectation_and_its_rate_and_is_its_own_back():
    x = np.ones((200, 500), np.float32)
    drop = draw_dropout(x, 0.25, np.random.default_rng(0))
    y = drop(x)
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.01
    assert np.array_equal(drop(2 * x), 2 * y)


def test_without_dropout_nothing_is_drawn(random_params):
    rng = np.random.default_rng(0)
    gpt2_vjp(np.array([1, 2]), **random_params(), n_head=3, dropout=0.0, rng=rng)
    assert rng.random() == np.random.default_rng(0).random()


def test_dropout_stands_where_gpt2_has_it(random_params, monkeypatch):
    """On the embeddings, on the attention weights, and on what each sublayer adds."""
    shapes = []

    def draw(x, probability, rng):
        shapes.append(x.shape)
        return draw_dropout(x, probability, rng)

    monkeypatch.setattr(backward, "draw_dropout", draw)
    loss_and_gradients(random_params(n_layer=2), [[1, 2, 3]], [[2, 3, 4]], 3, 0.1, 0)
    assert shapes == [(1, 3, 24), *2 * [(1, 3, 3, 3), (1, 3, 24), (1, 3, 24)]]


def test_embedding_and_unembedding_are_pairs_too(random_params):
    params, rng = random_params(dtype=np.float64), np.random.default_rng(3)
    ids, wte, wpe = np.array([[3, 5, 3], [1, 3, 2]]), params["wte"], params["wpe"]
    x, back = embed_vjp(ids, wte, wpe)
    dy = rng.standard_normal(x.shape)
    gradients = back(dy)
    for name, table in (("wte", wte), ("wpe", wpe)):
        direction = rng.standard_normal(table.shape)
        expected = derivative(lambda: np.sum(dy * embed(ids, wte, wpe)), table, direction)
        assert abs(np.sum(gradients[name] * direction) - expected) < 1e-9
    assert np.allclose(back(dy, np.ones_like(wte))["wte"], gradients["wte"] + 1)
    logits, back = unembed_vjp(x, wte)
    dy = rng.standard_normal(logits.shape)
    for array, gradient in zip((x, wte), back(dy), strict=True):
        direction = rng.standard_normal(array.shape)
        expected = derivative(lambda: np.sum(dy * linear(x, wte.T, 0.0)), array, direction)
        assert abs(np.sum(gradient * direction) - expected) < 1e-9


def test_memory_of_a_step_is_free_again_without_the_garbage_collector(random_params):
    """A reference cycle would keep every step's arrays until Python looks for cycles."""
    params, ids = random_params(), np.zeros((1, 5), int)
    gc.disable()
    try:
        gradients = loss_and_gradients(params, ids, ids, 3)[1]
        array = weakref.ref(gradients["wte"])
        flatten(gradients), leaves(gradients), tree_map(np.copy, gradients)
        del gradients
        assert array() is None
    finally:
        gc.enable()


def test_each_block_frees_its_activations_on_the_way_back(random_params, monkeypatch):
    """So the gradients of the first blocks take the place of the activations of the last."""
    kept, alive = [], []

    def watch(*arguments, **settings):
        y, back = gelu_vjp(*arguments, **settings)
        kept.append(weakref.ref(back))

        def count(dy):
            alive.append(sum(reference() is not None for reference in kept))
            return back(dy)

        return y, count

    monkeypatch.setattr(backward, "gelu_vjp", watch)
    loss_and_gradients(random_params(n_layer=4), [[1, 2, 3]], [[2, 3, 4]], 3)
    assert alive == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("ids", "targets"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([[1, 2]], [[1, 2, 3]]),
        ([[1, 2]], [[1, 61]]),
        ([[-1, 2]], [[1, 2]]),
        ([[1.0, 2.0]], [[1, 2]]),
        ([[]], [[]]),
        (np.zeros((1, 21), int), np.zeros((1, 21), int)),
    ],
)
def test_what_is_no_batch_is_refused(random_params, ids, targets):
    with pytest.raises(GPT2Error):
        loss_and_gradients(random_params(), ids, targets, 3)
