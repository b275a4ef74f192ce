"""The gradients against PyTorch's autograd, finite differences, and mathematics."""

import warnings

import numpy as np
import pytest
from test_gpt2_numpy import FIXTURES, GOLDEN, golden

import backward
import gpt2_numpy
from backward import loss_and_gradients
from gpt2_numpy import GPT2Error
from utils import flatten_params


def autograd(prefix):
    """PyTorch's loss and gradients from the golden file, named as in the checkpoint."""
    file = np.load(FIXTURES / "gradients.npz")
    names = [name for name in file.files if name.startswith(f"{prefix}/")]
    return {name.removeprefix(f"{prefix}/"): file[name] for name in names}


def assert_equals_autograd(loss, gradients, prefix):
    exact = autograd(prefix)
    assert abs(loss - exact["loss"]) < 1e-5 * exact["loss"]
    ours = flatten_params(gradients)
    assert len(ours) == len(exact.keys() - {"loss", "ids", "targets"})
    for name, gradient in ours.items():
        reference = exact[name.removeprefix("model/")]
        reference = reference.reshape(gradient.shape)
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
        params, batch["ids"], batch["targets"], n_head, float(settings["p"]), int(settings["seed"]))
    assert_equals_autograd(loss, gradients, "dropout")


def derivative(function, array, direction, step=1e-3):
    """d/ds function() where array moves along direction, by five points: exact but for O(step⁴)."""
    original = array.copy()

    def at(s):
        array[...] = original + s * step * direction
        return function()

    slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)
    array[...] = original
    return slope


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_every_parameter_against_finite_differences(random_params, dropout):
    params = random_params(dtype=np.float64)
    rng = np.random.default_rng(1)
    ids, targets = rng.integers(0, 61, (2, 2, 13))
    ids[0, :5] = 7          # a token that stands there several times

    def loss():
        return loss_and_gradients(params, ids, targets, 3, dropout, rng=5)[0]

    gradients = flatten_params(loss_and_gradients(params, ids, targets, 3, dropout, rng=5)[1])
    names = flatten_params(params)
    assert names.keys() == gradients.keys()
    for name, array in names.items():
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

    gradients = flatten_params(loss_and_gradients(params, ids, targets, 2)[1])
    for name, array in flatten_params(params).items():
        for place in np.ndindex(array.shape):
            direction = np.zeros_like(array)
            direction[place] = 1.0
            assert abs(gradients[name][place] - derivative(loss, array, direction)) < 1e-8, name
    assert np.all(gradients["model/wpe"][4] == 0)       # no token stands at the last position


# (forward of one array, backward of dy and that array); the other arguments are fixed.
RNG = np.random.default_rng(2)
W, G = RNG.standard_normal((6, 4)), RNG.standard_normal(6)


def gelu_pair(dy, x):
    return backward.gelu_backward(dy, x, np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm_pair(dy, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    normed = (x - mean) / np.sqrt(variance + 1e-5)
    return backward.layer_norm_backward(dy, normed, variance, G)[0]


PAIRS = {
    "gelu": (gpt2_numpy.gelu, gelu_pair),
    "softmax": (gpt2_numpy.softmax,
                lambda dy, x: backward.softmax_backward(dy, gpt2_numpy.softmax(x))),
    "layer_norm": (lambda x: gpt2_numpy.layer_norm(x, G, 0.0), layer_norm_pair),
    "linear": (lambda x: gpt2_numpy.linear(x, W, np.ones(4)),
               lambda dy, x: backward.linear_backward(dy, x, W)[0]),
    "unembedding": (lambda x: gpt2_numpy.linear(x, W, 0.0),
                    lambda dy, x: backward.unembedding_backward(dy, x, W.T)[0]),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_each_function_alone_for_any_leading_axes(name, batch):
    forward, vjp = PAIRS[name]
    rng = np.random.default_rng(3)
    x = 2 * rng.standard_normal((*batch, 6))
    dy = rng.standard_normal(forward(x).shape)
    direction = rng.standard_normal(x.shape)
    dx = vjp(dy, x)
    assert dx.shape == x.shape
    expected = derivative(lambda: np.sum(dy * forward(x)), x, direction)
    assert abs(np.sum(dx * direction) - expected) < 1e-7


def test_layer_norm_passes_nothing_on_along_its_two_null_directions():
    """A constant added to x and a longer x give the same y (but for eps): no gradient there."""
    rng = np.random.default_rng(4)
    x, dy = 100 * rng.standard_normal((5, 6)), rng.standard_normal((5, 6))
    dx = layer_norm_pair(dy, x)
    scale = np.linalg.norm(dx, axis=-1)
    assert np.all(np.abs(dx.sum(axis=-1)) < 1e-12 * scale)
    centred = x - x.mean(axis=-1, keepdims=True)
    assert np.all(np.abs(np.sum(dx * centred, axis=-1)) < 1e-5 * scale)


def test_logits_gradient_adds_up_to_zero_and_is_exact_far_out():
    logits = np.array([[[0.0, 1000.0, -1000.0], [0.5, 0.25, 0.0]]], np.float32)
    loss, d_logits = backward.cross_entropy(logits, np.array([[0, 2]]), 2)
    p = np.exp([0.5, 0.25, 0.0]) / np.exp([0.5, 0.25, 0.0]).sum()
    assert abs(loss - (1000 - np.log(p[2])) / 2) < 1e-4
    assert np.allclose(d_logits, [[[-0.5, 0.5, 0], [p[0] / 2, p[1] / 2, (p[2] - 1) / 2]]])
    assert np.allclose(d_logits.sum(axis=-1), 0, atol=1e-7)


def test_the_tied_embedding_gets_the_sum_of_both_gradients(random_params):
    """Of its use as the output's matrix every row gets some; of its use as a table those looked up.
    With the output's part taken away, exactly the rows of ids remain."""
    params = random_params(dtype=np.float64)
    ids, targets = np.array([[3, 5, 3]]), np.array([[5, 3, 8]])
    traced = gpt2_numpy.trace(ids, params, 3)
    _, d_logits = backward.cross_entropy(traced["logits"], targets, 3)
    _, output = backward.unembedding_backward(d_logits, traced["ln_f"]["y"], params["wte"])
    gradient = loss_and_gradients(params, ids, targets, 3)[1]["wte"]
    table = gradient - output
    assert np.all(np.linalg.norm(output, axis=-1) > 0)
    assert set(np.flatnonzero(np.abs(table).max(axis=-1) > 1e-12)) == {3, 5}


def test_causality_of_the_gradient(random_params):
    """The loss of the first tokens does not depend on later ones, nor their embeddings on it."""
    params = random_params()
    ids = np.array([[1, 2, 3, 40, 41]])
    full = gpt2_numpy.trace(ids, params, 3, names=backward.NEEDED)
    _, d_logits = backward.cross_entropy(full.pop("logits"), ids, 5)
    d_logits[:, 3:] = 0
    gradients = backward.gpt2_backward(d_logits, full, ids, [], **params)
    assert np.all(gradients["wpe"][3:] == 0)
    assert np.all(gradients["wpe"][:3] != 0)


def test_parts_of_a_batch_add_up_to_the_whole(random_params):
    params = random_params(dtype=np.float64)
    rng = np.random.default_rng(6)
    ids, targets = rng.integers(0, 61, (2, 5, 9))
    loss, gradients = loss_and_gradients(params, ids, targets, 3)
    parts = [loss_and_gradients(params, ids[rows], targets[rows], 3, n_tokens=ids.size)
             for rows in (slice(0, 2), slice(2, 5))]
    assert abs(sum(part for part, _ in parts) - loss) < 1e-12
    flat = [flatten_params(part) for _, part in parts]
    for name, gradient in flatten_params(gradients).items():
        assert np.allclose(flat[0][name] + flat[1][name], gradient, rtol=1e-10, atol=1e-14)


def test_loss_is_the_mean_that_log_probs_gives(random_params):
    params = random_params()
    ids = np.random.default_rng(7).integers(0, 61, 15)
    loss, _ = loss_and_gradients(params, ids[None, :-1], ids[None, 1:], 3)
    assert abs(loss + gpt2_numpy.log_probs(ids, params, 3).mean()) < 1e-5


def test_float32_stays_float32_and_nothing_given_is_changed(random_params):
    params = random_params()
    before = {name: array.copy() for name, array in flatten_params(params).items()}
    ids = np.random.default_rng(8).integers(0, 61, (2, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, gradients = loss_and_gradients(params, ids, ids, 3, dropout=0.1, rng=0)
    assert all(array.dtype == np.float32 for array in flatten_params(gradients).values())
    for name, array in flatten_params(params).items():
        assert np.array_equal(array, before[name])
        array.flags.writeable = False
    loss_and_gradients(params, ids, ids, 3)      # as the weights of a model folder are


def test_dropout_is_drawn_by_its_own_generator_and_leaves_the_forward_pass_alone(random_params):
    params = random_params()
    ids = np.random.default_rng(9).integers(0, 61, (2, 6))
    np.random.seed(0)
    plain = gpt2_numpy.gpt2(ids, **params, n_head=3)
    losses = [loss_and_gradients(params, ids, ids, 3, 0.5, seed)[0] for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert np.array_equal(plain, gpt2_numpy.gpt2(ids, **params, n_head=3))
    with pytest.raises(GPT2Error):
        loss_and_gradients(params, ids + 100, ids, 3, 0.5, 1)
    assert gpt2_numpy._dropout.get() is None


def test_dropout_keeps_the_expectation_and_its_rate():
    masks = []
    drop = backward.random_dropout(0.25, 0, masks)
    x = np.ones((200, 500), np.float32)
    y = drop(x)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.01
    assert np.array_equal(backward.dropout_backward(x, masks), y) and masks == []


def test_memory_of_a_step_is_free_again_without_the_garbage_collector(random_params):
    """A reference cycle would keep every step's arrays until Python looks for cycles."""
    import gc
    import weakref

    params = random_params()
    ids = np.zeros((1, 5), int)
    gc.disable()
    try:
        gradients = loss_and_gradients(params, ids, ids, 3)[1]
        array = weakref.ref(gradients["wte"])
        flatten_params(gradients)
        del gradients
        assert array() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("ids", "targets"), [
    ([1, 2, 3], [1, 2, 3]), ([[1, 2]], [[1, 2, 3]]), ([[1, 2]], [[1, 61]]), ([[-1, 2]], [[1, 2]]),
    ([[1.0, 2.0]], [[1, 2]]), ([[]], [[]]), (np.zeros((1, 21), int), np.zeros((1, 21), int)),
])
def test_what_is_no_batch_is_refused(random_params, ids, targets):
    with pytest.raises(GPT2Error):
        loss_and_gradients(random_params(), ids, targets, 3)
