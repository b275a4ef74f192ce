"""--show-tokens and --explain, as a user meets them."""

import re

from programs import expect_text, run_generate

from encoder import get_encoder
from gpt2_numpy import gpt2, softmax
from utils import load_encoder_hparams_and_params


def test_show_tokens_lists_ids_and_pieces(tiny_model):
    _, out, err = run_generate(tiny_model, "--show-tokens", "--greedy", "-n", "1", "a the ø")
    encoder = get_encoder(tiny_model)
    for i in encoder.encode("a the ø"):
        assert re.search(rf"^ *{i}  ", err, re.M)
    assert "' the'" in err
    assert f"{encoder.encoder['Ã']:>7}  b'\\xc3'" in err  # half of ø
    assert out == expect_text(tiny_model, "a the ø", 1) + "\n"


def test_explain_shows_five_probabilities_and_marks_the_choice(tiny_model):
    _, out, err = run_generate(tiny_model, "--explain", "--greedy", "-n", "4", "the")
    assert out == expect_text(tiny_model, "the", 4) + "\n"
    rows = re.findall(r"^  (->|  ) +([\d.]+)%  (#*) ", err, re.M)
    assert len(rows) == 20
    assert [arrow for arrow, _, _ in rows] == ["->", "  ", "  ", "  ", "  "] * 4
    assert all(abs(len(bar) - 0.3 * float(p)) < 0.51 for _, p, bar in rows)
    encoder, hparams, params = load_encoder_hparams_and_params(str(tiny_model))
    logits = gpt2(encoder.encode("the"), **params, n_head=hparams["n_head"])[-1]
    best = sorted(softmax(logits), reverse=True)[:5]
    assert [p for _, p, _ in rows[:5]] == [f"{100 * p:.2f}" for p in best]


def test_explain_shows_the_choice_also_when_it_is_not_among_the_five(tiny_model):
    options = ["--explain", "--seed", "1", "--temperature", "50", "--top-k", "0", "-n", "12"]
    _, _, err = run_generate(tiny_model, *options, "the")
    steps = [step for step in err.split("\n\n") if "%" in step]
    assert len(steps) == 12
    assert all(step.count("->") == 1 for step in steps)
    assert max(step.count("%") for step in steps) == 6
