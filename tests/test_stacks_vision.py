"""The Vision Transformer against transformers' and finite differences."""

import numpy as np
import pytest

from gpt2_numpy import GPT2Error
from helpers import assert_all_close, assert_close, assert_gradients, stacks_golden, stir
from stacks.vision import (
    cut_patches,
    embed_patches,
    embed_patches_vjp,
    init_vit,
    join_patches,
    vit,
    vit_loss_and_gradients,
    vit_vjp,
)

SIZES = {"n_patches": 6, "n_embd": 12, "n_layer": 2, "n_classes": 5, "rng": 0}


def make_params(dtype=np.float32, n_channels=3):
    return stir(init_vit(n_pixels=4 * n_channels, **SIZES), dtype)


def draw_images(*shape, dtype=np.float64):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def test_logits_and_gradients_equal_those_of_transformers():
    golden, params, gradients = stacks_golden("vit")
    settings = {"n_head": int(golden["n_head"]), "patch_size": int(golden["patch_size"])}
    images, labels = golden["images"], golden["labels"]
    logits = vit(images, **params, **settings)
    assert logits.dtype == np.float32
    assert_close(logits, golden["logits"])
    loss, found = vit_loss_and_gradients(params, images, labels, **settings)
    assert type(loss) is float and abs(loss - golden["loss"]) < 1e-5 * golden["loss"]
    assert_all_close(found, gradients)
    _, back = vit_vjp(images, **params, **settings)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    d_images, _ = back((p - np.eye(5, dtype=np.float32)[labels]) / len(labels))
    assert_close(d_images, golden["d_images"])


def test_patches_are_cut_row_by_row_and_joined_again():
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    patches = cut_patches(images, 2)
    assert patches.shape == (2, 6, 12)
    for row in range(2):
        for column in range(3):
            square = images[1, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert np.array_equal(patches[1, 3 * row + column], square.ravel())
    assert np.array_equal(join_patches(patches, images.shape, 2), images)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6, 1), (4, 6)])
def test_back_is_the_product_with_the_jacobian(batch, shape):
    images = draw_images(*batch, *shape)
    params = make_params(np.float64, n_channels=shape[2] if len(shape) == 3 else 1)
    settings = {"n_head": 3, "patch_size": 2}
    logits, back = vit_vjp(images, **params, **settings)
    assert np.array_equal(logits, vit(images, **params, **settings))
    dy = np.random.default_rng(2).standard_normal(logits.shape)
    d_images, gradients = back(dy)

    def loss():
        return np.sum(dy * vit(images, **params, **settings))

    assert_gradients(loss, {"images": images, **params}, {"images": d_images, **gradients})


def test_the_embedding_of_patches_is_a_pair_too():
    images = draw_images(2, 4, 6, 3)
    params = {key: make_params(np.float64)[key] for key in ("c_patch", "class_token", "wpe")}
    x, back = embed_patches_vjp(images, **params, patch_size=2)
    assert x.shape == (2, 7, 12)
    assert np.array_equal(x, embed_patches(images, **params, patch_size=2))
    assert np.allclose(x[:, 0], params["class_token"] + params["wpe"][0])
    dy = np.random.default_rng(2).standard_normal(x.shape)
    d_images, gradients = back(dy)

    def loss():
        return np.sum(dy * embed_patches(images, **params, patch_size=2))

    assert_gradients(loss, {"images": images, **params}, {"images": d_images, **gradients})


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_parameter_against_finite_differences(dropout):
    params, images = make_params(np.float64), draw_images(3, 4, 6, 3)
    batch = (images, [4, 0, 0], 3, 2, dropout)
    gradients = vit_loss_and_gradients(params, *batch, rng=4)[1]
    assert_gradients(lambda: vit_loss_and_gradients(params, *batch, rng=4)[0], params, gradients)


def test_a_single_channel_needs_no_axis():
    images, params = draw_images(2, 4, 6, dtype=np.float32), make_params(n_channels=1)
    logits = vit(images, **params, n_head=3, patch_size=2)
    assert logits.shape == (2, 5)
    assert np.array_equal(vit(images[..., None], **params, n_head=3, patch_size=2), logits)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, int])
def test_images_of_any_type_leave_the_model_in_its_own(dtype):
    images = (100 * draw_images(2, 4, 6, 3)).astype(dtype)
    logits = vit(images, **make_params(), n_head=3, patch_size=2)
    assert logits.dtype == np.float32
    paired, back = vit_vjp(images, **make_params(), n_head=3, patch_size=2)
    assert np.array_equal(paired, logits)
    assert back(paired)[0].dtype == np.float32


def test_every_patch_counts_and_so_does_its_place():
    images, params = draw_images(4, 6, 3), make_params(np.float64)
    logits = vit(images, **params, n_head=3, patch_size=2)
    for row in range(4):
        for column in range(6):
            changed = images.copy()
            changed[row, column] += 0.5
            assert not np.allclose(
                vit(changed, **params, n_head=3, patch_size=2), logits, atol=1e-6
            )
    moved = np.concatenate([images[:, 2:], images[:, :2]], axis=1)
    assert not np.allclose(vit(moved, **params, n_head=3, patch_size=2), logits, atol=1e-3)
    params["wpe"][:] = 0  # where it knows no places, the same patches are the same image
    assert np.allclose(
        vit(moved, **params, n_head=3, patch_size=2), vit(images, **params, n_head=3, patch_size=2)
    )


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((2, 5, 6, 3), [0, 1], "5 × 6 pixels cannot be cut into squares of 2"),
        ((2, 4, 4, 3), [0, 1], "4 patches, but the model has positions for 6"),
        ((2, 4, 6, 3), [0, 5], "0 to 4"),
        ((2, 4, 6, 3), [0, -1], "0 to 4"),
        ((2, 4, 6, 3), [0], "one for each of 2 images"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(shape, labels, message):
    with pytest.raises(GPT2Error, match=message):
        vit_loss_and_gradients(make_params(), draw_images(*shape), labels, 3, 2)
