"""files/openai_folder.py: what the small files of a model folder may say, and what was verified."""

import json
import os

import numpy as np
import pytest

from files import openai_folder
from files.openai_folder import (
    DATA,
    FILES,
    INDEX,
    OUTDATED,
    STATE_FILE,
    FolderError,
    check_file,
    find_missing,
    find_prefix,
    format_checkpoint_state,
    is_complete,
    is_outdated,
    note_verified,
    parse_checkpoint_state,
    parse_hparams,
    verify_once,
)
from files.tf_checkpoint import CheckpointError
from helpers import HPARAMS, make_model, make_tensors
from utils import shapes


def test_hparams_are_the_five_sizes_in_their_order():
    text = json.dumps({"dropout": 0.1} | dict(reversed(HPARAMS.items())))
    assert list(parse_hparams(text).items()) == list(HPARAMS.items())


@pytest.mark.parametrize("value", [None, 0, -1, 2.0, True, "2", 2**31, [2]])
@pytest.mark.parametrize("name", HPARAMS)
def test_sizes_that_are_no_positive_numbers_are_named(name, value):
    with pytest.raises(
        FolderError, match=f"^{name} is .*where a positive whole number is expected"
    ):
        parse_hparams(json.dumps(HPARAMS | {name: value}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON: Expecting value"),
        (" <html>", r"is not JSON \(it looks like an HTML page\)"),
        ("[1]", "is not a JSON object"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_hparams_that_are_no_json_object(text, message):
    with pytest.raises(FolderError, match=message):
        parse_hparams(text)


def test_the_name_of_a_checkpoint_there_and_back():
    assert parse_checkpoint_state(format_checkpoint_state("model-7")) == "model-7"
    text = 'all_model_checkpoint_paths: "a"\nmodel_checkpoint_path:"b"\n'
    assert parse_checkpoint_state(text) == "b"
    with pytest.raises(FolderError, match="does not name a checkpoint"):
        parse_checkpoint_state('all_model_checkpoint_paths: "a"\n')


def test_a_model_is_outdated_only_beside_a_state(tmp_path):
    (tmp_path / OUTDATED).write_text("")
    assert not is_outdated(tmp_path)
    (tmp_path / STATE_FILE).write_text("")
    assert is_outdated(tmp_path)
    (tmp_path / OUTDATED).unlink()
    assert not is_outdated(tmp_path)


def test_a_folder_tells_its_prefix_and_what_it_lacks(tmp_path):
    make_model(tmp_path)
    assert is_complete(tmp_path) and find_missing(tmp_path) == []
    assert find_prefix(tmp_path) == tmp_path / "model.ckpt"
    for name in FILES:
        os.rename(tmp_path / name, tmp_path / "away")
        assert not is_complete(tmp_path)
        assert find_missing(tmp_path) == ([] if name == "checkpoint" else [name])
        os.rename(tmp_path / "away", tmp_path / name)
    os.rename(tmp_path / DATA, tmp_path / f"{DATA}.tmp")  # of a writer that was killed
    assert find_missing(tmp_path) == [DATA]
    os.rename(tmp_path / f"{DATA}.tmp", tmp_path / "model.ckpt.data-00000-of-00002")
    assert find_missing(tmp_path) == []
    (tmp_path / "checkpoint").write_text(format_checkpoint_state("model-7"))
    assert find_missing(tmp_path) == ["model-7.index", "model-7.data-00000-of-00001"]
    (tmp_path / "checkpoint").write_text(format_checkpoint_state("../model"))
    with pytest.raises(FolderError, match=r"points out of its folder, to \.\./model"):
        find_missing(tmp_path)


def test_every_file_of_the_model_itself_passes(tmp_path, capfd):
    make_model(tmp_path)
    for name in FILES:
        check_file(name, tmp_path / name, HPARAMS, shapes(HPARAMS))
    assert capfd.readouterr().err == "checking every tensor's checksum\n"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hparams.json", lambda content: content.replace(b'"n_head": 4', b'"n_head": 2'), "is of"),
        ("checkpoint", lambda content: b'model_checkpoint_path: "model"\n', "names another"),
        (INDEX, lambda content: content[1:], "damaged: the block"),
        (DATA, lambda content: content[:-1], "cut short"),
        (DATA, lambda content: content[:-1] + b"\0", "'model/wte' do not match their checksum"),
    ],
)
def test_a_file_of_another_model_does_not_pass(tmp_path, name, change, message):
    make_model(tmp_path)
    part = tmp_path / f"{name}.part"
    part.write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(ValueError, match=message):
        check_file(name, part, HPARAMS, shapes(HPARAMS))


def test_weights_of_another_model_do_not_pass(tmp_path):
    make_model(tmp_path, make_tensors() | {"model/wpe": np.zeros((9, 32), np.float32)})
    with pytest.raises(ValueError, match="model/wpe is of shape"):
        check_file(DATA, tmp_path / DATA, HPARAMS, shapes(HPARAMS))


def test_small_weights_are_compared_each_time_and_no_note_is_left(tmp_path, capfd):
    prefix = make_model(tmp_path) / "model.ckpt"
    verify_once(prefix)
    note_verified(prefix)
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)
    damaged = (tmp_path / DATA).read_bytes()[:-1] + b"\0"
    stat = os.stat(tmp_path / DATA)
    (tmp_path / DATA).write_bytes(damaged)
    os.utime(tmp_path / DATA, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(CheckpointError, match="do not match their checksum"):
        verify_once(prefix)
    assert capfd.readouterr().err == ""


def test_large_weights_are_compared_until_they_were_right_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(openai_folder, "QUICKLY_VERIFIED", 0)
    prefix = make_model(tmp_path) / "model.ckpt"
    whole = (tmp_path / DATA).read_bytes()
    (tmp_path / DATA).write_bytes(whole[:-1] + b"\0")
    for _ in range(2):
        with pytest.raises(CheckpointError):
            verify_once(prefix)
    (tmp_path / DATA).write_bytes(whole)
    verify_once(prefix)
    assert capfd.readouterr().err.count("comparing the weights in") == 3
    verify_once(prefix)
    assert capfd.readouterr().err == ""
    os.utime(tmp_path / INDEX, ns=(1, 1))
    verify_once(prefix)
    assert capfd.readouterr().err.count("comparing the weights in") == 1


def test_a_folder_that_cannot_be_written_to_gets_no_note(tmp_path, monkeypatch):
    monkeypatch.setattr(openai_folder, "QUICKLY_VERIFIED", 0)
    prefix = make_model(tmp_path) / "model.ckpt"
    (tmp_path / openai_folder.VERIFIED).mkdir()
    verify_once(prefix)
