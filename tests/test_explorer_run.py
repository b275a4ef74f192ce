"""A run as the page sees it: numbered values, whose axes have the names of the comments."""

import json

import numpy as np
import pytest

from explorer.axes import comment_axes, fit, is_array
from explorer.run import describe_run, make_run
from explorer.source import statements

HPARAMS = {"n_vocab": 61, "n_ctx": 20, "n_embd": 24, "n_head": 3, "n_layer": 2}


@pytest.fixture(scope="module")
def run(random_params):
    return make_run([5, 3, 3, 60, 0, 17], random_params(), 3, HPARAMS)


def value_of(run, function, name, is_after=True, layer=0, purpose=None, which=-1):
    """A value, by where it stands in the source: of several statements the one at `which`."""
    described = describe_run(run)
    for call in described["calls"]:
        is_layer = call["layer"] in (layer, None)
        if call["function"] == function and is_layer and purpose in (None, call["purpose"]):
            found = [
                ns for key, ns in call["uses"].items() if key.split()[1:] == [name, str(+is_after)]
            ]
            return described["values"][found[which][0]] | {"held": run.values[found[which][0]].held}
    raise KeyError(function)


@pytest.mark.parametrize(
    ("function", "name", "axes"),
    [
        ("attention", "weights", ["n_head", "n_queries", "n_keys"]),
        ("attention", "scores", ["n_head", "n_queries", "n_keys"]),
        ("attention", "return", ["n_head", "n_seq", "d_head"]),
        ("softmax", "exp", ["n_head", "n_queries", "n_keys"]),
        ("mha", "q", ["n_head", "n_seq", "d_head"]),
        ("mha", "qkv", ["n_seq", "3", "n_head", "n_embd // n_head"]),
        ("mha", "heads", ["n_seq", "n_embd"]),
        ("layer_norm", "mean", ["n_seq", "1"]),
        ("layer_norm", "normed", ["n_seq", "n_embd"]),
        ("ffn", "hidden", ["n_seq", "4 * n_embd"]),
        ("gelu", "tanh", ["n_seq", "4 * n_embd"]),
        ("block", "x", ["n_seq", "n_embd"]),
        ("gpt2", "return", ["n_seq", "n_vocab"]),
        ("gpt2", "wpe", ["n_ctx", "n_embd"]),
    ],
)
def test_axes_are_named_by_the_comments_at_the_ends_of_the_lines(run, function, name, axes):
    assert value_of(run, function, name)["axes"] == axes


def test_every_axis_of_every_array_has_a_name(run):
    arrays = [value for value in run.values if is_array(value.held)]
    assert all(len(v.axes) == v.held.ndim and all(v.axes) for v in arrays)
    assert len(arrays) > 80


def test_a_name_has_the_value_that_it_had_there(run):
    before = value_of(run, "block", "x", is_after=False, which=0)["held"]
    after = value_of(run, "block", "x", which=1)["held"]
    embedded = next(c for c in run.steps.calls if c.function == "embed").returned
    assert before is embedded and not np.array_equal(before, after)
    first = value_of(run, "attention", "scores", which=0)["held"]
    assert np.all(np.isfinite(first))
    assert np.isinf(value_of(run, "attention", "scores", which=1)["held"]).any()


def test_in_a_loop_a_name_has_a_value_for_every_turn(run):
    uses = describe_run(run)["calls"][0]["uses"]
    (turns,) = [ns for key, ns in uses.items() if key.split()[1:] == ["x", "1"] and len(ns) == 2]
    blocks = [call for call in run.steps.calls if call.function == "block"]
    for number, block in zip(turns, blocks, strict=True):
        assert run.values[number].held is block.returned


def test_a_value_says_where_it_was_made(run):
    described = describe_run(run)
    made = value_of(run, "attention", "weights")["made"]
    assert described["calls"][made[0]]["function"] == "softmax" and made[2] == "return"
    assert value_of(run, "layer_norm", "g")["made"] is None


def test_calls_have_the_checkpoints_names(run):
    calls = describe_run(run)["calls"]
    linear = [call["purpose"] for call in calls if call["function"] == "linear"]
    layer = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert linear == [*layer, *layer, "wte.T"]
    norms = [(c["purpose"], c["layer"]) for c in calls if c["function"] == "layer_norm"]
    assert norms == [("ln_1", 0), ("ln_2", 0), ("ln_1", 1), ("ln_2", 1), ("ln_f", None)]


def test_what_is_no_array_is_told_in_words(run):
    assert value_of(run, "mha", "n_head")["text"] == "3"
    assert value_of(run, "mha", "cache")["text"] == "None"
    assert value_of(run, "block", "attn")["parts"].keys() == {"c_attn", "c_proj"}
    assert value_of(run, "gpt2", "blocks")["text"] == "the parameters of 2 layers"


def test_it_goes_into_json_and_one_token_has_no_mask(run, random_params):
    json.dumps(describe_run(run), allow_nan=False)
    alone = make_run([7], random_params(), 3, HPARAMS)
    assert value_of(alone, "attention", "mask")["text"] == "None"
    assert value_of(alone, "attention", "weights")["shape"] == [3, 1, 1]


def test_axes_are_read_from_the_comment_and_fitted_to_the_shape():
    line = min(statements("ffn"))
    assert comment_axes("ffn", line) == ["...", "n_seq", "4 * n_embd"]
    assert fit(["...", "n_seq", "n_embd"], 3) == [None, "n_seq", "n_embd"]
    assert fit(["...", "n_seq", "n_embd"], 1) is None
    assert fit(["n_rows", "n_in"], 3) is None
