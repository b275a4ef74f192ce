"""The command line, as a user meets it: mostly in a process of its own."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gpt2_numpy
from encoder import get_encoder
from gpt2_numpy import generate, gpt2, log_probs, softmax
from utils import load_encoder_hparams_and_params

PROGRAM = str(Path(gpt2_numpy.__file__))


def command(model, *arguments):
    return [sys.executable, PROGRAM, "--model", str(model), *arguments]


def start(model, *arguments, **settings):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.Popen(command(model, *arguments), **pipes | settings)


def run(model, *arguments, stdin=b"", **settings):
    """Run to the end: exit status, stdout and stderr as text."""
    process = start(model, *arguments, **settings)
    out, err = process.communicate(stdin, timeout=60)
    return process.returncode, (out or b"").decode(), err.decode()


def expected(model, prompt, n_tokens, **settings):
    """What the functions themselves say: the prompt and its continuation."""
    encoder, hparams, params = load_encoder_hparams_and_params(str(model))
    ids = encoder.encode(prompt) or [encoder.eot]
    new = []
    for i in generate(ids, params, hparams["n_head"], n_tokens, **settings):
        if i == encoder.eot:
            break
        new.append(i)
    return prompt + encoder.decode(new)


def test_stdout_is_prompt_and_continuation_and_nothing_else(tiny_model):
    status, out, err = run(tiny_model, "--greedy", "-n", "20", "the cat")
    assert status == 0
    assert out == expected(tiny_model, "the cat", 20) + "\n"
    assert re.search(r"tokens, [\d.]+ tokens/s", err)
    assert "seed" not in err


def test_the_reference_model_speaks_from_the_shell(shared):
    status, out, _ = run(shared("reference-model"), "--greedy", "Once upon a time there was")
    assert status == 0
    assert out == (
        "Once upon a time there was a little boy who had a little boy, and had a little boy, and a "
        "little boy, and a little boy, and a little boy, and a little boy, and a little boy,\n")


def test_defaults_are_those_of_the_help_and_the_seed_it_prints_repeats_the_run(tiny_model):
    status, out, err = run(tiny_model, "a b")
    assert status == 0
    seed = re.search(r"^seed \d+: .* --seed (\d+)", err)[1]      # told before anything else
    assert run(tiny_model, "--seed", seed, "a b")[:2] == (0, out)
    assert out == expected(tiny_model, "a b", 40, temperature=0.8, top_k=40, rng=int(seed)) + "\n"


def test_no_prompt_starts_from_the_end_of_text_token(tiny_model):
    for arguments in ([], [""]):
        status, out, _ = run(tiny_model, "--greedy", "-n", "9", *arguments)
        assert (status, out) == (0, expected(tiny_model, "", 9) + "\n")


def test_a_dash_reads_the_prompt_from_standard_input(tiny_model):
    status, out, err = run(tiny_model, "--greedy", "-n", "3", "-", stdin="the ø\n".encode())
    assert (status, out) == (0, expected(tiny_model, "the ø\n", 3) + "\n")
    assert "hint" in err
    status, out, err = run(tiny_model, "--greedy", "-n", "3", "-", stdin=b"\xef\xbb\xbfthe")
    assert (status, out) == (0, expected(tiny_model, "the", 3) + "\n")
    status, out, err = run(tiny_model, "-", stdin=b"abc\xff")
    assert status == 1 and out == ""
    assert err == ("gpt2_numpy.py: standard input is not UTF-8 (byte 3: invalid start byte); "
                   "convert the text first, for example with iconv\n")


def test_a_prompt_that_ends_in_a_space_gets_a_hint_and_stays_as_it_is(tiny_model):
    _, out, err = run(tiny_model, "--greedy", "-n", "2", "the ")
    assert out == expected(tiny_model, "the ", 2) + "\n"
    assert "hint: the prompt ends in white space" in err
    assert "hint" not in run(tiny_model, "-n", "2", "the")[2]


def test_score_prints_each_log_probability_the_total_and_the_perplexity(tiny_model):
    status, out, _ = run(tiny_model, "--score", "the the")
    encoder, hparams, params = load_encoder_hparams_and_params(str(tiny_model))
    ids = encoder.encode("the the")
    logs = log_probs(ids, params, hparams["n_head"])
    lines = out.splitlines()
    assert status == 0 and len(lines) == len(ids) + 3
    assert [line.split()[0] for line in lines[2:-2]] == [f"{x:.4f}" for x in logs]
    assert [line.split()[1] for line in lines[2:-2]] == [f"{p:.2%}" for p in np.exp(logs)]
    assert [line.split()[2] for line in lines[1:-2]] == [str(i) for i in ids]
    assert lines[-2].startswith(f"{logs.sum():9.4f}  nats")
    perplexity = float(lines[-1].split()[0])
    assert perplexity == pytest.approx(2.718281828 ** -logs.mean(), rel=1e-4)


def test_score_needs_two_tokens(tiny_model):
    status, out, err = run(tiny_model, "--score", "a")
    assert (status, out) == (1, "") and "two tokens or more" in err and err.count("\n") == 1


def test_show_tokens_lists_ids_and_pieces(tiny_model):
    _, out, err = run(tiny_model, "--show-tokens", "--greedy", "-n", "1", "a the ø")
    encoder = get_encoder(tiny_model)
    for i in encoder.encode("a the ø"):
        assert re.search(rf"^ *{i}  ", err, re.M)
    assert "' the'" in err
    assert f"{encoder.encoder['Ã']:>7}  b'\\xc3'" in err       # half of ø
    assert out == expected(tiny_model, "a the ø", 1) + "\n"


def test_explain_shows_five_probabilities_and_marks_the_choice(tiny_model):
    _, out, err = run(tiny_model, "--explain", "--greedy", "-n", "4", "the")
    assert out == expected(tiny_model, "the", 4) + "\n"
    rows = re.findall(r"^  (->|  ) +([\d.]+)%  (#*) ", err, re.M)
    assert len(rows) == 20
    assert [arrow for arrow, _, _ in rows] == ["->", "  ", "  ", "  ", "  "] * 4
    assert all(abs(len(bar) - 0.3 * float(p)) < 0.51 for _, p, bar in rows)
    encoder, hparams, params = load_encoder_hparams_and_params(str(tiny_model))
    logits = gpt2(encoder.encode("the"), **params, n_head=hparams["n_head"])[-1]
    best = sorted(softmax(logits), reverse=True)[:5]
    assert [p for _, p, _ in rows[:5]] == [f"{100 * p:.2f}" for p in best]


def test_explain_shows_the_choice_also_when_it_is_not_among_the_five(tiny_model):
    _, _, err = run(tiny_model, "--explain", "--seed", "1", "--temperature", "50", "--top-k", "0",
                    "-n", "12", "the")
    steps = [step for step in err.split("\n\n") if "%" in step]
    assert len(steps) == 12
    assert all(step.count("->") == 1 for step in steps)
    assert max(step.count("%") for step in steps) == 6


def test_models_dir_says_where_downloads_go(tmp_path):
    environment = os.environ | {"GPT2_BASE_URL": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    status, out, err = run("124M", "--models-dir", str(tmp_path), "the", env=environment)
    assert (status, out) == (1, "")
    assert str(tmp_path / "124M") in err and "http://127.0.0.1:9/124M" in err


def test_too_little_memory_is_one_line(tiny_model, monkeypatch, capsys):
    def generate_too_much(*arguments):
        raise MemoryError

    monkeypatch.setattr(gpt2_numpy, "generate", generate_too_much)
    assert gpt2_numpy.main(["--model", str(tiny_model), "--n-samples", "9", "--greedy", "a"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("gpt2_numpy.py: not enough memory") and out.count("sample") == 1


def test_the_speed_counts_the_tokens_after_the_first(capsys):
    gpt2_numpy.say_speed(7, 2, [10.0, 12.5, 13.0, 13.5])
    assert capsys.readouterr().err == (
        "6 tokens, 4.0 tokens/s; the first after 2.50 s, for a prompt of 7\n")


def test_samples_are_separated_and_differ(tiny_model):
    status, out, _ = run(tiny_model, "--n-samples", "3", "--seed", "1", "-n", "8", "the cat")
    assert status == 0
    texts = re.split(r"--- sample \d of 3 ---\n", out)[1:]
    assert len(set(texts)) == 3 and all(text.startswith("the cat") for text in texts)
    status, out, _ = run(tiny_model, "--n-samples", "2", "-n", "0", "the cat")
    assert out == "--- sample 1 of 2 ---\nthe cat\n\n--- sample 2 of 2 ---\nthe cat\n"


def test_the_text_stops_where_the_model_ends_it(tiny_model, monkeypatch, capsys):
    encoder = get_encoder(tiny_model)
    ids = iter([[5, 6], [encoder.eot, 7], [8, 9], [10, encoder.eot], [11, 12]])

    def scripted(*arguments):
        for row in ids:
            yield np.array(row)

    monkeypatch.setattr(gpt2_numpy, "generate", scripted)
    arguments = ["--model", str(tiny_model), "--greedy", "-n", "5", "--n-samples", "2", "the"]
    assert gpt2_numpy.main(arguments) == 0
    out, err = capsys.readouterr()
    first, second = re.split(r"--- sample \d of 2 ---\n", out)[1:]
    assert first == "the" + encoder.decode([5]) + "\n\n"
    assert second == "the" + encoder.decode([6, 7, 9]) + "\n"
    assert "ended its text with <|endoftext|> after 4 tokens" in err


def test_a_full_context_is_said_once(tiny_model):
    status, out, err = run(tiny_model, "--greedy", "-n", "120", "the cat",
                           env=os.environ | {"PYTHONWARNINGS": "ignore"})
    assert status == 0 and err.count("the context of 64 tokens is full") == 1
    with pytest.warns(gpt2_numpy.ContextWarning):
        assert out == expected(tiny_model, "the cat", 120) + "\n"


@pytest.mark.parametrize("arguments, message", [
    (["--temperature", "-1"], "temperature is -1.0"),
    (["--temperature", "warm"], "invalid float value: 'warm'"),
    (["--top-p", "0"], "top_p is 0.0"),
    (["--top-p", "1.5"], "top_p is 1.5"),
    (["--top-k", "-3"], "top_k is -3"),
    (["-n", "-1"], "-n/--n-tokens must be 0 or more"),
    (["--seed", "-1"], "--seed must be 0 or more"),
    (["--n-samples", "0"], "--n-samples must be 1 to 1,000,000"),
    (["--explain", "--n-samples", "2"], "--explain follows one sample"),
    (["Once", "upon"], "put quotes around a prompt of several words"),
    (["--no-such-option"], "unrecognized arguments: --no-such-option"),
])
def test_a_wrong_option_is_one_line(tiny_model, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        gpt2_numpy.main(["--model", str(tiny_model), *arguments])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2 and out == ""
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize("model", ["no-such-model", "./no/such/folder", "."])
def test_a_model_that_is_not_there_is_one_line(tmp_path, model):
    status, out, err = run(model, "the", cwd=tmp_path)
    assert (status, out) == (1, "") and err.startswith("gpt2_numpy.py: ") and err.count("\n") == 1


def test_a_lone_surrogate_in_the_prompt_is_one_line(tiny_model, capsys):
    assert gpt2_numpy.main(["--model", str(tiny_model), "a\udcff"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "surrogate" in err and err.count("\n") == 1


def test_weights_of_nan_are_named_and_no_text_is_made_up(tiny_model, tmp_path):
    from files.tf_checkpoint import read_checkpoint, write_checkpoint

    for name in ("encoder.json", "vocab.bpe", "hparams.json", "checkpoint"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    tensors = {name: array.copy() for name, array in read_checkpoint(
        tiny_model / "model.ckpt").items()}
    tensors["model/h1/mlp/c_fc/w"][0, 3, 3] = float("nan")
    write_checkpoint(tmp_path / "model.ckpt", tensors)
    status, out, err = run(tmp_path, "the")
    assert status == 1 and out == "the\n"
    seed, error = err.splitlines()
    assert seed.startswith("seed") and "weights are damaged" in error
    status, out, err = run(tmp_path, "--score", "the the")
    assert (status, out) == (1, "")
    scoring, error = err.splitlines()
    assert scoring.startswith("scoring") and "weights are damaged" in error


def test_a_closed_pipe_is_no_error(tiny_model):
    process = start(tiny_model, "--greedy", "-n", "5000", "the")
    assert process.stdout.read(3) == b"the"
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert "Error" not in err and "Exception" not in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(tiny_model):
    with open("/dev/full", "wb") as full:
        status, _, err = run(tiny_model, "--greedy", "-n", "3", "the", stdout=full)
    assert status == 1
    assert err == "gpt2_numpy.py: cannot write the text to standard output: " \
                  "No space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_ends_cleanly_with_what_was_generated(tiny_model):
    def default_signals():     # a background job's child would ignore SIGINT
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = start(tiny_model, "--greedy", "-n", "1000000", "the", preexec_fn=default_signals)
    assert process.stdout.read(8)[:3] == b"the"      # it is in the middle of the text
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.endswith(b"\n") and len(out) > 5
    assert err.endswith(b"stopped\n") and b"Traceback" not in err


def test_a_terminal_that_lacks_a_character_shows_a_question_mark(tiny_model):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    status, out, err = run(tiny_model, "--greedy", "-n", "2", "the ø", env=environment)
    assert status == 0 and out.startswith("the ?") and "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_closed_streams_are_survived(tiny_model):
    line = " ".join(f"'{word}'" for word in command(tiny_model, "--greedy", "-n", "2", "the"))
    shell = subprocess.run(["sh", "-c", f"{line} >&-"], capture_output=True, text=True)
    assert shell.returncode == 1 and shell.stderr.startswith("gpt2_numpy.py: standard output is cl")
    shell = subprocess.run(["sh", "-c", f"{line} 2>&-"], capture_output=True, text=True)
    assert shell.returncode == 0 and shell.stdout == expected(tiny_model, "the", 2) + "\n"
    shell = subprocess.run(["sh", "-c", f"{line} --model nowhere 2>&-"], capture_output=True)
    assert (shell.returncode, shell.stdout) == (1, b"")


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
        status = gpt2_numpy.main(["--model", str(tiny_model), "--greedy", "-n", "6", "the"])
    finally:
        sys.stdout = previous
    assert status == 0
    written = [state for state in recorder.states if state]
    assert written[0] == b"the"
    assert len(set(written)) >= 6


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        gpt2_numpy.main(["--help"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    for option in ("--model", "--models-dir", "-n", "--temperature", "--top-k", "--top-p",
                   "--greedy", "--seed", "--n-samples", "--score", "--show-tokens", "--explain"):
        assert f"  {option}" in out
    assert "examples:" in out
