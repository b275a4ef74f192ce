"""Trees of nested dicts and lists as flat {name: leaf}, for formats that keep arrays under names.

A leaf is named after the way to it: tree["blocks"][0]["attn"]["c_attn"]["w"] is called
"blocks/0/attn/c_attn/w". Below, what a format's reader makes of the arrays that it found.
"""

import numpy as np


def flatten(tree):
    """{name: leaf} of any nesting of dicts and lists, in its order.

    Everything else is a leaf. Keys are str without "/"; what is empty leaves no trace.
    """
    return dict(_named_leaves(tree, ""))


def _named_leaves(tree, scope):
    """Yield (name, leaf), in order; names begin with the scope, which ends in "/" or is empty."""
    # No closure that calls itself: such a cycle would keep the leaves until garbage is collected.
    for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(child, dict | list):
            yield from _named_leaves(child, f"{scope}{key}/")
        else:
            yield f"{scope}{key}", child


def unflatten(named):
    """The tree whose leaves have these names: what `flatten` took apart, put together again.

    Where all keys are digits, they are the places in a list. Raises ValueError that says which
    name is in the way when a place in a list is missing or a leaf is to hold other leaves.
    """
    tree = {}
    for name, leaf in named.items():
        *scopes, key = name.split("/")
        node = tree
        for scope in scopes:
            node = node.setdefault(scope, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name}: {scope} is a leaf, and cannot hold another")
        if key in node:
            raise ValueError(f"{name}: is a leaf, and cannot hold others")
        node[key] = leaf
    return _with_lists(tree, "")


def _with_lists(tree, scope):
    """The tree with a list for each dict whose keys are digits."""
    if not isinstance(tree, dict):
        return tree
    tree = {key: _with_lists(child, f"{scope}{key}/") for key, child in tree.items()}
    if not tree or not all(key.isdecimal() for key in tree):
        return tree
    places = [str(i) for i in range(len(tree))]
    if set(places) != set(tree):
        missing = next(place for place in places if place not in tree)
        raise ValueError(f"{scope}{missing}: is missing from the list of {len(tree)} at {scope}")
    return [tree[place] for place in places]


def find_tensor(tensors, name, shape):
    """The tensor of this name; ValueError unless it is there in its shape, and one of floats."""
    if name not in tensors:
        raise ValueError(f"no tensor {name} (of shape {shape}); are both of the same model?")
    array = tensors[name]
    if array.shape != shape:
        raise ValueError(f"{name} is of shape {array.shape}, expected {shape}")
    if array.dtype not in (np.float32, np.float16):
        raise ValueError(f"{name} is {array.dtype}, expected float32 (or float16)")
    return array


def refuse_left_over(tensors, names):
    """Raise ValueError where there are more tensors than those of these names."""
    if left_over := sorted(set(tensors) - set(names)):
        raise ValueError(
            f"{len(left_over)} tensors are not part of the model, such as {left_over[0]}; save it "
            "again with the model's own variables only"
        )


def as_float32(array):
    """The array as float32, read-only, and not copied where it is that already."""
    array = array.astype(np.float32, copy=False).view()  # a view: `tensors` stay as they are
    array.flags.writeable = False
    return array
