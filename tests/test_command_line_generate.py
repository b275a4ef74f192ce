"""The options of gpt2_numpy.py, and what becomes of them: mostly in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import command_line.answer
import command_line.generate
from command_line.generate import main
from command_line.process import get_blas_threads, set_blas_threads
from files.messages import notice
from gpt2_numpy import ContextWarning
from programs import (
    ENVIRONMENT,
    ROOT,
    default_ctrl_c,
    expect_text,
    generate_command,
    needs_posix,
    run_generate,
    start_generating,
)


def test_stdout_is_prompt_and_continuation_and_nothing_else(tiny_model):
    status, out, err = run_generate(tiny_model, "--greedy", "-n", "20", "the cat")
    assert status == 0
    assert out == expect_text(tiny_model, "the cat", 20) + "\n"
    assert re.search(r"tokens, [\d.]+ tokens/s", err)
    assert "seed" not in err


def test_the_reference_model_speaks_from_the_shell(shared):
    status, out, _ = run_generate(
        shared("reference-model"), "--greedy", "Once upon a time there was"
    )
    assert status == 0
    assert out == (
        "Once upon a time there was a little boy who had a little boy, and had a little boy, and a "
        "little boy, and a little boy, and a little boy, and a little boy, and a little boy,\n"
    )


def test_defaults_are_those_of_the_help_and_the_seed_it_prints_repeats_the_run(tiny_model):
    status, out, err = run_generate(tiny_model, "a b")
    assert status == 0
    seed = re.search(r"^seed \d+: .* --seed (\d+)", err)[1]  # told before anything else
    assert run_generate(tiny_model, "--seed", seed, "a b")[:2] == (0, out)
    assert out == expect_text(tiny_model, "a b", 40, temperature=0.8, top_k=40, rng=int(seed)) + (
        "\n"
    )


def test_zero_tokens_need_no_seed(tiny_model, capsys):
    assert main(["--model", str(tiny_model), "-n", "0", "the"]) == 0
    assert capsys.readouterr() == ("the\n", "")


def test_greedy_may_have_a_seed(tiny_model, capsys):
    """Same seed, same text: that holds for it, too."""
    assert main(["--model", str(tiny_model), "--greedy", "--seed", "1", "-n", "3", "the"]) == 0
    assert capsys.readouterr().out == expect_text(tiny_model, "the", 3) + "\n"


def test_the_name_of_a_file_gets_a_hint(tiny_model, tmp_path, capsys):
    path = tmp_path / "story.txt"
    path.write_text("the")
    assert main(["--model", str(tiny_model), "--score", str(path)]) == 0
    assert f"hint: {path} is taken as the text itself; to read the file give - < " in (
        capsys.readouterr().err
    )


def test_lines_that_look_like_json_get_a_hint(tiny_model, tmp_path, capsys):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n')
    options = ["--model", str(tiny_model), "--greedy", "-n", "1", "--prompts", str(path)]
    assert main(options) == 0
    assert "hint: the lines look like JSON; with --json" in capsys.readouterr().err
    assert main([*options, "--json"]) == 0
    assert "hint" not in capsys.readouterr().err


def test_a_stop_text_without_utf_8_is_one_line(tiny_model, capsys):
    assert main(["--model", str(tiny_model), "--stop", "a\udcff", "the"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "surrogate" in err and err.count("\n") == 1


def test_a_stop_text_that_is_written_as_an_escape_gets_a_hint(tiny_model, capsys):
    assert main(["--model", str(tiny_model), "--greedy", "-n", "1", "--stop", r"\n", "the"]) == 0
    assert r"hint: --stop \n is a backslash and a letter" in capsys.readouterr().err


def test_every_option_of_sampling_reaches_the_sampler(tiny_model, capsys):
    settings = dict(temperature=1.5, top_k=30, top_p=0.7)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    assert main(["--model", str(tiny_model), "--seed", "5", "-n", "30", *options, "the"]) == 0
    assert capsys.readouterr().out == expect_text(tiny_model, "the", 30, rng=5, **settings) + "\n"


def test_no_prompt_starts_from_the_end_of_text_token(tiny_model):
    for arguments in ([], [""]):
        status, out, _ = run_generate(tiny_model, "--greedy", "-n", "9", *arguments)
        assert (status, out) == (0, expect_text(tiny_model, "", 9) + "\n")


def test_a_dash_reads_the_prompt_from_standard_input(tiny_model):
    options = ["--greedy", "-n", "3", "-"]
    status, out, err = run_generate(tiny_model, *options, stdin="the ø\n".encode())
    assert (status, out) == (0, expect_text(tiny_model, "the ø\n", 3) + "\n")
    assert "hint" in err
    status, out, err = run_generate(tiny_model, *options, stdin=b"\xef\xbb\xbfthe")
    assert (status, out) == (0, expect_text(tiny_model, "the", 3) + "\n")


def test_standard_input_that_is_not_utf_8_is_one_line(tiny_model):
    status, out, err = run_generate(tiny_model, "-", stdin=b"abc\xff")
    assert status == 1 and out == ""
    assert err == (
        "gpt2_numpy.py: standard input is not UTF-8 (byte 3: invalid start byte); "
        "convert the text first, for example with iconv\n"
    )


def test_a_prompt_that_ends_in_a_space_gets_a_hint_and_stays_as_it_is(tiny_model):
    _, out, err = run_generate(tiny_model, "--greedy", "-n", "2", "the ")
    assert out == expect_text(tiny_model, "the ", 2) + "\n"
    assert "hint: the prompt ends in white space" in err
    assert "hint" not in run_generate(tiny_model, "-n", "2", "the")[2]


def test_the_bundled_model_introduces_itself_and_no_other_does(tiny_model, capsys):
    assert main(["--greedy", "-n", "1", "Once"]) == 0
    assert "this is tales, 3.7 million parameters" in capsys.readouterr().err
    assert main(["--model", str(tiny_model), "--greedy", "-n", "1", "Once"]) == 0
    assert "this is" not in capsys.readouterr().err


def test_models_dir_says_where_downloads_go(tmp_path):
    environment = ENVIRONMENT | {"GPT2_BASE_URL": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    options = ["--models-dir", str(tmp_path), "the"]
    status, out, err = run_generate("124M", *options, env=environment)
    assert (status, out) == (1, "")
    assert str(tmp_path / "124M") in err and "http://127.0.0.1:9/124M" in err


def test_too_little_memory_is_one_line(tiny_model, monkeypatch, capsys):
    def generate_too_much(*arguments, **settings):
        raise MemoryError
        yield

    monkeypatch.setattr(command_line.answer, "generate", generate_too_much)
    assert main(["--model", str(tiny_model), "--n-samples", "9", "--seed", "1", "a"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("gpt2_numpy.py: not enough memory") and out.count("sample") == 1


def test_a_package_that_only_downloads_need_and_that_is_missing_is_one_line(monkeypatch, capsys):
    def load(*arguments):
        import no_such_package  # noqa: F401

    monkeypatch.setattr(command_line.generate.utils, "load_encoder_hparams_and_params", load)
    assert main(["--model", "124M", "a"]) == 1
    assert capsys.readouterr().err == (
        "gpt2_numpy.py: no_such_package is not installed; pip install -r requirements.txt\n"
    )


def test_a_full_context_is_said_once(tiny_model):
    environment = ENVIRONMENT | {"PYTHONWARNINGS": "ignore"}
    status, out, err = run_generate(tiny_model, "--greedy", "-n", "120", "the cat", env=environment)
    assert status == 0 and err.count("the context of 64 tokens is full") == 1
    with pytest.warns(ContextWarning):
        assert out == expect_text(tiny_model, "the cat", 120) + "\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--temperature", "-1"], "--temperature is -1.0"),
        (["--temperature", "warm"], "invalid float value: 'warm'"),
        (["--top-p", "0"], "--top-p is 0.0"),
        (["--top-p", "1.5"], "--top-p is 1.5"),
        (["--top-k", "-3"], "--top-k is -3"),
        (["-n", "-1"], "-n/--n-tokens must be 0 or more"),
        (["--seed", "-1"], "--seed must be 0 or more"),
        (["--n-samples", "0"], "--n-samples must be 1 to 1,000,000"),
        (["--explain", "--n-samples", "2"], "--explain follows one text; leave out --n-samples"),
        (["--explain", "--prompts", "p"], "--explain follows one text; leave out --prompts"),
        (["--explain", "--json"], "leave out --json"),
        (["--score", "-n", "3"], "--score generates nothing; leave out --n-tokens"),
        (["--score", "--n-samples", "2"], "leave out --n-samples"),
        (["--score", "--seed", "2"], "leave out --seed"),
        (["--score", "--stop", "a"], "leave out --stop"),
        (["--score", "--explain"], "leave out --explain"),
        (["--greedy", "--temperature", "0.5"], "leave out --temperature, or --greedy"),
        (["--greedy", "--top-k", "5"], "leave out --top-k, or --greedy"),
        (["--temperature", "0", "--top-p", "0.5"], "leave out --top-p, or --temperature 0"),
        (["--greedy", "--n-samples", "3"], "all samples are the same; leave out --n-samples"),
        (["--temperature", "0", "--n-samples", "3"], "all samples are the same"),
        (["--stop", ""], "--stop is empty"),
        (["--model", ""], "--model is empty"),
        (["--models-dir", ""], "--models-dir is empty"),
        (["--prompts", ""], "--prompts is empty"),
        (["--prompts", "p", "the"], "the prompt and --prompts are two sources"),
        (["-i", "the"], "the prompt and --interactive are two sources"),
        (["-i", "--prompts", "p"], "--prompts and --interactive are two sources"),
        (["--list"], "--list goes with --models-dir alone; leave out --model"),
        (["-hello"], "one that begins with a dash goes last, after --"),
        (["Once", "upon"], "put quotes around a prompt of several words"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_a_wrong_option_is_one_line(tiny_model, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(tiny_model), *arguments])
    out, err = capsys.readouterr()
    assert stopped.value.code == 2 and out == ""
    assert message in err and err.count("\n") == 1 and err.startswith("gpt2_numpy.py: ")


@pytest.mark.parametrize("model", ["no-such-model", "./no/such/folder", "."])
def test_a_model_that_is_not_there_is_one_line(tmp_path, model):
    status, out, err = run_generate(model, "the", cwd=tmp_path)
    assert (status, out) == (1, "") and err.startswith("gpt2_numpy.py: ") and err.count("\n") == 1


def test_a_lone_surrogate_in_the_prompt_is_one_line(tiny_model, capsys):
    assert main(["--model", str(tiny_model), "a\udcff"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "surrogate" in err and err.count("\n") == 1


@pytest.fixture
def damaged_model(tiny_model, tmp_path):
    """tiny_model with a weight that is not a number."""
    from files.tf_checkpoint import read_checkpoint, write_checkpoint

    for name in ("encoder.json", "vocab.bpe", "hparams.json", "checkpoint"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    stored = read_checkpoint(tiny_model / "model.ckpt")
    tensors = {name: array.copy() for name, array in stored.items()}
    tensors["model/h1/mlp/c_fc/w"][0, 3, 3] = float("nan")
    write_checkpoint(tmp_path / "model.ckpt", tensors)
    return tmp_path


def test_weights_of_nan_are_named_and_no_text_is_made_up(damaged_model):
    status, out, err = run_generate(damaged_model, "the")
    assert status == 1 and out == "the\n"
    seed, error = err.splitlines()
    assert seed.startswith("seed") and "weights are damaged" in error


def test_weights_of_nan_are_named_and_nothing_is_scored(damaged_model):
    status, out, err = run_generate(damaged_model, "--score", "the the")
    assert (status, out) == (1, "")
    scoring, error = err.splitlines()
    assert scoring.startswith("scoring") and "weights are damaged" in error


def test_a_closed_pipe_is_no_error(tiny_model):
    process = start_generating(tiny_model, "--greedy", "-n", "5000", "the")
    assert process.stdout.read(3) == b"the"
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert "Error" not in err and "Exception" not in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("options", [["--greedy", "-n", "3", "the"], ["--score", "the the"]])
def test_a_full_disk_is_one_line(tiny_model, options):
    with open("/dev/full", "wb") as full:
        status, _, err = run_generate(tiny_model, *options, stdout=full)
    assert status == 1
    assert err.splitlines()[-1] == (
        "gpt2_numpy.py: cannot write to standard output: No space left on device"
    )
    assert "Traceback" not in err and "Exception" not in err


@pytest.mark.skipif(**needs_posix)
def test_ctrl_c_ends_cleanly_with_what_was_generated(tiny_model):
    process = start_generating(
        tiny_model, "--greedy", "-n", "1000000", "the", preexec_fn=default_ctrl_c
    )
    assert process.stdout.read(8)[:3] == b"the"  # it is in the middle of the text
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.endswith(b"\n") and len(out) > 5
    assert err.endswith(b"stopped\n") and b"Traceback" not in err


def test_a_terminal_that_lacks_a_character_shows_a_question_mark(tiny_model):
    environment = ENVIRONMENT | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    status, out, err = run_generate(tiny_model, "--greedy", "-n", "2", "the ø", env=environment)
    assert status == 0 and out.startswith("the ?") and "Traceback" not in err


def run_shell(line):
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.skipif(**needs_posix)
def test_closed_streams_are_survived(tiny_model):
    words = generate_command(tiny_model, "--greedy", "-n", "2", "the")
    line = " ".join(f"'{word}'" for word in words)
    shell = run_shell(f"{line} >&-")
    assert shell.returncode == 1 and shell.stderr.startswith("gpt2_numpy.py: standard output is cl")
    shell = run_shell(f"{line} 2>&-")
    assert shell.returncode == 0 and shell.stdout == expect_text(tiny_model, "the", 2) + "\n"
    shell = run_shell(f"{line} --model nowhere 2>&-")
    assert (shell.returncode, shell.stdout) == (1, "")
    shell = run_shell(f"{line[:-5]} - <&-")
    assert shell.returncode == 1 and "standard input, which is closed" in shell.stderr


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0
    for option in (
        "prompt --prompts -i --model --models-dir --list -n --stop --n-samples --temperature "
        "--top-k --top-p --greedy --seed --score --show-tokens --explain --json -h"
    ).split():
        assert f"  {option}" in out
    assert "examples:" in out
    assert out.count("\n") < 70


def test_blas_is_left_as_it_was(tiny_model, monkeypatch):
    before, inside = get_blas_threads(), []
    if not set_blas_threads(2):
        pytest.skip("this BLAS takes no orders")

    def end_with_one_thread(*arguments):
        set_blas_threads(1)
        inside.append(get_blas_threads())

    monkeypatch.setattr(command_line.generate, "run", end_with_one_thread)
    try:
        assert main(["--model", str(tiny_model), "the"]) == 0
        assert inside == [1] and get_blas_threads() == 2
    finally:
        set_blas_threads(before)


def test_generating_keeps_pace(tiny_model, monkeypatch, capsys):
    paced = []

    def keep_pace(steps, n_prompt):
        paced.append(n_prompt)
        return steps

    monkeypatch.setattr(command_line.answer, "KeepPace", keep_pace)
    assert main(["--model", str(tiny_model), "--greedy", "-n", "3", "the"]) == 0
    assert paced == [2] and capsys.readouterr().out.startswith("the")


def test_nothing_that_only_training_or_downloads_need_is_imported():
    code = (
        "import sys; import command_line.generate; "
        "print({'requests', 'tqdm', 'train', 'backward'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr


def test_a_notice_that_cannot_be_written_stops_nothing(monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    notice("lost")
