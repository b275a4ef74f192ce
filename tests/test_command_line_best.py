"""The model with the lowest held-out loss, beside the last one."""

import json
import shutil

import numpy as np
import pytest

import train
from command_line import best
from command_line.best import keep_best, mend_best, read_best
from command_line.run_state import load
from helpers import killed_at
from programs import make_options, read_log, run_refused, run_train
from train import TrainError
from utils import load_encoder_hparams_and_params, tree_map


@pytest.fixture
def run(trained, tmp_path):
    """(settings, encoder, state) of a run whose folder has nothing in it yet."""
    settings, encoder, state = load(trained)
    settings.out = str(tmp_path / "m")
    (tmp_path / "m").mkdir()
    return settings, encoder, state


def stop_before_step(monkeypatch, number):
    """Have Ctrl-C come when the step after so many is about to begin."""
    batch = train.batch

    def interrupted(ids, n_seq, n_batch, step, seed):
        if step == number:
            raise KeyboardInterrupt
        return batch(ids, n_seq, n_batch, step, seed)

    monkeypatch.setattr(train, "batch", interrupted)


def with_step(state, step):
    """A state whose weights tell the step."""
    state.step = step
    state.params = tree_map(lambda array: np.full_like(array, step), state.params)
    return state


def kept_step(folder):
    """The step that the best model's weights tell, once they have been loaded."""
    params = load_encoder_hparams_and_params(folder / "best")[2]
    return int(params["wte"][0, 0])


def test_only_a_lower_loss_replaces_the_best_model(run, tmp_path):
    settings, encoder, state = run
    folder = tmp_path / "m"
    assert read_best(folder) is None
    for step, bits in [(1, 3.0), (2, 2.0), (3, 2.0), (4, 2.5)]:
        keep_best(settings, encoder, with_step(state, step), bits)
    assert read_best(folder) == {"step": 2, "bits_per_byte": 2.0}
    assert kept_step(folder) == 2
    assert [path.name for path in folder.iterdir()] == ["best"]


def test_a_step_that_was_not_taken_is_no_longer_the_best(run, tmp_path):
    """A run that was killed after step 7 and goes on from an earlier checkpoint, another way."""
    settings, encoder, state = run
    keep_best(settings, encoder, with_step(state, 7), 1.0)
    keep_best(settings, encoder, with_step(state, 5), 3.0)
    assert read_best(tmp_path / "m") == {"step": 5, "bits_per_byte": 3.0}
    assert kept_step(tmp_path / "m") == 5


@pytest.mark.parametrize("content", ["[" * 200_000, "{}", '{"step": 1e999, "bits_per_byte": 1}'])
def test_a_record_that_is_none_makes_a_folder_somebodys_own(run, tmp_path, content):
    folder = tmp_path / "m" / "best"
    folder.mkdir()
    (folder / "best.json").write_text(content)
    with pytest.raises(TrainError, match="is no folder that --keep-best wrote"):
        mend_best(tmp_path / "m")


@pytest.mark.parametrize("name", [".best.tmp", ".best.old"])
def test_links_are_not_followed(run, tmp_path, name):
    settings, encoder, state = run
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis").write_text("mine")
    (tmp_path / "m" / name).symlink_to(tmp_path / "own")
    with pytest.raises(TrainError, match="is a link"):
        keep_best(settings, encoder, with_step(state, 1), 1.0)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["thesis"]


def test_a_disk_without_room_keeps_what_is_there(run, tmp_path, monkeypatch):
    settings, encoder, state = run
    keep_best(settings, encoder, with_step(state, 1), 3.0)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    for name in ("save_model", "write_whole", "replace_best"):
        with monkeypatch.context() as patch:
            patch.setattr(best, name, full)
            with pytest.raises(TrainError, match=r"cannot save in .*best: No space left"):
                keep_best(settings, encoder, with_step(state, 2), 2.0)
    with monkeypatch.context() as patch:
        replace = best.os.replace
        patch.setattr(
            best.os,
            "replace",
            lambda part, path: full() if str(part).endswith("best.tmp") else replace(part, path),
        )
        with pytest.raises(TrainError, match="No space left"):
            keep_best(settings, encoder, with_step(state, 2), 2.0)
    assert read_best(tmp_path / "m") == {"step": 1, "bits_per_byte": 3.0}
    assert kept_step(tmp_path / "m") == 1
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["best"]


def test_killed_anywhere_it_is_whole_once_it_has_been_mended(run, tmp_path):
    settings, encoder, state = run
    folder = tmp_path / "m"
    keep_best(settings, encoder, with_step(state, 1), 3.0)
    shutil.copytree(folder / "best", tmp_path / "before")
    seen = set()
    for n in range(100):
        with killed_at(n) as was_killed:
            keep_best(settings, encoder, with_step(state, 2), 2.0)
        mend_best(folder)
        assert [path.name for path in folder.iterdir()] == ["best"]
        found = read_best(folder)
        assert kept_step(folder) == found["step"] == (1 if found["bits_per_byte"] == 3.0 else 2)
        seen.add(found["step"])
        if not was_killed():
            break
        shutil.rmtree(folder / "best")
        shutil.copytree(tmp_path / "before", folder / "best")
    assert seen == {1, 2} and n > 20


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"step": 1}',
        '{"step": 1, "bits_per_byte": NaN}',
        '{"step": Infinity, "bits_per_byte": 1}',
    ],
)
def test_a_damaged_record_counts_as_none(tmp_path, text):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "best.json").write_text(text)
    assert read_best(tmp_path) is None


def test_a_run_keeps_its_best_model_across_an_interruption(story, tmp_path, capsys):
    """The learning rate rises until the loss does."""
    folder = tmp_path / "m"
    options = make_options(n_steps=12, eval_every=2, lr=1e-3, final_lr=10, warmup=0)
    assert run_train(story, "--out", folder, "--keep-best", *options) == 0
    evaluations = {line["step"]: line["bits_per_byte"] for line in read_log(folder, key="val_loss")}
    step = min(evaluations, key=evaluations.get)
    assert 0 < step < 12
    assert read_best(folder)["step"] == step
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"with {evaluations[step]:.4f} bits per byte held out" in last
    assert last.endswith(f", in {folder / 'best'}") and f"is that of step {step}, with" in last
    before = (folder / "best" / "model.ckpt.data-00000-of-00001").read_bytes()
    assert run_train("--resume", folder, "--n-steps", 14) == 0
    evaluations = {line["step"]: line["bits_per_byte"] for line in read_log(folder, key="val_loss")}
    assert evaluations[14] > evaluations[step]
    assert (folder / "best" / "model.ckpt.data-00000-of-00001").read_bytes() == before
    record = json.loads((folder / "best" / "best.json").read_text())
    assert record["bits_per_byte"] == pytest.approx(evaluations[step], rel=1e-5)


def test_the_weights_to_begin_with_may_be_the_best(story, tmp_path):
    folder = tmp_path / "m"
    options = make_options(n_steps=2, eval_every=1, lr=10, warmup=0)
    assert run_train(story, "--out", folder, "--keep-best", *options) == 0
    assert read_best(folder)["step"] == 0


def test_a_run_that_goes_on_mends_the_best_model(story, tmp_path, monkeypatch):
    folder = tmp_path / "m"
    with monkeypatch.context() as patch:
        stop_before_step(patch, 4)
        options = make_options(n_steps=5, eval_every=2, save_every=2)
        assert run_train(story, "--out", folder, "--keep-best", *options) == 130
        assert read_best(folder)["step"] == 4
        (folder / "best").rename(folder / ".best.old")
        (folder / ".best.tmp").mkdir()
        assert run_train("--resume", folder) == 130
    assert read_best(folder)["step"] == 4
    assert [path.name for path in folder.glob("*best*")] == ["best"]


@pytest.mark.parametrize("options", [[], ["--keep-best"]])
def test_folders_of_ones_own_beside_the_best_model_stay(story, tmp_path, monkeypatch, options):
    folder = tmp_path / "m"
    own = [folder / name / "own.txt" for name in ("best.old", "best.tmp", "best of all")]
    own += [] if options else [folder / name / "own.txt" for name in ("best", ".best.tmp")]
    with monkeypatch.context() as patch:
        stop_before_step(patch, 3)
        assert run_train(story, "--out", folder, *options, *make_options(eval_every=2)) == 130
    for path in own:
        path.parent.mkdir()
        path.write_text("own")
    assert run_train("--resume", folder) == 0
    assert [path.read_text() for path in own] == ["own"] * len(own)
    assert (read_best(folder) is not None) == bool(options)


@pytest.mark.parametrize("kind", ["model", "file", "link", "damaged"])
def test_a_best_that_no_run_wrote_is_refused_before_anything_is_done(
    story, trained, tmp_path, capsys, monkeypatch, kind
):
    folder = tmp_path / "m"
    with monkeypatch.context() as patch:
        stop_before_step(patch, 3)
        assert run_train(story, "--out", folder, *make_options()) == 130
    capsys.readouterr()
    if kind == "model":
        shutil.copytree(trained, folder / "best")
    elif kind == "file":
        (folder / "best").write_text("own")
    elif kind == "link":
        linked = shutil.copytree(trained, tmp_path / "linked")
        (linked / "best.json").write_text('{"step": 1, "bits_per_byte": 9}')
        (folder / "best").symlink_to(linked)
    else:
        (folder / "best").mkdir()
        (folder / "best" / "best.json").write_text("{}")
    before = sorted(path.lstat().st_mtime_ns for path in folder.rglob("*"))
    line = run_refused(capsys, "--resume", folder, "--keep-best")
    assert f"{folder / 'best'} is no folder that --keep-best wrote" in line
    assert line.endswith("; move it elsewhere")
    assert sorted(path.lstat().st_mtime_ns for path in folder.rglob("*")) == before
    (folder / "best").rename(folder / "elsewhere")
    assert run_train("--resume", folder, "--keep-best") == 0
    assert read_best(folder)


def test_a_best_that_comes_from_elsewhere_while_the_run_trains_is_not_replaced(run, tmp_path):
    settings, encoder, state = run
    own = tmp_path / "m" / "best" / "own.txt"
    own.parent.mkdir()
    own.write_text("own")
    with pytest.raises(TrainError, match="is no folder that --keep-best wrote"):
        keep_best(settings, encoder, state, 1.0)
    assert own.read_text() == "own" and [path.name for path in own.parent.iterdir()] == ["own.txt"]
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["best"]


def test_what_was_put_beside_the_best_models_files_moves_on_with_it(run, tmp_path):
    settings, encoder, state = run
    folder = tmp_path / "m"
    keep_best(settings, encoder, with_step(state, 1), 3.0)
    (folder / "best" / "notes").mkdir()
    (folder / "best" / "notes" / "own.txt").write_text("own")
    shutil.copytree(folder / "best", tmp_path / "before")
    for n in range(100):
        with killed_at(n) as was_killed:
            keep_best(settings, encoder, with_step(state, 2), 2.0)
        mend_best(folder)
        assert (folder / "best" / "notes" / "own.txt").read_text() == "own"
        if not was_killed():
            break
        shutil.rmtree(folder / "best")
        shutil.copytree(tmp_path / "before", folder / "best")
    assert kept_step(folder) == 2 and n > 20


def test_a_folder_with_the_best_model_of_an_earlier_run_is_no_place_for_another(
    story, trained, tmp_path, capsys
):
    """A run that was killed while it replaced it, and whose other files were removed since."""
    shutil.copytree(trained, tmp_path / "m" / ".best.old")
    line = run_refused(capsys, story, "--out", tmp_path / "m", *make_options())
    assert line.endswith("already holds a model (.best.old); give another --out")


def test_a_best_model_that_finds_no_room_does_not_stop_the_run(
    story, tmp_path, capsys, monkeypatch
):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(best, "save_model", full)
    assert run_train(story, "--out", tmp_path / "m", "--keep-best", *make_options()) == 0
    error = capsys.readouterr().err
    assert "step 4: cannot save in" in error and "training goes on" in error
    assert "--keep-best could keep no model in " in error.splitlines()[-1]
