"""The options of train.py: what is wrong with them is one line, before any work."""

import contextlib
import os
import shutil
import subprocess

import pytest

from command_line import train
from command_line.run_folder import lock_folder
from command_line.settings import NUMBERS
from programs import ROOT, TINY, make_options, needs_posix, run_refused, run_train


@pytest.mark.parametrize(
    "more",
    [
        ["--n-steps", "0"],
        ["--n-steps", "many"],
        ["--lr", "-1"],
        ["--lr", "nan"],
        ["--dropout", "1"],
        ["--beta-2", "1.5"],
        ["--dtype", "int8"],
        ["--optimizer", "sgd"],
        ["--muon-lr", "0"],
        ["--preset", "huge"],
        ["--seed", "-1"],
        ["--preset", "tune"],
        ["--n-vocab", "256"],
        ["--sample", "caf\udce9"],
        ["--out", ""],
        ["--val", ""],
        ["--vocab-from", ""],
        ["--init-from", ""],
        ["--n-steps", "1" + 400 * "0"],
    ],
)
def test_an_option_out_of_its_range_is_one_line(story, tmp_path, capsys, more):
    with pytest.raises(SystemExit) as stop:
        run_train(story, "--out", tmp_path / "m", *more)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and more[0].lstrip("-") in error


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["TEXT"],
        ["--resume"],
        ["TEXT", "--resume"],
        ["--resume", "x", "--out", "y"],
        ["", "--out", "x"],
    ],
)
def test_what_is_missing_or_too_much_is_said(capsys, arguments):
    with pytest.raises(SystemExit):
        run_train(*arguments)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("option", ["out", "resume", "val", "init-from", "vocab-from", "corpus"])
def test_every_path_may_begin_at_home(monkeypatch, tmp_path, option):
    """A shell expands it only where a word begins with it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    given = ["~/x"] if option == "corpus" else ["story.txt", f"--{option}=~/x"]
    if option not in ("out", "resume"):
        given += ["--out", "m"]
    chosen = train.parse_arguments(given)
    assert chosen[option.replace("-", "_")] == os.path.join(str(tmp_path), "x")


def test_one_folder_may_be_named_in_two_ways(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    given = ["--resume", os.path.join(str(tmp_path), "x"), "--out=~/x"]
    assert train.parse_arguments(given)["resume"] == os.path.join(str(tmp_path), "x")


def test_every_option_is_explained(capsys):
    with pytest.raises(SystemExit) as stop:
        run_train("--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for name in {**TINY, "n_seq": 0, "lr": 0, "clip": 0, "beta_1": 0, "resume": 0, "init_from": 0}:
        assert f"--{name.replace('_', '-')} " in text
    for name in NUMBERS | dict.fromkeys(("val", "vocab_from", "preset", "keep_best", "sample")):
        assert f"--{name.replace('_', '-')} " in text
    assert len(text.splitlines()) <= 100 and max(map(len, text.splitlines())) <= 100


def test_two_runs_do_not_write_to_one_folder(story, tmp_path, capsys):
    with lock_folder(tmp_path / "m"):
        assert "another run" in run_refused(capsys, story, "--out", tmp_path / "m", *make_options())
    assert not (tmp_path / "m").exists()


def test_a_model_that_another_run_wrote_just_before_the_lock_is_not_overwritten(
    story, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "m"

    @contextlib.contextmanager
    def lock_late(path):
        with lock_folder(path):
            (folder / "hparams.json").write_text("another run's")
        with lock_folder(path):
            yield

    monkeypatch.setattr(train, "lock_folder", lock_late)
    line = run_refused(capsys, story, "--out", folder, *make_options())
    assert "already holds a model (hparams.json)" in line
    assert [path.name for path in folder.iterdir()] == ["hparams.json"]
    assert (folder / "hparams.json").read_text() == "another run's"


@pytest.mark.parametrize(
    "more", [[], ["--val", "nowhere"], ["--n-embd", "15"], ["--n-ctx", "9999"]]
)
def test_a_run_that_is_refused_leaves_no_folder_and_no_lock(story, tmp_path, capsys, more):
    text = story if more else tmp_path / "no text"
    run_refused(capsys, text, "--out", tmp_path / "a" / "m", *make_options(), *more)
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    run_refused(capsys, text, "--out", tmp_path / "a", *make_options(), *more)
    assert not list((tmp_path / "a").iterdir())


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 1, "train.py: not enough memory; take a smaller model, --micro-batch or"),
        (
            OSError(5, "Input/output error", "x/y"),
            1,
            "train.py: x/y: Input/output error; when that is put right, give the command again\n",
        ),
        (ModuleNotFoundError("no", name="requests"), 1, "train.py: requests is not installed; pip"),
        (KeyboardInterrupt(), 130, "stopped; nothing was written yet"),
    ],
)
def test_whatever_goes_wrong_is_one_line(story, tmp_path, capsys, monkeypatch, error, code, words):
    def fail(given):
        raise error

    monkeypatch.setattr(train, "begin_run", fail)
    assert run_train(story, "--out", tmp_path / "m") == code
    err = capsys.readouterr().err
    assert err.startswith(words) and err.count("\n") == 1


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError("read it\ntwice")])
def test_an_error_of_the_system_says_how_to_go_on_with_a_run(
    story, trained, tmp_path, capsys, monkeypatch, error
):
    """The same command goes on with a run that goes on already: it has all options."""
    folder, reason = tmp_path / "m", error.strerror or "read it twice"

    def fail(given):
        raise error

    def fail_later(settings, corpus, state):
        shutil.copy(trained / "training.npz", folder)
        raise error

    monkeypatch.setattr(train, "resume_run", fail)
    monkeypatch.setattr(train, "carry_out", fail_later)
    for options, advice in [
        (["--resume", trained, "--n-steps", 40], "give the command again"),
        ([story, "--out", folder, *make_options()], f"go on with --resume {folder}"),
    ]:
        assert run_train(*options) == 1
        place = trained if "--resume" in options else folder
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"train.py: {place}: {reason}; when that is put right, {advice}"
        )


def test_a_run_that_was_abandoned_says_whether_there_is_a_checkpoint(trained, capsys, monkeypatch):
    def stop(given):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "resume_run", stop)
    assert run_train("--resume", trained) == 130
    assert capsys.readouterr().err == (
        f"stopped without saving; {trained} holds the last checkpoint\n"
    )


def test_the_last_line_lets_the_model_speak(story, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_train(story, "--out", "the model", *make_options(n_steps=1)) == 0
    assert capsys.readouterr().err.splitlines()[-1] == (
        "done; hear it with: python gpt2_numpy.py --model './the model' 'the king'"
    )


@pytest.mark.skipif(**needs_posix)
def test_closed_streams_are_survived(story, tmp_path):
    import sys

    words = [
        sys.executable,
        ROOT / "train.py",
        story,
        "--out",
        tmp_path / "m",
        *make_options(n_steps=1),
    ]
    line = " ".join(f"'{word}'" for word in words)
    shell = subprocess.run(["sh", "-c", f"{line} 2>&- >&-"], capture_output=True)
    assert shell.returncode == 0 and os.path.exists(tmp_path / "m" / "model.ckpt.index")
