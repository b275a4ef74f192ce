"""python -m files.convert: a model as another kind of folder, whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import convert
from files.huggingface import is_huggingface
from files.safetensors import read_safetensors, write_safetensors
from files.tf_checkpoint import read_checkpoint
from gpt2_numpy import gpt2
from programs import ROOT
from utils import leaves, load_encoder_hparams_and_params

FOLDERS = Path(__file__).parent / "fixtures" / "huggingface"


def run(*words):
    return convert.main(list(map(str, words)))


def run_refused(capsys, *words):
    """The one line that a conversion ends in, which writes nothing."""
    try:
        status = run(*words)
    except SystemExit as stop:
        status = stop.code
    out, error = capsys.readouterr()
    assert status in (1, 2) and out == "" and error.count("\n") == 1
    return error


def read_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_there_and_back_again_gives_the_same_bytes(tiny_model, tmp_path, dtype):
    from utils import save_model

    start = tmp_path / "start"
    save_model(start, *load_encoder_hparams_and_params(tiny_model), dtype)
    there, back, again = (tmp_path / name for name in ("there", "back", "again"))
    assert run(start, there, "--to", "huggingface") == 0
    assert run(there, back, "--to", "openai") == 0
    assert run(back, again, "--to", "huggingface") == 0
    assert is_huggingface(there) and read_files(back) == read_files(start)
    assert read_files(again) == read_files(there)
    tensors = read_safetensors(there / "model.safetensors")
    assert {array.dtype for array in tensors.values()} == {np.dtype(dtype)}
    assert json.loads((there / "config.json").read_text())["dtype"] == np.dtype(dtype).name


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDERS.iterdir() if path.is_dir()))
@pytest.mark.parametrize("kind", ["openai", "huggingface"])
def test_every_model_of_transformers_becomes_one_of_either_kind(tmp_path, name, kind):
    """Also those that ask for what GPT-2 does not have: the weights bring it about."""
    assert run(FOLDERS / name, tmp_path / "m", "--to", kind) == 0
    answers = np.load(FOLDERS / "answers.npz")
    encoder, hparams, params = load_encoder_hparams_and_params(tmp_path / "m")
    logits = gpt2(answers[f"{name}/ids"], **params, n_head=hparams["n_head"])
    exact = answers[f"{name}/logits"]
    assert np.abs(logits - exact).max() < 1e-5 * max(1, np.abs(exact).max())
    before = load_encoder_hparams_and_params(FOLDERS / name)
    assert encoder.encoder == before[0].encoder and encoder.special == before[0].special
    assert all(map(np.array_equal, leaves(params), leaves(before[2])))
    is_half = name == "float16"
    if kind == "openai":
        dtypes = {a.dtype for a in read_checkpoint(tmp_path / "m" / "model.ckpt").values()}
        assert dtypes == {np.dtype(np.float16 if is_half else np.float32)}


def test_what_transformers_needs_to_know_is_there(tiny_model, tmp_path):
    assert run(tiny_model, tmp_path / "m", "--to", "huggingface") == 0
    config, tokenizer, about = (
        json.loads((tmp_path / "m" / f"{name}.json").read_text("utf-8"))
        for name in ("config", "tokenizer", "tokenizer_config")
    )
    exact = json.loads((FOLDERS / "plain" / "config.json").read_text("utf-8"))
    encoder, hparams, params = load_encoder_hparams_and_params(tiny_model)
    for name, value in config.items():
        if name not in ("vocab_size", "n_positions", "n_ctx", "n_embd", "n_head", "n_layer"):
            assert value == exact[name] or name.endswith("token_id"), name
    assert config["vocab_size"] == hparams["n_vocab"] and config["eos_token_id"] == encoder.eot
    assert config["n_positions"] == config["n_ctx"] == hparams["n_ctx"] == about["model_max_length"]
    assert about["eos_token"] == "<|endoftext|>" and about["add_prefix_space"] is False
    exact = json.loads((FOLDERS / "plain" / "tokenizer.json").read_text("utf-8"))
    assert set(tokenizer) == set(exact) and set(tokenizer["model"]) == set(exact["model"])
    assert tokenizer["pre_tokenizer"] == exact["pre_tokenizer"]
    assert tokenizer["decoder"]["type"] == "ByteLevel"
    assert tokenizer["added_tokens"] == [
        exact["added_tokens"][0] | {"id": encoder.eot, "content": "<|endoftext|>"}
    ]
    tensors = read_safetensors(tmp_path / "m" / "model.safetensors")
    assert tensors.metadata == {"format": "pt"}
    exact = read_safetensors(FOLDERS / "plain" / "model.safetensors")
    of_one_layer = {name.replace(".h.1.", ".h.0.") for name in exact}
    assert {name.replace(".h.1.", ".h.0.") for name in tensors} == of_one_layer
    assert np.array_equal(tensors["transformer.wte.weight"], params["wte"])


def test_a_card_says_what_is_known_and_no_path(tiny_model, tmp_path, capsys):
    for kind in ("huggingface", "openai"):
        assert run(tiny_model, tmp_path / kind, "--to", kind) == 0
        card = (tmp_path / kind / "README.md").read_text("utf-8")
        hparams = load_encoder_hparams_and_params(tiny_model)[1]
        assert f"# {kind}\n" in card and f"`{tiny_model.name}`" in card
        assert all(f"`{name}` {value:,}" in card for name, value in hparams.items())
        assert str(tiny_model.parent) not in card and "float32" in card
        assert card.startswith("---\nlibrary_name: transformers\n") == (kind == "huggingface")
    assert f"--model {tmp_path / 'openai'}" in capsys.readouterr().err


def test_nothing_that_is_there_is_replaced(tiny_model, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file", "link"):
        line = run_refused(capsys, tiny_model, tmp_path / name, "--to", "openai")
        assert "is there already" in line
    (tmp_path / "m.tmp").mkdir()
    assert "m.tmp is there: " in run_refused(capsys, tiny_model, tmp_path / "m", "--to", "openai")
    assert (tmp_path / "m.tmp").is_dir() and (tmp_path / "file").read_text() == "mine"


def test_wrong_words_are_one_line(tiny_model, tmp_path, capsys):
    assert "--to" in run_refused(capsys, tiny_model, tmp_path / "m")
    assert "pytorch" in run_refused(capsys, tiny_model, tmp_path / "m", "--to", "pytorch")
    line = run_refused(capsys, tmp_path / "none", tmp_path / "m", "--to", "openai")
    assert "there is no model" in line
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_not_passed_on(tiny_model, tmp_path, capsys):
    folder = shutil.copytree(tiny_model, tmp_path / "damaged")
    data = folder / "model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    line = run_refused(capsys, folder, tmp_path / "m", "--to", "huggingface")
    assert "checksum" in line and not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", ["openai", "huggingface"])
def test_a_failure_leaves_nothing(tiny_model, tmp_path, capsys, monkeypatch, kind):
    def fail(*arguments, **settings):
        raise OSError(28, os.strerror(28), str(tmp_path / "m.tmp" / "x"))

    for name in ("write_whole", "write_checkpoint", "write_safetensors"):
        monkeypatch.setattr(convert, name, fail)
    line = run_refused(capsys, tiny_model, tmp_path / "a" / "b" / "m", "--to", kind)
    assert f"{os.strerror(28)}; make room" in line and list(tmp_path.iterdir()) == []


def test_ctrl_c_and_kill_leave_no_folder_of_that_name(tiny_model, tmp_path):
    code = """if True:
        import os, signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)
        import command_line.convert as convert
        def stop(*arguments, **settings):
            os.kill(os.getpid(), signal.SIGKILL if sys.argv.pop() == "kill" else signal.SIGINT)
        convert.write_safetensors = stop
        sys.exit(convert.main(sys.argv[1:-1]))
    """
    for how, status in (("kill", -signal.SIGKILL), ("stop", None)):
        words = [sys.executable, "-c", code, tiny_model, tmp_path / how, "--to", "huggingface", how]
        done = subprocess.run(list(map(str, words)), cwd=ROOT, capture_output=True, timeout=60)
        assert done.returncode == status if status else done.returncode != 0
        assert not (tmp_path / how).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["kill.tmp"]


def test_types_that_differ_and_names_that_are_no_text(tmp_path, capsys):
    folder = shutil.copytree(FOLDERS / "plain", tmp_path / os.fsdecode(b"from\xff"))
    tensors = dict(read_safetensors(folder / "model.safetensors"))
    tensors["transformer.wte.weight"] = tensors["transformer.wte.weight"].astype(np.float16)
    write_safetensors(folder / "model.safetensors", tensors)
    for kind in ("huggingface", "openai"):
        made = tmp_path / os.fsdecode(kind.encode() + b"\xff")
        assert convert.main([str(folder), str(made), "--to", kind]) == 0
        assert "# " + kind in (made / "README.md").read_text("utf-8")
    config = json.loads((tmp_path / os.fsdecode(b"huggingface\xff") / "config.json").read_text())
    assert config["dtype"] == "float32"  # as float16, transformers would round the rest


def test_it_is_run_as_a_module(tiny_model, tmp_path):
    words = [sys.executable, "-m", "files.convert", tiny_model, tmp_path / "m", "--to", "openai"]
    done = subprocess.run(
        list(map(str, words)), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout == "" and (tmp_path / "m" / "hparams.json").exists()
    done = subprocess.run(
        [*words[:3], "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "--to {huggingface,openai}" in done.stdout
