"""A continuation that grows, and where it ends."""

import random

import pytest

from command_line.continuation import END_OF_TEXT, LENGTH, STOP, Continuation
from encoder import Encoder, bytes_to_unicode

ALPHABET = {character: i for i, character in enumerate(bytes_to_unicode().values())}
LETTERS = Encoder(  # bytes, some pairs of them, and the end of a text
    ALPHABET | {"ab": 256, "bc": 257, "abc": 258, "<|endoftext|>": 259},
    [("a", "b"), ("b", "c"), ("ab", "c")],
)


def ids_of(text):
    """One id for each byte of the text."""
    return [LETTERS.encoder[bytes_to_unicode()[byte]] for byte in text.encode()]


def grow(ids, *stops, reason=LENGTH):
    """(the pieces in which it comes, the continuation)."""
    continuation, pieces = Continuation(LETTERS, stops), []
    for token_id in ids:
        if continuation.finish_reason is None:
            pieces.append(continuation.add(token_id))
    if continuation.finish_reason is None:
        pieces.append(continuation.end(reason))
    assert "".join(pieces) == continuation.text
    return pieces, continuation


def test_without_stops_every_character_comes_at_once():
    pieces, continuation = grow(ids_of("aø!"))
    assert pieces == ["a", "", "ø", "!", ""]
    assert (continuation.ids, continuation.finish_reason) == (ids_of("aø!"), LENGTH)


def test_half_a_character_at_the_end_is_a_replacement_character():
    assert grow(ids_of("ø")[:1])[1].text == "�"


def test_the_end_of_text_token_ends_it_and_is_no_part_of_it():
    _, continuation = grow([*ids_of("ab"), LETTERS.eot, *ids_of("c")])
    assert (continuation.text, continuation.ids) == ("ab", ids_of("ab"))
    assert continuation.finish_reason == END_OF_TEXT


def test_a_stop_text_in_pieces_is_held_back_and_never_shown():
    pieces, continuation = grow(ids_of("on. The end"), ". The", "end")
    assert pieces == ["o", "n", "", "", "", "", ""]
    assert (continuation.text, continuation.finish_reason) == ("on", STOP)
    assert continuation.ids == ids_of("on. The")  # the tokens that were generated


def test_what_only_looked_like_a_stop_text_is_shown_as_soon_as_it_is_none():
    pieces, continuation = grow(ids_of("aabaac"), "aabaad")
    assert pieces == ["", "", "", "", "", "aabaac", ""]
    pieces, continuation = grow(ids_of("aaab"), "aab!")
    assert pieces == ["", "", "a", "", "aab"]
    assert continuation.finish_reason == LENGTH


def test_what_is_held_back_at_the_end_is_text():
    for reason, ids in [
        (LENGTH, ids_of("abc. T")),
        (END_OF_TEXT, [*ids_of("abc. T"), LETTERS.eot]),
    ]:
        continuation = grow(ids, ". The")[1]
        assert (continuation.text, continuation.finish_reason) == ("abc. T", reason)


def test_a_stop_text_within_a_token_ends_the_text_within_it():
    assert grow([258], "b")[1].text == "a"
    assert grow([258, 258], "ca")[1].text == "ab"


def test_a_stop_text_that_ends_with_half_a_character_of_the_next_token():
    assert grow([*ids_of("aø"), *ids_of("ø")[:1]], "ø")[1].text == "a"


def stops_by_the_definition(text, stops):
    """The text up to the stop that is complete first; of those complete together, the longest."""
    for end in range(len(text) + 1):
        begins = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if begins:
            return text[: min(begins)], STOP
    return text, LENGTH


@pytest.mark.parametrize("seed", range(20))
def test_it_does_not_matter_how_the_text_is_cut_into_tokens(seed):
    rng = random.Random(seed)
    for _ in range(100):
        text = "".join(rng.choices("abc", k=12))
        stops = ["".join(rng.choices("abc", k=rng.randint(1, 4))) for _ in range(rng.randint(0, 3))]
        ids, at = [], 0
        while at < len(text):
            tokens = [
                token for token in ("a", "b", "c", "ab", "bc", "abc") if text.startswith(token, at)
            ]
            token = rng.choice(tokens)
            ids.append(LETTERS.encoder[token])
            at += len(token)
        continuation = grow(ids, *stops)[1]
        expected = stops_by_the_definition(text, stops)
        assert (continuation.text, continuation.finish_reason) == expected, (text, stops)


def test_log_probabilities_stand_beside_their_tokens():
    continuation = Continuation(LETTERS, ["b"])
    continuation.add(97 - 33, -0.5)
    continuation.add(LETTERS.encoder["b"], -1.5)
    assert continuation.log_probs == [-0.5, -1.5] and len(continuation.ids) == 2
