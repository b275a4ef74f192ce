"""Whole runs: the log, the evaluations, the checkpoints, and what can break them off."""

import contextlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import command_line.run
import command_line.run_state
import train
from command_line.process import get_blas_threads
from command_line.run_state import load
from encoder import get_encoder
from files.openai_folder import OUTDATED
from files.tf_checkpoint import read_checkpoint
from gpt2_numpy import generate
from programs import (
    ROOT,
    TINY,
    default_ctrl_c,
    make_options,
    needs_posix,
    read_log,
    read_log_without_times,
    run_refused,
    run_train,
    start_training,
    wait_for_step,
)
from train import negative_log_likelihood
from utils import SIZES, load_encoder_hparams_and_params


def test_a_run_writes_a_model_that_speaks_and_a_log_that_plots(trained, story):
    encoder, hparams, params = load_encoder_hparams_and_params(trained)
    assert hparams == {name: TINY[name] for name in SIZES}
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
    held_out = whole[whole.index("\n", len(whole) - len(whole) // 20) :]
    nats = negative_log_likelihood(params, encoder.encode(held_out), 2, 16)
    bits = nats / math.log(2) / len(held_out)
    assert abs(evaluations[-1]["bits_per_byte"] - bits) < 1e-5 * bits
    assert sorted(path.name for path in trained.iterdir()) == [
        "checkpoint",
        "encoder.json",
        "hparams.json",
        "log.jsonl",
        "model.ckpt.data-00000-of-00001",
        "model.ckpt.index",
        "training.npz",
        "vocab.bpe",
    ]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_option_of_the_optimisation_reaches_the_loop(story, tmp_path, optimizer):
    """The run's weights are those of `train` with the same settings, none of them a default."""
    changes = dict(
        optimizer=optimizer,
        muon_lr=0.05,
        n_steps=4,
        batch_size=5,
        warmup=2,
        final_lr=1e-3,
        lr=0.02,
        weight_decay=0.3,
        beta_1=0.8,
        beta_2=0.9,
        clip=0.5,
        dropout=0.2,
        seed=9,
        threads=2,
        micro_batch=2,
    )
    folder = tmp_path / "m"
    assert run_train(story, "--out", folder, *make_options(**changes)) == 0
    text = story.read_text()
    held_out = text.index("\n", len(text) - len(text) // 20)
    ids = get_encoder(folder).encode(text[:held_out])
    params = train.init_params({name: TINY[name] for name in SIZES}, 9)
    steps = list(train.train(params, ids, 2, train.Settings(n_seq=16, **changes)))
    state = np.load(folder / "training.npz")
    assert np.array_equal(state["params/wte"], params["wte"])
    assert np.array_equal(
        state["params/blocks/1/mlp/c_proj/w"], params["blocks"][1]["mlp"]["c_proj"]["w"]
    )
    lines = [line for line in read_log(folder) if "norm" in line]
    assert [line["lr"] for line in lines] == [float(f"{step.lr:.6g}") for step in steps[1::2]]
    assert [line["norm"] for line in lines] == [float(f"{step.norm:.6g}") for step in steps[1::2]]
    means = [(steps[i].loss + steps[i + 1].loss) / 2 for i in (0, 2)]
    assert [line["loss"] for line in lines] == [float(f"{loss:.6g}") for loss in means]


def test_each_thread_has_a_blas_of_one_thread(story, tmp_path, monkeypatch):
    before, inside = get_blas_threads(), []
    batch = train.batch

    def watch(*arguments):
        inside.append(get_blas_threads())
        return batch(*arguments)

    monkeypatch.setattr(train, "batch", watch)
    assert run_train(story, "--out", tmp_path / "m", *make_options(n_steps=1)) == 0
    assert inside == [None if before is None else 1] and get_blas_threads() == before


@pytest.mark.skipif(**needs_posix)
def test_ctrl_c_saves_and_a_resumed_run_equals_an_uninterrupted_one(story, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    changes = dict(optimizer="muon", n_steps=300, eval_every=150, save_every=10**6, n_embd=8)
    process = start_training(story, "--out", cut, *make_options(**changes))
    wait_for_step(process, cut, 6)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.splitlines()[-1].endswith(f"go on with: python train.py --resume {cut}")
    at = json.loads(str(np.load(cut / "training.npz")["about"]))["step"]
    assert 6 <= at < 300
    assert load_encoder_hparams_and_params(cut)  # a model that speaks already
    for rest in (["--resume", cut], [story, "--out", whole, *make_options(**changes)]):
        assert start_training(*rest).wait(60) == 0
    assert read_log_without_times(whole) == read_log_without_times(cut)
    for name, array in read_checkpoint(whole / "model.ckpt").items():
        assert np.array_equal(array, read_checkpoint(cut / "model.ckpt")[name]), name
    states = [np.load(folder / "training.npz") for folder in (whole, cut)]
    assert states[0].files == states[1].files
    assert all(
        np.array_equal(states[0][name], states[1][name])
        for name in states[0].files
        if name != "about"
    )


# train.py, whose first step never ends.
ENDLESS_STEP = """
import sys, time
import train
from command_line.launch import launch

def work(*arguments, **settings):
    print("at work", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.01)

train.loss_and_gradients = work
raise SystemExit(launch("train"))
"""


def wait_until(happened, seconds=60):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def press_ctrl_c(process, happened):
    """Send SIGINT; and again, as a person would, where nothing happens: Python looks at a signal
    late when it comes in the very moment in which the main thread begins to wait for another."""
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(AssertionError):
            return wait_until(happened, seconds=3)
    process.kill()
    raise AssertionError("nothing happened")


@pytest.mark.skipif(**needs_posix)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_second_ctrl_c_waits_for_no_step_and_leaves_the_last_checkpoint(story, tmp_path, threads):
    folder, told = tmp_path / "m", tmp_path / "stderr"
    command = [sys.executable, "-c", ENDLESS_STEP, story, "--out", folder]
    with open(told, "w") as stderr:
        process = subprocess.Popen(
            [*command, *make_options(threads=threads)],
            stderr=stderr,
            cwd=ROOT,
            preexec_fn=default_ctrl_c,
        )
    wait_until(lambda: "at work" in told.read_text())
    press_ctrl_c(process, lambda: "finishing this step" in told.read_text())
    press_ctrl_c(process, lambda: process.poll() is not None)
    error = told.read_text()
    assert process.returncode == 130
    assert error.splitlines()[-1] == (f"stopped without saving; {folder} holds the last checkpoint")
    assert json.loads(str(np.load(folder / "training.npz")["about"]))["step"] == 0
    assert not [path for path in folder.iterdir() if path.suffix in (".tmp", ".lock")]


@pytest.mark.skipif(**needs_posix)
def test_a_terminal_that_is_closed_costs_nothing(story, tmp_path):
    """The kernel sends SIGHUP, and so may the shell; whatever is written now is an error."""
    import fcntl
    import pty
    import termios

    def take_terminal():
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    folder, (master, terminal) = tmp_path / "m", pty.openpty()
    command = [sys.executable, ROOT / "train.py", story, "--out", folder]
    options = make_options(n_steps=10**5, eval_every=10**6, save_every=10**6)
    process = subprocess.Popen(
        [*command, *options], stdin=terminal, stderr=terminal, preexec_fn=take_terminal
    )
    os.close(terminal)
    wait_for_step(process, folder, 2)
    os.close(master)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
    process.wait(timeout=60)
    assert json.loads(str(np.load(folder / "training.npz")["about"]))["step"] >= 2
    assert not [path for path in folder.iterdir() if path.suffix in (".tmp", ".lock")]


# What a Python in a browser lacks: threads that can be started, locks, and foreign functions.
WITHOUT_THREADS = """
import sys, threading

def start(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = start
for name in ("fcntl", "_ctypes", "_multiprocessing"):
    sys.modules[name] = None
from command_line import start
raise SystemExit(start({program!r}))
"""


def test_where_no_thread_can_be_started_both_programs_work_on_one(story, tmp_path):
    folder = tmp_path / "m"

    def run(program, *arguments):
        command = [sys.executable, "-W", "error", "-c", WITHOUT_THREADS.format(program=program)]
        command += arguments
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)

    done = run("train", story, "--out", folder, *make_options(threads=2))
    assert done.returncode == 0, done.stderr
    with_threads = tmp_path / "with-threads"
    assert run_train(story, "--out", with_threads, *make_options(threads=2)) == 0
    for name, array in read_checkpoint(folder / "model.ckpt").items():
        assert np.array_equal(array, read_checkpoint(with_threads / "model.ckpt")[name]), name
    done = run("generate", "--model", folder, "--greedy", "-n", "3", "the king")
    assert done.returncode == 0 and done.stdout.startswith("the king"), done.stderr


def test_a_killed_run_resumes_from_its_last_checkpoint(story, tmp_path):
    """As in a power cut: nothing is asked of the process, and a line of the log is half written."""
    folder = tmp_path / "m"
    process = start_training(story, "--out", folder, *make_options(n_steps=5000, save_every=7))
    wait_for_step(process, folder, 12)
    process.kill()
    process.communicate()
    with open(folder / "log.jsonl", "a") as log:
        log.write('{"step": 9')
    at = json.loads(str(np.load(folder / "training.npz")["about"]))["step"]
    assert at % 7 == 0 and at >= 7
    seen = read_log(folder, damaged=1)[-1]["step"]
    process = start_training("--resume", folder)
    wait_for_step(process, folder, seen + 30)
    process.send_signal(signal.SIGTERM)
    assert "saved; go on" in process.communicate(timeout=60)[1] and process.returncode == 130
    steps = [line["step"] for line in read_log(folder) if "loss" in line]
    assert steps == list(range(2, 2 * len(steps) + 1, 2))


def test_a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_checkpoint(
    story, tmp_path, capsys
):
    folder = tmp_path / "m"
    with np.errstate(all="ignore"):
        code = run_train(
            story,
            "--out",
            folder,
            *make_options(n_steps=50, lr=1e30, warmup=0, save_every=1, weight_decay=0),
        )
    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 1
    assert re.search(r"became (nan|inf) in step (\d+); begin again, with another --out and", error)
    assert error.endswith("an --lr below 1e+30, such as 0.003")
    state = np.load(folder / "training.npz")
    assert all(np.all(np.isfinite(state[name])) for name in state.files if name != "about")


@pytest.mark.parametrize("change", ["outdated", "no index", "--n-steps"])
def test_a_run_that_goes_on_first_brings_its_folder_up_to_date(
    story, trained, tmp_path, monkeypatch, change
):
    """Even if it gets no further than that."""
    folder, batch = tmp_path / "m", train.batch

    def interrupted(ids, n_seq, n_batch, step, seed):
        if step == 3:
            raise KeyboardInterrupt
        return batch(ids, n_seq, n_batch, step, seed)

    monkeypatch.setattr(train, "batch", interrupted)
    assert run_train(story, "--out", folder, *make_options()) == 130
    more = ["--n-steps", 20] if change == "--n-steps" else []
    if change == "outdated":  # and of another step
        (folder / OUTDATED).write_text("")
        data = "model.ckpt.data-00000-of-00001"
        (folder / data).write_bytes((trained / data).read_bytes())
        (folder / "model.ckpt.index").write_bytes((trained / "model.ckpt.index").read_bytes())
    elif change == "no index":
        (folder / "model.ckpt.index").unlink()
    assert run_train("--resume", folder, *more) == 130
    settings, _, state = load(folder)
    assert settings.optimisation.n_steps == (20 if more else 8) and state.step == 3
    params = load_encoder_hparams_and_params(folder)[2]
    assert np.array_equal(params["wte"], state.params["wte"])
    assert not (folder / OUTDATED).exists()


def test_ruined_weights_are_not_saved_over_good_ones(story, tmp_path, capsys, monkeypatch):
    folder, adamw, steps = tmp_path / "m", train.adamw, []

    def ruin(params, *arguments, **settings):
        steps.append(1)
        adamw(params, *arguments, **settings)
        if len(steps) == 6:
            params["ln_f"]["g"][0] = np.nan

    monkeypatch.setattr(train, "adamw", ruin)
    assert run_train(story, "--out", folder, *make_options(eval_every=100)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "the held-out loss became nan in step 6; the checkpoint of step 3" in line
    assert (
        "--init-from" in line
        and json.loads(str(np.load(folder / "training.npz")["about"]))["step"] == 3
    )


def test_damaged_weights_to_begin_with_are_refused(story, trained, tmp_path, capsys, monkeypatch):
    from command_line import prepare

    def load(model):
        encoder, hparams, params = load_encoder_hparams_and_params(model)
        return encoder, hparams, params | {"wte": params["wte"] * np.float32(np.nan)}

    monkeypatch.setattr(prepare, "load_encoder_hparams_and_params", load)
    sizes = dict.fromkeys(SIZES)
    folder = tmp_path / "m"
    assert run_train(story, "--out", folder, "--init-from", trained, *make_options(**sizes)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "the held-out loss of the first weights is nan; they are damaged" in line
    assert not folder.exists()


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
    assert run_train(story, "--out", folder, *make_options(n_steps=8, save_every=3)) == 0
    error = capsys.readouterr().err
    assert "step 3: cannot save" in error and "No space left" in error
    assert "the last checkpoint is of step 0" in error
    assert len(calls) == 4 and not list(folder.glob("*.tmp"))
    assert load_encoder_hparams_and_params(folder)


def test_a_disk_that_is_full_at_the_end_takes_the_model_alone_and_loses_nothing(
    story, trained, tmp_path, capsys, monkeypatch
):
    folder, savez, calls = tmp_path / "m", np.savez, []

    def full_after_first(file, **arrays):
        calls.append(1)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        savez(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full_after_first)
        assert run_train(story, "--out", folder, *make_options(save_every=6)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "cannot save in" in line and "last checkpoint is of step 6; make room" in line
    assert "but the model alone was saved, as it is after step 8" in line
    assert line.endswith(f"then go on with: python train.py --resume {folder}")
    last = (trained / "model.ckpt.data-00000-of-00001").read_bytes()
    assert (folder / "model.ckpt.data-00000-of-00001").read_bytes() == last
    load_encoder_hparams_and_params(folder)
    assert capsys.readouterr().err == ""  # newer than its state, and no cause for a notice

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # the newer model outlives a resumed run that gets nowhere
        patch.setattr(train, "batch", stop)
        assert run_train("--resume", folder) == 130
    assert (folder / "model.ckpt.data-00000-of-00001").read_bytes() == last
    assert run_train("--resume", folder) == 0
    assert read_log_without_times(folder) == read_log_without_times(trained)


def read_command(line):
    """The arguments of the train.py command that a line ends with."""
    return shlex.split(line.partition("go on with: python train.py ")[2])


def test_a_run_that_finds_no_room_to_be_extended_is_told_the_whole_command(
    story, tmp_path, capsys, monkeypatch
):
    folder, text, held_out = tmp_path / "m", tmp_path / "a text", tmp_path / "held out"
    held_out.write_text(story.read_text()[:1000])
    options = make_options(n_steps=2, threads=2)
    assert run_train(story, "--val", held_out, "--out", folder, *options) == 0
    text.write_bytes(story.read_bytes())
    held_out = held_out.rename(tmp_path / "held out, too")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    command = [str(text), "--resume", str(folder), "--val", str(held_out), "--n-steps", "3"]
    command += ["--save-every", "2", "--sample", "a bird", "--threads", "1", "--keep-best"]

    def full(file, **arrays):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        assert run_train(*command) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"cannot save in {folder}: No space left on device; the last checkpoint is of" in line
    assert "the last checkpoint is of step 2; make room, then go on with: " in line
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert read_command(line) == command
    assert run_train(*command) == 0
    settings, _, state = load(folder)
    assert state.step == 3 and settings.sample == "a bird" and settings.keep_best


def test_a_run_without_its_text_is_told_the_whole_command(story, tmp_path, capsys):
    folder, moved = tmp_path / "m", tmp_path / "moved.txt"
    moved.write_bytes(story.read_bytes())
    assert run_train(moved, "--out", folder, *make_options(n_steps=2)) == 0
    moved.unlink()
    capsys.readouterr()
    line = run_refused(capsys, "--resume", folder, "--n-steps", 4)
    assert line.endswith(f": python train.py TEXT --resume {folder} --n-steps 4")


def test_a_run_that_has_not_begun_and_finds_no_room_is_sent_to_no_other_folder(
    story, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "m"

    def stop(*arguments):
        raise KeyboardInterrupt

    def full(file, **arrays):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(train, "batch", stop)
        assert run_train(story, "--out", folder, *make_options()) == 130
        patch.setattr(np, "savez", full)
        assert run_train("--resume", folder, "--n-steps", 3) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "the last checkpoint is of step 0; make room, then go on with" in line
    assert read_command(line) == ["--resume", str(folder), "--n-steps", "3"]


@pytest.mark.parametrize("name", ["savez", "save_model"])
def test_a_dtype_that_finds_no_room_is_in_the_command(trained, tmp_path, capsys, monkeypatch, name):
    folder = shutil.copytree(trained, tmp_path / "m")

    def full(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np if name == "savez" else command_line.run_state, name, full)
        line = run_refused(capsys, "--resume", folder, "--dtype", "float16")
    command = read_command(line)
    assert command == ["--resume", str(folder), *(["--dtype", "float16"] * (name == "savez"))]
    assert run_train(*command) == 0
    assert {array.dtype for array in read_checkpoint(folder / "model.ckpt").values()} == {
        np.dtype(np.float16)
    }


def test_a_disk_without_any_room_at_the_end_keeps_the_checkpoint_and_its_model(
    story, tmp_path, capsys, monkeypatch
):
    folder, write_whole, calls = tmp_path / "m", command_line.run_state.write_whole, []

    def full(*arguments):
        raise OSError(28, "No space left on device")

    def full_after_first(contents, rename=None):
        calls.append(1)
        write_whole(contents, rename) if len(calls) < 5 else full()

    with monkeypatch.context() as patch:
        patch.setattr(command_line.run_state, "write_whole", full_after_first)
        patch.setattr("files.tf_checkpoint.write_whole", full_after_first)
        assert run_train(story, "--out", folder, *make_options(save_every=100)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "cannot save in" in line and "last checkpoint is of step 0; make room" in line
    assert "alone" not in line
    state = np.load(folder / "training.npz")
    params = load_encoder_hparams_and_params(folder)[2]
    assert np.array_equal(params["wte"], state["params/wte"])


def test_a_first_save_that_failed_half_way_can_be_gone_on_from(
    story, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "m"

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(command_line.run_state, "save_model", full)
        assert run_train(story, "--out", folder, *make_options(n_steps=4)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "cannot save the model in" in line and "training.npz holds step 0; make room" in line
    assert sorted(path.name for path in folder.iterdir()) == [OUTDATED, "training.npz"]
    assert "--resume" in run_refused(capsys, story, "--out", folder, *make_options())
    assert run_train("--resume", folder) == 0
    whole = tmp_path / "whole"
    assert run_train(story, "--out", whole, *make_options(n_steps=4)) == 0
    assert read_log_without_times(folder) == read_log_without_times(whole)


def test_a_weight_too_large_for_float16_loses_nothing_and_float32_can_be_had(
    story, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "m"
    adamw, steps = train.adamw, []

    def grow(params, *arguments, **settings):
        steps.append(1)
        adamw(params, *arguments, **settings)
        params["blocks"][0]["ln_1"]["g"][0] = 1e5

    with monkeypatch.context() as patch:
        patch.setattr(train, "adamw", grow)
        assert run_train(story, "--out", folder, *make_options(n_steps=2, dtype="float16")) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "too large for float16; training.npz holds step 2; go on with: " in line
    assert line.endswith(f"--resume {folder} --dtype float32")
    assert run_train("--resume", folder, "--dtype", "float32") == 0
    assert load_encoder_hparams_and_params(folder)[2]["blocks"][0]["ln_1"]["g"][0] == 1e5
    assert "its model was written anew, as of step 2" in capsys.readouterr().err
    assert "is complete, at step 2" in run_refused(capsys, "--resume", folder)


def test_a_run_that_is_to_stop_says_no_more(story, tmp_path, monkeypatch, capsys):
    """Ctrl-C while the held-out loss is being measured: no figure of a part of the text."""
    measure = command_line.run.negative_log_likelihood

    def interrupted(*arguments):
        if len(arguments) == 6 and calls.append(1) is None and len(calls) == 2:
            arguments[5].set()
        return measure(*arguments)

    calls = []
    monkeypatch.setattr(command_line.run, "negative_log_likelihood", interrupted)
    folder = tmp_path / "m"
    assert run_train(story, "--out", folder, *make_options()) == 130
    assert [line["step"] for line in read_log(folder) if "bits_per_byte" in line] == [0]
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("stopped after step 4, saved; go on with: ")


@pytest.mark.parametrize("which", [1, 2, 3])
def test_an_evaluation_that_was_given_up_is_made_up_for(
    story, trained, tmp_path, monkeypatch, capsys, which
):
    """Of step 0, 4 or 8, the last: the log is that of a run that was never stopped."""
    measure, calls = command_line.run.negative_log_likelihood, []

    def interrupted(*arguments):
        if len(arguments) == 6:
            calls.append(1)
            if len(calls) == which:
                arguments[5].set()
        return measure(*arguments)

    folder = tmp_path / "m"
    with monkeypatch.context() as patch:
        patch.setattr(command_line.run, "negative_log_likelihood", interrupted)
        assert run_train(story, "--out", folder, *make_options()) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"stopped after step {4 * which - 4}, saved; go on with: ")
    assert run_train("--resume", folder) == 0
    assert read_log_without_times(folder) == read_log_without_times(trained)
    capsys.readouterr()
    assert "is complete, at step 8" in run_refused(capsys, "--resume", folder)


def test_an_evaluation_that_was_made_up_for_and_not_saved_is_in_the_log_once(
    story, trained, tmp_path, monkeypatch
):
    """Killed right after it, the run goes on with the same evaluation."""
    folder = tmp_path / "m"
    measure, batch, calls = command_line.run.negative_log_likelihood, train.batch, []

    def interrupted(*arguments):
        if len(arguments) == 6 and calls.append(1) is None and len(calls) == 2:
            arguments[5].set()
        return measure(*arguments)

    def stop(ids, n_seq, n_batch, step, seed):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command_line.run, "negative_log_likelihood", interrupted)
        assert run_train(story, "--out", folder, *make_options()) == 130
        patch.setattr(train, "batch", stop)
        assert run_train("--resume", folder) == 130
    assert [line["step"] for line in read_log(folder, key="val_loss")] == [0, 4]
    assert train.batch is batch and run_train("--resume", folder) == 0
    assert read_log_without_times(folder) == read_log_without_times(trained)


@pytest.mark.skipif(**needs_posix)
def test_signals_mean_what_they_meant_before_when_the_run_is_over(story, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    assert run_train(story, "--out", tmp_path / "m", *make_options(n_steps=1)) == 0
    assert signal.getsignal(signal.SIGINT) is before
