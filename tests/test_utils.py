"""Model folders are found, checked and loaded, or refused in one line that says why."""

import builtins
import errno
import io
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import utils
from encoder import Encoder, EncoderError, get_encoder, train_bpe
from file_server import assert_complete
from files import memory, openai_folder
from files.openai_folder import DATA, FILES, INDEX, OUTDATED, SIZES, STATE_FILE
from files.tf_checkpoint import CheckpointError
from helpers import GOLDEN_IDS, HPARAMS, MINI, copy_mini_vocabulary, make_model, make_tensors
from utils import (
    ModelError,
    leaves,
    load_encoder_hparams_and_params,
    load_hparams,
    save_encoder,
    save_model,
)


def refusal(*args, **kwargs):
    """The message with which a model is refused, one line."""
    with pytest.raises(ModelError) as caught:
        load_encoder_hparams_and_params(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_becomes_encoder_hparams_and_nested_params(tmp_path):
    tensors = make_tensors()
    encoder, hparams, params = load_encoder_hparams_and_params(make_model(tmp_path, tensors))
    assert encoder.decode(encoder.encode("hello")) == "hello"
    assert hparams == HPARAMS
    assert list(params) == ["wte", "wpe", "blocks", "ln_f"]
    assert len(params["blocks"]) == 2
    np.testing.assert_array_equal(params["wte"], tensors["model/wte"])
    np.testing.assert_array_equal(params["ln_f"]["b"], tensors["model/ln_f/b"])
    for i, block in enumerate(params["blocks"]):
        assert list(block) == ["ln_1", "attn", "ln_2", "mlp"]
        for part, names in {"attn": ("c_attn", "c_proj"), "mlp": ("c_fc", "c_proj")}.items():
            for name in names:
                scope = f"model/h{i}/{part}/{name}"
                np.testing.assert_array_equal(block[part][name]["w"], tensors[f"{scope}/w"][0])
                np.testing.assert_array_equal(block[part][name]["b"], tensors[f"{scope}/b"])
        for name in ("ln_1", "ln_2"):
            np.testing.assert_array_equal(block[name]["g"], tensors[f"model/h{i}/{name}/g"])


def test_params_are_float32_views_of_the_file_and_as_many_as_counted(tmp_path):
    _, hparams, params = load_encoder_hparams_and_params(str(make_model(tmp_path)))
    assert sum(leaf.size for leaf in leaves(params)) == utils.n_parameters(hparams)
    for leaf in leaves(params):
        assert leaf.dtype == np.float32
        assert not leaf.flags.owndata and not leaf.flags.writeable


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_params_are_read_only_whatever_they_are_made_of(tmp_path, dtype):
    _, _, params = load_encoder_hparams_and_params(make_model(tmp_path, make_tensors(dtype=dtype)))
    for leaf in leaves(params):
        with pytest.raises(ValueError, match="read-only"):
            leaf[...] = 0


def test_float16_weights_become_float32(tmp_path):
    tensors = make_tensors(dtype=np.float16)
    _, _, params = load_encoder_hparams_and_params(make_model(tmp_path, tensors))
    assert {leaf.dtype for leaf in leaves(params)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(params["wpe"], tensors["model/wpe"].astype(np.float32))


def test_the_reference_model_loads(shared):
    encoder, hparams, params = load_encoder_hparams_and_params(shared("reference-model"))
    assert hparams == {"n_vocab": 2048, "n_ctx": 256, "n_embd": 192, "n_head": 6, "n_layer": 6}
    assert params["wte"].shape == (2048, 192)
    assert sum(leaf.size for leaf in leaves(params)) == 3_111_936
    assert encoder.decode(encoder.encode("Once upon a time")) == "Once upon a time"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("124M", 124_439_808),
        ("355M", 354_823_168),
        ("774M", 774_030_080),
        ("1558M", 1_557_611_200),
        ("117M", 124_439_808),
        ("345M", 354_823_168),
    ],
)
def test_the_released_models_have_openais_parameter_counts(name, expected):
    hparams = dict(zip(SIZES, utils.RELEASED[name], strict=True))
    assert utils.n_parameters(hparams) == expected


def test_a_name_is_looked_for_in_models_dir_then_environment_then_beside_the_code(
    tmp_path, monkeypatch
):
    folders = [tmp_path / place / "124M" for place in ("argument", "environment", "beside")]
    for folder in folders:
        make_model(folder)
    monkeypatch.setattr(utils, "MODELS_DIR", tmp_path / "beside")
    monkeypatch.setenv("GPT2_MODELS_DIR", str(tmp_path / "environment"))
    assert utils.find_folder("124M", str(tmp_path / "argument")) == folders[0]
    assert utils.find_folder("124M") == folders[1]
    monkeypatch.delenv("GPT2_MODELS_DIR")
    assert utils.find_folder("124M") == folders[2]


def test_a_name_wins_over_a_folder_unless_it_is_written_as_a_path(tmp_path, monkeypatch):
    here = make_model(tmp_path / "124M")
    there = make_model(tmp_path / "models" / "124M")
    monkeypatch.chdir(tmp_path)
    assert utils.find_folder("124M", "models").samefile(there)
    assert utils.find_folder("./124M", "models").samefile(here)
    assert utils.find_folder(here.relative_to(tmp_path), "models").samefile(here)


@pytest.mark.parametrize("model", ["124m", "", "no/such/folder", "\0", "a" * 5000, Path("b")])
def test_what_is_neither_a_name_nor_a_folder_is_refused_with_the_names(model):
    message = refusal(model)
    assert "124M, 355M, 774M, 1558M" in message and "./" in message


def test_an_empty_name_is_no_model_and_an_empty_models_dir_no_folder(tmp_path, monkeypatch):
    make_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert refusal("").startswith("the name of the model is empty; give one of tales, 124M, ")
    for model in ("tales", "124M", "."):
        assert refusal(model, "").startswith("--models-dir is empty; give the path of a folder")
    monkeypatch.setenv("GPT2_MODELS_DIR", "")
    assert utils.models_folder() == utils.MODELS_DIR


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("124m", "124M"),
        ("124", "124M"),
        ("gpt2-124M", "124M"),
        ("TALES", "tales"),
        ("tale", "tales"),
        ("fables", "Fable"),
        ("models/fable/", "Fable"),
        ("\x1bhostile", "\ufffdHostile"),
    ],
)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(tmp_path, model, meant):
    for name in ("Fable", "\x1bHostile", "other things"):
        (tmp_path / name).mkdir()
    (tmp_path / "fabled").write_text("no folder")
    assert (
        f"there is no model {model!r} here or in {tmp_path} (did you mean {meant}?); give one of "
    ) in refusal(model, tmp_path)


def test_a_path_that_is_nearly_right_is_answered_so_after_the_hub_was_asked(
    tmp_path,
):
    assert refusal("models/1558", tmp_path).startswith(
        f"there is no folder 'models/1558' here or in {tmp_path} (did you mean 1558M?), so the Hub "
        "was asked: http://127.0.0.1:1/models/1558/resolve/main/config.json: "
    )


@pytest.mark.parametrize("model", ["small", "xl", "no/such/folder", "x" * 5000])
def test_a_name_like_no_other_is_answered_with_all_of_them(tmp_path, model):
    assert "did you mean" not in refusal(model, tmp_path)
    assert "did you mean" not in refusal(model, tmp_path / "nowhere")


def test_a_bare_name_is_a_folder_here_or_in_models_dir(tmp_path, monkeypatch, capfd):
    there = make_model(tmp_path / "models" / "mine")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert utils.find_folder("mine", tmp_path / "models") == there
    monkeypatch.setenv("GPT2_MODELS_DIR", "../models")
    assert utils.find_folder("mine").samefile(there)
    for path in ("./mine", Path("mine"), "..", os.path.join("models", "mine")):
        with pytest.raises(ModelError):
            utils.find_folder(path)
    monkeypatch.chdir(tmp_path / "models")
    assert utils.find_folder("mine", "../models").samefile(there)
    assert capfd.readouterr().err == ""


def test_a_path_that_begins_with_dots_is_not_looked_for_in_models_dir(tmp_path, monkeypatch):
    (tmp_path / "models" / "inner").mkdir(parents=True)
    make_model(tmp_path / "models" / "mine")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    for path in ("./mine", "../inner/../mine"):
        message = refusal(path, tmp_path / "models" / "inner")
        assert message.startswith(f"there is no model {path!r}; ")


def test_a_folder_that_nobody_may_look_for_is_said_to_need_permission(tmp_path, monkeypatch):
    working = os.stat

    def forbidden(path, **kwargs):
        if str(path) == "locked/mine":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return working(path, **kwargs)

    monkeypatch.setattr(os, "stat", forbidden)
    message = refusal("locked/mine", tmp_path)
    assert message == "locked/mine: Permission denied; make it readable for you"


def test_of_two_folders_of_a_name_the_one_here_is_taken_and_a_notice_says_so(
    tmp_path, monkeypatch, capfd
):
    here, there = make_model(tmp_path / "mine"), make_model(tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    assert utils.find_folder("mine", "models").samefile(here)
    other = os.path.join("models", "mine")
    notices = capfd.readouterr().err
    assert notices == f"--model mine is taken to be {here}; the other folder is --model {other}\n"
    assert utils.find_folder(other).samefile(there)

    (here / DATA).unlink()  # the one that is whole
    assert utils.find_folder("mine", "models").samefile(there)
    other = os.path.join(".", "mine")
    notices = capfd.readouterr().err
    assert notices == f"--model mine is taken to be {there}; the other folder is --model {other}\n"

    (there / "checkpoint").write_text("")  # neither
    assert refusal("mine", "models").startswith("mine is not a whole model folder: ")


def test_names_of_known_models_are_no_folders_in_models_dir(tmp_path, monkeypatch):
    make_model(tmp_path / "tales")
    monkeypatch.chdir(tmp_path)
    assert utils.find_folder("tales", tmp_path) == utils.MODELS_DIR / "tales"


def test_the_missing_files_of_a_folder_are_listed(tmp_path):
    make_model(tmp_path)
    (tmp_path / "vocab.bpe").unlink()
    (tmp_path / DATA).unlink()
    assert f"missing are vocab.bpe, {DATA};" in refusal(tmp_path)


def test_the_checkpoint_file_names_the_prefix(tmp_path):
    make_model(tmp_path)
    for suffix in (".index", ".data-00000-of-00001"):
        (tmp_path / f"model.ckpt{suffix}").rename(tmp_path / f"model-7{suffix}")
    assert "model.ckpt.index" in refusal(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model-7"\n', "utf-8")
    load_encoder_hparams_and_params(tmp_path)
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{tmp_path.as_posix()}/model-7"')
    load_encoder_hparams_and_params(tmp_path)


def test_the_checkpoint_file_may_have_the_line_ends_of_windows(tmp_path):
    make_model(tmp_path)
    (tmp_path / "checkpoint").write_bytes(b'model_checkpoint_path: "model.ckpt"\r\nmore\r\n')
    utils.load_encoder_hparams_and_params(tmp_path)


def test_without_a_checkpoint_file_the_prefix_is_model_ckpt(tmp_path):
    make_model(tmp_path)
    (tmp_path / "checkpoint").unlink()
    load_encoder_hparams_and_params(tmp_path)


@pytest.mark.parametrize("prefix", ["../model.ckpt", "/model.ckpt", "sub/../../model.ckpt"])
def test_the_checkpoint_file_cannot_point_out_of_its_folder(tmp_path, prefix):
    make_model(tmp_path / "inside")
    (tmp_path / "inside" / "checkpoint").write_text(f'model_checkpoint_path: "{prefix}"\n')
    assert "points out of its folder" in refusal(tmp_path / "inside")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b'model_checkpoint_path: ""',
        b"\xff",
        b'model_checkpoint_path: "%a"' % (9**999),
    ],
)
def test_an_unreadable_checkpoint_file_is_refused(tmp_path, content):
    (make_model(tmp_path) / "checkpoint").write_bytes(content)
    assert str(tmp_path / "checkpoint") in refusal(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_layer": None}, "n_layer is missing"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"n_layer": -2}, "n_layer is -2"),
        ({"n_layer": 2.0}, "n_layer is 2.0"),
        ({"n_layer": True}, "n_layer is True"),
        ({"n_layer": "2"}, "n_layer is 2"),
        ({"n_ctx": 10**4000}, "n_ctx is 1000"),
        ({"n_head": 5}, "n_embd 32 cannot be divided among n_head 5"),
    ],
)
def test_impossible_hparams_are_refused(tmp_path, change, reason):
    (make_model(tmp_path) / "hparams.json").write_text(json.dumps(HPARAMS | change), "utf-8")
    message = refusal(tmp_path)
    assert reason in message and str(tmp_path / "hparams.json") in message
    assert len(message) < len(str(tmp_path)) + 300


@pytest.mark.parametrize("content", [b"", b"[1]", b"<html></html>", b"\xff", b"[" * 100_000])
def test_hparams_that_are_no_json_object_are_refused(tmp_path, content):
    (make_model(tmp_path) / "hparams.json").write_bytes(content)
    assert str(tmp_path / "hparams.json") in refusal(tmp_path)


def test_other_keys_in_hparams_are_left_out(tmp_path):
    (make_model(tmp_path) / "hparams.json").write_text(json.dumps(HPARAMS | {"dropout": 0.1}))
    assert load_hparams(tmp_path) == HPARAMS


def test_a_vocabulary_of_another_size_is_refused_with_both_numbers(tmp_path):
    tensors = make_tensors(HPARAMS | {"n_vocab": 270})
    (make_model(tmp_path, tensors) / "hparams.json").write_text(
        json.dumps(HPARAMS | {"n_vocab": 270})
    )
    message = refusal(tmp_path)
    assert "260" in message and "270" in message


@pytest.mark.parametrize("name", ["encoder.json", "vocab.bpe"])
def test_a_damaged_vocabulary_is_refused(tmp_path, name):
    (make_model(tmp_path) / name).write_bytes(b"\xff\xfe")
    assert str(tmp_path) in refusal(tmp_path)


@pytest.mark.parametrize(
    "name", ["model/wte", "model/h1/attn/c_attn/w", "model/h0/mlp/c_proj/b", "model/ln_f/g"]
)
def test_a_missing_or_misshapen_tensor_or_one_of_another_type_is_named(tmp_path, name):
    tensors = make_tensors()
    shape = tensors[name].shape
    make_model(tmp_path, {key: value for key, value in tensors.items() if key != name})
    assert f"no tensor {name} " in refusal(tmp_path)

    make_model(tmp_path, tensors | {name: tensors[name][..., :-1]})
    message = refusal(tmp_path)
    assert (
        f"{name} is of shape {tensors[name][..., :-1].shape}" in message and str(shape) in message
    )

    make_model(tmp_path, tensors | {name: tensors[name].ravel()[None, None]})
    assert name in refusal(tmp_path)


@pytest.mark.parametrize("name", ["global_step", "model/wte/Adam", "model/h2/ln_1/g"])
def test_a_tensor_that_is_not_part_of_the_model_is_named(tmp_path, name):
    make_model(tmp_path, make_tensors() | {name: np.zeros(1, np.float32)})
    assert name in refusal(tmp_path)


def test_the_first_of_a_billion_missing_layers_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "measure_memory", lambda: (None, None))
    (make_model(tmp_path) / "hparams.json").write_text(json.dumps(HPARAMS | {"n_layer": 10**9}))
    assert "no tensor model/h2/ln_1/g " in refusal(tmp_path)


@pytest.mark.parametrize("name", [INDEX, DATA])
@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_truncated_checkpoint_is_refused(tmp_path, name, size):
    path = make_model(tmp_path) / name
    path.write_bytes(path.read_bytes()[:size])
    assert str(path) in refusal(tmp_path)


def fail_to_open(monkeypatch, path, number):
    """Have the system say that it cannot open a file."""
    working = open

    def failing(file, *args, **kwargs):
        if str(file) == str(path):
            raise OSError(number, os.strerror(number), str(file))
        return working(file, *args, **kwargs)

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", failing)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.EACCES, "make it readable for you"),
        (errno.ENOMEM, "close other programs or take a smaller model"),
        (errno.EMFILE, "try again"),
        (errno.EIO, "try again"),
    ],
)
def test_what_the_system_cannot_read_just_now_is_not_called_damaged(
    tmp_path, monkeypatch, name, number, cure
):
    path = make_model(tmp_path) / name
    fail_to_open(monkeypatch, path, number)
    assert refusal(tmp_path) == f"{path}: {os.strerror(number)}; {cure}"


def test_weights_that_cannot_be_mapped_are_not_called_damaged(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(np, "memmap", fail)
    path = make_model(tmp_path) / DATA
    cure = "close other programs or take a smaller model"
    assert refusal(tmp_path) == f"{path}: Cannot allocate memory; {cure}"


def test_weights_that_vanish_while_they_are_compared_are_one_line(tmp_path, monkeypatch):
    def fail(prefix):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(prefix))

    monkeypatch.setattr(openai_folder, "stat_files", fail)
    assert refusal(make_model(tmp_path)).endswith("No such file or directory; try again")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_or_folder_without_permission_is_said_to_need_it(tmp_path):
    make_model(tmp_path / "model")
    for name in FILES:
        path = tmp_path / "model" / name
        path.chmod(0)
        assert refusal(tmp_path / "model") == f"{path}: Permission denied; make it readable for you"
        path.chmod(0o600)
    for folder in (tmp_path / "model", tmp_path):
        folder.chmod(0)
        message = refusal(tmp_path / "model")
        folder.chmod(0o700)
        assert "Permission denied; make it readable for you" in message


@pytest.mark.parametrize("name", FILES)
def test_what_is_damaged_is_said_to_be_fetched_or_written_again(tmp_path, name):
    (make_model(tmp_path) / name).write_bytes(b"\xff")
    message = refusal(tmp_path)
    assert "fetch or copy" in message or "make it say" in message


def test_a_files_control_characters_do_not_reach_the_message(tmp_path):
    make_model(tmp_path)
    hparams = json.dumps(HPARAMS | {"n_ctx": "\x1b[2J\x9b2J\u202e"})
    (tmp_path / "hparams.json").write_text(hparams)
    assert "n_ctx is \ufffd[2J\ufffd2J\ufffd, where" in refusal(tmp_path)
    make_model(tmp_path)
    for name in ("\x9b2J", "../\x9b2J"):
        (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{name}"', "utf-8")
        message = refusal(tmp_path)
        assert "\ufffd2J" in message and message.isprintable()
    (tmp_path / "checkpoint").unlink()
    make_model(tmp_path, make_tensors() | {"model/\x1b[2J": np.zeros(1, np.float32)})
    assert "such as model/\ufffd[2J" in refusal(tmp_path)


def test_a_model_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "measure_memory", lambda: (100_000, 100_000))
    message = refusal(make_model(tmp_path))
    assert "needs 200.1 MB of memory, and this computer has 0.1 MB" in message


def test_too_little_available_memory_is_a_warning(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(memory, "measure_memory", lambda: (10**12, 150 * 10**6))
    load_encoder_hparams_and_params(make_model(tmp_path))
    out, err = capfd.readouterr()
    assert out == ""
    assert "only 150.0 MB are available" in err and err.count("\n") == 1


def test_a_small_model_loads_silently_and_a_big_one_is_announced(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(memory, "measure_memory", lambda: (None, None))
    load_encoder_hparams_and_params(make_model(tmp_path))
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(utils, "BIG", 1000)
    load_encoder_hparams_and_params(tmp_path)
    assert "0.1 MB of weights" in capfd.readouterr().err


def test_a_model_larger_than_the_memory_is_not_fetched(server, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "measure_memory", lambda: (100_000, None))
    assert "take a smaller model" in refusal("124M", tmp_path)
    assert server.requests == []


def test_a_model_is_downloaded_once_and_loads(server, files, tmp_path, capfd):
    encoder, hparams, params = load_encoder_hparams_and_params("124M", tmp_path)
    assert_complete(tmp_path / "124M", files)
    assert hparams == HPARAMS and len(encoder.encoder) == 260
    np.testing.assert_array_equal(params["wpe"], make_tensors()["model/wpe"])
    assert [name for name, _ in server.requests] == list(FILES)
    assert {headers["Accept-Encoding"] for _, headers in server.requests} == {"identity"}

    load_encoder_hparams_and_params("124M", tmp_path)
    assert len(server.requests) == len(FILES)
    out, err = capfd.readouterr()
    assert out == ""
    first = err.splitlines()[0]
    assert first.startswith("downloading 124M from http://127.0.0.1")
    assert first.endswith("0.1 MB of disk, and 200.1 MB of memory to run it")
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("name", ["encoder.json", "vocab.bpe"])
def test_another_vocabulary_under_a_released_name_is_refused_each_time(
    server, files, tmp_path, monkeypatch, name
):
    load_encoder_hparams_and_params("124M", tmp_path)
    path = tmp_path / "124M" / name
    path.write_bytes(path.read_bytes().replace(b"he l", b"he  l").replace(b": 1,", b":  1,"))
    for _ in range(2):
        assert refusal("124M", tmp_path) == (
            f"{path} is not OpenAI's {name}: its SHA-256 is another; remove it to have it fetched "
            "again, or give the folder's path as --model"
        )
    fail_to_open(monkeypatch, path, errno.EIO)
    assert refusal("124M", tmp_path) == f"{path}: {os.strerror(errno.EIO)}; try again"


def flip_a_bit(path, position):
    contents = bytearray(path.read_bytes())
    contents[position] ^= 4
    path.write_bytes(contents)


def test_a_flipped_bit_in_the_weights_is_refused_and_the_tensor_named(tmp_path):
    model = make_model(tmp_path)
    flip_a_bit(model / DATA, -1)
    assert "the bytes of 'model/wte' do not match their checksum" in refusal(model)


def test_large_weights_are_compared_with_their_checksums_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(openai_folder, "QUICKLY_VERIFIED", 0)
    model = make_model(tmp_path)
    load_encoder_hparams_and_params(model)
    assert "with their checksums" in capfd.readouterr().err
    load_encoder_hparams_and_params(model)
    assert capfd.readouterr().err == ""
    flip_a_bit(model / DATA, -1)  # a new date, so the note no longer fits
    assert "'model/wte'" in refusal(model)
    (model / openai_folder.VERIFIED).write_text("[")
    assert "'model/wte'" in refusal(model)


@pytest.mark.parametrize("name, value", [("n_head", 2), ("n_ctx", 16)])
def test_another_model_under_a_released_name_is_refused(tmp_path, monkeypatch, name, value):
    released = HPARAMS | {name: value}
    monkeypatch.setitem(utils.RELEASED, "124M", tuple(released[key] for key in SIZES))
    make_model(tmp_path / "124M")
    assert "holds another model than 124M" in refusal("124M", tmp_path)


def test_parameters_are_counted_without_building_a_billion_layers():
    one, two = (utils.n_parameters(HPARAMS | {"n_layer": n}) for n in (1, 2))
    assert one == 260 * 32 + 8 * 32 + 12 * 32**2 + 13 * 32 + 2 * 32
    assert utils.n_parameters(HPARAMS | {"n_layer": 10**9}) == one + (10**9 - 1) * (two - one)


def test_shapes_are_nested_like_params(tmp_path):
    _, hparams, params = load_encoder_hparams_and_params(make_model(tmp_path))
    assert utils.shapes(hparams) == utils.tree_map(lambda leaf: leaf.shape, params)


def test_leaves_come_in_order_from_any_nesting_of_dicts_and_lists():
    tree = {"b": 1, "a": [2, {"c": [3, []], "d": (4, 5)}], "e": {}}
    assert leaves(tree) == [1, 2, 3, (4, 5)]
    assert leaves("a leaf") == ["a leaf"]


def test_tree_map_works_on_the_leaves_in_the_same_place_of_several_trees():
    tree, other = {"a": [1, {"b": 2}], "c": 3}, {"c": 30, "a": [10, {"b": 20}]}
    assert utils.tree_map(lambda x, y: x + y, tree, other) == {"a": [11, {"b": 22}], "c": 33}
    assert utils.tree_map(str, tree) == {"a": ["1", {"b": "2"}], "c": "3"}
    with pytest.raises(ValueError):
        utils.tree_map(max, [1, 2], [3])
    with pytest.raises(KeyError):
        utils.tree_map(max, {"a": 1}, {"b": 3})
    for odd in ({"a": 1, "b": 3}, [1], 1):
        with pytest.raises(ValueError, match="not nested alike"):
            utils.tree_map(max, {"a": 1}, odd)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_saved_model_comes_back(tmp_path, dtype):
    encoder, hparams, params = load_encoder_hparams_and_params(make_model(tmp_path / "a"))
    save_model(str(tmp_path / "made" / "b"), encoder, hparams, params, dtype)
    assert sorted(os.listdir(tmp_path / "made" / "b")) == sorted(FILES)
    again = load_encoder_hparams_and_params(tmp_path / "made" / "b")
    assert again[0].encoder == encoder.encoder and again[1] == hparams
    for array, saved in zip(leaves(params), leaves(again[2]), strict=True):
        np.testing.assert_array_equal(array.astype(dtype), saved)
    size = os.path.getsize(tmp_path / "made" / "b" / DATA)
    assert size == utils.n_parameters(hparams) * np.dtype(dtype).itemsize


def test_a_model_is_saved_over_itself(tmp_path):
    encoder, hparams, params = load_encoder_hparams_and_params(make_model(tmp_path))
    before = (tmp_path / DATA).read_bytes()
    save_model(tmp_path, encoder, hparams, params)
    assert (tmp_path / DATA).read_bytes() == before


def other_model():
    """encoder, hparams, params of the same shapes as helpers.make_model's, and all different."""
    encoder = train_bpe("ab abc abc bc", 260)
    rng = np.random.default_rng(1)
    hparams = HPARAMS | {"n_head": 2}
    params = utils.tree_map(
        lambda shape: rng.standard_normal(shape).astype(np.float32), utils.shapes(hparams)
    )
    return encoder, hparams, params


def describe(encoder, hparams, params):
    """What tells two models apart: their vocabulary, sizes and weights."""
    return encoder.bpe_merges, hparams, [leaf.tobytes() for leaf in leaves(params)]


@pytest.mark.parametrize("prefix", ["model.ckpt", "model-7", None])
def test_killed_between_any_two_file_operations_a_folder_holds_one_model_or_none(
    tmp_path, monkeypatch, prefix
):
    """Copies the folder after each operation, as a kill would have left it. The weights of the old
    model are called `prefix`; None is without a file "checkpoint"."""
    folder = make_model(tmp_path / "model")
    for suffix in ("index", "data-00000-of-00001"):
        os.rename(folder / f"model.ckpt.{suffix}", folder / f"{prefix or 'model.ckpt'}.{suffix}")
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{prefix}"\n')
    if prefix is None:
        (folder / "checkpoint").unlink()
    old, new = describe(*load_encoder_hparams_and_params(folder)), describe(*other_model())
    copies = []

    def watched(function):
        def call(*arguments, **options):
            result = function(*arguments, **options)
            copies.append(shutil.copytree(folder, tmp_path / f"killed-{len(copies)}"))
            return result

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink", "fsync"):
            patch.setattr(os, name, watched(getattr(os, name)))
        save_model(folder, *other_model())
    found = []
    for copy in copies:
        try:
            found.append(describe(*load_encoder_hparams_and_params(copy)))
        except ModelError:
            found.append(None)
    assert all(model in (old, None, new) for model in found)
    order = [key for key, _ in itertools.groupby(found)]
    assert order == [old, None, new] and found[-1] == new
    assert describe(*load_encoder_hparams_and_params(folder)) == new
    for copy in copies:  # saved again, nothing of the first attempt is left over
        save_model(copy, *other_model())
        assert describe(*load_encoder_hparams_and_params(copy)) == new
        assert not [*copy.glob("*.tmp"), *copy.glob("*.old")]


@pytest.mark.parametrize("step", range(15))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupt_or_a_full_disk_never_mixes_two_models(tmp_path, monkeypatch, step, error):
    """Fails at one of six fsyncs, or at one of the seven renamings that follow."""
    folder = make_model(tmp_path)
    old, new = describe(*load_encoder_hparams_and_params(folder)), describe(*other_model())
    steps_left = step

    def failing(function):
        def call(*arguments):
            nonlocal steps_left
            steps_left -= 1
            if steps_left == -1:
                raise error
            function(*arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync"):
            patch.setattr(os, name, failing(getattr(os, name)))
        try:
            save_model(folder, *other_model())
        except (CheckpointError, KeyboardInterrupt) as caught:
            assert "No space left" in str(caught) or caught is error
            assert step < 13
    # Until the first file has its new name the old model stays, from then on the new one is there.
    assert describe(*load_encoder_hparams_and_params(folder)) == (old if step < 8 else new)
    assert sorted(os.listdir(folder)) == sorted(FILES)


def test_a_file_that_cannot_be_replaced_leaves_no_model_that_is_mixed(tmp_path, monkeypatch):
    folder = make_model(tmp_path)
    working = os.replace

    def fail(source, target):
        if Path(target).name == "vocab.bpe":
            raise OSError(errno.EIO, "Input/output error")
        working(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(CheckpointError, match="Input/output error"):
            save_model(folder, *other_model())
    assert "missing are model.ckpt.index" in refusal(folder)
    save_model(folder, *other_model())
    assert describe(*load_encoder_hparams_and_params(folder)) == describe(*other_model())
    assert sorted(os.listdir(folder)) == sorted(FILES)


@pytest.mark.parametrize("value", [70_000.0, -70_000.0])
def test_a_weight_too_large_for_float16_is_named_before_anything_is_written(tmp_path, value):
    encoder, hparams, params = load_encoder_hparams_and_params(make_model(tmp_path / "a"))
    params = utils.tree_map(np.array, params)
    params["blocks"][1]["mlp"]["c_fc"]["w"][3, 5] = value
    with pytest.raises(CheckpointError) as error:
        save_model(tmp_path / "b", encoder, hparams, params, np.float16)
    assert str(error.value) == "model/h1/mlp/c_fc/w has a weight too large for float16"
    assert not (tmp_path / "b").exists()


def test_saved_vocabulary_comes_back(tmp_path):
    for enc in (get_encoder(MINI), train_bpe("川は川は Река Река # # ## \x00\x00 " * 3, 276)):
        save_encoder(enc, str(tmp_path / "made" / "folder"))
        same = get_encoder(tmp_path / "made" / "folder")
        assert (same.encoder, same.bpe_merges) == (enc.encoder, enc.bpe_merges)
        assert same.encode("# 川は!") == enc.encode("# 川は!")


def test_saved_files_look_like_openais(tmp_path):
    enc = train_bpe("ab abc abc bc", 260)
    shuffled = Encoder(dict(reversed(enc.encoder.items())), enc.bpe_merges)
    save_encoder(shuffled, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["encoder.json", "vocab.bpe"]
    merges = (tmp_path / "vocab.bpe").read_bytes()
    assert merges == "#version: 0.2\na b\nĠ ab\nĠab c\n".encode()
    tokens = (tmp_path / "encoder.json").read_bytes()
    assert tokens.startswith(rb'{"!": 0, "\"": 1, "#": 2, ')
    assert tokens.endswith(rb'"ab": 256, "\u0120ab": 257, "\u0120abc": 258, "<|endoftext|>": 259}')


def test_openais_vocabulary_is_saved_byte_for_byte(tmp_path, shared):
    save_encoder(get_encoder(shared("gpt2-vocab")), tmp_path)
    for name in ("encoder.json", "vocab.bpe"):
        assert (tmp_path / name).read_bytes() == (shared("gpt2-vocab") / name).read_bytes()


def test_saved_vocabulary_is_read_by_another_library(tmp_path):
    mini = get_encoder(MINI)
    tokenizers = pytest.importorskip("tokenizers")
    save_encoder(mini, tmp_path)
    files = str(tmp_path / "encoder.json"), str(tmp_path / "vocab.bpe")
    peer = tokenizers.ByteLevelBPETokenizer.from_file(*files)
    for text, _ in GOLDEN_IDS["mini"]["encode"]:
        assert peer.encode(text).ids == mini.encode(text)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_saving_leaves_the_files_that_were_there(tmp_path, monkeypatch, call, error):
    copy_mini_vocabulary(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_):
        raise error

    monkeypatch.setattr(os, call, fail)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else EncoderError
    with pytest.raises(expected) as raised:
        save_encoder(train_bpe("abab", 258), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    if expected is EncoderError:
        assert str(raised.value) == f"{tmp_path / 'encoder.json'}: No space left on device"


def test_nothing_is_replaced_before_both_files_are_written(tmp_path, monkeypatch):
    copy_mini_vocabulary(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    n_written = 0

    def fail_at_the_second(_):
        nonlocal n_written
        n_written += 1
        if n_written == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_at_the_second)
    with pytest.raises(EncoderError) as error:
        save_encoder(train_bpe("abab", 258), tmp_path)
    assert str(error.value) == f"{tmp_path / 'vocab.bpe'}: No space left on device"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_where_a_vocabulary_cannot_be_saved(tmp_path):
    mini = get_encoder(MINI)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EncoderError) as error:
            save_encoder(mini, folder)
        assert str(error.value) in (f"{folder}: File exists", f"{folder}: Not a directory")
    (tmp_path / "vocab.bpe").mkdir()
    with pytest.raises(EncoderError) as error:
        save_encoder(mini, tmp_path)
    assert str(error.value) == f"{tmp_path / 'vocab.bpe'}: Is a directory"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_model_whose_training_was_cut_off_while_it_saved_says_how_to_mend_it(tmp_path, capsys):
    folder = make_model(tmp_path / "my model")
    (folder / OUTDATED).write_text("")
    (folder / STATE_FILE).write_text("")
    load_encoder_hparams_and_params(folder)
    error = capsys.readouterr().err
    mend = f"python train.py --resume '{folder}'"
    assert error.count("\n") == 1 and "may be older" in error and error.endswith(f"{mend}\n")
    (folder / "model.ckpt.index").unlink()
    with pytest.raises(ModelError, match="cut off while it saved") as refused:
        load_encoder_hparams_and_params(folder)
    assert str(refused.value).endswith(mend) and capsys.readouterr().err == ""


def test_where_there_is_no_state_to_go_on_from_nobody_is_sent_there(tmp_path, capsys):
    folder = make_model(tmp_path / "m")
    (folder / OUTDATED).write_text("")
    load_encoder_hparams_and_params(folder)
    assert capsys.readouterr().err == ""
    (folder / "model.ckpt.index").unlink()
    with pytest.raises(ModelError, match=r"missing are model\.ckpt\.index; put them there"):
        load_encoder_hparams_and_params(folder)
