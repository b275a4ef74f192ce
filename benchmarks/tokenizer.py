"""How fast encoder.py encodes, beside tiktoken in the same run.

    pip install tiktoken
    python benchmarks/tokenizer.py models/124M TEXT_FILE

The folder holds OpenAI's encoder.json and vocab.bpe. Prose is timed from a new Encoder, which has
seen no word yet, and again with the words remembered; tiktoken takes its turn before each. The best
of several rounds counts, and all ids must be equal. Then single words of 200 kB, the worst cases.
"""

import argparse
import os
import random
import string
import sys
import time
from pathlib import Path

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from encoder import END_OF_TEXT, get_encoder

ROUNDS = 7
WORD_BYTES = 200_000


def tiktoken_gpt2(folder):
    """Return tiktoken's "gpt2" from OpenAI's two files, without a download."""
    os.environ["TIKTOKEN_CACHE_DIR"] = ""
    ranks = data_gym_to_mergeable_bpe_ranks(f"{folder}/vocab.bpe", f"{folder}/encoder.json")
    special_tokens = {END_OF_TEXT: len(ranks)}
    return tiktoken.Encoding(
        "gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens=special_tokens
    )


def timed(encode, text):
    """Return the seconds that encode(text) takes, and the ids."""
    start = time.perf_counter()
    ids = encode(text)
    return time.perf_counter() - start, ids


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model_dir", help="a folder with OpenAI's encoder.json and vocab.bpe")
    parser.add_argument("text_file", help="prose to encode, UTF-8")
    args = parser.parse_args()

    peer = tiktoken_gpt2(args.model_dir)
    compare_on_prose(args.model_dir, peer, Path(args.text_file).read_text("utf-8"))

    print(f"single words of {WORD_BYTES} bytes")
    enc = get_encoder(args.model_dir)
    for name, word in long_words():
        seconds, ids = timed(enc.encode, word)
        assert ids == peer.encode_ordinary(word), "the ids differ from tiktoken's"
        print(f"  {name:26} {seconds:6.2f} s, {len(ids)} tokens")


if __name__ == "__main__":
    main()
