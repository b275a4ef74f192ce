"""TensorFlow's names of GPT-2's parameters, and the leading axis of 1 of its weights.

OpenAI's graph names params["blocks"][0]["attn"]["c_attn"]["w"] by its scopes,
"model/h0/attn/c_attn/w". And it has linear layers as convolutions over one position: a weight is
[1, n_in, n_out] in the checkpoint, where everything else has it as [n_in, n_out]. Source: conv1d in
src/model.py (github.com/openai/gpt-2).
"""

import re

from files.tree_names import as_float32, find_tensor, flatten, refuse_left_over, unflatten


def name_tensors(params):
    """{"model/h0/attn/c_attn/w": [1, n_in, n_out], ...}: views of nested params."""
    return {
        tf_name(name): array[None] if is_weight(name) else array
        for name, array in flatten(params).items()
    }


def nest_tensors(tensors, shapes):
    """{"blocks": [{"attn": {"c_attn": {"w": [n_in, n_out], ...: float32, nested like `shapes`.

    tensors: {TensorFlow's name: array of float32 or float16}, of which float32 is not copied; the
        results are read-only either way
    shapes: the shape of each parameter, a tuple, nested like params

    Raises ValueError that names the tensor when one is missing, left over, of another shape or of
    another type.
    """
    found = find_tensors(tensors, shapes)
    return unflatten({name: as_float32(array) for name, array in found.items()})


def find_tensors(tensors, shapes):
    """{"blocks/0/attn/c_attn/w": [n_in, n_out], ...}: views of those tensors that `shapes` ask for.

    Nothing is converted, and nothing read where they are mapped. Raises ValueError as nest_tensors
    does.
    """
    params = {}
    for name, shape in flatten(shapes).items():
        if is_weight(name):
            params[name] = find_tensor(tensors, tf_name(name), (1, *shape))[0]
        else:
            params[name] = find_tensor(tensors, tf_name(name), shape)
    refuse_left_over(tensors, map(tf_name, params))
    return params


def tf_name(name):
    """TensorFlow's name: "blocks/0/ln_1/g" is "model/h0/ln_1/g", "wte" is "model/wte"."""
    return "model/" + re.sub(r"^blocks/([0-9]+)/", r"h\1/", name)


def is_weight(name):
    """Whether this is the weight of a linear layer, which TensorFlow has with an axis more."""
    return name.endswith("/w")
