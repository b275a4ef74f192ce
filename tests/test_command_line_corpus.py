"""The text to train on and the held-out one."""

import numpy as np
import pytest

from command_line.corpus import encode_texts, hash_texts, read_text, read_texts
from command_line.settings import nest_settings
from encoder import get_encoder
from train import TrainError


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_the_text(story, tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeff".encode() + story.read_bytes().replace(b"\n", b"\r\n"))
    assert read_text(path) == story.read_text()


@pytest.mark.parametrize(
    ("text", "held_out"),
    [
        ("a line of words\n" * 100, "\n" + "a line of words\n" * 4),
        ("words and words " * 100 + "\n", None),
        ("x" * 1000, "x" * 50),
    ],
)
def test_the_end_of_the_text_is_held_out_wherever_it_can_be_cut(tmp_path, text, held_out):
    path = tmp_path / "text.txt"
    path.write_text(text)
    kept, end = read_texts(path, None)
    assert kept + end == text
    assert len(text) // 25 <= len(end) <= len(text) // 20
    assert held_out is None or end == held_out
    assert end[0] in " \nx"


def test_a_held_out_text_of_its_own_leaves_the_corpus_whole(story, tmp_path):
    (tmp_path / "val.txt").write_text("held out")
    assert read_texts(story, tmp_path / "val.txt") == (story.read_text(), "held out")


def test_a_text_is_known_by_its_hash():
    assert hash_texts(["", "ø"]) == [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "d48b452a88ac264c8b303ab6ecd9e7d12e38fa4b8cd21aa104b5b3acf83accf3",
    ]


def test_both_texts_become_ids_and_their_bytes_are_counted(trained):
    encoder = get_encoder(trained)
    sizes = dict(n_vocab=300, n_ctx=4, n_embd=8, n_head=2, n_layer=1, n_seq=4)
    settings = nest_settings(dict(sizes, corpus="x", out="y"))
    corpus = encode_texts(encoder, ("the kïng and queen", "a bïrd"), settings)
    assert encoder.decode(corpus.train) == "the kïng and queen"
    assert encoder.decode(corpus.val) == "a bïrd"
    assert (corpus.train_bytes, corpus.val_bytes) == (19, 7)
    assert corpus.train.dtype == corpus.val.dtype == np.int32
    with pytest.raises(
        TrainError, match=r"x: 1 tokens to train on .* context of 4 .* smaller --n-ctx"
    ):
        encode_texts(encoder, ("a", "a bird"), settings)
    settings.init_from = "tales"
    with pytest.raises(TrainError, match="smaller --n-seq"):
        encode_texts(encoder, ("a", "a bird"), settings)
