"""Training: its parts against PyTorch's, and whole runs from the command line."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_gpt2_numpy import FIXTURES

import train
from backward import loss_and_gradients
from encoder import get_encoder, train_bpe
from files.tf_checkpoint import read_checkpoint
from gpt2_numpy import generate, log_probs
from utils import flatten_params, load_encoder_hparams_and_params, save_model

ROOT = Path(train.__file__).resolve().parent
WORDS = "the king and queen of a far land went to see their son who had a golden bird in it".split()
TINY = dict(n_vocab=300, n_ctx=16, n_embd=16, n_head=2, n_layer=2, batch_size=4, n_steps=8,
            eval_every=4, save_every=3, log_every=2, warmup=2, sample="the king", dropout=0.1)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """A text of a few thousand words."""
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, 12)) + "." for _ in range(300)]
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def options(**changes):
    """TINY with changes, as a command line; None takes an option out."""
    chosen = {name: value for name, value in (TINY | changes).items() if value is not None}
    return [part for name, value in chosen.items()
            for part in (f"--{name.replace('_', '-')}", str(value))]


def run(*arguments):
    return train.main([str(argument) for argument in arguments])


def read_log(folder, damaged=0):
    lines = (Path(folder) / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:len(lines) - damaged]]


def without_times(folder):
    return [{name: value for name, value in line.items() if name != "seconds"}
            for line in read_log(folder)]


@pytest.fixture(scope="module")
def trained(story, tmp_path_factory):
    """The folder of a whole small run; only to be read."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    assert run(story, "--out", folder, *options()) == 0
    return folder


# The parts.


def test_learning_rates_clipping_and_adamw_equal_pytorchs():
    golden = np.load(FIXTURES / "optimiser.npz")
    n_steps, n_warmup, peak, final = golden["settings"]
    n_steps, n_warmup = int(n_steps), int(n_warmup)

    def nested(kind, step):
        arrays = {name: golden[f"{step}/{kind}/{name}"].copy() for name in ("wte", "wpe", "g")}
        return {"wte": arrays["wte"], "wpe": arrays["wpe"], "blocks": [],
                "ln_f": {"g": arrays["g"]}}

    params = nested("params", 0)
    moments = train.new_moments(params)
    for step in range(n_steps):
        rate = train.learning_rate(step, n_steps, peak, n_warmup, final)
        assert abs(rate - golden["rates"][step]) < 1e-12
        gradients = nested("gradients", step)
        norm = train.clip_gradients(gradients, 5.0)
        assert abs(norm - golden["norms"][step]) < 1e-5 * norm
        train.adamw(params, gradients, moments, step, rate, (0.8, 0.97), 1e-6, 0.2)
        exact = flatten_params(nested("params", step + 1))
        for name, array in flatten_params(params).items():
            assert array.dtype == np.float32
            assert np.abs(array - exact[name]).max() < 2e-6, (name, step)


def test_learning_rate_ends_where_it_should():
    assert train.learning_rate(0, 100, 1.0, 10, 0.0) == 0.1
    assert train.learning_rate(9, 100, 1.0, 10, 0.0) == 1.0
    assert train.learning_rate(10, 100, 1.0, 10, 0.0) == 1.0
    assert abs(train.learning_rate(100, 100, 1.0, 10, 0.2) - 0.2) < 1e-12
    assert train.learning_rate(0, 5, 1.0, 0, 0.0) == 1.0
    assert train.learning_rate(3, 4, 1.0, 4, 0.0) == 1.0      # all of it warm-up


def test_adamw_in_pieces_equals_adamw_on_the_whole():
    """Matrices are updated in groups of rows: no row may be left out or updated twice."""
    rng = np.random.default_rng(1)
    shapes = {"wte": (1000, 300), "wpe": (3, 300)}
    params = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    params |= {"blocks": [], "ln_f": {"b": np.ones(100_000, np.float32)}}
    gradients = {name: rng.choice(np.float32([-1, 1]), shape) for name, shape in shapes.items()}
    gradients |= {"blocks": [], "ln_f": {"b": np.ones(100_000, np.float32)}}
    before = {name: array.copy() for name, array in flatten_params(params).items()}
    train.adamw(params, gradients, train.new_moments(params), 0, 0.1, weight_decay=0.5)
    for name, array in flatten_params(params).items():
        gradient = flatten_params(gradients)[name]
        decayed = before[name] * (0.95 if array.ndim > 1 else 1.0)
        expected = decayed - 0.1 * gradient      # the first step: m / sqrt(v) is the sign
        assert np.abs(array - expected).max() < 1e-5


def test_initial_parameters_are_distributed_as_those_of_transformers():
    golden = np.load(FIXTURES / "optimiser.npz")
    sizes = {"n_vocab": 500, "n_ctx": 200, "n_embd": 128, "n_head": 4, "n_layer": 3}
    params = train.init_params(sizes, 0)
    ours = flatten_params(params)
    assert len(ours) == sum(name.startswith("init/") for name in golden.files)
    for name, array in ours.items():
        mean, std = golden[name.replace("model/", "init/")]
        assert array.dtype == np.float32
        assert abs(array.std() - std) < 0.03 * std + 1e-12, name
        assert abs(array.mean() - mean) < 0.05 * std + 1e-12, name
    again = flatten_params(train.init_params(sizes, 0))
    other = flatten_params(train.init_params(sizes, 1))
    assert all(np.array_equal(ours[name], again[name]) for name in ours)
    assert not np.array_equal(ours["model/wte"], other["model/wte"])


def test_an_epoch_visits_every_window_once_and_the_next_cuts_elsewhere():
    ids, n_seq = np.arange(1003), 10
    n_windows, slack = train.windows(len(ids), n_seq)
    assert n_windows == 99 and slack == 12
    starts = []
    for step in range(66):
        inputs, targets = train.batch(ids, n_seq, 3, step, seed=4)
        assert inputs.shape == targets.shape == (3, n_seq)
        assert np.array_equal(targets, inputs + 1)                # the next id, here the number
        assert np.array_equal(inputs, inputs[:, :1] + np.arange(n_seq))
        starts += list(inputs[:, 0])
    first, second = starts[:99], starts[99:]
    for epoch in (first, second):
        assert np.array_equal(np.diff(np.sort(epoch)), np.full(98, n_seq))
    assert first != sorted(first)
    assert min(first) != min(second)
    assert starts[99:102] == list(train.batch(ids, n_seq, 3, 33, seed=4)[0][:, 0])


@pytest.mark.parametrize("n_ids", [11, 12, 20, 21, 25, 31])
def test_a_batch_never_leaves_a_short_text(n_ids):
    ids = np.arange(n_ids)
    seen = set()
    for step in range(60):
        inputs, targets = train.batch(ids, 10, 2, step, seed=0)
        assert np.array_equal(targets, inputs + 1)
        seen |= set(targets[:, -1])
    assert max(seen) == n_ids - 1      # the last token is a target, too


def test_a_shared_out_batch_gives_the_same_loss_and_gradients(random_params):
    from concurrent.futures import ThreadPoolExecutor

    params = random_params(dtype=np.float64)
    ids, targets = np.random.default_rng(2).integers(0, 61, (2, 7, 9))
    loss, gradients = loss_and_gradients(params, ids, targets, 3)
    with ThreadPoolExecutor(3) as pool:
        for n_micro, n_workers in [(1, 1), (2, 2), (3, 3), (7, 1), (7, 3), (1, 3)]:
            part, shared = train.share_out(params, ids, targets, 3, n_micro, workers=pool.map,
                                           n_workers=n_workers)
            assert abs(part - loss) < 1e-12
            exact = flatten_params(gradients)
            for name, array in flatten_params(shared).items():
                assert np.allclose(array, exact[name], rtol=1e-9, atol=1e-13)


def test_held_out_loss_is_each_tokens_given_those_before_it_in_its_window(random_params):
    params = random_params()
    ids = np.random.default_rng(3).integers(0, 61, 50)
    windows = [ids[start:start + 21] for start in range(0, 49, 20)]      # each with its last target
    expected = -sum(float(log_probs(window, params, 3).sum()) for window in windows)
    found = train.negative_log_likelihood(params, ids, 3, 20)
    assert abs(found - expected) < 1e-3 * found


def test_held_out_loss_of_the_reference_model_is_what_was_measured(shared):
    folder = shared("reference-model")
    encoder, hparams, params = load_encoder_hparams_and_params(str(folder))
    answers = json.loads((folder / "answers.json").read_text())
    text = shared("corpus/fairy_tales_val.txt").read_text("utf-8")
    ids = encoder.encode(text)
    assert len(ids) == answers["tokens_val"]
    nats = train.negative_log_likelihood(params, ids, hparams["n_head"], hparams["n_ctx"])
    assert math.isclose(nats / math.log(2) / len(text), answers["bits_per_byte_val"], abs_tol=1e-4)


def test_one_batch_is_learned_by_heart():
    sizes = {"n_vocab": 40, "n_ctx": 16, "n_embd": 32, "n_head": 4, "n_layer": 2}
    params = train.init_params(sizes, 0)
    moments = train.new_moments(params)
    ids, targets = np.random.default_rng(4).integers(0, 40, (2, 4, 16))
    ids[:, 0] = range(4)      # else two rows that begin alike could not both be learned
    first = None
    for step in range(150):
        loss, gradients = loss_and_gradients(params, ids, targets, 4)
        first = first or loss
        train.clip_gradients(gradients, 1.0)
        train.adamw(params, gradients, moments, step, 1e-2, weight_decay=0.0)
    assert abs(first - math.log(40)) < 0.05      # at the start, every token is equally likely
    assert loss < 0.01


# Whole runs.


def test_a_run_writes_a_model_that_speaks_and_a_log_that_plots(trained, story, capsys):
    encoder, hparams, params = load_encoder_hparams_and_params(trained)
    assert hparams == {name: TINY[name] for name in train.SIZES}
    assert encoder.n_vocab == 300 and encoder.eot == 299
    text = encoder.decode(generate(encoder.encode("the king"), params, hparams["n_head"], 5, rng=0))
    assert text
    log = read_log(trained)
    steps = [line for line in log if "loss" in line]
    evaluations = [line for line in log if "bits_per_byte" in line]
    assert [line["step"] for line in steps] == [2, 4, 6, 8]
    assert [line["step"] for line in evaluations] == [0, 4, 8]
    assert steps[-1]["tokens"] == 8 * 4 * 16
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert abs(evaluations[0]["val_loss"] - math.log(300)) < 0.2
    whole = story.read_text()
    held_out = whole[whole.index("\n", len(whole) - len(whole) // 20):]
    nats = train.negative_log_likelihood(params, encoder.encode(held_out), 2, 16)
    bits = nats / math.log(2) / len(held_out)
    assert abs(evaluations[-1]["bits_per_byte"] - bits) < 1e-5 * bits
    assert sorted(path.name for path in trained.iterdir()) == [
        "checkpoint", "encoder.json", "hparams.json", "log.jsonl",
        "model.ckpt.data-00000-of-00001", "model.ckpt.index", "training.npz", "vocab.bpe"]


def test_the_vocabulary_is_learned_from_the_training_part_only(trained, story):
    text = story.read_text()
    cut = text.index("\n", len(text) - len(text) // 20)
    assert get_encoder(trained).bpe_merges == train_bpe(text[:cut], 300).bpe_merges


def test_what_is_about_to_happen_is_said_before_the_first_step(story, tmp_path, capsys):
    assert run(story, "--out", tmp_path / "m", *options(n_steps=1)) == 0
    error = capsys.readouterr().err
    before = error.partition("step 0 of 1")[0]
    assert "4 × 16 = 64 tokens a step" in before
    assert re.search(r"[\d,.]+ steps an epoch", before)
    assert re.search(r"memory: about [\d.]+ MB", before)
    assert f"{train.n_parameters({n: TINY[n] for n in train.SIZES}):,} parameters" in before
    assert "bits per byte" in error and "the king" in error
    assert capsys.readouterr().out == ""


def start_process(*arguments):
    return subprocess.Popen([sys.executable, ROOT / "train.py", *arguments], text=True,
                            stderr=subprocess.PIPE)


def wait_for_step(process, folder, step):
    log, deadline = folder / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and f'"step": {step},' in log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_saves_and_a_resumed_run_equals_an_uninterrupted_one(story, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    changes = dict(n_steps=300, eval_every=150, save_every=10**6, n_embd=8)
    process = start_process(story, "--out", cut, *options(**changes))
    wait_for_step(process, cut, 6)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.splitlines()[-1].endswith(f"go on with: python train.py --resume {cut}")
    at = json.loads(str(np.load(cut / "training.npz")["about"]))["step"]
    assert 6 <= at < 300
    assert load_encoder_hparams_and_params(cut)      # a model that speaks already
    for rest in (["--resume", cut], [story, "--out", whole, *options(**changes)]):
        assert start_process(*rest).wait(60) == 0
    assert without_times(whole) == without_times(cut)
    for name, array in read_checkpoint(whole / "model.ckpt").items():
        assert np.array_equal(array, read_checkpoint(cut / "model.ckpt")[name]), name
    states = [np.load(folder / "training.npz") for folder in (whole, cut)]
    assert states[0].files == states[1].files
    assert all(np.array_equal(states[0][name], states[1][name])
               for name in states[0].files if name != "about")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_second_ctrl_c_stops_at_once_and_leaves_the_last_checkpoint(story, tmp_path):
    folder = tmp_path / "m"
    changes = dict(n_steps=10**6, save_every=10**6, n_embd=256, n_ctx=128, batch_size=32,
                   log_every=1, eval_every=10**6)
    process = start_process(story, "--out", folder, *options(**changes))
    wait_for_step(process, folder, 1)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    error = process.communicate(timeout=60)[1]
    if "saved; go on" in error:
        pytest.skip("the step was over before the second signal came")
    assert process.returncode == 130
    assert "stopped without saving" in error.splitlines()[-1] and "Traceback" not in error
    assert json.loads(str(np.load(folder / "training.npz")["about"]))["step"] == 0


def test_a_killed_run_resumes_from_its_last_checkpoint(story, trained, tmp_path):
    """As in a power cut: nothing is asked of the process, and a line of the log is half written."""
    folder = tmp_path / "m"
    process = start_process(story, "--out", folder, *options(n_steps=5000, save_every=7))
    wait_for_step(process, folder, 12)
    process.kill()
    process.communicate()
    with open(folder / "log.jsonl", "a") as log:
        log.write('{"step": 9')
    at = json.loads(str(np.load(folder / "training.npz")["about"]))["step"]
    assert at % 7 == 0 and at >= 7
    seen = read_log(folder, damaged=1)[-1]["step"]
    process = start_process("--resume", folder)
    wait_for_step(process, folder, seen + 30)
    process.send_signal(signal.SIGTERM)
    assert "saved; go on" in process.communicate(timeout=60)[1] and process.returncode == 130
    steps = [line["step"] for line in read_log(folder) if "loss" in line]
    assert steps == list(range(2, 2 * len(steps) + 1, 2))


def test_fine_tuning_begins_with_the_models_weights_and_vocabulary(story, trained, tmp_path):
    folder = tmp_path / "tuned"
    sizes = dict.fromkeys(train.SIZES)
    assert run(story, "--out", folder, "--init-from", trained,
               *options(**sizes, n_steps=2, eval_every=1)) == 0
    before, after = read_log(trained)[-1], read_log(folder)[0]
    assert after["step"] == 0 and abs(before["val_loss"] - after["val_loss"]) < 1e-4
    assert get_encoder(folder).encoder == get_encoder(trained).encoder
    assert read_log(folder)[-1]["val_loss"] < after["val_loss"]


def test_fine_tuning_on_shorter_sequences_keeps_the_whole_context(story, trained, tmp_path):
    folder = tmp_path / "tuned"
    sizes = dict.fromkeys(train.SIZES)
    assert run(story, "--out", folder, "--init-from", trained, "--n-seq", 8,
               *options(**sizes, n_steps=3, dropout=0.0, weight_decay=0.0)) == 0
    _, hparams, params = load_encoder_hparams_and_params(folder)
    before = load_encoder_hparams_and_params(trained)[2]
    assert hparams["n_ctx"] == 16
    assert np.array_equal(params["wpe"][8:], before["wpe"][8:])
    assert not np.array_equal(params["wpe"][:8], before["wpe"][:8])


def test_a_vocabulary_from_elsewhere_and_float16(story, trained, tmp_path):
    folder = tmp_path / "half"
    assert run(story, "--out", folder, "--vocab-from", trained,
               *options(n_vocab=None, dtype="float16", n_steps=2)) == 0
    assert get_encoder(folder).bpe_merges == get_encoder(trained).bpe_merges
    tensors = read_checkpoint(folder / "model.ckpt")
    state = np.load(folder / "training.npz")
    for name, array in tensors.items():
        assert array.dtype == np.float16
        assert state[f"params/{name}"].dtype == np.float32      # what --resume goes on from
        assert np.array_equal(array, state[f"params/{name}"].astype(np.float16))


def test_parameters_survive_a_round_trip_through_a_folder(random_params, trained, tmp_path):
    params = random_params(n_vocab=300, n_ctx=16)
    hparams = {"n_vocab": 300, "n_ctx": 16, "n_embd": 24, "n_head": 3, "n_layer": 2}
    save_model(tmp_path, get_encoder(trained), hparams, params)
    _, found, again = load_encoder_hparams_and_params(tmp_path)
    assert found == hparams
    names = set(read_checkpoint(tmp_path / "model.ckpt"))
    assert "model/h1/mlp/c_proj/w" in names and "model/ln_f/g" in names
    for name, array in flatten_params(params).items():
        assert np.array_equal(array, flatten_params(again)[name])


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_the_text(story, tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeff".encode() + story.read_bytes().replace(b"\n", b"\r\n"))
    assert train.read_text(path) == story.read_text()


def test_documents_are_separated_by_the_one_token(story, tmp_path):
    path = tmp_path / "documents.txt"
    path.write_text("<|endoftext|>".join([story.read_text()[:4000]] * 3))
    given = train.parse_arguments([str(path), "--out", str(tmp_path / "m"), *options(n_vocab=280)])
    _, data, _ = train.new_run(given)
    assert list(data["train"]).count(data["encoder"].eot) == 2


def test_a_run_is_its_parts_joined_by_its_settings(story, tmp_path):
    """Four steps by hand, with no setting at its default, give the weights of the run."""
    folder = tmp_path / "m"
    changes = dict(n_steps=4, batch_size=5, warmup=2, final_lr=1e-3, lr=0.02, weight_decay=0.3,
                   beta_1=0.8, beta_2=0.9, clip=0.5, dropout=0.2, seed=9, threads=2, micro_batch=2)
    assert run(story, "--out", folder, *options(**changes)) == 0
    text = story.read_text()
    encoder = get_encoder(folder)
    ids = np.array(encoder.encode(text[:text.index("\n", len(text) - len(text) // 20)]))
    params = train.init_params({name: TINY[name] for name in train.SIZES}, 9)
    moments = train.new_moments(params)
    for step, rate in enumerate([0.01, 0.02, 0.02, 0.0105]):
        inputs, targets = train.batch(ids, 16, 5, step, 9)
        shares = []
        for starts in ([0, 4], [2]):      # what each of two threads does
            share = None
            for start in starts:
                rows = slice(start, start + 2)
                _, part = loss_and_gradients(params, inputs[rows], targets[rows], 2, 0.2,
                                             [9, step, start, 1], n_tokens=80)
                share = train.add_gradients(share, part)
            shares.append(share)
        gradients = train.add_gradients(*shares)
        assert train.clip_gradients(gradients, 0.5) > 0.5
        train.adamw(params, gradients, moments, step, rate, (0.8, 0.9), weight_decay=0.3)
    state = np.load(folder / "training.npz")
    for name, array in flatten_params(params).items():
        assert np.allclose(state[f"params/{name}"], array, rtol=1e-5, atol=1e-7), name
    changes |= dict(seed=10)
    assert run(story, "--out", tmp_path / "other", *options(**changes)) == 0
    other = np.load(tmp_path / "other" / "training.npz")
    assert not np.allclose(state["params/model/wte"], other["params/model/wte"], atol=1e-3)


# What goes wrong.


def test_a_step_whose_loss_is_no_number_changes_nothing(random_params):
    params = random_params()
    params["wte"][3] = np.nan
    settings = {"n_seq": 10, "batch_size": 2, "seed": 0, "micro_batch": 1, "dropout": 0.0,
                "threads": 1, "clip": 1.0, "n_steps": 5, "lr": 0.1, "warmup": 0, "final_lr": 0.0,
                "beta_1": 0.9, "beta_2": 0.95, "weight_decay": 0.1}
    state = {"params": params, "moments": train.new_moments(params), "step": 0}
    before = {name: array.copy() for name, array in flatten_params(params).items()}
    data = {"train": np.arange(100) % 61, "hparams": {"n_head": 3}}
    with ThreadPoolExecutor(1) as pool, np.errstate(all="ignore"):
        loss, _, _ = train.one_step(settings, data, state, pool)
    assert math.isnan(loss)
    for name, array in flatten_params(params).items():
        assert np.array_equal(array, before[name], equal_nan=True), name
        assert not state["moments"]["m"][name].any() and not state["moments"]["v"][name].any()


def test_a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_checkpoint(
        story, tmp_path, capsys):
    folder = tmp_path / "m"
    with np.errstate(all="ignore"):
        code = run(story, "--out", folder, *options(n_steps=50, lr=1e30, warmup=0, save_every=1,
                                                    weight_decay=0))
    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 1
    found = re.search(r"became (nan|inf) in step (\d+); the checkpoint of step (\d+) in", error)
    assert found and found[3] == "0"      # the first step already ruined the weights
    assert "--init-from" in error and "--lr" in error
    state = np.load(folder / "training.npz")
    assert all(np.all(np.isfinite(state[name])) for name in state.files if name != "about")


def refused(capsys, *arguments):
    """Run what must be refused; return its one line."""
    code = run(*arguments)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith("learning a vocabulary")]
    assert code == 1 and len(lines) == 1 and lines[0].startswith("train.py: ")
    return lines[0]


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"),
    (b" \n\n ", "is empty"),
    (b"caf\xe9 au lait", "not UTF-8 from byte 3"),
    (b"the king " * 3, "too few|not enough|allows"),
    (b"a king " * 1000, "n_vocab=300: the text allows"),
    (None, "No such file"),
])
def test_a_text_that_cannot_be_trained_on_is_refused_before_any_work(
        tmp_path, capsys, content, words):
    path, folder = tmp_path / "text.txt", tmp_path / "m"
    if content is not None:
        path.write_bytes(content)
    line = refused(capsys, path, "--out", folder, *options())
    assert re.search(words, line) and (str(path) in line or "n_vocab" in line)
    assert not folder.exists()


def test_a_text_shorter_than_one_context_is_refused(story, tmp_path, capsys):
    line = refused(capsys, story, "--out", tmp_path / "m", *options(n_ctx=10**4))
    assert "single context of 10000" in line and "--n-ctx" in line and str(story) in line
    short = tmp_path / "short.txt"
    short.write_text(story.read_text()[:500])
    line = refused(capsys, story, "--val", tmp_path / "none.txt", "--out", tmp_path / "m",
                   *options())
    assert "none.txt" in line
    short.write_text("a")
    line = refused(capsys, story, "--val", short, "--out", tmp_path / "m", *options())
    assert "held-out" in line


@pytest.mark.parametrize(("more", "words"), [
    (["--n-embd", 15], "cannot be divided"),
    (["--n-seq", 17], "more than the model's context"),
    (["--n-seq", 15], "untrained; give --n-ctx 15"),
    (["--out", "x" * 300], "cannot write to x+: "),
    (["--vocab-from", "TRAINED", "--n-vocab", 299], "--n-vocab 299 does not fit .*which has 300"),
    (["--init-from", "TRAINED", "--n-layer", 3], "--n-layer 3 does not fit .*which has 2"),
    (["--init-from", "TRAINED", "--vocab-from", "OTHER"], "does not fit the model"),
    (["--init-from", "TRAINED", "--vocab-from", "REORDERED"], "does not fit the model"),
    (["--init-from", "nowhere"], "no model 'nowhere'"),
    (["--vocab-from", "nowhere"], "nowhere"),
    (["--out", "TRAINED"], "already holds a model.*--resume"),
    (["--out", "STORY"], "cannot write to"),
    (["--n-embd", 2**20], "memory"),
])
def test_what_does_not_fit_together_is_refused(
        story, trained, tmp_path, capsys, more, words, random_params):
    from encoder import Encoder, get_encoder
    from utils import save_encoder

    save_encoder(train_bpe(story.read_text(), 290), tmp_path / "other")
    same = get_encoder(trained)           # the same tokens, two of them merged in the other order
    first, second, *rest = same.bpe_merges
    save_encoder(Encoder(same.encoder, [second, first, *rest]), tmp_path / "reordered")
    names = {"TRAINED": trained, "OTHER": tmp_path / "other", "STORY": story,
             "REORDERED": tmp_path / "reordered"}
    more = [names.get(part, part) for part in more]
    sized = "--init-from" in more or "--vocab-from" in more
    base = options(**dict.fromkeys(train.SIZES)) if sized else options()
    if "--n-embd" in more:      # before anything is allocated
        base = options(n_head=None, n_embd=None, n_layer=2)
        more += ["--n-head", 2]
    code = run(story, "--out", tmp_path / "m", *base, *more)
    line = capsys.readouterr().err.splitlines()[-1]
    assert code == 1 and line.startswith("train.py: ") and re.search(words, line), line


@pytest.mark.parametrize("more", [
    ["--n-steps", "0"], ["--n-steps", "many"], ["--lr", "-1"], ["--lr", "nan"], ["--dropout", "1"],
    ["--beta-2", "1.5"], ["--dtype", "int8"], ["--preset", "huge"], ["--seed", "-1"],
    ["--preset", "tune"], ["--n-vocab", "256"], ["--sample", "caf\udce9"], ["--out", ""],
])
def test_an_option_out_of_its_range_is_one_line(story, tmp_path, capsys, more):
    with pytest.raises(SystemExit) as stop:
        run(story, "--out", tmp_path / "m", *more)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and more[0].lstrip("-") in error


@pytest.mark.parametrize("arguments", [
    [], ["TEXT"], ["--resume"], ["TEXT", "--resume"], ["--resume", "x", "--out", "y"],
])
def test_what_is_missing_or_too_much_is_said(capsys, arguments):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert capsys.readouterr().err.count("\n") == 1


def test_every_option_is_explained(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for name in {**TINY, "n_seq": 0, "lr": 0, "clip": 0, "beta_1": 0, "resume": 0, "init_from": 0}:
        assert f"--{name.replace('_', '-')} " in text


def test_resume_refuses_what_is_not_its_run(story, trained, tmp_path, capsys):
    assert "is not there" in refused(capsys, "--resume", tmp_path)
    assert "is complete, at step 8" in refused(capsys, "--resume", trained)
    folder = tmp_path / "m"
    assert run(story, "--out", folder, *options(n_steps=3)) == 0
    capsys.readouterr()
    state = dict(np.load(folder / "training.npz"))
    about = json.loads(str(state["about"]))
    about["step"] = 2
    np.savez(folder / "training.npz", **(state | {"about": json.dumps(about)}))
    other = tmp_path / "other.txt"
    other.write_text(story.read_text() + "One line more.\n")
    assert "is not the one" in refused(capsys, other, "--resume", folder)
    whole = (folder / "training.npz").read_bytes()
    middle = len(whole) // 2
    flipped = [whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1:] for at in (0, middle)]
    for damaged in (b"", whole[:1000], whole[:-2000], *flipped):
        (folder / "training.npz").write_bytes(damaged)
        assert "cannot be read" in refused(capsys, "--resume", folder)
    (folder / "training.npz").write_bytes(whole)
    moved = tmp_path / "moved.txt"
    moved.write_bytes(story.read_bytes())
    assert "--lr 0.5 is not what" in refused(capsys, "--resume", folder, "--lr", 0.5)
    assert run(moved, "--out", folder, *options(n_steps=3), "--resume") == 0


def test_a_full_disk_costs_a_checkpoint_but_not_the_run(story, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "m"
    savez, calls = np.savez, []

    def full_at_second(file, **arrays):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full_at_second)
    assert run(story, "--out", folder, *options(n_steps=8, save_every=3)) == 0
    error = capsys.readouterr().err
    assert "step 3: cannot save" in error and "No space left" in error
    assert "the last checkpoint is of step 0" in error
    assert len(calls) == 4 and not list(folder.glob("*.tmp"))
    assert load_encoder_hparams_and_params(folder)


def test_a_disk_that_is_full_at_the_end_is_an_error_and_loses_nothing(
        story, tmp_path, capsys, monkeypatch):
    folder, savez, calls = tmp_path / "m", np.savez, []

    def full_after_first(file, **arrays):
        calls.append(1)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full_after_first)
    assert run(story, "--out", folder, *options(n_steps=8, save_every=6)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "cannot save" in line and "last checkpoint is of step 6" in line
    monkeypatch.setattr(np, "savez", savez)
    assert run("--resume", folder) == 0


def test_too_little_memory_is_refused_and_scarce_memory_said(story, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train, "memory", lambda: (10**8, 10**8))
    assert run(story, "--out", tmp_path / "m", "--threads", 2, *options()) == 1
    assert "needs 190.9 MB of memory" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(train, "memory", lambda: (10**10, 10**8))
    assert run(story, "--out", tmp_path / "m", *options(n_steps=1)) == 0
    assert "only 100.0 MB" in capsys.readouterr().err


def test_the_readmes_training_loop_runs_and_learns():
    readme = (ROOT / "README.md").read_text("utf-8")
    code = readme.partition("From Python, a training loop")[2].split("```")[1]
    assert code.startswith("python\nfrom backward import")
    hparams = {"n_vocab": 20, "n_ctx": 64, "n_embd": 16, "n_head": 2, "n_layer": 1}
    names = {"hparams": hparams, "ids": np.tile(np.arange(20), 50)}
    exec(code.removeprefix("python\n").replace("lr=1e-3", "lr=1e-2"), names)
    assert names["loss"] < 1.0 < math.log(20)


def test_a_first_save_that_failed_half_way_can_be_gone_on_from(
        story, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "m"

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(train, "save_model", full)
        assert run(story, "--out", folder, *options(n_steps=4)) == 1
    assert "cannot save in" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in folder.iterdir()] == ["training.npz"]
    assert "--resume" in refused(capsys, story, "--out", folder, *options())
    assert run("--resume", folder) == 0
    whole = tmp_path / "whole"
    assert run(story, "--out", whole, *options(n_steps=4)) == 0
    assert without_times(folder) == without_times(whole)


def test_a_weight_too_large_for_float16_is_refused_and_float32_can_be_had(
        story, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "m"
    adamw, steps = train.adamw, []

    def grow(params, *arguments, **settings):
        steps.append(1)
        adamw(params, *arguments, **settings)
        params["blocks"][0]["ln_1"]["g"][0] = 1e5

    monkeypatch.setattr(train, "adamw", grow)
    assert run(story, "--out", folder, *options(n_steps=2, dtype="float16")) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "too large for float16" in line and "last checkpoint is of step 0" in line
    assert run("--resume", folder, "--dtype", "float32") == 0
    assert load_encoder_hparams_and_params(folder)[2]["blocks"][0]["ln_1"]["g"][0] == 1e5


def test_two_runs_do_not_write_to_one_folder(story, tmp_path, capsys):
    with train.only_run(tmp_path / "m"):
        assert run(story, "--out", tmp_path / "m", *options()) == 1
    assert "another run is writing" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "m").iterdir())


def test_a_damaged_log_is_mended(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{}\n9\n\xff\n{"step": 5}\n{"st')
    assert train.begin_log({"out": tmp_path}, 3) == path
    assert path.read_text() == '{"step": 1}\n'
    path.write_text('{"step": 1}\n{"st')
    train.write_log(path, step=2)
    assert path.read_text() == '{"step": 1}\n{"st\n{"step": 2}\n'


def test_an_evaluation_is_broken_off_when_the_run_is_to_stop(random_params):
    import threading

    stop = threading.Event()
    stop.set()
    ids = np.zeros(50, int)
    assert math.isnan(train.negative_log_likelihood(random_params(), ids, 3, 20, stop=stop))


@pytest.mark.parametrize(("text", "held_out"), [
    ("a line of words\n" * 100, "\n" + "a line of words\n" * 4),
    ("words and words " * 100 + "\n", None),
    ("x" * 1000, "x" * 50),
])
def test_the_end_of_the_text_is_held_out_wherever_it_can_be_cut(tmp_path, text, held_out):
    path = tmp_path / "text.txt"
    path.write_text(text)
    settings = {"corpus": str(path), "val": None}
    kept, end = train.read_texts(settings)
    assert kept + end == text
    assert len(text) // 25 <= len(end) <= len(text) // 20
    assert held_out is None or end == held_out
    assert end[0] in " \nx"
