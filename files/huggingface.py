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
        ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"],  # three names of the tanh form
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


OTHER_TOKENIZERS = {
    "vocab.txt": "a WordPiece vocabulary",
    "spiece.model": "SentencePiece's vocabulary",
    "tokenizer.model": "SentencePiece's vocabulary",
}
ONLY_BPE = "only GPT-2's byte-level BPE is done here"
UNUSED_BY_GPT2 = (  # of tokenizers' BPE
    "dropout",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)
TOKENIZER_CLASSES = (  # of transformers, that do nothing else than what their files say
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
)


class UnsupportedError(FolderError):
    """A model that is sound and asks for what is not done here: one line that says what."""


READ_AS = {"F32": np.float32, "BF16": np.float32, "F16": np.float16}


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


def read_tokenizer(folder, n_vocab=None):
    """The vocabulary of a folder: what OpenAI's encoder.json and vocab.bpe would hold, two str.

    n_vocab: of the model. Where the vocabulary has fewer tokens, as embeddings are filled up to a
        round number, the rest is called <|unused50257|> and so on; None adds none.

    UnsupportedError and FolderError that name the file, and OSError.
    """
    added = {}
    if is_file(folder / TOKENIZER_CONFIG):
        with naming(folder / TOKENIZER_CONFIG):
            text = read_small(folder / TOKENIZER_CONFIG).decode("utf-8")
            added = parse_tokenizer_config(text)
    vocab_file, merges_file = vocabulary_files(folder)
    with naming(folder / vocab_file):
        text = read_small(folder / vocab_file).decode("utf-8")
        if vocab_file == TOKENIZER:
            vocab, merges, more = parse_tokenizer(text)
            added |= more
        else:
            vocab = parse_json_object(text)
    if vocab_file != TOKENIZER:
        with naming(folder / merges_file):
            merges = parse_merges(read_small(folder / merges_file).decode("utf-8"))
        if is_file(folder / ADDED):
            with naming(folder / ADDED):
                added |= parse_json_object(read_small(folder / ADDED).decode("utf-8"))
    with naming(folder):
        check_added(added, merges)
        vocab |= added
        n_vocab = len(vocab) if n_vocab is None else n_vocab
        if len(vocab) > n_vocab:
            raise UnsupportedError(
                f"has {len(vocab)} tokens, where {CONFIG} says {n_vocab}: some have no embeddings, "
                "which resize_token_embeddings in transformers makes"
            )
    unused = {f"<|unused{i}|>": i for i in range(len(vocab), n_vocab)}
    bpe_text = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)])
    return json.dumps(vocab | unused), bpe_text


def read_end(folder):
    """The id of the token that ends a text, as config.json says it; None where it says none."""
    if not is_file(folder / CONFIG):
        return None
    with naming(folder / CONFIG):
        end = parse_json_object(read_small(folder / CONFIG).decode("utf-8")).get("eos_token_id")
    return end if type(end) is int else None


def vocabulary_files(folder):
    """The names of the two files, or the one twice, that stand for encoder.json and vocab.bpe. As
    transformers does, the one is preferred where both are there."""
    return (TOKENIZER, TOKENIZER) if is_file(folder / TOKENIZER) else (VOCAB, MERGES)


def parse_merges(text):
    """[(left, right), ...] of merges.txt (str)."""
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return [tuple(line.split(" ")) for line in lines[lines[0].startswith("#version") :]]


def check_added(added, merges):
    """UnsupportedError where an added token is one that the vocabulary has already: it would be cut
    out of a text before any merge, which is not done here."""
    made = {"".join(pair) for pair in merges}
    for token in added:
        if token in made or len(token) == 1:
            raise UnsupportedError(f"its added token {token!r:.40} is also one of the vocabulary")


def parse_tokenizer_config(text):
    """{token: id} of the added tokens that tokenizer_config.json (str) names. UnsupportedError
    where it asks for what is not done here, and FolderError."""
    said = parse_json_object(text)
    for name in ("add_prefix_space", "add_bos_token", "add_eos_token"):
        if said.get(name):
            raise UnsupportedError(
                f"{name} is {said[name]!r:.40}: a text's tokens are its own here"
            )
    kind = said.get("tokenizer_class", TOKENIZER_CLASSES[0])
    if kind not in TOKENIZER_CLASSES:
        raise UnsupportedError(f"tokenizer_class is {kind!r:.40}; only GPT-2's is known here")
    decoder = said.get("added_tokens_decoder", {})
    if not isinstance(decoder, dict):
        raise FolderError(f"added_tokens_decoder is {decoder!r:.40}")
    added = {}
    for number, token in decoder.items():
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or not re.fullmatch("[0-9]{1,9}", number):
            raise FolderError(f"an added token is {number!r:.40}: {token!r:.80}")
        added[content] = int(number)
    extra = said.get("extra_special_tokens", [])
    for content in extra.values() if isinstance(extra, dict) else extra:
        if content not in added:
            raise UnsupportedError(f"extra_special_tokens has {content!r:.40}, without an id")
    return added


def parse_tokenizer(text):
    """({token: id}, [(left, right), ...], {added token: id}) of tokenizer.json (str), GPT-2's
    byte-level BPE. UnsupportedError where it does anything else, and FolderError."""
    said = parse_json_object(text)
    model, added = said.get("model"), said.get("added_tokens", [])
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        raise UnsupportedError(f"is of a tokenizer of type {kind!r:.40}; {ONLY_BPE}")
    for name in UNUSED_BY_GPT2:
        if model.get(name):
            raise UnsupportedError(f"its model has {name} {model[name]!r:.40}; {ONLY_BPE}")
    if said.get("normalizer") is not None:
        raise UnsupportedError(f"has a normalizer, {said['normalizer']!r:.80}; {ONLY_BPE}")
    for name in ("truncation", "padding"):
        if said.get(name) is not None:
            raise UnsupportedError(
                f"has {name}, {said[name]!r:.80}; a text's tokens are all its own"
            )
    decoder = said.get("decoder")
    if decoder is not None and (
        not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel"
    ):
        raise UnsupportedError(f"its decoder is {decoder!r:.80}; {ONLY_BPE}")
    check_pre_tokenizer(said.get("pre_tokenizer"))
    check_post_processor(said.get("post_processor"))
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list) or not isinstance(added, list):
        raise FolderError("has no vocab, merges and added_tokens")
    of_added = {}
    for token in added:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise FolderError(f"an added token is {token!r:.80}")
        if any(token.get(name) for name in ("lstrip", "rstrip", "single_word")):
            raise UnsupportedError(f"its added token {token!r:.80} takes what is beside it along")
        of_added[token["content"]] = token.get("id")
    # Pairs since version 0.20 of the tokenizers library, before that texts: ["Ġ", "t"] or "Ġ t".
    pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else pair for pair in merges]
    for pair in pairs:
        if not isinstance(pair, list | tuple) or [type(part) for part in pair] != [str, str]:
            raise FolderError(f"a merge is {pair!r:.80}, not two tokens")
    return dict(vocab), pairs, of_added


def check_pre_tokenizer(said):
    """UnsupportedError unless words are split, and spaces are kept, as GPT-2 does it."""
    if isinstance(said, dict) and said.get("type") == "Sequence":
        steps = said.get("pretokenizers")
        said = steps[0] if isinstance(steps, list) and len(steps) == 1 else said
    kind = said.get("type") if isinstance(said, dict) else None
    if kind != "ByteLevel":
        raise UnsupportedError(f"its pre_tokenizer is {kind!r:.40}; {ONLY_BPE}")
    for name, wanted in (("add_prefix_space", False), ("use_regex", True)):
        if said.get(name, wanted) is not wanted:
            raise UnsupportedError(f"its pre_tokenizer has {name} {said[name]!r:.40}, not {wanted}")


def check_post_processor(said):
    """UnsupportedError unless a text's tokens stay as they are."""
    steps = [said]
    if isinstance(said, dict) and said.get("type") == "Sequence":
        steps = said.get("processors")
    for step in steps if isinstance(steps, list) else [steps]:
        kind = step.get("type") if isinstance(step, dict) else step
        is_empty = kind == "TemplateProcessing" and not step.get("special_tokens")
        if kind not in (None, "ByteLevel") and not is_empty:
            raise UnsupportedError(
                f"its post_processor, {kind!r:.40}, may add tokens to a text; none are added here"
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
    by c.

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


def format_folder(hparams, dtype, encoder, texts, card):
    """{name: content} of all files but the weights of a folder that transformers opens.

    dtype: the weights' type, such as "float32"
    encoder, texts: the vocabulary, an Encoder, and the contents of its encoder.json and vocab.bpe
    card: the content of README.md
    """
    config = {name: default for name, (default, *_) in FIELDS.items() if default is not None}
    del config["is_causal"]  # which GPT2Config does not have, and takes all the same
    config |= {theirs: hparams[name] for name, theirs in SIZE_NAMES.items()}
    config |= {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_inner": None}
    config |= {"n_ctx": hparams["n_ctx"]}  # llama.cpp asks for the old name
    config |= {"layer_norm_epsilon": EPSILON, "reorder_and_upcast_attn": False, "dtype": dtype}
    config |= {"bos_token_id": encoder.eot, "eos_token_id": encoder.eot}
    end = None if encoder.eot is None else encoder.decoder[encoder.eot]
    tokenizer_config = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "model_max_length": hparams["n_ctx"],
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), end),
    }
    contents = {
        CONFIG: format_json(config),
        TOKENIZER: format_json(describe_tokenizer(encoder)),
        "tokenizer_config.json": format_json(tokenizer_config),
        **dict(zip((VOCAB, MERGES), texts, strict=True)),
        "README.md": card,
    }
    return {name: content.encode() for name, content in contents.items()}


def format_json(value):
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def describe_tokenizer(encoder):
    """What tokenizer.json says of an Encoder."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token, **flags, "special": True}
            for token, i in sorted(encoder.special.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": encoder.encoder,
            "merges": encoder.bpe_merges,
        },
    }
