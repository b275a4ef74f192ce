"""The gradient along the residual stream, against finite differences."""

import numpy as np
import pytest

from explorer.gradients import stream_gradients
from gpt2_numpy import causal_mask, ffn, layer_norm, linear, log_softmax, mha
from helpers import derivative

IDS = [5, 3, 3, 60, 0, 17]


@pytest.fixture(scope="module")
def params(random_params):
    return random_params(dtype=np.float64)


def loss_from(params, x, start, position, target, residual):
    """The loss as a function of the stream's state after `start` sublayers."""
    mask, sublayers = causal_mask(len(x)), []
    for layer in params["blocks"]:
        sublayers.append(
            (layer["ln_1"], lambda y, a=layer["attn"]: mha(y, **a, n_head=3, mask=mask))
        )
        sublayers.append((layer["ln_2"], lambda y, m=layer["mlp"]: ffn(y, **m)))
    for norm, sublayer in sublayers[start:]:
        added = sublayer(layer_norm(x, **norm))
        x = x + added if residual else added
    logits = linear(layer_norm(x, **params["ln_f"]), params["wte"].T, b=0.0)
    return -log_softmax(logits)[position, target]


def states(params, residual):
    x, mask = params["wte"][IDS] + params["wpe"][: len(IDS)], causal_mask(len(IDS))
    found = [x]
    for layer in params["blocks"]:
        added = mha(layer_norm(x, **layer["ln_1"]), **layer["attn"], n_head=3, mask=mask)
        x = x + added if residual else added
        found.append(x)
        added = ffn(layer_norm(x, **layer["ln_2"]), **layer["mlp"])
        x = x + added if residual else added
        found.append(x)
    return found


@pytest.mark.parametrize("residual", [True, False])
def test_sizes_are_those_of_the_derivatives(params, residual):
    position, target = 4, 17
    loss, sizes = stream_gradients(np.array(IDS), params, 3, position, target, residual)
    for start, x in enumerate(states(params, residual)):
        arguments = start, position, target, residual
        assert np.isclose(loss_from(params, x, *arguments), loss)
        for t in (0, 4, 5):  # the gradient at one position, feature by feature
            gradient = []
            for feature in range(x.shape[1]):
                direction = np.zeros_like(x)
                direction[t, feature] = 1.0
                slope = derivative(lambda x=x, a=arguments: loss_from(params, x, *a), x, direction)
                gradient.append(slope)
            assert np.isclose(np.linalg.norm(gradient), sizes[start, t], rtol=1e-5, atol=1e-9)


def test_later_positions_have_no_part_in_the_loss(params):
    _, sizes = stream_gradients(np.array(IDS), params, 3, position=2, target=60)
    assert sizes.shape == (5, 6)
    assert np.all(sizes[:, 3:] == 0) and np.all(sizes[0, :3] > 0)
    assert np.all(sizes[-1, :2] == 0)  # the last state is read at its own position alone
