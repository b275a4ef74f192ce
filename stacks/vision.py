"""The Vision Transformer: an image as a sequence of patches, and the class that it belongs to.

    logits = vit(images, **params, n_head=4, patch_size=2)

Cut an image into squares, make a vector of each by a linear map, put a class token before them,
add a position to each: what follows is the encoder, and the class is read from what it made of the
class token (Dosovitskiy et al. 2021, arXiv:2010.11929). Nothing in it knows that an image is flat:
which patches lie beside each other has to be learned from the positions.

    params = {"c_patch": {"w", "b"},         [patch_size² * n_channels, n_embd]
              "class_token": [n_embd],
              "wpe": [1 + n_patches, n_embd],
              "blocks": [... as in gpt2_numpy.py], "ln_f": {"g", "b"},
              "classifier": {"w", "b"}}      [n_embd, n_classes]
"""

import numpy as np

from backward import draw_dropout, linear_vjp, sum_rows
from gpt2_numpy import GPT2Error, linear
from stacks.encoder import encoder, encoder_shapes, encoder_vjp
from stacks.initialisation import draw_params, linear_shapes
from stacks.padding import padded_cross_entropy


def cut_patches(images, patch_size):
    """Squares of patch_size × patch_size pixels, row by row, each as a vector of its pixels, row by
    row, with all channels of a pixel side by side. GPT2Error where they do not fill the image."""
    *batch, height, width, n_channels = images.shape
    if height % patch_size or width % patch_size:
        raise GPT2Error(f"{height} × {width} pixels cannot be cut into squares of {patch_size}")
    rows, columns = height // patch_size, width // patch_size
    grid = images.reshape(*batch, rows, patch_size, columns, patch_size, n_channels)
    patches = grid.swapaxes(-4, -3)  # [..., rows, columns, patch_size, patch_size, n_channels]
    return patches.reshape(*batch, rows * columns, -1)
    # [..., height, width, n_channels] -> [..., n_patches, patch_size² * n_channels]


def join_patches(patches, shape, patch_size):
    """The images, of this shape, [..., height, width, n_channels], that `cut_patches` cut."""
    *batch, height, width, n_channels = shape
    rows, columns = height // patch_size, width // patch_size
    grid = patches.reshape(*batch, rows, columns, patch_size, patch_size, n_channels)
    return grid.swapaxes(-4, -3).reshape(shape)


def with_channels(images, c_patch, patch_size):
    """The images with an axis for their channels, which those of a single channel may lack."""
    has_one = len(c_patch["w"]) == patch_size * patch_size
    return images[..., None] if has_one and images.shape[-1] != 1 else images


def embed_patches(images, c_patch, class_token, wpe, patch_size):
    """Images to the vectors that the encoder reads, [..., 1 + n_patches, n_embd]."""
    patches = cut_patches(with_channels(images, c_patch, patch_size), patch_size)
    return put_class_token(linear(patches, **c_patch), class_token, wpe)


def put_class_token(x, class_token, wpe):
    """The class token before the vectors of the patches, and the positions added to all of them:
    [..., n_patches, n_embd] to [..., 1 + n_patches, n_embd]."""
    first = np.broadcast_to(class_token, (*x.shape[:-2], 1, x.shape[-1]))
    x = np.concatenate([first, x], axis=-2)
    if x.shape[-2] != len(wpe):
        raise GPT2Error(
            f"{x.shape[-2] - 1} patches, but the model has positions for {len(wpe) - 1}"
        )
    return x + wpe


def vit(images, c_patch, class_token, wpe, blocks, ln_f, classifier, n_head, patch_size):
    """Images [..., height, width, n_channels], or [..., height, width] where there is one channel,
    to logits [..., n_classes]. GPT2Error where the image does not have the model's patches."""
    images = np.asarray(images, wpe.dtype)
    x = embed_patches(images, c_patch, class_token, wpe, patch_size)
    x = encoder(x, blocks, ln_f, n_head)  # [..., 1 + n_patches, n_embd]
    return linear(x[..., 0, :], **classifier)  # of the class token: [..., n_classes]


def embed_patches_vjp(images, c_patch, class_token, wpe, patch_size):
    """`embed_patches`, and back: dy -> d_images, {"c_patch", "class_token", "wpe"}."""
    with_axis = with_channels(images, c_patch, patch_size)
    x, c_patch_back = linear_vjp(cut_patches(with_axis, patch_size), **c_patch)

    def back(dy):
        d_patches, d_c_patch = c_patch_back(dy[..., 1:, :])
        d_images = join_patches(d_patches, with_axis.shape, patch_size).reshape(images.shape)
        d_wpe = dy.reshape(-1, *wpe.shape).sum(axis=0)
        d_class_token = sum_rows(dy[..., 0, :])
        return d_images, {"c_patch": d_c_patch, "class_token": d_class_token, "wpe": d_wpe}

    return put_class_token(x, class_token, wpe), back


def vit_vjp(
    images,
    c_patch,
    class_token,
    wpe,
    blocks,
    ln_f,
    classifier,
    n_head,
    patch_size,
    dropout=0.0,
    rng=None,
):
    """`vit`, with dropout on the embeddings and as in `block_vjp`, and back: d_logits -> d_images,
    the gradients of all parameters."""
    images = np.asarray(images, wpe.dtype)
    x, embed_back = embed_patches_vjp(images, c_patch, class_token, wpe, patch_size)
    drop = draw_dropout(x, dropout, rng)
    x, encoder_back = encoder_vjp(drop(x), blocks, ln_f, n_head, None, dropout, rng)
    logits, classifier_back = linear_vjp(x[..., 0, :], **classifier)

    def back(d_logits):
        dy = np.zeros_like(x)  # of the other positions nothing is read
        dy[..., 0, :], d_classifier = classifier_back(d_logits)
        dx, d_encoder = encoder_back(dy)
        d_images, d_embed = embed_back(drop(dx))
        return d_images, {**d_embed, **d_encoder, "classifier": d_classifier}

    return logits, back


def vit_loss_and_gradients(
    params, images, labels, n_head, patch_size, dropout=0.0, rng=None, n_tokens=None
):
    """Mean cross-entropy in nats per image (a float), and its gradients, nested like params.

    images        [n_batch, height, width, n_channels], or without the last axis
    labels        integers [n_batch]: the class of each, 0 to n_classes - 1
    dropout, rng  as in `backward.loss_and_gradients`
    n_tokens      what the sum over the labels is divided by, if not by their number

    GPT2Error when a label is none of the classes, or when the images do not have the model's
    patches.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    n_classes = len(params["classifier"]["b"])
    if labels.shape != images.shape[:1] or np.any((labels < 0) | (labels >= n_classes)):
        raise GPT2Error(f"labels are one for each of {len(images)} images, 0 to {n_classes - 1}")
    rng = np.random.default_rng(rng)
    settings = dict(n_head=n_head, patch_size=patch_size, dropout=dropout, rng=rng)
    logits, back = vit_vjp(images, **params, **settings)
    loss, d_logits = padded_cross_entropy(logits, labels, n_tokens)
    return loss, back(d_logits)[1]


def init_vit(n_patches, n_pixels, n_embd, n_layer, n_classes, rng, std=0.02):
    """Parameters of `vit` to begin with, for images of n_patches patches, each of n_pixels =
    patch_size² * n_channels numbers. rng: an np.random.Generator or a seed; std: as in
    `draw_params`."""
    shapes = {
        "c_patch": linear_shapes(n_pixels, n_embd),
        "class_token": (n_embd,),
        "wpe": (1 + n_patches, n_embd),
        **encoder_shapes(n_embd, n_layer),
        "classifier": linear_shapes(n_embd, n_classes),
    }
    return draw_params(shapes, np.random.default_rng(rng), std, n_sums=2 * n_layer)
