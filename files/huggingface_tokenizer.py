"""The vocabulary of a folder in Hugging Face's layout, and what else its tokenizer may do.

GPT-2's tokenizer splits a text into words, each with the space before it, and merges bytes: that is
what encoder.py does. A tokenizer.json can ask for much more (to change the text before, to add
tokens, to split in other ways), and so can tokenizer_config.json beside it. What does is refused.

Sources: the serialisations in github.com/huggingface/tokenizers, and GPT2Tokenizer in transformers.
"""

import json
import re

from files.huggingface import (
    ADDED,
    CONFIG,
    MERGES,
    ONLY_BPE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCAB,
    UnsupportedError,
    naming,
)
from files.openai_folder import FolderError, is_file, parse_json_object, read_small

UNUSED_BY_GPT2 = (  # of tokenizers' BPE
    "dropout",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
)
NAMED = ("bos", "eos", "unk", "pad", "sep", "cls", "mask")
TOKENIZER_CLASSES = (  # of transformers, that do nothing else than what their files say
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
)


def read_tokenizer(folder, n_vocab=None):
    """The vocabulary of a folder: what OpenAI's encoder.json and vocab.bpe would hold, two str.

    n_vocab: of the model. Where the vocabulary has fewer tokens, as embeddings are filled up to a
        round number, the rest is called <|unused50257|> and so on; None adds none.

    UnsupportedError and FolderError that name the file, and OSError.
    """
    added, named = {}, []
    if is_file(folder / TOKENIZER_CONFIG):
        with naming(folder / TOKENIZER_CONFIG):
            text = read_small(folder / TOKENIZER_CONFIG).decode("utf-8")
            added, named = parse_tokenizer_config(text)
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
        vocab |= added
        check_added([*added, *named], vocab, merges)
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


def check_added(tokens, vocab, merges):
    """UnsupportedError where an added or named token is one that merges make: transformers cuts it
    out of a text before any merge, which is not done here. Also where it has no id."""
    made = {"".join(pair) for pair in merges}
    for token in tokens:
        if token in made or len(token) == 1:
            raise UnsupportedError(f"its added token {token!r:.40} is also one of the vocabulary")
        if token not in vocab:
            raise UnsupportedError(f"its added token {token!r:.40} has no id")


def parse_tokenizer_config(text):
    """({added token: id}, [token that is called by its name]) of tokenizer_config.json (str).
    UnsupportedError where it asks for what is not done here, and FolderError."""
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
    named = [said.get(f"{name}_token") for name in NAMED]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        more = said.get(name) or []
        if not isinstance(more, list | dict):
            raise FolderError(f"{name} is {more!r:.40}")
        named += more.values() if isinstance(more, dict) else more
    named = [token.get("content") if isinstance(token, dict) else token for token in named]
    return added, [token for token in named if isinstance(token, str)]


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
