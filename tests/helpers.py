"""What several test files need: small models, golden answers, a small vocabulary."""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from unittest import mock

import numpy as np

from encoder import bytes_to_unicode
from files.tf_checkpoint import write_checkpoint
from files.tree_names import flatten, unflatten
from utils import tree_map

FIXTURES = Path(__file__).parent / "fixtures"
HPARAMS = {"n_vocab": 260, "n_ctx": 8, "n_embd": 32, "n_head": 4, "n_layer": 2}

MINI = FIXTURES / "mini-vocabulary"
GOLDEN_IDS = json.loads((FIXTURES / "encoder_golden.json").read_text("utf-8"))


def tensor_shapes(n_vocab, n_ctx, n_embd, n_head, n_layer):
    """OpenAI's names and shapes, written down once more."""
    shapes = {"model/wte": (n_vocab, n_embd), "model/wpe": (n_ctx, n_embd)}
    norms = ["model/ln_f"]
    for i in range(n_layer):
        norms += [f"model/h{i}/ln_1", f"model/h{i}/ln_2"]
        for scope, n_in, n_out in [
            ("attn/c_attn", n_embd, 3 * n_embd),
            ("attn/c_proj", n_embd, n_embd),
            ("mlp/c_fc", n_embd, 4 * n_embd),
            ("mlp/c_proj", 4 * n_embd, n_embd),
        ]:
            shapes[f"model/h{i}/{scope}/w"] = (1, n_in, n_out)
            shapes[f"model/h{i}/{scope}/b"] = (n_out,)
    return shapes | {f"{norm}/{name}": (n_embd,) for norm in norms for name in "gb"}


def make_tensors(hparams=HPARAMS, dtype=np.float32):
    """{TensorFlow's name: random array} of a model."""
    rng = np.random.default_rng(0)
    shapes = tensor_shapes(**hparams)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def make_model(folder, tensors=None):
    """Write a model folder whose vocabulary is the bytes, "he", "hel", "hell", <|endoftext|>."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = [*bytes_to_unicode().values(), "he", "hel", "hell", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "hparams.json").write_text(json.dumps(HPARAMS), "utf-8")
    (folder / "encoder.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "vocab.bpe").write_text("#version: 0.2\nh e\nhe l\nhel l\n", "utf-8")
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n', "utf-8")
    write_checkpoint(folder / "model.ckpt", make_tensors() if tensors is None else tensors)
    return folder


def vocabulary_digests(files):
    """What released.VOCABULARY would be if {name: bytes} were OpenAI's files."""
    names = "encoder.json", "vocab.bpe"
    return {name: hashlib.sha256(files[name]).hexdigest() for name in names}


def copy_mini_vocabulary(folder, encoder_json=None, vocab_bpe=None):
    """Copy the mini vocabulary into a folder, with either file's bytes replaced."""
    for name, content in (("encoder.json", encoder_json), ("vocab.bpe", vocab_bpe)):
        (folder / name).write_bytes((MINI / name).read_bytes() if content is None else content)
    return folder


GOLDEN = ["transformers_two_layers", "transformers_one_head"]


def golden(name):
    """A golden file of make_logits.py: its answers, its parameters nested, and n_head."""
    answers = dict(np.load(FIXTURES / f"{name}.npz"))
    n_head = int(answers.pop("n_head"))
    names = [key for key in answers if key.startswith(("h", "w", "ln_f")) and key != "weights"]
    tensors = {re.sub(r"^h(\d+)/", r"blocks/\1/", key): answers.pop(key) for key in names}
    return answers, unflatten(tensors), n_head


def assert_close(ours, exact, tolerance=1e-5):
    """Equal up to float32 rounding, measured against the largest number around."""
    assert ours.shape == exact.shape
    assert np.max(np.abs(ours - exact)) <= tolerance * np.max(np.abs(exact))


def derivative(function, array, direction, step=1e-3):
    """d/ds function() where array moves along direction, by five points: exact but for O(step⁴)."""
    original = array.copy()

    def at(s):
        array[...] = original + s * step * direction
        return function()

    slope = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)
    array[...] = original
    return slope


def assert_gradients(loss, arrays, gradients, tolerance=1e-7):
    """Along random directions, the gradients, nested like the float64 arrays, are the derivatives
    of loss() by finite differences; and they are as large, of the same type and as many."""
    rng, gradients = np.random.default_rng(0), flatten(gradients)
    assert flatten(arrays).keys() == gradients.keys()
    for name, array in flatten(arrays).items():
        gradient = gradients[name]
        assert gradient.shape == array.shape and gradient.dtype == array.dtype == np.float64, name
        direction = rng.standard_normal(array.shape)
        expected = derivative(loss, array, direction, step=1e-4)
        assert abs(np.sum(gradient * direction) - expected) < tolerance * max(1, abs(expected)), (
            name
        )


def stir(params, dtype=np.float32, seed=0):
    """The parameters with random numbers added, large enough that every part of a model matters."""
    rng = np.random.default_rng(seed)
    return tree_map(lambda p: (p + 0.4 * rng.standard_normal(p.shape)).astype(dtype), params)


def stacks_golden(name, dtype=np.float32):
    """A golden file of make_stacks.py: its answers, its parameters and its gradients, nested."""
    answers = dict(np.load(FIXTURES / f"stacks_{name}.npz"))
    trees = []
    for kind in ("params/", "gradients/"):
        names = [key for key in answers if key.startswith(kind)]
        named = {key.removeprefix(kind): answers.pop(key).astype(dtype) for key in names}
        trees.append(unflatten(named))
    for key, array in answers.items():
        answers[key] = array.astype(dtype) if array.dtype.kind == "f" else array
    return answers, *trees


def assert_all_close(ours, exact):
    """`assert_close` for each leaf of two trees of one nesting, and their names."""
    ours, exact = flatten(ours), flatten(exact)
    assert ours.keys() == exact.keys()
    for name, array in ours.items():
        assert array.shape == exact[name].shape and array.dtype == exact[name].dtype, name
        difference = np.max(np.abs(array - exact[name]))
        assert difference <= 1e-5 * np.max(np.abs(exact[name])), name


class Killed(BaseException):
    """Nothing after this reaches the disk."""


@contextlib.contextmanager
def killed_at(n):
    """with killed_at(n) as was_killed: inside, the operation n on the disk, counted from 0, does
    not come about, nor does any after it, as after kill -9; was_killed() says whether there were so
    many."""
    done = []

    def kill_or(operation):
        def count(*arguments, **settings):
            if operation is open and "w" not in "".join(arguments[1:2]):  # it only reads
                return operation(*arguments, **settings)
            done.append(operation)
            if len(done) > n:
                raise Killed
            return operation(*arguments, **settings)

        return count

    with contextlib.ExitStack() as stack:
        for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
            stack.enter_context(mock.patch.object(os, name, kill_or(getattr(os, name))))
        stack.enter_context(
            mock.patch.object(os, "fsync", kill_or(lambda file: None))
        )  # to be fast
        stack.enter_context(mock.patch("builtins.open", kill_or(open)))
        stack.enter_context(contextlib.suppress(Killed))
        yield lambda: len(done) > n
