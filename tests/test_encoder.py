"""encoder.py against other tokenizers' answers, textbook versions, and damaged vocabularies."""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

import encoder as encoder_module
from encoder import (
    END_OF_TEXT,
    WORDS,
    Encoder,
    EncoderError,
    bytes_to_unicode,
    format_encoder,
    get_encoder,
    parse_encoder,
    train_bpe,
)
from helpers import FIXTURES, GOLDEN_IDS, MINI, copy_mini_vocabulary

N_VOCAB = len(json.loads((MINI / "encoder.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def mini():
    return get_encoder(MINI)


@pytest.fixture
def golden_encoder(request, mini):
    """The Encoder for one half of the golden answers: "mini" or "gpt2"."""
    if request.param == "mini":
        return mini, GOLDEN_IDS["mini"]
    return get_encoder(request.getfixturevalue("shared")("gpt2-vocab")), GOLDEN_IDS["gpt2"]


both_vocabularies = pytest.mark.parametrize("golden_encoder", ["mini", "gpt2"], indirect=True)


@both_vocabularies
def test_encode_gives_the_ids_of_other_tokenizers(golden_encoder):
    enc, golden = golden_encoder
    for text, ids in golden["encode"]:
        assert enc.encode(text) == ids, text
        assert enc.decode(ids) == text


@both_vocabularies
def test_decode_gives_the_text_of_other_tokenizers_also_for_broken_utf8(golden_encoder):
    enc, golden = golden_encoder
    assert any("\ufffd" in text for _, text in golden["decode"])
    for ids, text in golden["decode"]:
        assert enc.decode(ids) == text


def test_encode_gives_the_ids_of_the_reference_model(shared):
    folder = shared("reference-model")
    enc = get_encoder(folder)
    answers = json.loads((folder / "answers.json").read_text("utf-8"))
    for answer in answers["answers"]:
        assert enc.encode(answer["prompt"]) == answer["ids"]
    assert (enc.eot, enc.n_vocab) == (0, 2048)


def test_byte_alphabet_is_reversible_and_visible():
    alphabet = bytes_to_unicode()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert all(character.isprintable() and character != " " for character in alphabet.values())
    assert (alphabet[ord("A")], alphabet[ord(" ")], alphabet[ord("\n")]) == ("A", "Ġ", "Ċ")


def test_every_character_comes_back(mini):
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000, 7)]))
    assert mini.decode(mini.encode(text)) == text


def textbook_bpe(word, bpe_ranks):
    """OpenAI's loop: find the pair of the lowest rank, merge it everywhere, begin again."""
    symbols = list(word)
    while len(symbols) > 1:
        first, second = min(pairwise(symbols), key=lambda pair: bpe_ranks.get(pair, np.inf))
        if (first, second) not in bpe_ranks:
            break
        merged, i = [], 0
        while i < len(symbols):
            if symbols[i : i + 2] == [first, second]:
                merged.append(first + second)
                i += 2
            else:
                merged.append(symbols[i])
                i += 1
        symbols = merged
    return symbols


def random_encoder(rng):
    """A vocabulary of pairs in any order, such as no learning would give.

    A merge may come before the one that makes its parts, and several may make the same token.
    """
    tokens = list("abc")
    merges = []
    for _ in range(rng.randint(1, 20)):
        pair = (rng.choice(tokens), rng.choice(tokens))
        if pair not in merges:
            merges.append(pair)
            tokens.append("".join(pair))
    rng.shuffle(merges)
    tokens = dict.fromkeys([*bytes_to_unicode().values(), *tokens])
    return Encoder({token: i for i, token in enumerate(tokens)}, merges)


def test_bpe_equals_the_textbook_loop_for_any_order_of_merges():
    rng = random.Random(0)
    for _ in range(300):
        enc = random_encoder(rng)
        for _ in range(15):
            word = "".join(rng.choices("abc", weights=[4, 2, 1], k=rng.randint(0, 24)))
            assert enc.bpe(word) == textbook_bpe(word, enc.bpe_ranks), (word, enc.bpe_merges)


def test_a_merge_of_lower_rank_waits_until_the_present_one_is_done():
    made = ["ab", "cab"]
    encoder = {token: i for i, token in enumerate([*bytes_to_unicode().values(), *made])}
    enc = Encoder(encoder, [("c", "ab"), ("a", "b")])
    assert enc.bpe("abcab") == ["ab", "cab"]
    swapped = dict(zip([*bytes_to_unicode().values(), "ab", "aba"], range(258), strict=True))
    enc = Encoder(swapped, [("ab", "a"), ("a", "b")])
    assert enc.bpe("abab") == ["ab", "ab"]  # merging at once would give aba, b


def test_work_grows_with_the_length_of_a_word_not_with_its_square(mini):
    class CountingDict(dict):
        lookups = 0

        def __contains__(self, pair):
            self.lookups += 1
            return super().__contains__(pair)

        def __getitem__(self, pair):
            self.lookups += 1
            return super().__getitem__(pair)

        def get(self, pair, default=None):
            self.lookups += 1
            return super().get(pair, default)

    enc = Encoder(mini.encoder, mini.bpe_merges)
    enc.bpe_ranks = CountingDict(enc.bpe_ranks)
    n = 20_000
    word = "".join(random.Random(0).choices("theriver", k=n))
    assert "".join(enc.bpe(word)) == word
    assert n <= enc.bpe_ranks.lookups < 8 * n


def test_one_word_of_200_kb():
    powers = ["a" * 2**i for i in range(1, 8)]
    encoder = {token: i for i, token in enumerate([*bytes_to_unicode().values(), *powers])}
    enc = Encoder(encoder, [(token[: len(token) // 2],) * 2 for token in powers])
    ids = enc.encode("a" * 200_000)
    assert [enc.decoder[i] for i in ids] == ["a" * 128] * 1562 + ["a" * 64]


def test_cache_is_bounded_and_changes_no_ids(mini, monkeypatch):
    monkeypatch.setattr(encoder_module, "CACHED_WORDS", 8)
    enc = Encoder(mini.encoder, mini.bpe_merges)
    for _ in range(2):
        for text, ids in GOLDEN_IDS["mini"]["encode"]:
            assert enc.encode(text) == ids
            assert len(enc.cache) <= 8
    enc.encode("x" * 1000)
    assert "x" * 1000 not in enc.cache


def test_what_encode_returns_belongs_to_the_caller(mini):
    ids = mini.encode("river")
    expected = list(ids)
    ids.append(0)
    assert mini.encode("river") == expected


def test_end_of_text_is_ordinary_text_unless_allowed(mini):
    text = f"{END_OF_TEXT}a {END_OF_TEXT}{END_OF_TEXT} b  {END_OF_TEXT}"
    assert mini.eot == mini.encoder[END_OF_TEXT] == 300
    assert mini.eot not in mini.encode(text)
    a, space, b = mini.encode("a"), mini.encode(" "), mini.encode(" b  ")
    expected = [300, *a, *space, 300, 300, *b, 300]
    assert mini.encode(text, allowed_special={END_OF_TEXT}) == expected
    assert mini.encode(text, allowed_special=[END_OF_TEXT]) == expected
    assert mini.decode(expected) == text
    assert mini.encode("a b", allowed_special={END_OF_TEXT}) == mini.encode("a b")


@pytest.mark.parametrize("allowed", [{"<|pad|>"}, {END_OF_TEXT, "x"}, "all", END_OF_TEXT])
def test_no_other_special_token_is_allowed(mini, allowed):
    with pytest.raises(EncoderError, match="allowed_special"):
        mini.encode("a", allowed_special=allowed)


def test_tokens_that_no_merge_makes_are_special_where_they_look_like_it(mini):
    more = [END_OF_TEXT, "<|user|>", "<pad>", "[SEP]"]
    tokens = [token for token in mini.encoder if token != END_OF_TEXT]
    encoder = {token: i for i, token in enumerate([*tokens, *more])}
    enc = Encoder(encoder, mini.bpe_merges)
    assert enc.special == {token: encoder[token] for token in more}
    text = "a<|user|>the<pad>[SEP]"
    plain = Encoder(mini.encoder, mini.bpe_merges)
    assert enc.encode(text) == plain.encode(text)  # from elsewhere, it is ordinary text
    the = plain.encode("the")
    assert enc.encode(text, allowed_special={"<|user|>"}) == [
        *plain.encode("a"),
        encoder["<|user|>"],
        *plain.encode("the<pad>[SEP]"),
    ]
    every = [*plain.encode("a"), encoder["<|user|>"], *the, encoder["<pad>"], encoder["[SEP]"]]
    assert enc.encode(text, allowed_special=enc.special) == every
    assert enc.decode(every) == text
    with pytest.raises(EncoderError, match=r"no special token '<\|eos\|>'"):
        enc.encode(text, allowed_special={"<|eos|>"})
    with pytest.raises(EncoderError, match="give a set"):
        enc.encode(text, allowed_special="<pad>")


@pytest.mark.parametrize("token", ["pad", "<pad", "[]", "<>", "<a b>", "<é>", "a<pad>", "<<a>>"])
def test_other_tokens_that_no_merge_makes_are_refused(mini, token):
    encoder = dict(mini.encoder) | {token.replace(" ", "Ġ"): mini.n_vocab}
    with pytest.raises(EncoderError, match="no merge makes"):
        Encoder(encoder, mini.bpe_merges)


def test_vocabulary_without_end_of_text():
    enc = Encoder({token: byte for byte, token in bytes_to_unicode().items()}, [])
    assert (enc.eot, enc.n_vocab) == (None, 256)
    assert enc.encode("aé") == [97, 0xC3, 0xA9]
    with pytest.raises(EncoderError, match="has no special token '<"):
        enc.encode("a", allowed_special={END_OF_TEXT})


@pytest.mark.parametrize("text", ["ab\ud800c", "ab\udfff", "ab\ud83d\ude00"])
def test_half_a_surrogate_pair_is_refused_with_its_position(mini, text):
    with pytest.raises(EncoderError, match=f"position 2, U\\+{ord(text[2]):04X}"):
        mini.encode(text)


@pytest.mark.parametrize("text", [b"bytes", None, 5, ["a"]])
def test_only_str_is_encoded(mini, text):
    with pytest.raises(EncoderError, match=type(text).__name__):
        mini.encode(text)


def test_decode_takes_any_iterable_of_integers(mini):
    ids = mini.encode("the other river, Река")
    for same in (tuple(ids), iter(ids), np.array(ids), np.array(ids, np.uint16), map(np.int8, [])):
        expected = "" if isinstance(same, map) else "the other river, Река"
        assert mini.decode(same) == expected
    assert mini.decode([]) == ""


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, N_VOCAB], f"id {N_VOCAB} is not one of 0 to {N_VOCAB - 1}"),
        ([-1], "id -1 "),
        ([2**70], "id 1180591620717411303424 "),
        ([5.0], "not float"),
        (np.array([5.0], np.float32), "not float32"),
        (np.array([[1, 2]]), "not ndarray"),
        ("12", "not str"),
        ([None], "not NoneType"),
    ],
)
def test_what_is_no_id_is_refused(mini, ids, message):
    with pytest.raises(EncoderError, match=message):
        mini.decode(ids)
    with pytest.raises(EncoderError, match=message):
        list(mini.decode_stream(ids))


def test_stream_is_decode_cut_into_one_text_for_each_id(mini):
    rng = random.Random(0)
    runs = [ids for _, ids in GOLDEN_IDS["mini"]["encode"]]
    runs += [rng.choices(range(mini.n_vocab), k=rng.randint(0, 20)) for _ in range(2000)]
    for ids in runs:
        texts = list(mini.decode_stream(ids))
        assert "".join(texts) == mini.decode(ids)
        assert len(texts) == len(ids) or (len(texts) == len(ids) + 1 and texts[-1])


def test_stream_gives_a_character_once_and_whole(mini):
    ids = mini.encode("a😀!")
    assert len(ids) == 6
    assert list(mini.decode_stream(ids)) == ["a", "", "", "", "😀", "!"]
    assert list(mini.decode_stream(ids[:3])) == ["a", "", "", "\ufffd"]


def test_stream_takes_an_id_only_when_asked_for_its_text(mini):
    taken = []
    ids = (taken.append(i) or i for i in mini.encode("abc"))
    texts = mini.decode_stream(ids)
    assert taken == []
    assert list(islice(texts, 2)) == ["a", "b"]
    assert len(taken) == 2


MERGES = (MINI / "vocab.bpe").read_bytes().replace(b"\r\n", b"\n").strip()
HEADER, MERGE_LINES = MERGES.split(b"\n", 1)


@pytest.mark.parametrize(
    "merges",
    [
        MERGES,
        MERGES + b"\n",
        MERGES + b"\n\n\n",
        MERGES.replace(b"\n", b"\r\n"),
        MERGES.replace(b"\n", b"\r\n") + b"\r\n",
        MERGE_LINES,
        MERGE_LINES.replace(b"\n", b"\r\n") + b"\r\n",
    ],
)
def test_line_ends_and_header_of_vocab_bpe(tmp_path, mini, merges):
    enc = get_encoder(str(copy_mini_vocabulary(tmp_path, vocab_bpe=merges)))
    assert (enc.encoder, enc.bpe_ranks) == (mini.encoder, mini.bpe_ranks)


def test_files_are_read_as_utf8_under_any_locale():
    script = f"import encoder; print(ascii(encoder.get_encoder({str(MINI)!r}).bpe('\\u0120river')))"
    environment = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    root = Path(encoder_module.__file__).parent
    output = subprocess.check_output([sys.executable, "-c", script], cwd=root, env=environment)
    assert output.split() == [rb"['\u0120river']"]


def with_token(token, i):
    """The mini vocabulary's encoder.json with one more token, or another id for one."""
    return json.dumps(json.loads((MINI / "encoder.json").read_text("utf-8")) | {token: i}).encode()


def without_token(token):
    encoder = json.loads((MINI / "encoder.json").read_text("utf-8"))
    del encoder[token]
    return json.dumps({token: i for i, token in enumerate(encoder)}).encode()


LAST_MERGE = MERGES.split(b"\n")[-1].decode("utf-8")


@pytest.mark.parametrize(
    ("encoder", "merges", "file", "message"),
    [
        (b"", None, "encoder.json", "not JSON"),
        (b'{"a": 0', None, "encoder.json", "not JSON"),
        (b"[" * 100_000, None, "encoder.json", "not JSON"),
        (b'["a", "b"]', None, "encoder.json", "not an object"),
        (b"3", None, "encoder.json", "not an object"),
        (b"{}", None, "encoder.json", "'!', the token of byte 33, is missing"),
        (b'{"\xff": 0}', None, "encoder.json", "not UTF-8 from byte 2 on"),
        (with_token("zzz", 7), None, "encoder.json", "'zzz' and '.' have the same id, 7"),
        (with_token("zzz", N_VOCAB + 1), None, "encoder.json", f"'zzz' has id {N_VOCAB + 1}"),
        (with_token("a", -1), None, "encoder.json", "'a' has id -1"),
        (with_token("a", 1.0), None, "encoder.json", "'a' has id 1.0"),
        (with_token("a", True), None, "encoder.json", "'a' has id True"),
        (with_token("a", "1"), None, "encoder.json", "'a' has id '1'"),
        (with_token("a", [[]]), None, "encoder.json", r"'a' has id \[\[\]\]"),
        (with_token("z z", N_VOCAB), None, "encoder.json", "'z z' is not written in the byte"),
        (with_token("z\u2028", N_VOCAB), None, "encoder.json", r"'z\\u2028' is not written"),
        (with_token("\ud800", N_VOCAB), None, "encoder.json", r"'\\ud800' is not written"),
        (with_token("", N_VOCAB), None, "encoder.json", "'' is not written"),
        (with_token("zzz", N_VOCAB), None, "vocab.bpe", "no merge makes 'zzz'"),
        (without_token("q"), None, "encoder.json", "'q', the token of byte 113, is missing"),
        (without_token("Ġriver"), None, "vocab.bpe", "needs the token 'Ġriver'"),
        (None, b"\xff" + MERGES, "vocab.bpe", "not UTF-8 from byte 0 on"),
        (None, b"", "vocab.bpe", "'' is not two tokens"),
        (None, HEADER, "vocab.bpe", "no merge makes"),
        (None, MERGES[: len(MERGES) // 2].rsplit(b"\n", 1)[0], "vocab.bpe", "no merge makes"),
        (None, MERGES + b"\nz z z", "vocab.bpe", "'z z z' is not two tokens"),
        (None, MERGES + b"\nzz", "vocab.bpe", "'zz' is not two tokens"),
        (None, MERGES + b"\n\nh e", "vocab.bpe", "'' is not two tokens"),
        (None, MERGES + b"\nz z", "vocab.bpe", f"'z z' of rank {N_VOCAB - 257} needs the token"),
        (None, MERGES + b"\nz ", "vocab.bpe", "needs the token ''"),
        (None, MERGES + "\nz\u2028 z".encode(), "vocab.bpe", r"needs the token 'z\\u2028'"),
        (None, MERGES + "\nz\u0085 z".encode(), "vocab.bpe", r"needs the token 'z\\x85'"),
        (None, f"{LAST_MERGE}\n".encode() + MERGE_LINES, "vocab.bpe", "' is there twice"),
    ],
)
def test_vocabulary_that_does_not_fit_together(tmp_path, encoder, merges, file, message):
    copy_mini_vocabulary(tmp_path, encoder, merges)
    with pytest.raises(EncoderError, match=message) as error:
        get_encoder(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / file}: ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("file", ["encoder.json", "vocab.bpe"])
def test_no_more_is_read_of_a_file_than_a_vocabulary_can_have(tmp_path, monkeypatch, file):
    path = copy_mini_vocabulary(tmp_path) / file
    longest = max(len((tmp_path / name).read_bytes()) for name in ("encoder.json", "vocab.bpe"))
    monkeypatch.setattr(encoder_module, "MAX_FILE", longest)
    get_encoder(tmp_path)
    path.write_bytes(path.read_bytes().ljust(longest + 1, b"\n"))
    with pytest.raises(EncoderError, match=f"{file}: larger than any vocabulary's file"):
        get_encoder(tmp_path)


@pytest.mark.parametrize("file", ["encoder.json", "vocab.bpe"])
def test_missing_file_is_named(tmp_path, file):
    copy_mini_vocabulary(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(EncoderError) as error:
        get_encoder(tmp_path)
    assert str(error.value) == f"{tmp_path / file}: No such file or directory"


def test_learning_by_hand():
    enc = train_bpe("ab abc abc bc", 260)
    # Words:    ab, Ġabc twice, Ġbc.  Pairs: a b 3, b c 3, Ġ a 2, Ġ b 1; a has the lower id
    # then      ab, Ġ ab c, Ġ b c     Pairs: Ġ ab 2, ab c 2, b c 1, Ġ b 1; Ġ has the lower id
    # then      ab, Ġab c, Ġ b c      Pairs: Ġab c 2, b c 1, Ġ b 1
    assert enc.bpe_merges == [("a", "b"), ("Ġ", "ab"), ("Ġab", "c")]
    assert list(enc.encoder)[256:] == ["ab", "Ġab", "Ġabc", END_OF_TEXT]
    assert list(enc.encoder.values()) == list(range(260))
    assert enc.encode("ab abc bc") == [256, 258, enc.encoder["Ġ"], *enc.encode("bc")]
    with pytest.raises(EncoderError, match="n_vocab=261: the text allows 260 tokens"):
        train_bpe("ab abc abc bc", 261)


def test_ties_go_to_the_lower_ids_left_before_right():
    assert train_bpe("zc\nyd\nyd\nzc", 258).bpe_merges == [("y", "d")]
    assert train_bpe("zc\nzb\nza\nzc\nzb\nza", 258).bpe_merges == [("z", "a")]
    assert train_bpe("\x00!\n\x00!\n!\x00\n!\x00", 258).bpe_merges == [("!", "Ā")]


def test_bytes_have_the_ids_of_gpt2(shared):
    gpt2 = json.loads((shared("gpt2-vocab") / "encoder.json").read_text("utf-8"))
    assert list(train_bpe("a", 257).encoder)[:256] == sorted(gpt2, key=gpt2.get)[:256]


def test_learning_gives_the_merges_of_another_library(mini):
    source = (FIXTURES / "make_encoder_golden.py").read_text("utf-8")
    (paragraph,) = re.findall(r'^PARAGRAPH = """\\\n(.*?)"""$', source, re.DOTALL | re.MULTILINE)
    assert train_bpe(paragraph, N_VOCAB).bpe_merges == mini.bpe_merges


def test_learning_gives_the_merges_of_another_library_from_prose(shared):
    tokenizers = pytest.importorskip("tokenizers")
    text = (shared("corpus") / "fairy_tales_val.txt").read_text("utf-8")
    peer = tokenizers.ByteLevelBPETokenizer()
    peer.train_from_iterator([text], vocab_size=1023, min_frequency=2, show_progress=False)
    merges = json.loads(peer.to_str())["model"]["merges"]
    assert train_bpe(text, 1024).bpe_merges == [tuple(pair) for pair in merges]


def textbook_train_bpe(text):
    """Cut all words of the text with the merges so far, count the pairs, learn one, begin again."""
    alphabet = bytes_to_unicode()
    tokens = list(alphabet.values())
    words = ["".join(alphabet[byte] for byte in word.encode()) for word in WORDS.findall(text)]
    bpe_ranks = {}
    while True:
        counts = Counter(pair for word in words for pair in pairwise(textbook_bpe(word, bpe_ranks)))
        ids = {token: i for i, token in enumerate(tokens)}
        pairs = [(-n, ids[pair[0]], ids[pair[1]], pair) for pair, n in counts.items() if n >= 2]
        if not pairs:
            return list(bpe_ranks)
        *_, pair = min(pairs)
        bpe_ranks[pair] = len(bpe_ranks)
        tokens.append("".join(pair))


def train_to_the_end(text):
    """Learn as many tokens as the text allows, which is what the message says."""
    with pytest.raises(EncoderError) as error:
        train_bpe(text, 10**6)
    (n_vocab,) = re.findall(r"n_vocab=1000000: the text allows (\d+) tokens", str(error.value))
    assert f"ask for n_vocab={n_vocab} or less" in str(error.value)
    return train_bpe(text, int(n_vocab))


def random_texts(n_texts):
    """Texts of few letters, so that equal symbols, overlaps and ties abound."""
    rng = random.Random(0)
    kinds = ["a", "aaab", "aab ", "abcd", "'st a", " \n", "\x00\x01", "é1", "的一", "😀😁"]
    for i in range(n_texts):
        letters, n_words = kinds[i % len(kinds)], rng.choice([2, 9])
        words = ["".join(rng.choices(letters, k=rng.randint(1, 12))) for _ in range(n_words)]
        yield rng.choice(["\n", " ", "x"]).join(words)


def test_learning_equals_the_textbook_loop():
    for text in random_texts(180):
        enc = train_to_the_end(text)
        assert enc.bpe_merges == textbook_train_bpe(text), text
        assert len(set(enc.bpe_merges)) == len(enc.bpe_merges) == enc.n_vocab - 257


def test_encoding_cuts_every_word_as_learning_did(monkeypatch):
    pairs = None

    class RememberedPairs(encoder_module.Pairs):
        def __init__(self, words):
            nonlocal pairs
            super().__init__(words)
            self.words, pairs = words, self

    monkeypatch.setattr(encoder_module, "Pairs", RememberedPairs)
    runs = ["a" * n for n in range(1, 40)]
    for text in ["\n".join(runs), *random_texts(180)]:
        enc = train_to_the_end(text)
        cuts, i = [[]], 0
        while (i := pairs.after[i]) < len(pairs.symbols) - 1:
            if pairs.symbols[i] is None:
                cuts.append([])
            else:
                cuts[-1].append(pairs.symbols[i])
        assert cuts == [enc.encode(word) for word in pairs.words]


def test_a_token_is_made_by_one_pair_only():
    """Each text has the bytes of a token in other company, to be cut differently, or in a run."""
    for text in ["abc xbc abx", "aaa aa aaaa xaaa aaax", "abab ababa babab", "的的的 一的的 的的"]:
        tokens = [left + right for left, right in train_to_the_end(f"{text} " * 3).bpe_merges]
        assert len(set(tokens)) == len(tokens) > 3


def test_learned_vocabulary_restores_any_text():
    text = "川は何も言わなかった。川は静かに。 Река молчала 😀😀 naïve \x00\x00\u2028\r\n  Река" * 2
    enc = train_bpe(text, 300)
    assert enc.n_vocab == 300
    assert enc.decode(enc.encode(text)) == text
    assert len(enc.encode(text)) < len(text.encode("utf-8")) - 43
    other = "".join(map(chr, range(0, 0xD800, 97)))
    assert enc.decode(enc.encode(other)) == other
    assert enc.encode(END_OF_TEXT, allowed_special={END_OF_TEXT}) == [enc.eot] == [299]


def test_end_of_text_separates_documents_and_teaches_nothing():
    enc = train_bpe(f"{END_OF_TEXT}ab{END_OF_TEXT}cd" * 3 + f"{END_OF_TEXT} {END_OF_TEXT}e f", 259)
    assert enc.bpe_merges == [("a", "b"), ("c", "d")]
    with pytest.raises(EncoderError, match="the text allows 257 tokens"):
        train_bpe(f"a{END_OF_TEXT}" * 9, 258)
    # The last of several spaces is left to the word after it, but here there is none.
    assert train_bpe(f"  {END_OF_TEXT}a" * 2, 258).bpe_merges == [("Ġ", "Ġ")]


def test_smallest_vocabulary_has_no_merges():
    enc = train_bpe("abab", np.int64(257))
    assert (enc.bpe_merges, enc.n_vocab, enc.eot) == ([], 257, 256)
    assert parse_encoder(*format_encoder(enc)).encoder == enc.encoder


def test_learning_is_the_same_whatever_the_hash_seed():
    script = "import encoder; print(ascii(encoder.train_bpe(open(0).read(), 340).bpe_merges))"
    text = "\n".join(random_texts(60)).encode("ascii", "ignore")
    root = Path(encoder_module.__file__).parent
    outputs = {
        subprocess.check_output(
            [sys.executable, "-c", script], cwd=root, input=text, env={"PYTHONHASHSEED": seed}
        )
        for seed in "123"
    }
    assert len(outputs) == 1


def test_work_of_learning_grows_with_the_length_of_a_word_not_with_its_square(monkeypatch):
    n_counted = 0

    class CountingPairs(encoder_module.Pairs):
        def _count(self, i, sign):
            nonlocal n_counted
            n_counted += 1
            return super()._count(i, sign)

    monkeypatch.setattr(encoder_module, "Pairs", CountingPairs)
    n = 20_000
    for word in ("a" * n, "".join(random.Random(0).choices("theriver", k=n))):
        n_counted = 0
        train_to_the_end(word)
        assert n < n_counted <= 2 * 6 * n + 4  # the message needs one round of learning, too


@pytest.mark.parametrize(
    ("text", "n_vocab", "message"),
    [
        ("abab", 256, "n_vocab=256: 256 bytes and <|endoftext|> make at least 257"),
        ("abab", -1, "n_vocab=-1: 256 bytes"),
        ("abab", True, "n_vocab=1: 256 bytes"),
        ("abab", 300.0, "n_vocab is an integer, not float"),
        ("abab", "300", "n_vocab is an integer, not str"),
        ("abab", None, "n_vocab is an integer, not NoneType"),
        ("abab", 259, "n_vocab=259: the text allows 258 tokens, then no pair occurs twice; ask"),
        ("abcdefg", 258, "n_vocab=258: the text allows 257 tokens"),
        ("", 257, "the text is empty"),
        (END_OF_TEXT * 3, 300, "the text is empty"),
        (b"abab", 258, "a text is a str, not bytes"),
        (None, 258, "a text is a str, not NoneType"),
        (["abab"], 258, "a text is a str, not list"),
        ("ab\ud800ab", 258, "the character at position 2, U+D800, is half of a surrogate pair"),
    ],
)
def test_what_cannot_be_learned(text, n_vocab, message):
    with pytest.raises(EncoderError) as error:
        train_bpe(text, n_vocab)
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1


def test_formatted_vocabulary_comes_back(mini):
    for enc in (mini, train_bpe("川は川は Река Река # # ## \x00\x00 " * 3, 276)):
        same = parse_encoder(*format_encoder(enc))
        assert (same.encoder, same.bpe_merges) == (enc.encoder, enc.bpe_merges)
        assert same.encode("# 川は!") == enc.encode("# 川は!")


def test_formatted_vocabulary_looks_like_openais():
    enc = train_bpe("ab abc abc bc", 260)
    shuffled = Encoder(dict(reversed(enc.encoder.items())), enc.bpe_merges)
    json_text, bpe_text = format_encoder(shuffled)
    assert bpe_text == "#version: 0.2\na b\nĠ ab\nĠab c\n"
    assert json_text.startswith(r'{"!": 0, "\"": 1, "#": 2, ')
    assert json_text.endswith(
        r'"ab": 256, "\u0120ab": 257, "\u0120abc": 258, "<|endoftext|>": 259}'
    )


def test_openais_vocabulary_is_formatted_byte_for_byte(shared):
    folder = shared("gpt2-vocab")
    for text, file in zip(
        format_encoder(get_encoder(folder)), ("encoder.json", "vocab.bpe"), strict=True
    ):
        assert text.encode() == (folder / file).read_bytes()


@pytest.mark.parametrize(
    ("json_text", "bpe_text", "file", "problem"),
    [
        ("", "", "encoder.json", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("{}", "", "encoder.json", "'!', the token of byte 33, is missing"),
        (None, "", "vocab.bpe", "'' is not two tokens and a space"),
    ],
)
def test_an_error_says_which_file_is_meant_and_knows_no_path(json_text, bpe_text, file, problem):
    if json_text is None:
        json_text = (MINI / "encoder.json").read_text("utf-8")
    with pytest.raises(EncoderError) as error:
        parse_encoder(json_text, bpe_text)
    assert (error.value.file, error.value.problem) == (file, problem)
    assert str(error.value) == f"{file}: {problem}"


def test_an_error_about_a_text_is_of_no_file(mini):
    with pytest.raises(EncoderError) as error:
        mini.encode(None)
    assert error.value.file is None and error.value.problem == str(error.value)
