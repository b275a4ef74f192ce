"""files/tf_names.py: TensorFlow's names and its leading axis of 1, there and back."""

import gc
import weakref

import numpy as np
import pytest

from files.tf_names import name_tensors, nest_tensors
from helpers import HPARAMS, make_tensors
from utils import leaves, shapes

SHAPES = shapes(HPARAMS)


def test_tensors_are_nested_like_the_shapes_and_named_again():
    tensors = make_tensors(HPARAMS | {"n_layer": 11})
    params = nest_tensors(tensors, shapes(HPARAMS | {"n_layer": 11}))
    assert list(params) == ["wte", "wpe", "blocks", "ln_f"]
    assert [list(block) for block in params["blocks"]] == [["ln_1", "attn", "ln_2", "mlp"]] * 11
    last = params["blocks"][10]
    assert last["attn"]["c_attn"]["w"].shape == (32, 96)
    np.testing.assert_array_equal(last["mlp"]["c_fc"]["w"], tensors["model/h10/mlp/c_fc/w"][0])
    np.testing.assert_array_equal(last["ln_2"]["g"], tensors["model/h10/ln_2/g"])

    named = name_tensors(params)
    assert sorted(named) == sorted(tensors)
    for name, array in named.items():
        assert array.shape == tensors[name].shape
        assert np.shares_memory(array, tensors[name]), name


def test_float16_becomes_float32():
    tensors = make_tensors(dtype=np.float16)
    params = nest_tensors(tensors, SHAPES)
    assert {leaf.dtype for leaf in leaves(params)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(params["wpe"], tensors["model/wpe"].astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_params_are_read_only_and_the_tensors_stay_as_they_are(dtype):
    tensors = make_tensors(dtype=dtype)
    for leaf in leaves(nest_tensors(tensors, SHAPES)):
        assert not leaf.flags.writeable
    assert all(tensor.flags.writeable for tensor in tensors.values())


def refusal(tensors):
    with pytest.raises(ValueError) as error:
        nest_tensors(tensors, SHAPES)
    return str(error.value)


def test_a_missing_tensor_is_named_with_the_shape_that_the_checkpoint_should_have():
    tensors = make_tensors()
    del tensors["model/h1/attn/c_attn/w"], tensors["model/ln_f/g"]
    assert refusal(tensors) == (
        "no tensor model/h1/attn/c_attn/w (of shape (1, 32, 96)); are both of the same model?"
    )


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("model/wte", (259, 32), (260, 32)),
        ("model/h0/mlp/c_fc/w", (32, 128), (1, 32, 128)),
        ("model/h0/mlp/c_fc/w", (2, 32, 128), (1, 32, 128)),
        ("model/h0/mlp/c_fc/b", (1, 128), (128,)),
        ("model/ln_f/b", (), (32,)),
    ],
)
def test_a_tensor_of_another_shape_is_named_with_both(name, shape, expected):
    tensors = make_tensors() | {name: np.zeros(shape, np.float32)}
    assert refusal(tensors) == f"{name} is of shape {shape}, expected {expected}"


def test_a_tensor_of_another_type_is_named():
    tensors = make_tensors()
    tensors["model/wpe"] = tensors["model/wpe"].astype(np.float64)
    assert refusal(tensors) == "model/wpe is float64, expected float32 (or float16)"


def test_left_over_tensors_are_counted_and_the_first_named():
    extra = {"model/wte/Adam": np.zeros(1), "global_step": np.zeros(1)}
    assert refusal(make_tensors() | extra) == (
        "2 tensors are not part of the model, such as global_step; save it again with the model's "
        "own variables only"
    )


def test_only_weights_of_linear_layers_have_an_axis_more():
    named = name_tensors({"raw": np.zeros(2), "mlp": {"w": np.zeros((2, 3)), "b": np.zeros(3)}})
    shapes = {name: array.shape for name, array in named.items()}
    assert shapes == {"model/raw": (2,), "model/mlp/w": (1, 2, 3), "model/mlp/b": (3,)}


def test_naming_keeps_no_array():
    params = nest_tensors(make_tensors(), SHAPES)
    gone = weakref.ref(params["wte"])
    gc.disable()
    try:
        assert name_tensors(params)["model/wte"] is params["wte"]
        del params
        assert gone() is None
    finally:
        gc.enable()
