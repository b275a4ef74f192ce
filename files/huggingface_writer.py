"""The files of a folder in Hugging Face's layout, but for the weights (see safetensors.py)."""

import json

from files.huggingface import (
    CONFIG,
    EPSILON,
    FIELDS,
    MERGES,
    SIZE_NAMES,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCAB,
)


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
        TOKENIZER_CONFIG: format_json(tokenizer_config),
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
