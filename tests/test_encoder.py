"""encoder.py against other tokenizers' answers, a textbook version, and damaged vocabularies."""

import json
import random
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

import encoder as encoder_module
from encoder import END_OF_TEXT, Encoder, EncoderError, bytes_to_unicode, get_encoder

FIXTURES = Path(__file__).parent / "fixtures"
MINI = FIXTURES / "mini-vocabulary"
N_VOCAB = len(json.loads((MINI / "encoder.json").read_text("utf-8")))
GOLDEN = json.loads((FIXTURES / "encoder_golden.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def mini():
    return get_encoder(MINI)


@pytest.fixture
def golden_encoder(request, mini):
    """The Encoder for one half of the golden answers: "mini" or "gpt2"."""
    if request.param == "mini":
        return mini, GOLDEN["mini"]
    return get_encoder(request.getfixturevalue("shared")("gpt2-vocab")), GOLDEN["gpt2"]


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
        for text, ids in GOLDEN["mini"]["encode"]:
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


def test_vocabulary_without_end_of_text():
    enc = Encoder({token: byte for byte, token in bytes_to_unicode().items()}, [])
    assert (enc.eot, enc.n_vocab) == (None, 256)
    assert enc.encode("aé") == [97, 0xC3, 0xA9]
    with pytest.raises(EncoderError, match="has no <"):
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
    runs = [ids for _, ids in GOLDEN["mini"]["encode"]]
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


def model_folder(folder, encoder=None, merges=None):
    """Copy the mini vocabulary, with either file's bytes replaced."""
    for name, content in (("encoder.json", encoder), ("vocab.bpe", merges)):
        (folder / name).write_bytes((MINI / name).read_bytes() if content is None else content)
    return folder


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
    enc = get_encoder(str(model_folder(tmp_path, merges=merges)))
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
    model_folder(tmp_path, encoder, merges)
    with pytest.raises(EncoderError, match=message) as error:
        get_encoder(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / file}: ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("file", ["encoder.json", "vocab.bpe"])
def test_missing_file_is_named(tmp_path, file):
    model_folder(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(EncoderError) as error:
        get_encoder(tmp_path)
    assert str(error.value) == f"{tmp_path / file}: No such file or directory"
