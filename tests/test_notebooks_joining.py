"""notebooks/studies/joining.py: the models are those of backward.py, and the kept results are those
of this code."""

import sys
from pathlib import Path

import numpy as np
import pytest

import backward
from utils import leaves, tree_map

sys.path.append(str(Path(__file__).resolve().parents[1] / "notebooks"))
from studies import joining


def test_the_results_were_made_by_this_code():
    kept = joining.json.loads(joining.RESULTS.read_text("utf-8"))
    assert kept["checksum"] == joining.checksum(), (
        "joining.py has changed since; python notebooks/studies/joining.py computes them anew"
    )
    rows, runs = joining.results(), joining.plan()
    assert [{key: row[key] for key in runs[0]} for row in rows] == runs


@pytest.mark.parametrize(
    "wanted",
    [
        dict(way="pre-LN", n_layer=2, rate=1e-2, start="1/√n_in", seed=1, weight=1.0),
        dict(way="post-LN", n_layer=2, rate=1e-2, start="1/√n_in", seed=2, weight=1.0),
    ],
)
def test_a_run_gives_what_was_kept(wanted):
    (row,) = [row for row in joining.results() if wanted.items() <= row.items()]
    again = joining.result(wanted)
    assert abs(again["solved"] - row["solved"]) <= 15  # rounding differs from machine to machine
    assert np.isclose(again["unlike"], row["unlike"], rtol=0.02)


def test_pre_ln_is_gpt2():
    params = joining.init(3, "0.02")
    ids, targets = joining.parrot(np.random.default_rng(0))
    loss, gradients, sizes = joining.loss_and_gradients(params, ids, targets, 2, "pre-LN")
    right_loss, right = backward.loss_and_gradients(params, ids, targets, 2)
    assert np.isclose(loss, right_loss) and len(sizes) == 7
    assert all(leaves(tree_map(lambda a, b: np.allclose(a, b, atol=1e-6), gradients, right)))


@pytest.mark.parametrize("way", joining.WAYS)
@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_its_gradients_are_those_of_finite_differences(way, weight):
    params = tree_map(lambda a: a.astype(np.float64), joining.init(2, "1/√n_in"))
    ids, targets = joining.parrot(np.random.default_rng(0))

    def loss(params):
        return joining.loss_and_gradients(params, ids, targets, 2, way, weight)[:2]

    _, gradients = loss(params)
    length = sum((g**2).sum() for g in leaves(gradients)) ** 0.5
    up, down = (
        loss(tree_map(lambda p, g: p + by * g / length, params, gradients))[0]  # noqa: B023
        for by in (1e-5, -1e-5)
    )
    assert np.isclose((up - down) / 2e-5, length, rtol=1e-5)
