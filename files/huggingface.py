"""Hugging Face's model folder: GPT-2 as the transformers library writes it.

    config.json                    the sizes, and what can be chosen about the architecture
    model.safetensors              the weights (see safetensors.py); or, where they are in several
    model.safetensors.index.json   files, which of them has which tensor
    tokenizer.json                 the vocabulary, and what else a tokenizer may do; or the first
    vocab.json, merges.txt         alone, which are OpenAI's encoder.json and vocab.bpe, renamed

Some of what config.json can ask for, the forward pass in gpt2_numpy.py does not have. Where other
weights bring about the same (see `fold`), these are what is loaded. Everything else that would
change the result is refused: a model that loads computes what transformers computes.

Sources: configuration_gpt2.py and modeling_gpt2.py in github.com/huggingface/transformers.
"""

import contextlib
import json
import math
import re
from typing import NamedTuple

import numpy as np

from files.openai_folder import (
    FolderError,
    check_heads,
    find_size,
    is_file,
    parse_json_object,
    read_small,
)
from files.safetensors import Safetensors, read_safetensors
from files.tree_names import as_float32, find_tensor, flatten, refuse_left_over, unflatten

CONFIG, WEIGHTS, WEIGHTS_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
MAX_SHARDS = 1000
OTHER_WEIGHTS = (  # in formats that are not read here; the first two are programs for pickle
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
)
TOKENIZER, VOCAB, MERGES, ADDED = "tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json"
TOKENIZER_CONFIG = "tokenizer_config.json"

SIZE_NAMES = {  # transformers' names
    "n_vocab": "vocab_size",
    "n_ctx": "n_positions",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}
ARCHITECTURES = ("GPT2LMHeadModel", "GPT2Model")
ALIASES = {  # under which transformers takes the sizes as well
    "max_position_embeddings": "n_positions",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
SMALLEST = dict(vocab_size=50257, n_positions=1024, n_embd=768, n_head=12, n_layer=12)
EPSILON = 1e-5  # of `layer_norm`
FIELDS = {  # of config.json: what it is where it is missing, what it may be, and why nothing else
    "model_type": (None, ["gpt2"], "only GPT-2 is computed here"),
    "activation_function": (
        "gelu_new",
        # five names of the tanh form
        ["gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"],
        "only GPT-2's own is computed here, gelu_new, the tanh form",
    ),
    "add_cross_attention": (False, [False], "there is no encoder here to attend to"),
    "is_causal": (True, [True], "no position sees what comes after it here"),
    "sliding_window": (None, [None], "every position sees all before it here"),
    "attention_chunk_size": (None, [None], "every position sees all before it here"),
    "auto_map": (None, [None], "code that comes with a model is not run here"),
    "quantization_config": (None, [None], "quantised weights are not read here"),
    "scale_attn_weights": (True, [True, False], "expected true or false"),
    "scale_attn_by_inverse_layer_idx": (False, [True, False], "expected true or false"),
    "tie_word_embeddings": (True, [True, False], "expected true or false"),
}  # reorder_and_upcast_attn is about the order in which the same numbers are computed
READ_AS = {"F32": np.float32, "BF16": np.float32, "F16": np.float16}
OTHER_TOKENIZERS = {
    "vocab.txt": "a WordPiece vocabulary",
    "spiece.model": "SentencePiece's vocabulary",
    "tokenizer.model": "SentencePiece's vocabulary",
}
ONLY_BPE = "only GPT-2's byte-level BPE is done here"


class UnsupportedError(FolderError):
    """A model that is sound and asks for what is not done here: one line that says what."""


class Config(NamedTuple):
    """What config.json says."""

    hparams: dict
    n_inner: int  # features inside the feed-forward network, at most 4 * n_embd
    epsilon: float  # in layer norm
    divides_by_root: bool  # whether scores are divided by sqrt(d_head)
    divides_by_layer: bool  # whether those of layer i, counted from 1, are divided by i, too
    is_tied: bool  # whether the output projection is the token embedding


def is_huggingface(folder):
    """Whether a folder is in Hugging Face's layout, and not in OpenAI's."""
    names = (CONFIG, WEIGHTS, WEIGHTS_INDEX, TOKENIZER, VOCAB)
    return any(is_file(folder / name) for name in names) and not is_file(folder / "hparams.json")


def find_other_weights(folder):
    """The name of a file of weights in a format that is not read here; None where there is none."""
    return next((name for name in OTHER_WEIGHTS if is_file(folder / name)), None)


def list_missing(folder):
    """The names of the files that a folder lacks to be a model. FolderError, OSError."""
    weights, vocabulary = [WEIGHTS], [VOCAB, MERGES]
    if is_file(folder / WEIGHTS_INDEX) and not is_file(folder / WEIGHTS):
        weights = list_shards(folder)
    if is_file(folder / TOKENIZER) or not any(is_file(folder / name) for name in vocabulary):
        vocabulary = [TOKENIZER]
        for name, kind in OTHER_TOKENIZERS.items():
            if is_file(folder / name) and not is_file(folder / TOKENIZER):
                raise UnsupportedError(f"{folder / name} is {kind}; {ONLY_BPE}")
    return [name for name in [CONFIG, *weights, *vocabulary] if not is_file(folder / name)]


def read_config(folder):
    """The Config of a folder. FolderError that names the file, and OSError."""
    with naming(folder / CONFIG):
        return parse_config(read_small(folder / CONFIG).decode("utf-8"))


@contextlib.contextmanager
def naming(path):
    """Have a ValueError be a FolderError, or an UnsupportedError, that begins with the path."""
    try:
        yield
    except ValueError as error:
        kind = UnsupportedError if isinstance(error, UnsupportedError) else FolderError
        raise kind(f"{path}: {error}") from None


def parse_config(text):
    """The Config that config.json (str) describes. UnsupportedError where it is not a GPT-2 that
    can be computed here: it says which field is in the way, and its value. FolderError."""
    said = parse_json_object(text)
    for name, (default, possible, reason) in FIELDS.items():
        value = said.get(name, default)
        if not any(type(value) is type(one) and value == one for one in possible):
            found = "is missing" if name not in said else f"is {json.dumps(value):.60}"
            raise UnsupportedError(f"{name} {found}: {reason}")
    architectures = said.get("architectures") or [ARCHITECTURES[0]]
    if not isinstance(architectures, list) or set(map(str, architectures)) - set(ARCHITECTURES):
        reason = f"only {' and '.join(ARCHITECTURES)} are computed here"
        raise UnsupportedError(f"architectures is {json.dumps(architectures):.60}: {reason}")
    for alias, name in ALIASES.items():
        if alias in said and said.setdefault(name, said[alias]) != said[alias]:
            raise FolderError(f"{name} is {said[name]!r:.40}, and {alias} {said[alias]!r:.40}")
    if "n_ctx" in said:  # the name in older files
        said.setdefault("n_positions", said["n_ctx"])
    hparams = {name: find_size(SMALLEST | said, theirs) for name, theirs in SIZE_NAMES.items()}
    check_heads(hparams)
    usual = 4 * hparams["n_embd"]
    n_inner = usual if said.get("n_inner") is None else find_size(said, "n_inner")
    if n_inner > usual:
        raise UnsupportedError(f"n_inner is {n_inner}: here it is at most 4 * n_embd, {usual}")
    epsilon = said.get("layer_norm_epsilon", EPSILON)
    if type(epsilon) not in (int, float) or not 1e-12 <= epsilon <= 1:
        raise FolderError(f"layer_norm_epsilon is {epsilon!r:.40}: expected a small number above 0")
    return Config(
        hparams,
        n_inner,
        epsilon,
        divides_by_root=said.get("scale_attn_weights", True),
        divides_by_layer=said.get("scale_attn_by_inverse_layer_idx", False),
        is_tied=said.get("tie_word_embeddings", True),
    )


class Tensor(NamedTuple):
    """A tensor that has not been read."""

    source: Safetensors
    name: str

    @property
    def shape(self):
        return self.source.entries[self.name].shape

    @property
    def dtype(self):
        """float32 or float16, as it is read; for any other type the name that the file has."""
        dtype = self.source.entries[self.name].dtype
        return np.dtype(READ_AS[dtype]) if dtype in READ_AS else dtype

    def read(self):
        return self.source[self.name]


def map_tensors(folder):
    """{name: Tensor} of a folder's weights, under their names without "transformer.".

    Left out are the masks that older versions saved, as `causal_mask` makes them. FolderError,
    SafetensorsError and OSError.
    """
    tensors = {}
    for file in [WEIGHTS] if is_file(folder / WEIGHTS) else list_shards(folder):
        source = read_safetensors(folder / file)
        for name in source:
            short = name.removeprefix("transformer.")
            if short in tensors:
                raise UnsupportedError(
                    f"{folder / file}: {short} is there twice; have transformers load and save the "
                    "model"
                )
            tensors[short] = Tensor(source, name)
    is_mask = re.compile(r"h\.[0-9]+\.attn\.(masked_)?bias").fullmatch
    return {name: tensor for name, tensor in tensors.items() if not is_mask(name)}


def list_shards(folder):
    """The names of the files that the weights lie in, by their index. FolderError and OSError."""
    with naming(folder / WEIGHTS_INDEX):
        return parse_weight_map(read_small(folder / WEIGHTS_INDEX).decode("utf-8"))


def parse_weight_map(text):
    """The names of files, sorted, in WEIGHTS_INDEX (str). FolderError; also where one could lead
    out of the folder."""
    weight_map = parse_json_object(text).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FolderError("has no weight_map that says where each tensor is")
    for name in weight_map.values():
        plain = r"\w+([.-]\w+)*\.safetensors"  # as model-00001-of-00002.safetensors
        if not isinstance(name, str) or len(name) > 200 or not re.fullmatch(plain, name, re.ASCII):
            raise FolderError(f"names {name!r:.80}, which is no plain name of a .safetensors file")
    names = sorted(set(weight_map.values()))
    if len(names) > MAX_SHARDS:
        raise FolderError(f"names {len(names)} files, more than {MAX_SHARDS}")
    return names


def find_weights(tensors, config, shapes):
    """{"blocks/0/attn/c_attn/w": Tensor, ...} of the tensors that a model's shapes ask for.

    None is read, but to compare an output projection of its own with the token embedding.
    UnsupportedError, and ValueError that names the tensor in the way.
    """
    tensors, params = dict(tensors), {}
    head = tensors.pop("lm_head.weight", None)
    for name, shape in flatten(shapes).items():
        if "/mlp/" in name:
            shape = tuple(config.n_inner if n == 4 * config.hparams["n_embd"] else n for n in shape)
        params[name] = find_tensor(tensors, hf_name(name), shape)
    refuse_left_over(tensors, map(hf_name, params))
    if head is None and not config.is_tied:
        raise UnsupportedError("tie_word_embeddings is false, and there is no lm_head.weight")
    if head is not None and not np.array_equal(head.read(), params["wte"].read()):
        raise UnsupportedError(
            "lm_head.weight is not wte.weight (tie_word_embeddings is "
            f"{str(config.is_tied).lower()}); here the output projection is the token embedding"
        )
    return params


def hf_name(name):
    """Hugging Face's name: "blocks/0/ln_1/g" is "h.0.ln_1.weight", "wte" is "wte.weight"."""
    name = re.sub(r"^blocks/", "h/", name)
    name = re.sub(r"/[wg]$", "/weight", re.sub(r"/b$", "/bias", name))
    return (name if "/" in name else f"{name}/weight").replace("/", ".")


def is_plain(config):
    """Whether the weights are what the forward pass here needs, as they are."""
    return config[1:5] == (4 * config.hparams["n_embd"], EPSILON, True, False)


def nest_weights(weights, config):
    """params, float32 and read-only, from what `find_weights` found."""
    params = unflatten({name: as_float32(tensor.read()) for name, tensor in weights.items()})
    return fold(params, config)


def fold(params, config):
    """Parameters with which the forward pass here, that of GPT-2, computes what config asks for.

    Scores that are not divided by sqrt(d_head), or also by the layer's number i: queries that are
    sqrt(d_head) times as long, or 1/i.

    Another epsilon in layer norm: with c = sqrt(1e-5 / epsilon), everything that is added to the
    residual stream is c times as much. Then each layer norm reads c x instead of x, and

        (c x - c mean) / sqrt(c² variance + 1e-5) = (x - mean) / sqrt(variance + epsilon).

    The token embedding is the output projection, too, so the last layer norm's result is divided
    by c. (Who trains such a model further has a residual stream c times as large, and learning
    rates that mean something else.)

    Fewer features in the feed-forward network than 4 * n_embd: more, whose weights are all 0. They
    are gelu(0) = 0, and add nothing.
    """
    n_embd, n_head = config.hparams["n_embd"], config.hparams["n_head"]
    n_more = 4 * n_embd - config.n_inner
    c = math.sqrt(EPSILON / config.epsilon)
    for i, block in enumerate(params["blocks"], start=1):
        attn, mlp = block["attn"], block["mlp"]
        longer = 1.0 if config.divides_by_root else math.sqrt(n_embd / n_head)
        longer /= i if config.divides_by_layer else 1
        if longer != 1.0:
            factors = np.repeat(np.float32([longer, 1, 1]), n_embd)  # of queries, keys, values
            attn["c_attn"] = scale(attn["c_attn"], factors)
        if n_more:
            fc, proj = mlp["c_fc"], mlp["c_proj"]
            mlp["c_fc"] = {"w": pad(fc["w"], (0, n_more)), "b": pad(fc["b"], (n_more,))}
            mlp["c_proj"] = {"w": pad(proj["w"], (n_more, 0)), "b": proj["b"]}
        if c != 1.0:
            for sublayer in (attn, mlp):
                sublayer["c_proj"] = scale(sublayer["c_proj"], c)
    if c != 1.0:
        params |= scale({"wte": params["wte"], "wpe": params["wpe"]}, c)
        params["ln_f"] = scale(params["ln_f"], 1.0 / c)
    return params


def scale(arrays, factors):
    """{name: array} times factors, read-only."""
    scaled = {name: array * factors for name, array in arrays.items()}
    for array in scaled.values():
        array.flags.writeable = False
    return scaled


def pad(array, n_more):
    """The array with so many zeros more at the end of each axis, read-only."""
    padded = np.pad(array, [(0, n) for n in n_more])
    padded.flags.writeable = False
    return padded
