"""How fast encoder.py encodes, beside tiktoken, and learns, beside tokenizers, in the same run.

    pip install tiktoken tokenizers
    python benchmarks/tokenizer.py models/124M TEXT_FILE

The folder holds OpenAI's encoder.json and vocab.bpe. Prose is timed from a new Encoder, which has
seen no word yet, and again with the words remembered; tiktoken takes its turn before each. The best
of several rounds counts, and all ids must be equal. Then single words of 200 kB, the worst cases.

Last, vocabularies of several sizes are learned from all of the prose but its last fiftieth, and the
tokens that they make of that fiftieth are counted. tokenizers splits the text with the same pattern
and learns pairs that occur at least twice, as train_bpe does; it may use all cores, and is given
the text in lines, so that it can.
"""

import argparse
import os
import random
import string
import sys
import time
from pathlib import Path

import tiktoken
import tokenizers
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from encoder import END_OF_TEXT, get_encoder, train_bpe

ROUNDS = 7
WORD_BYTES = 200_000
LEARNING_ROUNDS = 3
VOCABULARIES = (512, 2048, 4096)


def tiktoken_gpt2(folder):
    """Return tiktoken's "gpt2" from OpenAI's two files, without a download."""
    os.environ["TIKTOKEN_CACHE_DIR"] = ""
    ranks = data_gym_to_mergeable_bpe_ranks(f"{folder}/vocab.bpe", f"{folder}/encoder.json")
    special_tokens = {END_OF_TEXT: len(ranks)}
    return tiktoken.Encoding(
        "gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special_tokens
    )


def timed(function, *args):
    """Return the seconds that function(*args) takes, and what it returns."""
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def compare_on_prose(folder, peer, text):
    """Print speed and ratio for a new Encoder and for one that has seen the text."""
    new, again = [], []  # (seconds of tiktoken, seconds of encoder.py)
    for _ in range(ROUNDS):
        enc = get_encoder(folder)
        for times in (new, again):
            peer_seconds, expected = timed(peer.encode_ordinary, text)
            seconds, ids = timed(enc.encode, text)
            assert ids == expected, "the ids differ from tiktoken's"
            times.append((peer_seconds, seconds))
    megabytes = len(text.encode("utf-8")) / 1e6
    print(f"{megabytes:.1f} MB of prose, {len(ids)} tokens, best of {ROUNDS} rounds")
    for name, times in (("new Encoder", new), ("again, words remembered", again)):
        peer_seconds, seconds = map(min, zip(*times, strict=True))
        print(
            f"  {name:26} {seconds:6.2f} s, {megabytes / seconds:5.1f} MB/s;"
            f" tiktoken {peer_seconds:.2f} s; {peer_seconds / seconds:.2f} of its speed"
        )


def long_words():
    """Yield (name, word) with words that the splitting pattern leaves whole, and a base64 blob."""
    rng = random.Random(0)

    def letters(alphabet):
        return "".join(rng.choices(alphabet, k=WORD_BYTES // len(alphabet[0].encode("utf-8"))))

    yield "one letter", letters("a")
    yield '"ab" repeated', "ab" * (WORD_BYTES // 2)
    yield "random letters", letters(string.ascii_lowercase)
    yield "digits", letters(string.digits)
    yield "punctuation", letters(string.punctuation)
    yield "spaces", letters(" ")
    yield "one Chinese character", letters("的")
    yield "random Chinese characters", letters([chr(i) for i in range(0x4E00, 0x9FA5)])
    yield "one emoji", letters("😀")
    yield "combining marks", letters("\u0301")
    yield "base64", letters(string.ascii_letters + string.digits + "+/")


def tokenizers_train_bpe(text, n_vocab):
    """Return what the tokenizers library learns from the text, with the words of GPT-2."""
    peer = tokenizers.ByteLevelBPETokenizer()
    peer.train_from_iterator(
        text.splitlines(keepends=True),
        vocab_size=n_vocab,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        show_progress=False,
    )
    return peer


def compare_learning(text):
    """Print how long each takes for some vocabularies, and how many tokens theirs make per byte."""
    cut = len(text) * 49 // 50
    text, held_out = text[:cut], text[cut:]
    n_bytes = len(held_out.encode("utf-8"))
    megabytes = len(text.encode("utf-8")) / 1e6
    print(
        f"learning from {megabytes:.1f} MB of prose, best of {LEARNING_ROUNDS} rounds;"
        f" tokens per byte of {n_bytes / 1e6:.2f} MB more"
    )
    for n_vocab in VOCABULARIES:
        times = []  # (seconds of tokenizers, seconds of encoder.py)
        for _ in range(LEARNING_ROUNDS):
            peer_seconds, peer = timed(tokenizers_train_bpe, text, n_vocab)
            seconds, enc = timed(train_bpe, text, n_vocab)
            times.append((peer_seconds, seconds))
        peer_seconds, seconds = map(min, zip(*times, strict=True))
        n_tokens, peer_n_tokens = len(enc.encode(held_out)), len(peer.encode(held_out).ids)
        print(
            f"  {f'{n_vocab} tokens':26} {seconds:6.2f} s, {n_tokens / n_bytes:.4f} per byte;"
            f" tokenizers {peer_seconds:.2f} s, {peer_n_tokens / n_bytes:.4f};"
            f" {peer_seconds / seconds:.2f} of its speed"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model_dir", help="a folder with OpenAI's encoder.json and vocab.bpe")
    parser.add_argument("text_file", help="prose to encode and to learn from, UTF-8")
    args = parser.parse_args()

    peer = tiktoken_gpt2(args.model_dir)
    prose = Path(args.text_file).read_text("utf-8")
    compare_on_prose(args.model_dir, peer, prose)

    print(f"single words of {WORD_BYTES} bytes")
    enc = get_encoder(args.model_dir)
    for name, word in long_words():
        seconds, ids = timed(enc.encode, word)
        assert ids == peer.encode_ordinary(word), "the ids differ from tiktoken's"
        print(f"  {name:26} {seconds:6.2f} s, {len(ids)} tokens")

    compare_learning(prose)


if __name__ == "__main__":
    main()
