"""files/tree_names.py: trees become flat names and come back, contradictions are named."""

import gc
import weakref

import numpy as np
import pytest

from files.tree_names import flatten, unflatten

TREE = {
    "wte": "A",
    "blocks": [{"attn": {"w": "B", "b": "C"}, "ln_1": ["D", "E"]}, {"attn": {"w": "F"}}],
    "ln_f": {"g": (1, 2), "b": None},
}
NAMED = {
    "wte": "A",
    "blocks/0/attn/w": "B",
    "blocks/0/attn/b": "C",
    "blocks/0/ln_1/0": "D",
    "blocks/0/ln_1/1": "E",
    "blocks/1/attn/w": "F",
    "ln_f/g": (1, 2),
    "ln_f/b": None,
}


def test_a_leaf_is_named_after_the_way_to_it_in_the_order_of_the_tree():
    assert list(flatten(TREE).items()) == list(NAMED.items())
    assert flatten([3, [4]]) == {"0": 3, "1/0": 4}
    assert flatten({"a": {}, "b": []}) == {}


def test_names_become_the_tree_that_they_came_from():
    tree = unflatten(NAMED)
    assert tree == TREE
    assert list(tree) == list(TREE) and list(tree["blocks"][0]) == ["attn", "ln_1"]
    assert unflatten(flatten([3, [4]])) == [3, [4]]
    assert unflatten({}) == {}


def test_more_than_ten_places_in_any_order():
    named = {f"blocks/{i}": i for i in reversed(range(12))}
    assert unflatten(named) == {"blocks": list(range(12))}


def test_digits_beside_other_keys_are_no_places_in_a_list():
    named = {"a/0": 1, "a/x": 2, "b/0x": 3, "c/-1": 4}
    assert unflatten(named) == {"a": {"0": 1, "x": 2}, "b": {"0x": 3}, "c": {"-1": 4}}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["blocks/0/w", "blocks/2/w"], "blocks/1: is missing from the list of 2 at blocks/"),
        (["blocks/1/w"], "blocks/0: is missing"),
        (["blocks/0", "blocks/00"], "blocks/1: is missing"),
        (["blocks/٣"], "blocks/0: is missing"),
        (["a", "a/b"], "a/b: a is a leaf"),
        (["a/b", "a"], "a: is a leaf"),
        (["a/b", "a/b/c/d"], "a/b/c/d: b is a leaf"),
    ],
)
def test_names_that_contradict_each_other_are_refused(names, message):
    with pytest.raises(ValueError) as error:
        unflatten(dict.fromkeys(names, 1.0))
    assert str(error.value).startswith(message)


def test_arrays_are_passed_on_and_not_kept():
    array = np.zeros(3)
    gone = weakref.ref(array)
    gc.disable()
    try:
        named = flatten({"a": [{"b": array}]})
        assert named["a/0/b"] is array
        assert unflatten(named)["a"][0]["b"] is array
        del named, array
        assert gone() is None
    finally:
        gc.enable()
