"""How a number came about: every formula, evaluated, gives the array that it explains."""

import re

import numpy as np
import pytest

from explorer.axes import is_array
from explorer.run import make_run
from explorer.why import explain, find_array, has_terms, list_terms, tabulate_terms

HPARAMS = {"n_vocab": 61, "n_ctx": 20, "n_embd": 24, "n_head": 3, "n_layer": 2}


@pytest.fixture(scope="module")
def run(random_params):
    return make_run([5, 3, 3, 60, 0, 17], random_params(), 3, HPARAMS)


def evaluate(run, parts):
    """The formula as NumPy computes it."""
    arrays, text = {}, ""
    for part in parts:
        if isinstance(part, str):
            text += part
        else:
            text += f" a{len(arrays)} "
            arrays[f"a{len(arrays)}"] = find_array(run, part[1])
    for sign, meaning in (("·", "*"), ("−∞", "-inf"), ("−", "-"), ("π", "pi")):
        text = text.replace(sign, meaning)
    text = re.sub(r"√(\d+)", r"sqrt(\1)", text).replace("√(", "sqrt(")
    names = {name: getattr(np, name) for name in ("sqrt", "exp", "tanh", "where", "inf", "pi")}
    return eval(text, names | arrays)


def numbers_of(run, function, name):
    """The numbers of the values that a function made under a name."""
    made = [(n, v.maker) for n, v in enumerate(run.values) if v.maker]
    calls = run.steps.calls
    return [n for n, (i, _, named) in made if calls[i].function == function and named == name]


def test_every_formula_gives_the_array_that_it_explains(run):
    explained = set()
    for number, value in enumerate(run.values):
        if not is_array(value.held) or not (why := explain(run, number)) or "note" in why:
            continue
        for line in why["lines"]:
            with np.errstate(over="ignore"):
                computed = evaluate(run, line["parts"])
            held = run.values[line["value"]].held
            if isinstance(computed, np.ndarray):
                computed = np.broadcast_to(computed, held.shape)
            assert np.allclose(computed, held, rtol=1e-5, atol=1e-6), line
        index, _, name = value.maker
        explained.add((run.steps.calls[index].function, name))
    assert {
        ("embed", "return"),
        ("layer_norm", "mean"),
        ("layer_norm", "return"),
        ("linear", "return"),
        ("attention", "scores"),
        ("attention", "return"),
        ("softmax", "exp"),
        ("softmax", "return"),
        ("gelu", "return"),
        ("block", "x"),
    } <= explained


def test_a_normalised_feature_is_led_back_to_x_mean_and_variance_gain_and_bias(run):
    why = explain(run, numbers_of(run, "layer_norm", "return")[0])
    assert [line["name"] for line in why["lines"]] == [
        "return",
        "normed",
        "centred",
        "variance",
        "mean",
    ]
    labels = [
        part[0] for line in why["lines"] for part in line["parts"] if part[0:1] and len(part) == 2
    ]
    assert {"x", "mean", "variance", "g", "b"} <= set(labels)


def test_a_weight_is_the_softmax_of_its_row(run):
    why = explain(run, numbers_of(run, "softmax", "return")[0])
    texts = [
        "".join(p if isinstance(p, str) else p[0] for p in line["parts"]) for line in why["lines"]
    ]
    assert texts[0] == "exp / sum of exp over 6"
    assert texts[1] == "exp(x − largest of x over 6)"


def test_what_only_moves_numbers_says_so(run):
    assert explain(run, numbers_of(run, "mha", "q")[0]) == {
        "note": "the numbers of qkv, in another arrangement"
    }
    assert "note" in explain(run, numbers_of(run, "mha", "heads")[0])
    assert (
        "does not come after" in explain(run, numbers_of(run, "causal_mask", "return")[0])["note"]
    )


def test_what_the_code_does_not_make_has_no_explanation(run):
    gain = next(n for n, value in enumerate(run.values) if value.shape == (24,))
    assert explain(run, gain) is None


@pytest.mark.parametrize("name", ["scores", "return"])
def test_the_terms_of_a_cell_add_up_to_it_and_come_largest_first(run, name):
    number = numbers_of(run, "attention", name)[0]
    array, axis = run.values[number].held, {"scores": "feature", "return": "position"}[name]
    scale = np.sqrt(8.0) if name == "scores" else 1.0
    for cell in (0, 7, array.size - 1):
        answer = list_terms(run, number, cell)
        sizes = [abs(term[3]) for term in answer["terms"]]
        assert sizes == sorted(sizes, reverse=True) and answer["axis"] == axis
        total = sum(term[3] for term in answer["terms"]) + answer["rest"]
        assert np.isclose(total / scale, array.flat[cell], rtol=1e-4, atol=1e-6)
        assert all(np.isclose(a * b, product) for _, a, b, product in answer["terms"])


def test_the_terms_of_a_linear_layer_add_up_to_it_without_its_bias(run):
    number = numbers_of(run, "linear", "return")[0]
    array, bias = run.values[number].held, run.steps.calls[0].arguments["blocks"][0]["attn"]
    answer = list_terms(run, number, 75, n_terms=3)
    total = sum(term[3] for term in answer["terms"]) + answer["rest"]
    assert len(answer["terms"]) == 3 and answer["n"] == 24 and answer["names"] == ["rows", "w"]
    assert np.isclose(total + bias["c_attn"]["b"][75 % 72], array.flat[75], rtol=1e-4)


def test_terms_of_a_short_prompt_too(random_params):
    run = make_run([5, 9], random_params(), 3, HPARAMS)  # here linear goes row by row
    number = numbers_of(run, "linear", "return")[0]
    answer = list_terms(run, number, 75)
    assert np.isclose(
        sum(t[3] for t in answer["terms"]) + answer["rest"],
        (
            run.values[number].held
            - run.steps.calls[0].arguments["blocks"][0]["attn"]["c_attn"]["b"]
        ).flat[75],
        rtol=1e-4,
    )
    assert find_array(run, f"{number}.0").shape == (2, 72)


@pytest.mark.parametrize("name", ["scores", "return"])
def test_the_table_of_all_terms_says_the_same_as_cell_by_cell(run, name):
    number = numbers_of(run, "attention", name)[0]
    table = tabulate_terms(run, number)
    for cell in (0, 5, run.values[number].held.size - 1):
        one = list_terms(run, number, cell, n_terms=4)
        assert [term[0] for term in one["terms"]] == table["where"][cell].tolist()
        for i, key in enumerate(("a", "b", "product"), 1):
            assert np.allclose([term[i] for term in one["terms"]], table[key][cell])
        assert np.isclose(one["rest"], table["rest"][cell]) and one["n"] == table["n"]


@pytest.mark.parametrize("name", ["x", "-1", "99999", "3.9", "³", "", None, "47.0.0"])
def test_what_is_no_array_is_not_found(run, name):
    with pytest.raises(KeyError):
        find_array(run, name)


def test_what_is_no_sum_of_products_has_no_terms(run):
    number = numbers_of(run, "gelu", "return")[0]
    assert has_terms(run, number) is None
    with pytest.raises(KeyError):
        list_terms(run, number, 0)
    with pytest.raises(KeyError):
        list_terms(run, numbers_of(run, "attention", "return")[0], 10**6)
