"""The state of a run on disk."""

import io
import json
import math
import os
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from command_line import run_state
from command_line.run_state import (
    State,
    holds_model,
    load,
    read_tree,
    write_model,
    write_state,
)
from command_line.settings import MINUTES, NUMBERS, nest_settings
from encoder import get_encoder
from files.openai_folder import OUTDATED
from files.tf_checkpoint import read_checkpoint
from files.tf_names import name_tensors
from helpers import killed_at
from programs import TINY, make_options, read_log_without_times, run_refused, run_train
from train import TrainError, init_params, new_moments
from utils import (
    SIZES,
    ModelError,
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
    moments = {"m": init_params(HPARAMS, 2), "v": tree_map(np.square, init_params(HPARAMS, 3))}
    state = State(params, moments, 7, [0.1, 1 / 3], 12.5, 4)
    encoder = get_encoder(trained)
    write_state(settings, encoder, state)
    write_model(settings, encoder, state)
    found_settings, found_encoder, found = load(tmp_path / "m")
    assert found_settings == settings
    assert found_encoder.encoder == encoder.encoder
    assert found_encoder.bpe_merges == encoder.bpe_merges
    assert (found.step, found.losses, found.seconds) == (7, [0.1, 1 / 3], 12.5)
    assert found.evaluated == 4
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


def test_a_state_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(TrainError, match=r"training\.npz is not there; --resume needs"):
        load(tmp_path)


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the folder `trained`."""
    return shutil.copytree(trained, tmp_path / "copied")


def rewrite(folder, change):
    """Change what training.npz holds: change(arrays, about)."""
    arrays = dict(np.load(folder / "training.npz"))
    about = json.loads(str(arrays.pop("about")))
    change(arrays, about)
    np.savez(folder / "training.npz", about=json.dumps(about), **arrays)


def test_damaged_bytes_are_one_line(copied, capsys):
    path = copied / "training.npz"
    whole = path.read_bytes()
    places = [*range(0, len(whole), len(whole) // 23), *range(len(whole) - 60, len(whole), 7)]
    flipped = [whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :] for at in places]
    plain, pickled = io.BytesIO(), io.BytesIO()
    np.save(plain, np.zeros(3))
    pickle.dump({"about": 1}, pickled)
    for damaged in (
        *(whole[:size] for size in (0, 1000, len(whole) // 2, len(whole) - 2000, len(whole) - 9)),
        *flipped,
        plain.getvalue(),
        pickled.getvalue(),
        b"not an archive",
    ):
        path.write_bytes(damaged)
        line = run_refused(capsys, "--resume", copied)
        if "is complete" in line:  # a byte that says nothing, such as a date
            continue
        assert "training.npz cannot be read: " in line and "pickle" not in line
        assert line.endswith(f"with --init-from {copied} and another --out")


def test_python_objects_are_never_loaded(copied, capsys):
    ran = copied / "ran"

    class Hostile:
        def __reduce__(self):
            return Path.touch, (ran,)

    about = np.load(copied / "training.npz")["about"]
    hostile = np.array([Hostile()], dtype=object)
    np.savez(copied / "training.npz", about=about, **{"params/wte": hostile})  # which pickles it
    line = run_refused(capsys, "--resume", copied)
    assert "an array of Python objects, which are never loaded" in line and "pickle" not in line
    assert not ran.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays, about: arrays.pop("m/wte"), "m/wte is missing"),
        (
            lambda arrays, about: [arrays.pop(n) for n in list(arrays) if n[0] == "v"],
            "v/wte is mis",
        ),
        (lambda arrays, about: arrays["v/wte"].__setitem__((0, 0), -1), "v/wte has a number that"),
        (
            lambda arrays, about: arrays["params/wte"].__setitem__((0, 0), np.nan),
            "params/wte has a",
        ),
        (
            lambda arrays, about: arrays.update({"m/wpe": arrays["m/wpe"].astype(float)}),
            "m/wpe is float64, expected",
        ),
        (lambda arrays, about: about["encoder"].pop("e"), "vocab.bpe|encoder.json"),
        (lambda arrays, about: about["hparams"].update(n_layer=3), "hparams are not those of its"),
        (
            lambda arrays, about: about["settings"].update(n_seq=17),
            "n_seq is more than the context",
        ),
        (lambda arrays, about: about["bpe_merges"].append(["a", "b", "c"]), "its bpe_merges is"),
    ],
)
def test_parts_that_do_not_belong_there_are_named(copied, capsys, change, words):
    rewrite(copied, change)
    line = run_refused(capsys, "--resume", copied)
    assert re.search(words, line) and f"with --init-from {copied} and another --out" in line


def test_without_a_model_beside_it_nobody_is_sent_there(copied, capsys):
    rewrite(copied, lambda arrays, about: arrays.pop("m/wte"))
    (copied / "model.ckpt.index").unlink()
    line = run_refused(capsys, "--resume", copied)
    assert "there is no whole model beside it" in line and "--init-from" not in line


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_must_not_be_read_is_no_damage(copied, capsys):
    (copied / "training.npz").chmod(0)
    line = run_refused(capsys, "--resume", copied)
    assert "cannot be read: Permission denied; put that right" in line


def test_an_error_of_the_disk_is_no_damage(copied, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(run_state, "read_arrays", fail)
    with pytest.raises(TrainError, match="Input/output error; put that right, then run again"):
        load(copied)


BAD = [None, -1, math.inf, "x", [], {}, True, 10**40]
POSSIBLE = {  # of these bad values, and of a missing one
    "evaluated": ("missing", None),
    "losses": ([],),
    "seconds": (10**40,),
    "settings/corpus": ("x",),
    "settings/sample": ("missing", "x"),
    "settings/keep_best": ("missing", True),
    "settings/dtype": ("missing",),
    "settings/optimizer": ("missing",),
    "settings/out": ("missing", "x"),  # it is where the folder is
    **{f"settings/{name}": ("missing", None, "x") for name in ("val", "preset")},
    **{f"settings/{name}": ("missing", None, "x") for name in ("init_from", "vocab_from")},
    **{f"settings/{name}": ("missing",) for name in NUMBERS if name != "n_seq"},
    **{
        f"settings/{name}": ("missing", 10**40)
        for name in ("lr", "muon_lr", "final_lr", "weight_decay", "clip")
    },
}


def test_every_part_of_the_description_is_checked(copied, monkeypatch):
    arrays = run_state.read_arrays(copied / "training.npz")
    text = str(arrays.pop("about"))
    about = json.loads(text)
    places = [(name,) for name in about]
    places += [(part, name) for part in ("settings", "hparams") for name in about[part]]
    assert len(places) > 40
    for place in places:
        for value in ["missing", *BAD]:
            changed = json.loads(text)
            scope = changed[place[0]] if len(place) > 1 else changed
            if value == "missing":
                del scope[place[-1]]
            else:
                scope[place[-1]] = value
            held = arrays | {"about": json.dumps(changed)}
            monkeypatch.setattr(run_state, "read_arrays", lambda path, held=held: dict(held))
            if value in POSSIBLE.get("/".join(place), ()):
                load(copied)
                continue
            with pytest.raises(TrainError, match=r"cannot be read: .*--init-from") as refused:
                load(copied)
            line = str(refused.value)
            assert "__init__" not in line and (place[-1] in line or value in ([], {}))


def test_a_setting_that_is_missing_has_its_default(copied):
    rewrite(copied, lambda arrays, about: [about["settings"].pop(n) for n in ("lr", "eval_every")])
    settings = load(copied)[0]
    assert settings.optimisation.lr == MINUTES["lr"]
    assert settings.eval_every == MINUTES["eval_every"]


def test_killed_anywhere_a_save_loses_nothing(copied, capsys):
    """At each operation on the disk in turn. The weights tell the step."""
    settings, encoder, complete = load(copied)
    before = State(tree_map(lambda a: a + 1, complete.params), complete.moments, 6, evaluated=4)
    clean = copied.with_name("clean")
    (copied / "best").mkdir()  # a neighbour that nothing may touch
    write_state(settings, encoder, before)
    write_model(settings, encoder, before)
    names = sorted(path.name for path in copied.iterdir())
    shutil.copytree(copied, clean)
    outcomes = set()
    for n in range(100):
        with killed_at(n) as was_killed:
            write_state(settings, encoder, complete)
            write_model(settings, encoder, complete)
        capsys.readouterr()
        found, refusal = None, ""
        try:
            wte = load_encoder_hparams_and_params(copied)[2]["wte"]
            (found,) = [s for s in (before, complete) if np.array_equal(s.params["wte"], wte)]
        except ModelError as error:
            refusal = str(error)
        notice = capsys.readouterr().err
        step = load(copied)[2].step
        outcomes.add((step, found and found.step, bool(notice)))
        mend = f"python train.py --resume {copied}"
        assert mend in (notice or mend) and mend in (refusal or mend)
        if step == 8 and found is not complete:
            assert mend in notice + refusal
        if step == 6:  # the run goes on from there, and saves again
            write_state(settings, encoder, complete)
            write_model(settings, encoder, complete)
            assert found is before
        code = run_train("--resume", copied)
        said = capsys.readouterr().err
        assert code == 0 or "is complete, at step 8" in said
        assert (code == 0) == (step == 8 and bool(notice + refusal))
        assert sorted(path.name for path in copied.iterdir()) == names
        assert_same_bits(load_encoder_hparams_and_params(copied)[2], complete.params)
        assert capsys.readouterr().err == ""
        if not was_killed():
            break
        shutil.rmtree(copied)
        shutil.copytree(clean, copied)
    assert n > 20
    assert {(6, 6, False), (8, 6, True), (8, None, False), (8, 8, False)} <= outcomes


def test_killed_anywhere_in_its_first_save_a_run_can_go_on_or_begin_again(
    story, trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # to be fast
    folder, short = tmp_path / "m", tmp_path / "short.txt"
    short.write_text(story.read_text()[:3000])
    options = make_options(n_steps=1, n_vocab=None, sample="", n_layer=1)
    begin = [short, "--out", folder, "--vocab-from", trained, *options]
    assert run_train(*begin) == 0
    settings, encoder, _ = load(folder)
    shutil.rmtree(folder)
    params = init_params(settings.hparams, 0)
    outcomes = []
    for n in range(100):
        with killed_at(n) as was_killed:
            write_state(settings, encoder, State(params, new_moments(params)))
            write_model(settings, encoder, State(params, new_moments(params)))
        capsys.readouterr()
        refusal = ""
        try:
            load_encoder_hparams_and_params(folder)
        except ModelError as error:
            refusal = str(error)
        said = refusal + capsys.readouterr().err
        resume = ["--resume", folder]
        is_sent = f"python train.py --resume {folder}" in said
        outcomes.append((bool(refusal), is_sent))
        assert run_train(*(resume if is_sent or not refusal else begin)) == 0
        assert load(folder)[2].step == 1
        assert_same_bits(load_encoder_hparams_and_params(folder)[2], load(folder)[2].params)
        if not was_killed():
            break
        shutil.rmtree(folder)
    assert list(dict.fromkeys(outcomes)) == [
        (True, False),
        (True, True),
        (False, True),
        (False, False),
    ]


def test_a_complete_run_mends_its_model_from_its_state(copied, capsys):
    _, _, state = load(copied)
    for break_it in (
        lambda: (copied / "model.ckpt.index").unlink(),
        lambda: (copied / "encoder.json").write_text("{}"),
        lambda: swap_merges(copied / "vocab.bpe"),
        lambda: (copied / "hparams.json").unlink(),
        lambda: (copied / "checkpoint").write_text("?"),
        lambda: flip_last_byte(copied / "model.ckpt.data-00000-of-00001"),
        lambda: (copied / OUTDATED).write_text(""),
    ):
        break_it()
        assert run_train("--resume", copied) == 0
        error = capsys.readouterr().err
        assert "is complete; its model was written anew, as of step 8" in error
        assert "done; hear it with: " in error
        assert_same_bits(load_encoder_hparams_and_params(copied)[2], state.params)
        assert "is complete, at step 8" in run_refused(capsys, "--resume", copied)


def swap_merges(path):
    """Have the first two merges in the other order: the tokens stay the same."""
    version, first, second, *rest = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([version, second, first, *rest, ""]), "utf-8")


def flip_last_byte(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_the_same_numbers_in_another_dtype_are_another_model(copied):
    settings, encoder, state = load(copied)
    state.params = tree_map(lambda a: a.astype(np.float16).astype(np.float32), state.params)
    write_model(settings, encoder, state)
    assert holds_model(settings, encoder, state.params)
    assert not holds_model(replace(settings, dtype="float16"), encoder, state.params)


def test_a_complete_run_of_before_evaluations_were_noted_is_complete(copied, capsys):
    rewrite(copied, lambda arrays, about: about.pop("evaluated"))
    assert "is complete, at step 8" in run_refused(capsys, "--resume", copied)


def test_too_little_memory_is_no_damage(copied, monkeypatch, capsys):
    def fail(path):
        raise MemoryError

    monkeypatch.setattr(run_state, "read_arrays", fail)
    assert "not enough memory; " in run_refused(capsys, "--resume", copied)


def test_a_complete_run_can_be_had_in_float16(copied, capsys):
    assert run_train("--resume", copied, "--dtype", "float16") == 0
    tensors = read_checkpoint(copied / "model.ckpt")
    assert {array.dtype for array in tensors.values()} == {np.dtype(np.float16)}
    capsys.readouterr()
    assert "is complete, at step 8" in run_refused(capsys, "--resume", copied)


def test_a_model_that_finds_no_room_is_mended_when_there_is_some(copied, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    (copied / "model.ckpt.index").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(run_state, "save_model", full)
        line = run_refused(capsys, "--resume", copied)
    assert "cannot save the model in" in line
    assert line.endswith(f"make room, then go on with: python train.py --resume {copied}")
    assert run_train("--resume", copied) == 0


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


def test_new_moments_and_loaded_ones_are_the_same_kind(trained):
    state = load(trained)[2]
    tree_map(
        lambda array, new: np.testing.assert_equal(array.shape, new.shape),
        state.moments,
        new_moments(state.params),
    )
