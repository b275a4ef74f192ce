"""Prompts continued or scored, one or many, as text or as JSON."""

import contextlib
import io
import json
import re

import numpy as np
import pytest

from command_line import answer
from command_line.answer import count_rows, in_order, memory_of_text, memory_to_reread
from command_line.generate import main
from command_line.process import get_blas_threads, set_blas_threads
from encoder import get_encoder
from gpt2_numpy import log_probs
from programs import expect_text, run_generate
from utils import load_encoder_hparams_and_params

PROMPTS = ["the cat", "a", "the king and the queen and the cat of the king", "he"]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    return path


def run_records(model, *arguments, **settings):
    """The objects that a run with --json writes."""
    status, out, err = run_generate(model, "--json", *map(str, arguments), **settings)
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_each_of_many_prompts_gets_the_text_that_it_gets_alone(tiny_model, file, capsys):
    options = ["--model", str(tiny_model), "--seed", "3", "-n", "9"]
    assert main([*options, "--prompts", str(file)]) == 0
    together = capsys.readouterr()
    texts = re.split(r"\n?--- prompt \d of 4 ---\n", together.out)[1:]
    for prompt, text in zip(PROMPTS, texts, strict=True):
        assert main([*options, prompt]) == 0
        assert capsys.readouterr().out == text
    assert re.search(r"^36 tokens after 4 prompts, [\d.]+ tokens/s$", together.err, re.M)


def test_prompts_and_samples_are_numbered_where_there_are_several(tiny_model, file, capsys):
    options = ["--model", str(tiny_model), "--seed", "3", "-n", "2"]
    assert main([*options, "--prompts", str(file), "--n-samples", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("--- prompt 1 of 4, sample 1 of 2 ---\nthe cat")
    assert "\n\n--- prompt 4 of 4, sample 2 of 2 ---\nhe" in out
    file.write_text("the cat\n")
    assert main([*options, "--prompts", str(file)]) == 0
    assert capsys.readouterr().out.startswith("the cat")


def test_prompts_come_from_standard_input_too(tiny_model):
    records = run_records(tiny_model, "--prompts", "-", "-n", "2", "--greedy", stdin=b"a\nthe\n")
    assert [record["prompt"] for record in records] == ["a", "the"]
    status, _, err = run_generate(tiny_model, "--prompts", "-", "-n", "1", stdin=b"\n\na\n")
    assert status == 0 and "lines without text, which are left out: 2" in err


def test_a_record_has_all_that_repeats_it_and_what_it_was_made_of(tiny_model):
    arguments = ["-n", "9", "--top-k", "50", "--top-p", "0.9", "--stop", "zz", "--n-samples", "2"]
    first, second = run_records(tiny_model, *arguments, "the ø")
    encoder, hparams, params = load_encoder_hparams_and_params(str(tiny_model))
    for number, record in enumerate((first, second), start=1):
        assert list(record) == [
            "prompt",
            "sample",
            "text",
            "ids",
            "log_probs",
            "finish_reason",
            "seed",
            "settings",
        ]
        assert (record["prompt"], record["sample"]) == ("the ø", number)
        assert record["settings"] == {
            "model": str(tiny_model),
            "n_tokens": 9,
            "temperature": 0.8,
            "top_k": 50,
            "top_p": 0.9,
            "stop": ["zz"],
        }
        assert record["text"] == encoder.decode(record["ids"])
        prompt = encoder.encode("the ø")
        exact = log_probs(prompt + record["ids"], params, hparams["n_head"])[len(prompt) - 1 :]
        assert np.allclose(record["log_probs"], exact, atol=2e-5)
    assert first["ids"] != second["ids"] and first["seed"] == second["seed"]
    again = run_records(tiny_model, *arguments, "--seed", first["seed"], "the ø")
    assert again == [first, second]


def test_finish_reasons(tiny_model):
    def finish(*arguments):
        (record,) = run_records(tiny_model, *arguments)
        return record["finish_reason"], record["text"]

    text = expect_text(tiny_model, "the", 30)[len("the") :]
    assert finish("--greedy", "-n", "30", "the") == ("length", text)
    assert finish("--greedy", "-n", "0", "the") == ("length", "")
    stop = text[5:7]
    assert finish("--greedy", "-n", "30", "--stop", stop, "the") == (
        "stop",
        text.partition(stop)[0],
    )


def test_the_end_of_the_text_is_a_reason_and_no_token_of_it(tiny_model, monkeypatch, capsys):
    """A text that ends at once: the token after the prompt is <|endoftext|>."""
    encoder = get_encoder(tiny_model)
    monkeypatch.setattr(
        "command_line.side_by_side.sample", lambda logits, **_: np.full(len(logits), encoder.eot)
    )
    assert main(["--model", str(tiny_model), "--json", "--greedy", "the"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["text"], record["ids"], record["log_probs"]) == ("", [], [])
    assert record["finish_reason"] == "end of text"


def test_lines_of_json_may_have_line_ends_and_further_fields(tiny_model, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a\\nthe", "id": "x"}\n{"prompt": ""}\n')
    first, second = run_records(tiny_model, "--prompts", path, "--greedy", "-n", "3")
    assert (first["prompt"], first["id"]) == ("a\nthe", "x")
    assert second["text"] == expect_text(tiny_model, "", 3)


def test_a_prompt_without_utf_8_is_named_by_its_line(tiny_model, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('"a"\n"\\ud800"\n')
    status, out, err = run_generate(tiny_model, "--prompts", str(path), "--json")
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert "prompts.jsonl, line 2: " in err and "surrogate" in err


def test_scores_of_many_texts_are_those_of_each_alone(tiny_model, file):
    records = run_records(tiny_model, "--score", "--prompts", file)
    encoder, hparams, params = load_encoder_hparams_and_params(str(tiny_model))
    for prompt, record in zip(PROMPTS, records, strict=True):
        ids = encoder.encode(prompt)
        logs = log_probs(ids, params, hparams["n_head"])
        n_bytes = len(encoder.decode(ids[1:]).encode())
        assert list(record) == [
            "prompt",
            "ids",
            "log_probs",
            "total",
            "n_bytes",
            "bits_per_byte",
            "perplexity",
            "model",
        ]
        assert (record["prompt"], record["ids"], record["n_bytes"]) == (prompt, ids, n_bytes)
        assert np.allclose(record["log_probs"], logs, atol=1e-5)
        if len(ids) == 1:
            assert record["total"] == 0 and record["log_probs"] == []
            assert record["bits_per_byte"] is record["perplexity"] is None
            continue
        assert record["total"] == pytest.approx(float(logs.sum()), rel=1e-5)
        bits = -float(logs.sum()) / np.log(2) / n_bytes
        assert record["bits_per_byte"] == pytest.approx(bits, rel=1e-4)
        assert record["perplexity"] == pytest.approx(float(np.exp(-logs.mean())), rel=1e-4)
    (alone,) = run_records(tiny_model, "--score", PROMPTS[2])
    assert alone["total"] == pytest.approx(records[2]["total"], rel=1e-5)


def test_scores_as_a_table_add_up(tiny_model, file):
    status, out, _ = run_generate(tiny_model, "--score", "--prompts", str(file))
    head, *rows, whole = out.splitlines()
    assert status == 0 and head.split() == "log p bits/byte perplexity tokens bytes text".split()
    assert rows[0].partition("'")[2] == "the cat'"
    assert rows[1].split()[:5] == ["-", "-", "-", "0", "0"]  # a single token
    totals = [float(row.split()[0]) for row in rows if not row.lstrip().startswith("-  ")]
    assert float(whole.split()[0]) == pytest.approx(sum(totals), abs=1e-3)
    for column in (3, 4):
        assert int(whole.split()[column]) == sum(int(row.split()[column]) for row in rows)
    bits = -float(whole.split()[0]) / np.log(2) / int(whole.split()[4])
    assert float(whole.split()[1]) == pytest.approx(bits, abs=1e-3)


def test_a_perplexity_beyond_all_numbers_is_null(tiny_model, tmp_path):
    from files.tf_checkpoint import read_checkpoint, write_checkpoint

    for name in ("encoder.json", "vocab.bpe", "hparams.json", "checkpoint"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    tensors = {n: array.copy() for n, array in read_checkpoint(tiny_model / "model.ckpt").items()}
    tensors["model/ln_f/g"] *= 1e4
    write_checkpoint(tmp_path / "model.ckpt", tensors)
    (record,) = run_records(tmp_path, "--score", "the cat")
    assert record["perplexity"] is None and record["total"] < -1000
    assert "inf  perplexity" in run_generate(tmp_path, "--score", "the cat")[1]


def test_a_full_context_is_said_once(tiny_model, file):
    err = run_generate(tiny_model, "--json", "--greedy", "-n", "200", "the cat")[2]
    assert err.count("the context of 64 tokens is full") == 1
    err = run_generate(tiny_model, "--prompts", str(file), "--greedy", "-n", "200")[2]
    assert err.count("the context of 64 tokens is full") == 1


def test_json_tells_the_seed_in_its_field_alone(tiny_model):
    assert "seed" not in run_generate(tiny_model, "--json", "-n", "1", "the")[2]


def test_progress_of_scores_is_told(tiny_model, file, monkeypatch):
    """Of one text, of many, as a table or as JSON: to the last token, and never beyond."""
    from command_line import progress

    told = []

    @contextlib.contextmanager
    def record_progress(n, unit, has_bar):
        told.append((n, unit, []))
        yield told[-1][2].append

    monkeypatch.setattr(progress, "progress", record_progress)
    for arguments in (["the " * 90], ["--json", "the " * 90], ["--prompts", str(file)]):
        assert main(["--model", str(tiny_model), "--score", *arguments]) == 0
    assert [unit for _, unit, _ in told] == ["tokens"] * 3
    assert [sum(steps) for _, _, steps in told] == [n for n, _, _ in told]
    assert len([n for n in told[0][2] if n]) > 2 and len([n for n in told[1][2] if n]) > 2


def test_results_on_a_terminal_are_their_own_progress(monkeypatch):
    monkeypatch.setattr(answer.sys.stdout, "isatty", lambda: True, raising=False)
    with answer.progress_of_results(9, "tokens", come_steadily=True) as advance:
        assert advance(3) is None
    assert isinstance(
        answer.progress_of_results(9, "tokens", come_steadily=True), contextlib.nullcontext
    )
    assert not isinstance(
        answer.progress_of_results(9, "tokens", come_steadily=False), contextlib.nullcontext
    )


def test_a_prompt_to_be_scored_may_end_in_white_space(tiny_model):
    assert "hint" not in run_generate(tiny_model, "--score", "the the ")[2]


def test_show_tokens_shows_those_of_every_prompt(tiny_model, file):
    _, _, err = run_generate(tiny_model, "--show-tokens", "--prompts", str(file), "-n", "1")
    n = sum(len(get_encoder(tiny_model).encode(prompt)) for prompt in PROMPTS)
    assert len(re.findall(r"^ *\d+  '", err, re.M)) == n


def test_results_come_in_order_as_soon_as_they_can():
    seen, done = [], []
    results = in_order([(2, "c"), (0, "a"), (1, "b"), (3, "d")], done.append)
    for result in results:
        seen.append((result, len(done)))
    assert seen == [("a", 2), ("b", 3), ("c", 3), ("d", 4)]


def test_more_samples_than_memory_can_hold_are_refused(tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(answer, "measure_memory", lambda: (10**6, 10**6))
    arguments = ["--model", str(tiny_model), "-n", "3", "--seed", "1", "the"]
    assert main(["--n-samples", "1000", *arguments]) == 1
    line = capsys.readouterr().err
    assert line.startswith("gpt2_numpy.py: 1000 continuations side by side need ")
    assert line.endswith(
        "this computer has 1.0 MB; ask for fewer with --n-samples, or for shorter ones with -n\n"
    )
    monkeypatch.setattr(answer, "measure_memory", lambda: (10**9, 10**6))
    assert main(["--n-samples", "1000", *arguments]) == 0
    assert "only 1.0 MB are available: it may be very slow" in capsys.readouterr().err


def test_what_is_read_anew_when_the_context_is_full_takes_memory_too(random_params):
    params = random_params()  # n_ctx 20, n_embd 24
    assert memory_to_reread(20, params, 3) == 0
    assert memory_to_reread(21, params, 3) == 4 * 128 * (16 * 24 + 3 * 3 * 20)
    assert memory_of_text(1000, params) == memory_of_text(20, params)


def test_as_many_prompts_as_memory_allows_are_continued_at_a_time(random_params, monkeypatch):
    params = random_params()
    of_text = memory_of_text(10, params)
    assert of_text == 4 * (2 * 2 * 10 * 24 + 4 * 61)
    for available, n_rows in [(None, 16), (100 * of_text, 16), (10 * of_text, 5), (0, 1)]:
        monkeypatch.setattr(answer, "measure_memory", lambda available=available: (None, available))
        assert count_rows(100, 1, 10, params) == n_rows
    monkeypatch.setattr(answer, "measure_memory", lambda: (None, None))
    assert count_rows(3, 1, 10, params) == 3
    assert count_rows(100, 5, 10, params) == 3 and count_rows(100, 50, 10, params) == 1
    monkeypatch.setattr(answer, "measure_memory", lambda: (None, 20 * of_text))
    assert count_rows(100, 4, 10, params) == 2


@pytest.mark.parametrize("more", [["--json"], ["--score"], ["--seed", "1"]])
def test_each_prompt_begins_with_all_threads_of_blas(tiny_model, monkeypatch, more):
    """Whatever was chosen for the one before it."""
    before = get_blas_threads()
    if not set_blas_threads(2):
        pytest.skip("this BLAS takes no orders")
    inside = []

    def choose_one(*_):
        inside.append(get_blas_threads())
        set_blas_threads(1)
        return lambda: None

    def keep_one(steps, n_prompt):
        choose_one()
        return steps

    monkeypatch.setattr(answer, "keep_choosing", choose_one)
    monkeypatch.setattr("command_line.score.keep_choosing", choose_one)
    monkeypatch.setattr(answer, "KeepPace", keep_one)
    lines = io.TextIOWrapper(io.BytesIO(b"the the\nthe the\nthe the\n"))
    monkeypatch.setattr("sys.stdin", lines)
    try:
        assert main(["--model", str(tiny_model), "-i", *more]) == 0
        assert inside == [2, 2, 2] and get_blas_threads() == 2
    finally:
        set_blas_threads(before)
