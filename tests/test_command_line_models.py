"""command_line/models.py lists the models that are here, whatever else lies beside them."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import utils
from command_line import models
from command_line.models import write_models
from files import hub, openai_folder, released, tf_names
from files.download import part_of
from files.openai_folder import DATA, FILES, INDEX, note_verified
from files.tf_checkpoint import Checkpoint
from helpers import HPARAMS, make_model, make_tensors, vocabulary_digests
from hub_server import COMMITS, REPOSITORY, model_of_transformers
from utils import ModelError, load_encoder_hparams_and_params

FOLDERS = Path(__file__).parent / "fixtures" / "huggingface"


@pytest.fixture
def listed(tmp_path, capfd):
    """listed() is {name: rest of the line} of what is written about tmp_path; "" is the last."""

    def write(folder=tmp_path):
        capfd.readouterr()
        write_models(folder)
        out, err = capfd.readouterr()
        assert err == "" and out.replace("\n", "").isprintable()
        table, last = out.rstrip("\n").rsplit("\n\n", 1)
        head, *lines = table.split("\n")
        assert head.split() == ["model", "parameters", "on", "disk", "weights", "state"]
        return {line.split("  ")[0]: line for line in lines} | {"": last}

    return write


def test_the_bundled_model_comes_first_then_the_folder_sorted(listed, tmp_path):
    for name in ("b", "a model", "C"):
        make_model(tmp_path / name)
    make_model(tmp_path / "half", make_tensors(dtype=np.float16))
    lines = listed()
    assert list(lines) == ["tales", "C", "a model", "b", "half", ""]
    assert re.match(r"tales +3,749,376 +[78]\.\d MB  float16  compared with its", lines["tales"])
    row = "C 34,048 0.1 MB float32 compared with its checksums whenever it is loaded"
    assert lines["C"].split() == row.split()
    assert "  float16  compared" in lines["half"]
    assert lines[""] == f"looked in {tmp_path}"


def test_the_default_folder_has_the_bundled_model_once(listed, monkeypatch):
    monkeypatch.delenv("GPT2_MODELS_DIR", raising=False)
    lines = listed(None)
    assert "tales" in lines and str(utils.MODELS_DIR / "tales") not in lines
    assert lines[""] == f"looked in {utils.MODELS_DIR}"


def test_what_is_listed_is_what_model_takes(listed, tmp_path, monkeypatch):
    make_model(tmp_path / "mine")
    monkeypatch.setenv("GPT2_MODELS_DIR", str(tmp_path))
    make_model(tmp_path / "tales")  # the name means the bundled one
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path("."), None):
        names = list(listed(folder))
        assert names == ["tales", "mine", str(tmp_path / "tales"), ""]
    for name, n_vocab in (("mine", 260), (names[2], 260), ("tales", 2048)):
        assert load_encoder_hparams_and_params(name)[1]["n_vocab"] == n_vocab


def test_nothing_is_read_of_the_weights(listed, tmp_path, monkeypatch):
    make_model(tmp_path / "mine", make_tensors(dtype=np.float16))
    monkeypatch.setattr(Checkpoint, "verify", lambda self: pytest.fail("compared"))
    monkeypatch.setattr(tf_names, "as_float32", lambda array: pytest.fail("converted"))
    assert "  float16  compared" in listed()["mine"]


def test_large_weights_were_compared_or_not(listed, tmp_path, monkeypatch):
    monkeypatch.setattr(openai_folder, "QUICKLY_VERIFIED", 0)
    folder = make_model(tmp_path / "mine")
    not_yet = "not yet compared with its checksums; that is done when it is loaded"
    assert listed()["mine"].endswith(f"  {not_yet}")
    note_verified(folder / "model.ckpt")
    assert listed()["mine"].endswith("  was compared with its checksums")
    os.utime(folder / DATA, ns=(1, 1))
    assert listed()["mine"].endswith(f"  {not_yet}")


def test_a_download_that_was_cut_off_says_how_much_is_there(listed, tmp_path, files, monkeypatch):
    folder = tmp_path / "124M"
    folder.mkdir()
    rest = "of 497.8 MB are here; --model 124M fetches the rest"
    assert listed()["124M"].endswith(f"incomplete: 0.0 MB {rest}")
    part_of(folder / DATA).write_bytes(bytes(3 * 10**6))
    assert listed()["124M"].endswith(f"incomplete: 3.0 MB {rest}")
    os.rename(part_of(folder / DATA), folder / DATA)
    assert listed()["124M"].endswith(f"incomplete: 3.0 MB {rest}")


def test_another_model_under_one_of_openais_names(listed, tmp_path, files, monkeypatch):
    folder = make_model(tmp_path / "124M")
    assert f"  {folder} holds another model than 124M: " in listed()["124M"]
    monkeypatch.setattr(released, "RELEASED", {"124M": tuple(HPARAMS.values())})
    assert f"  {folder / 'encoder.json'} is not OpenAI's" in listed()["124M"]
    monkeypatch.setattr(released, "VOCABULARY", vocabulary_digests(files))
    assert listed()["124M"].endswith("  compared with its checksums whenever it is loaded")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("hparams.json", b"<html>", "hparams.json: is not JSON (it looks like an HTML page)"),
        ("hparams.json", b'{"n_vocab": "\\u001b"}', "hparams.json: n_vocab is \ufffd, where"),
        ("checkpoint", b"", "checkpoint: does not name a checkpoint"),
        (INDEX, b"", "model.ckpt.index: not the index of a checkpoint"),
        (DATA, b"12", f"{DATA}: cut short at 2 bytes"),
        (INDEX, None, f"incomplete: missing are {INDEX}"),
        ("vocab.bpe", None, "incomplete: missing are vocab.bpe"),
    ],
)
def test_what_is_wrong_with_a_model_is_said_and_the_others_are_listed(
    listed, tmp_path, name, content, problem
):
    for folder in ("a", "b", "c"):
        make_model(tmp_path / folder)
    if content is None:
        (tmp_path / "b" / name).unlink()
    else:
        (tmp_path / "b" / name).write_bytes(content)
    lines = listed()
    assert list(lines) == ["tales", "a", "b", "c", ""] and problem in lines["b"]


def test_weights_of_something_else(listed, tmp_path):
    make_model(tmp_path / "a", {"w": np.zeros(3, np.float32)})
    assert "no tensor model/wte (of shape (260, 32)); are both of the same model?" in listed()["a"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"n_layer": 2 * 10**9}, "no tensor model/h2/ln_1/g "),
        ({"n_layer": 1}, "tensors are not part of the model, such as model/h1/"),
        ({"n_ctx": 9}, "model/wpe is of shape (8, 32), expected (9, 32)"),
    ],
)
def test_hparams_that_the_weights_are_not_of_are_not_vouched_for(listed, tmp_path, change, problem):
    (make_model(tmp_path / "a") / "hparams.json").write_text(json.dumps(HPARAMS | change))
    row = listed()["a"]
    assert problem in row and "compared" not in row
    assert re.match(r"a +0\.1 MB +\S+/a/model\.ckpt, with hparams\.json: ", row)


@pytest.mark.parametrize("name", ["hparams.json", "checkpoint"])
def test_no_more_is_read_of_a_small_file_than_it_can_have(listed, tmp_path, monkeypatch, name):
    monkeypatch.setattr(openai_folder, "SMALL_FILE", 1000)
    path = make_model(tmp_path / "a") / name
    text = path.read_text()
    path.write_text(text.ljust(1000, "\n"))
    assert "compared with its checksums" in listed()["a"]
    path.write_text(text.ljust(1001, "\n"))
    assert f"  {path}: is larger than 0.0 MB, far more than this file has" in listed()["a"]


def test_hostile_neighbours_break_nothing(listed, tmp_path):
    make_model(tmp_path / "\x1b[2Jm\nine\u202e")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("no model")
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "hparams.json").write_text(json.dumps(HPARAMS))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "odd").mkdir()
    for name in FILES:
        (tmp_path / "odd" / name).mkdir()
    lines = listed()
    assert list(lines) == ["tales", "\ufffd[2Jm\ufffdine\ufffd", "odd", ""]
    assert "incomplete: missing are hparams.json, encoder.json, " in lines["odd"]


def test_folders_that_cannot_be_read(listed, tmp_path, monkeypatch):
    make_model(tmp_path / "a")
    make_model(tmp_path / "b")
    working = os.listdir

    def forbidden(path):
        if str(path) == str(tmp_path / "a"):
            raise PermissionError(13, "Permission denied", str(path))
        return working(path)

    monkeypatch.setattr(os, "listdir", forbidden)
    monkeypatch.setattr(Path, "iterdir", lambda self: (self / name for name in forbidden(self)))
    lines = listed()
    assert list(lines) == ["tales", "a", "b", ""]
    assert f"{tmp_path / 'a'}: Permission denied; make it readable for you" in lines["a"]


def test_where_was_looked(listed, tmp_path, monkeypatch):
    assert listed(tmp_path / "no")[""] == f"looked in {tmp_path / 'no'}, which does not exist"
    (tmp_path / "file").write_text("")
    assert listed(tmp_path / "file")[""] == f"looked in {tmp_path / 'file'}: Not a directory"
    monkeypatch.setenv("GPT2_MODELS_DIR", str(tmp_path / "there"))
    assert listed(None)[""].startswith(f"looked in {tmp_path / 'there'}, ")
    with pytest.raises(ModelError, match="--models-dir is empty"):
        write_models("")


def test_without_the_bundled_model(listed, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path / "nowhere")
    assert "No such file or directory" in listed()["tales"]


def test_a_model_that_is_older_than_its_training_says_so(listed, tmp_path):
    make_model(tmp_path / "a")
    (tmp_path / "a" / openai_folder.OUTDATED).write_text("")
    make_model(tmp_path / "b")
    (tmp_path / "b" / openai_folder.OUTDATED).write_text("")
    (tmp_path / "b" / INDEX).unlink()
    for name in "ab":
        (tmp_path / name / openai_folder.STATE_FILE).write_text("")
    rows = listed()
    for name in "ab":
        assert "its training was cut off while it saved; bring it up to date with: " in rows[name]
        assert rows[name].endswith(f"python train.py --resume {tmp_path / name}")


def test_the_size_is_that_of_the_model_and_not_of_its_training(listed, tmp_path):
    make_model(tmp_path / "a")
    before = listed()["a"]
    (tmp_path / "a" / "training.npz").write_bytes(bytes(10**7))
    (tmp_path / "a" / "vocab.bpe.tmp").write_bytes(bytes(10**7))
    assert listed()["a"] == before


def test_models_from_the_hub(listed, tmp_path, a_hub):
    a_hub.commits[COMMITS[0]] = model_of_transformers()
    make_model(tmp_path / "mine")
    utils.find_folder(REPOSITORY, tmp_path)
    shutil.copytree(tmp_path / REPOSITORY, tmp_path / "by-hand")
    (tmp_path / "by-hand" / hub.NOTE).unlink()
    part = tmp_path / "else" / "part"
    shutil.copytree(tmp_path / REPOSITORY, part)
    os.rename(part / hub.WEIGHTS, part_of(part / hub.WEIGHTS))
    (tmp_path / "else" / "notes").mkdir()
    (tmp_path / "else" / "file").write_text("no folder")
    a_hub.close()
    lines = listed()
    assert list(lines) == ["tales", "by-hand", "else/part", "mine", REPOSITORY, ""]
    assert lines[REPOSITORY].split() == [REPOSITORY, "8,160", "0.0", "MB", "float32"]
    assert lines["by-hand"].split() == ["by-hand", "8,160", "0.0", "MB", "float32"]
    assert lines["else/part"].endswith("incomplete; --model else/part fetches the rest")
    (tmp_path / "by-hand" / "dangling").symlink_to(tmp_path / "nowhere")
    assert "by-hand/dangling: No such file or directory" in listed()["by-hand"]


def test_models_that_transformers_saved(listed, tmp_path):
    for name in ("float16", "bfloat16", "sharded", "unscaled"):
        shutil.copytree(FOLDERS / name, tmp_path / name)
    lines = listed()
    for name, dtype in (("float16", "float16"), ("bfloat16", "float32"), ("sharded", "float32")):
        assert lines[name].split() == [name, "8,160", "0.0", "MB", dtype]
    config = json.loads((FOLDERS / "plain" / "config.json").read_text("utf-8"))
    text = json.dumps(config | {"n_layer": 2**31 - 1})  # whose shapes would fill the memory
    (tmp_path / "unscaled" / "config.json").write_text(text)
    assert "no tensor h.2.ln_1.weight" in listed()["unscaled"]
    (tmp_path / "float16" / "model.safetensors").unlink()
    assert "missing are model.safetensors" in listed()["float16"]


def test_a_vocabulary_that_is_none_is_said(listed, tmp_path):
    make_model(tmp_path / "a")
    (tmp_path / "a" / "encoder.json").write_text("{}")
    assert "is missing" in listed()["a"]
