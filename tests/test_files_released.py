"""files/released.py: what is fetched is one of OpenAI's models, and a failure says what to do."""

import errno
import os
import re
import shutil
from pathlib import Path

import pytest

from encoder import get_encoder
from file_server import assert_complete, refusal
from files import download as fetching
from files import openai_folder, released
from files.download import DiskError, DownloadError
from files.hub import parse_name
from files.openai_folder import DATA, FILES, INDEX, FolderError
from files.released import (
    check_openai_vocabulary,
    explain_failure,
    fetch_released,
    is_released,
    released_hparams,
)
from helpers import HPARAMS, make_model, make_tensors, vocabulary_digests
from utils import download, load_encoder_hparams_and_params, shapes


def test_a_released_model_has_a_name_and_hparams():
    assert is_released("124M") and released_hparams("124M") == {
        "n_vocab": 50257,
        "n_ctx": 1024,
        "n_embd": 768,
        "n_head": 12,
        "n_layer": 12,
    }
    assert released_hparams("345M") == released_hparams("355M")
    for model in ("tales", "./124M", "124m", "", Path("124M"), None):
        assert not is_released(model)


def test_sizes_are_the_callers_and_a_failure_says_where_the_files_are(
    server, files, tmp_path, monkeypatch, capfd
):
    sizes = len(files[DATA]), 3 * 10**9
    url = f"{server.url}/models/124M"
    server.files["vocab.bpe"] = b"no merges"
    with pytest.raises(DownloadError) as caught:
        fetch_released("124M", tmp_path, shapes(HPARAMS), *sizes)
    assert str(caught.value) == (
        f"{url}/vocab.bpe: is not OpenAI's vocab.bpe: its SHA-256 is another; run again later, or "
        "set GPT2_BASE_URL to another mirror, or unset it to ask OpenAI's server, or give --model "
        "openai-community/gpt2, which are the same weights on Hugging Face's Hub, or put "
        f"{', '.join(FILES)} from {url}/ into {tmp_path} yourself"
    )
    server.files["vocab.bpe"] = files["vocab.bpe"]
    fetch_released("124M", tmp_path, shapes(HPARAMS), *sizes)
    assert_complete(tmp_path, files)
    announced = (
        f"downloading 124M from {url} into {tmp_path}: 0.1 MB of disk, and 3.0 GB of memory to "
        "run it\n"
    )
    assert capfd.readouterr().err.count(announced) == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DiskError("no room"), "no room; make room or give another place "),
        (DownloadError("no file"), "no file; run again later, or set GPT2_BASE_URL to a mirror, "),
        (OSError(errno.ENOSPC, "full"), "cannot write to here: full; make room or give another "),
        (OSError("odd"), "cannot write to here: odd; make room or give another place "),
        (OSError(errno.EACCES, "denied"), "cannot write to here: denied; give another place "),
        (OSError(errno.ENOMEM, "memory", "a"), "a: memory; close other programs or take a smaller"),
        (OSError(errno.EMFILE, "too many", "a"), "a: too many; try again"),
        (OSError(errno.EIO, "I/O", "a"), "a: I/O; try again"),
    ],
)
def test_a_failure_says_what_to_do(monkeypatch, error, line):
    monkeypatch.delenv("GPT2_BASE_URL", raising=False)
    assert explain_failure(error, "124M", "http://there", "here").startswith(line)


@pytest.mark.parametrize(
    ("model", "name"),
    [("124M", ""), ("355M", "-medium"), ("774M", "-large"), ("1558M", "-xl"), ("117M", "")],
)
def test_where_openais_server_is_gone_the_same_weights_are_elsewhere(model, name):
    line = explain_failure(DownloadError("gone"), model, "http://there", "here")
    assert f", or give --model openai-community/gpt2{name}, which are the same weights on" in line
    assert parse_name(released.ON_THE_HUB[model])
    assert released.RELEASED.keys() == released.ON_THE_HUB.keys()


def test_the_pinned_vocabulary_is_openais(shared, tmp_path):
    check_openai_vocabulary(shared("gpt2-vocab"))


def test_no_more_is_read_of_a_vocabulary_than_it_can_have(tmp_path, files, monkeypatch):
    for name in ("encoder.json", "vocab.bpe"):
        (tmp_path / name).write_bytes(files[name])
    monkeypatch.setattr(released, "VOCABULARY", vocabulary_digests(files))
    check_openai_vocabulary(tmp_path)
    monkeypatch.setattr(openai_folder, "SMALL_FILE", len(files["encoder.json"]) - 1)
    with pytest.raises(FolderError, match=r"encoder\.json is larger than"):
        check_openai_vocabulary(tmp_path)


def test_two_merges_that_have_changed_places_are_noticed(shared, tmp_path):
    merges = (shared("gpt2-vocab") / "vocab.bpe").read_bytes().split(b"\n")
    merges[1000], merges[1001] = merges[1001], merges[1000]
    (tmp_path / "vocab.bpe").write_bytes(b"\n".join(merges))
    (tmp_path / "encoder.json").write_bytes((shared("gpt2-vocab") / "encoder.json").read_bytes())
    assert get_encoder(tmp_path).n_vocab == 50257  # by itself there is nothing wrong with it
    with pytest.raises(FolderError) as caught:
        check_openai_vocabulary(tmp_path)
    path = tmp_path / "vocab.bpe"
    assert str(caught.value) == f"{path} is not OpenAI's vocab.bpe: its SHA-256 is another"


def test_a_large_download_is_not_compared_with_its_checksums_again(
    server, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(openai_folder, "QUICKLY_VERIFIED", 0)
    load_encoder_hparams_and_params("124M", tmp_path)
    assert capfd.readouterr().err.count("checksum") == 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"<html></html>", b"\xff" * 99, b"{}", b"[" * 9999])
def test_anything_else_instead_of_a_file(server, files, tmp_path, name, content):
    server.files[name] = content
    message = refusal(tmp_path)
    assert f"/124M/{name}: " in message
    assert not (tmp_path / "124M" / name).exists()
    assert name == DATA or not fetching.part_of(tmp_path / "124M" / name).exists()
    server.files[name] = files[name]
    assert_complete(download("124M", tmp_path), files)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("hparams.json", b'"n_layer": 2', b'"n_layer": 3'),
        ("encoder.json", b'"hell": 258, ', b""),
        ("encoder.json", b'"he": 256, "hel": 257', b'"he": 257, "hel": 256'),
        ("vocab.bpe", b"he l\n", b""),
        ("vocab.bpe", b"he l\nhel l\n", b"hel l\nhe l\n"),
        ("checkpoint", b"model.ckpt", b"model"),
    ],
)
def test_a_file_of_another_model(server, files, tmp_path, name, before, after):
    server.files[name] = files[name].replace(before, after)
    assert f"/124M/{name}: " in refusal(tmp_path)
    assert not (tmp_path / "124M" / name).exists()


@pytest.mark.parametrize("at", [0, 30_000, -1])
def test_wrong_bytes_in_the_weights_are_found_and_the_tensor_named(server, files, tmp_path, at):
    damaged = bytearray(files[DATA])
    damaged[at] ^= 1
    server.files[DATA] = bytes(damaged)
    message = refusal(tmp_path)
    assert re.search("'model/[a-z0-9_/]+' do not match their checksum", message)
    assert not (tmp_path / "124M" / DATA).exists()
    assert not fetching.part_of(tmp_path / "124M" / DATA).exists()
    server.files[DATA] = files[DATA]
    assert_complete(download("124M", tmp_path), files)


def test_an_index_that_does_not_belong_to_the_weights_is_fetched_again(server, files, tmp_path):
    other = make_tensors()
    other["model/ln_f/g"] = other["model/ln_f/g"] + 1
    folder = make_model(tmp_path / "other", other)
    server.files[INDEX] = (folder / INDEX).read_bytes()
    assert "'model/ln_f/g' do not match" in refusal(tmp_path)
    server.files[INDEX] = files[INDEX]
    assert_complete(download("124M", tmp_path), files)


def test_of_the_vocabulary_only_the_file_that_is_wrong_is_fetched_again(server, files, tmp_path):
    server.files["vocab.bpe"] = files["vocab.bpe"].replace(b"he l\nhel l", b"hel l\nhe l")
    assert "/124M/vocab.bpe: is not OpenAI's vocab.bpe" in refusal(tmp_path)
    server.files["vocab.bpe"] = files["vocab.bpe"]
    assert_complete(download("124M", tmp_path), files)
    assert len(server.ranges("encoder.json")) == 1 and len(server.ranges("vocab.bpe")) == 2


def test_an_index_of_two_shards_is_refused_before_the_weights_are_fetched(server, tmp_path):
    index = Path(__file__).parent / "fixtures" / "two_shards.ckpt.index"
    server.files[INDEX] = index.read_bytes()
    assert "2 shards" in refusal(tmp_path)
    assert server.ranges(DATA) == []


def test_an_index_with_other_tensors_is_refused(server, tmp_path):
    tensors = make_tensors()
    tensors["model/h2/ln_1/b"] = tensors.pop("model/h1/ln_1/b")
    folder = make_model(tmp_path / "other", tensors)
    server.files |= {name: (folder / name).read_bytes() for name in (INDEX, DATA)}
    assert "no tensor model/h1/ln_1/b" in refusal(tmp_path)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "http://[::1"]
)
def test_a_nonsensical_mirror_is_one_line(server, tmp_path, monkeypatch, url):
    monkeypatch.setattr(released, "BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GPT2_BASE_URL", url)
    assert "GPT2_BASE_URL" in refusal(tmp_path)


def test_too_little_disk_space_is_refused_before_anything_is_fetched(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=16 * 2**20 + 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = refusal(tmp_path)
    assert "not enough disk space" in message and "--models-dir" in message
    assert server.requests == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="may write anywhere")
def test_a_folder_without_permission_is_one_line(server, tmp_path):
    (tmp_path / "124M").mkdir(mode=0o500)
    assert "Permission denied" in refusal(tmp_path)


def test_a_file_in_place_of_the_folder_is_one_line(server, tmp_path):
    (tmp_path / "124M").write_text("")
    assert "cannot write to" in refusal(tmp_path) and server.requests == []
