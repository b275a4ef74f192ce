"""The state of a run on disk."""

import json

import numpy as np
import pytest

from command_line.run_state import State, check_folder, load, lock_folder, read_tree, save
from command_line.settings import nest_settings
from encoder import get_encoder
from files.tf_checkpoint import read_checkpoint
from files.tf_names import name_tensors
from programs import TINY, make_options, read_log_without_times, run_refused, run_train
from train import TrainError, init_params, new_moments
from utils import (
    SIZES,
    leaves,
    load_encoder_hparams_and_params,
    save_model,
    tree_map,
)

HPARAMS = {name: TINY[name] for name in SIZES}


def assert_same_bits(tree, other):
    for array, exact in zip(leaves(tree), leaves(other), strict=True):
        assert array.dtype == exact.dtype and np.array_equal(array, exact)


def test_what_is_saved_is_loaded_to_the_last_bit(trained, tmp_path):
    settings = nest_settings(
        TINY | dict(corpus="/text", out=str(tmp_path / "m"), n_seq=16, lr=1e-9)
    )
    settings.sha256 = ["a", "b"]
    params = init_params(HPARAMS, 1)
    moments = {"m": init_params(HPARAMS, 2), "v": init_params(HPARAMS, 3)}
    state = State(params, moments, 7, [0.1, 1 / 3], 12.5)
    encoder = get_encoder(trained)
    save(settings, encoder, state)
    found_settings, found_encoder, found = load(tmp_path / "m")
    assert found_settings == settings
    assert found_encoder.encoder == encoder.encoder
    assert found_encoder.bpe_merges == encoder.bpe_merges
    assert (found.step, found.losses, found.seconds) == (7, [0.1, 1 / 3], 12.5)
    assert_same_bits(found.params, params)
    assert_same_bits(found.moments, moments)
    assert_same_bits(load_encoder_hparams_and_params(tmp_path / "m")[2], params)


def test_arrays_have_their_places_in_the_tree_as_names_and_the_parameters_shapes(trained):
    state = np.load(trained / "training.npz")
    for kind in ("params", "m", "v"):
        assert state[f"{kind}/wte"].shape == (300, 16)
        assert state[f"{kind}/blocks/1/attn/c_attn/w"].shape == (16, 48)
    assert len(state.files) == 1 + 3 * len(leaves(init_params(HPARAMS, 0)))


def make_older(folder):
    """Rewrite training.npz as it was before: TensorFlow's names, and a leading axis for weights."""
    state = dict(np.load(folder / "training.npz"))
    older = {"about": state.pop("about")}
    for name, array in state.items():
        kind, _, path = name.partition("/")
        path = path.removeprefix("blocks/") if not path.startswith("blocks/") else "h" + path[7:]
        older[f"{kind}/model/{path}"] = array[None] if path.endswith("/w") else array
    about = json.loads(str(older["about"]))
    del about["settings"]["preset"], about["settings"]["init_from"], about["settings"]["vocab_from"]
    older["about"] = np.array(json.dumps(about))
    assert older["params/model/h1/mlp/c_proj/w"].shape == (1, 64, 16)
    np.savez(folder / "training.npz", **older)


def test_a_run_that_began_before_the_names_changed_goes_on(story, tmp_path, monkeypatch):
    import train

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_train(story, "--out", whole, *make_options()) == 0
    batch = train.batch

    def interrupted(ids, n_seq, n_batch, step, seed):
        if step == 4:
            raise KeyboardInterrupt
        return batch(ids, n_seq, n_batch, step, seed)

    with monkeypatch.context() as patch:
        patch.setattr(train, "batch", interrupted)
        assert run_train(story, "--out", cut, *make_options()) == 130
    make_older(cut)
    assert load(cut)[2].step == 3
    assert run_train("--resume", cut) == 0
    assert read_log_without_times(whole) == read_log_without_times(cut)
    states = [np.load(folder / "training.npz") for folder in (whole, cut)]
    assert states[0].files == states[1].files
    for name in states[0].files:
        assert name == "about" or np.array_equal(states[0][name], states[1][name]), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop("m/wte"), r"m/wte is missing, expected \(300, 16\)"),
        (
            lambda arrays: arrays.update({"m/wte": np.zeros((16, 300))}),
            r"m/wte is of shape \(16, 300",
        ),
        (lambda arrays: arrays.update({"m/ln_f/g": np.zeros((1, 17))}), "m/ln_f/g is of shape"),
    ],
)
def test_every_array_must_be_there_in_its_shape(trained, change, words):
    arrays = dict(np.load(trained / "training.npz"))
    assert len(leaves(read_tree(arrays, "m", HPARAMS))) == 28
    change(arrays)
    with pytest.raises(ValueError, match=words):
        read_tree(arrays, "m", HPARAMS)


def test_a_damaged_state_is_one_line(trained, tmp_path, capsys):
    folder = tmp_path / "m"
    folder.mkdir()
    whole = (trained / "training.npz").read_bytes()
    middle = len(whole) // 2
    flipped = [whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in (0, middle)]
    for damaged in (b"", whole[:1000], whole[:-2000], *flipped):
        (folder / "training.npz").write_bytes(damaged)
        line = run_refused(capsys, "--resume", folder)
        assert "cannot be read" in line and "--init-from" in line


def test_a_state_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(TrainError, match=r"training\.npz is not there; --resume needs"):
        load(tmp_path)


def test_a_vocabulary_from_elsewhere_and_float16(story, trained, tmp_path):
    folder = tmp_path / "half"
    options = make_options(n_vocab=None, dtype="float16", n_steps=2)
    assert run_train(story, "--out", folder, "--vocab-from", trained, *options) == 0
    assert get_encoder(folder).bpe_merges == get_encoder(trained).bpe_merges
    tensors = read_checkpoint(folder / "model.ckpt")
    params = load(folder)[2].params
    for name, array in name_tensors(params).items():
        assert array.dtype == np.float32  # what --resume goes on from
        assert tensors[name].dtype == np.float16
        assert np.array_equal(tensors[name], array.astype(np.float16))


def test_parameters_survive_a_round_trip_through_a_folder(random_params, trained, tmp_path):
    params = random_params(n_vocab=300, n_ctx=16)
    hparams = {"n_vocab": 300, "n_ctx": 16, "n_embd": 24, "n_head": 3, "n_layer": 2}
    save_model(tmp_path, get_encoder(trained), hparams, params)
    _, found, again = load_encoder_hparams_and_params(tmp_path)
    assert found == hparams
    names = set(read_checkpoint(tmp_path / "model.ckpt"))
    assert "model/h1/mlp/c_proj/w" in names and "model/ln_f/g" in names
    for name, array in name_tensors(params).items():
        assert np.array_equal(array, name_tensors(again)[name])


def test_a_folder_that_holds_a_model_or_cannot_be_written_to_is_refused(trained, tmp_path):
    with pytest.raises(TrainError, match=r"already holds a model; .* or go on with --resume"):
        check_folder(trained)
    (tmp_path / "hparams.json").write_text("{}")
    with pytest.raises(TrainError, match=r"already holds a model; give another --out$"):
        check_folder(tmp_path)
    with pytest.raises(TrainError, match=r"cannot write to .*: File exists"):
        check_folder(trained / "log.jsonl")
    check_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a" / "b").exists()


def test_one_run_at_a_time_holds_a_folder(tmp_path):
    with lock_folder(tmp_path / "m"):
        with (
            pytest.raises(TrainError, match="another run is writing to"),
            lock_folder(tmp_path / "m"),
        ):
            pass
    with lock_folder(tmp_path / "m"):
        pass
    assert not list((tmp_path / "m").iterdir())


def test_new_moments_and_loaded_ones_are_the_same_kind(trained):
    state = load(trained)[2]
    tree_map(
        lambda array, new: np.testing.assert_equal(array.shape, new.shape),
        state.moments,
        new_moments(state.params),
    )
