"""The folder of a run: one run at a time, and never over a model that is there."""

import os
import subprocess

import pytest

from command_line.run_folder import check_folder, check_resumable, lock_folder
from files import lock
from files.openai_folder import FILES
from programs import make_options, read_log, start_training
from train import TrainError
from utils import load_encoder_hparams_and_params


def test_a_folder_that_holds_a_model_or_a_part_of_one_is_refused(trained, tmp_path):
    with pytest.raises(TrainError, match=r"already holds a model; .* or go on with --resume"):
        check_folder(trained)
    for name in (*FILES, "log.jsonl"):
        (tmp_path / name).write_text("{}")
        with pytest.raises(TrainError, match=r"already holds a model \(.*\); give another --out$"):
            check_folder(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "best").mkdir()
    with pytest.raises(TrainError, match=r"already holds a model \(best\)"):
        check_folder(tmp_path)
    (tmp_path / "best").rmdir()
    check_folder(tmp_path)
    check_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_only_a_folder_with_a_state_can_be_resumed(trained, tmp_path):
    check_resumable(trained)
    with pytest.raises(TrainError, match=r"training\.npz is not there; --resume needs"):
        check_resumable(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_one_run_at_a_time_holds_a_folder_and_leaves_nothing_there(tmp_path):
    folder = tmp_path / "a" / "m"
    with lock_folder(folder):
        with pytest.raises(TrainError, match="another run is writing to"), lock_folder(folder):
            pass
        assert [path.name for path in folder.iterdir()] == ["training.lock"]
    assert not (tmp_path / "a").exists()
    folder.mkdir(parents=True)
    with lock_folder(folder):
        pass
    assert folder.exists() and not list(folder.iterdir())


def test_what_was_written_stays(tmp_path):
    with lock_folder(tmp_path / "m"):
        (tmp_path / "m" / "log.jsonl").write_text("")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("place", ["file", "file/m", "x" * 300])
def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path, place):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(TrainError, match=r"cannot write to .*: .*; give another folder"),
        lock_folder(tmp_path / place),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_lock_on_a_file_that_has_lost_its_name_does_not_count(tmp_path, monkeypatch):
    """The file is opened; its owner removes it and ends; a third process makes another, and locks
    that: only then is the first one locked, which is no longer the folder's."""
    path, try_lock, opened = tmp_path / "training.lock", lock.try_lock, []

    def late(file):
        opened.append(file)
        if len(opened) == 1:
            path.unlink()
            third.append(open(path, "a"))
            assert try_lock(third[0])
        return try_lock(file)

    third = []
    monkeypatch.setattr(lock, "try_lock", late)
    with pytest.raises(TrainError, match="another run is writing to"), lock_folder(tmp_path):
        pass
    assert len(opened) == 2 and path.exists()
    third[0].close()


def test_a_lock_whose_file_was_removed_in_between_is_had_at_the_second_attempt(
    tmp_path, monkeypatch
):
    path, try_lock, opened = tmp_path / "training.lock", lock.try_lock, []

    def late(file):
        opened.append(file)
        if len(opened) == 1:
            path.unlink()
        return try_lock(file)

    monkeypatch.setattr(lock, "try_lock", late)
    with lock_folder(tmp_path):
        assert len(opened) == 2 and opened[0].closed and path.exists()
    assert not path.exists()


def test_of_two_processes_that_begin_in_one_folder_one_trains_and_one_is_refused(story, tmp_path):
    folder = tmp_path / "m"
    options = make_options(n_steps=40)
    runs = [start_training(story, "--out", folder, *options) for _ in range(2)]
    errors = [run.communicate(timeout=60)[1] for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes == [0, 1], errors
    refusal = next(error for run, error in zip(runs, errors, strict=True) if run.returncode)
    assert "another run is writing to" in refusal or "already holds a model" in refusal
    assert refusal.count("\n") == 1
    assert load_encoder_hparams_and_params(folder)
    assert [line["step"] for line in read_log(folder) if "loss" in line] == [*range(2, 41, 2)]
    assert not (folder / "training.lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a file that is open")
def test_a_folder_that_is_removed_while_it_is_locked_is_no_trouble(tmp_path):
    with lock_folder(tmp_path / "m"):
        subprocess.run(["rm", "-r", tmp_path / "m"], check=True)
