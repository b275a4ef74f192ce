"""Streaming: what goes to stdout when, of one sample and of several."""

import io
import re
import sys

import numpy as np
import pytest

from command_line.generate import main
from command_line.stream import report_speed, stream
from encoder import get_encoder
from programs import expect_text, run_generate


def test_text_comes_out_as_it_is_generated(tiny_model):
    """Each token is flushed on its own: a stream that records the writes sees them one by one."""

    class Recorder(io.TextIOWrapper):
        def __init__(self):
            super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
            self.states = []

        def flush(self):
            super().flush()
            self.states.append(self.buffer.getvalue())

    recorder = Recorder()
    previous, sys.stdout = sys.stdout, recorder
    try:
        status = main(["--model", str(tiny_model), "--greedy", "-n", "6", "the"])
    finally:
        sys.stdout = previous
    assert status == 0
    written = [state for state in recorder.states if state]
    assert written[0] == b"the"
    assert len(set(written)) >= 6


def test_samples_are_separated_and_differ(tiny_model):
    status, out, err = run_generate(
        tiny_model, "--n-samples", "3", "--seed", "1", "-n", "8", "the cat"
    )
    assert status == 0 and re.search(r"^24 tokens, ", err, re.M)
    texts = re.split(r"--- sample \d of 3 ---\n", out)[1:]
    assert len(set(texts)) == 3 and all(text.startswith("the cat") for text in texts)


def test_a_single_sample_has_no_heading_and_is_what_the_functions_say(tiny_model, capsys):
    assert main(["--model", str(tiny_model), "--seed", "4", "-n", "8", "the cat"]) == 0
    text = expect_text(tiny_model, "the cat", 8, temperature=0.8, top_k=40, rng=4)
    assert capsys.readouterr().out == text + "\n"


def test_no_tokens_are_the_prompt_alone(tiny_model, capsys):
    arguments = ["--model", str(tiny_model), "--n-samples", "2", "-n", "0", "the cat"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out == "--- sample 1 of 2 ---\nthe cat\n\n--- sample 2 of 2 ---\nthe cat\n"
    assert "tokens/s" not in err and "ended" not in err


def test_the_text_stops_where_the_model_ends_it(tiny_model, capsys):
    encoder = get_encoder(tiny_model)
    eot = encoder.eot
    steps = iter(np.array([[5, 6], [eot, 7], [8, 9], [10, eot], [11, 12]]))
    stream(encoder, "the", 1, steps, n_samples=2, n_tokens=5)
    out, err = capsys.readouterr()
    first, second = re.split(r"--- sample \d of 2 ---\n", out)[1:]
    assert first == "the" + encoder.decode([5]) + "\n\n"
    assert second == "the" + encoder.decode([6, 7, 9]) + "\n"
    assert "ended its text with <|endoftext|>: in 2 of 2 samples" in err
    assert len(list(steps)) == 1  # what nobody will read is not computed


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_was_generated_before_it_was_broken_off_is_shown(tiny_model, capsys, error):
    encoder = get_encoder(tiny_model)

    def steps():
        yield np.array([5, 6])
        yield np.array([7, 8])
        raise error

    with pytest.raises(error):
        stream(encoder, "the", 1, steps(), n_samples=2, n_tokens=9)
    out, err = capsys.readouterr()
    assert out == (
        f"--- sample 1 of 2 ---\nthe{encoder.decode([5, 7])}\n\n"
        f"--- sample 2 of 2 ---\nthe{encoder.decode([6, 8])}\n"
    )
    assert err.startswith("4 tokens, ") and "ended" not in err


def test_stop_texts_end_samples_on_their_own_and_are_counted(tiny_model, capsys):
    encoder = get_encoder(tiny_model)
    steps = np.array([[5, 6], [70, 7], [8, 9], [10, 70], [11, 12]])
    stream(encoder, "the", 1, iter(steps), 2, 5, stops=[encoder.decode([70])])
    out, err = capsys.readouterr()
    first, second = re.split(r"--- sample \d of 2 ---\n", out)[1:]
    assert first == "the" + encoder.decode([5]) + "\n\n"
    assert second == "the" + encoder.decode([6, 7, 9]) + "\n"
    assert err.startswith("6 tokens, ") and "a stop text came: in 2 of 2 samples\n" in err
    stream(encoder, "the", 1, iter(steps[:, :1]), 1, 5, stops=[encoder.decode([8])])
    assert "a stop text came after 3 tokens\n" in capsys.readouterr().err


def test_the_speed_counts_the_tokens_after_the_first(capsys):
    report_speed(7, 6, 2, [10.0, 12.5, 13.0, 13.5])
    assert capsys.readouterr().err == (
        "6 tokens, 4.0 tokens/s; the first after 2.50 s, for a prompt of 7\n"
    )
    report_speed(7, 2, 2, [10.0, 12.5])
    assert capsys.readouterr().err == ""
