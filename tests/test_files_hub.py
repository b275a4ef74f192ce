"""files/hub.py: a model on the Hub is fetched by name, whole and of one commit, or refused in one
line, and nobody but the Hub sees the token."""

import hashlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests

import utils
from file_server import TOO_LATE, cut, send, serve, stall_after, status, wait_until
from files import download as fetching
from files import hub
from files.hub import DEFAULT_REVISION, NOTE, HubError, Note, parse_name
from gpt2_numpy import gpt2
from helpers import make_model
from hub_server import (
    COMMITS,
    REPOSITORY,
    git_hash,
    model_of_transformers,
    sharded_model,
    small_model,
)
from programs import ROOT, run_generate
from utils import ModelError, find_folder

FIXTURES = Path(__file__).parent / "fixtures"
OWNER, NAME = REPOSITORY.split("/")
FETCHED = ["config.json", "vocab.json", "merges.txt", "tokenizer_config.json", "model.safetensors"]
WEIGHTS = "model.safetensors"
TOKEN = "hf_AbCdEf0123"


def refusal(models_dir, model=REPOSITORY):
    """The line with which a model is refused."""
    with pytest.raises(ModelError) as caught:
        find_folder(model, models_dir)
    message = str(caught.value)
    assert message.isprintable()
    return message


def assert_whole(folder, files, names=FETCHED):
    """These files are there as served, and nothing else but the note."""
    for name in names:
        assert (folder / name).read_bytes() == files[name], name
    assert sorted(os.listdir(folder)) == sorted([*names, NOTE])


def assert_no_trace(models_dir):
    assert not list(models_dir.iterdir())


@pytest.mark.parametrize(
    ("model", "repository", "revision"),
    [
        ("openai-community/gpt2", "openai-community/gpt2", "main"),
        ("a/b", "a/b", "main"),
        ("A_1.x/B-2_y.z@v1.0-rc", "A_1.x/B-2_y.z", "v1.0-rc"),
        (f"a/b@{COMMITS[0]}", "a/b", COMMITS[0]),
    ],
)
def test_names_on_the_hub(model, repository, revision):
    assert parse_name(model) == Note(repository, revision, None)


@pytest.mark.parametrize(
    "model",
    ["gpt2", "", "/", "a/", "/b", "a/b/", "a/b/c", "./a/b", "../b", "a/..", ".a/b", "a/.b", "a/b.",
     "-a/b", "a/b-", "a--b/c", "a/b..c", "a\\b", "a/b c", "a/b@", "@a/b", "a@c/b", "a/b@c@d",
     "a/b@c//d", "a/b@/d", "a/b@d/",
     "a/b@../c", "a/b@.c", "a/é", "a/b\n", "a/b?x", "a/b%2e", "x" * 97 + "/b",
     "https://huggingface.co/a/b", "~/b", Path("a/b"), None],
)  # fmt: skip
def test_what_is_no_name_on_the_hub(model):
    assert parse_name(model) is None


def test_a_model_is_fetched_by_name_once_and_only_what_is_needed(a_hub, tmp_path, capfd):
    folder = find_folder(REPOSITORY, tmp_path)
    assert folder == tmp_path / OWNER / NAME
    assert_whole(folder, a_hub.commits[COMMITS[0]])
    note = {"repository": REPOSITORY, "revision": "main", "commit": COMMITS[0]}
    assert json.loads((folder / NOTE).read_text()) == note
    asked = [name for method, name in map(str.split, a_hub.asked) if method == "GET"]
    assert asked == FETCHED and len(a_hub.storage.requests) == 1
    assert {headers["Accept-Encoding"] for _, headers in a_hub.requests} == {"identity"}
    announced = f"downloading {REPOSITORY} from {a_hub.url} into {folder}: 0.1 MB of disk\n"
    assert capfd.readouterr().err.startswith(announced)

    a_hub.close()
    n_requests = len(a_hub.requests)
    assert find_folder(REPOSITORY, tmp_path) == folder == find_folder(str(folder))
    assert len(a_hub.requests) == n_requests and capfd.readouterr().err == ""


def test_a_revision_has_a_folder_of_its_own(a_hub, tmp_path):
    a_hub.commits[COMMITS[1]] = small_model(b" ")
    a_hub.revisions["v1.0"] = COMMITS[1]
    folder = find_folder(f"{REPOSITORY}@v1.0", tmp_path)
    assert folder == tmp_path / OWNER / f"{NAME}@v1.0"
    assert_whole(folder, a_hub.commits[COMMITS[1]])
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    by_commit = find_folder(f"{REPOSITORY}@{COMMITS[1]}", tmp_path)
    assert_whole(by_commit, a_hub.commits[COMMITS[1]])


def test_a_folder_of_that_path_comes_first(a_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = make_model(tmp_path / "models" / REPOSITORY)
    assert find_folder(REPOSITORY, "models").samefile(there)
    here = make_model(tmp_path / REPOSITORY)
    assert find_folder(REPOSITORY, "models").samefile(here)
    (tmp_path / OWNER / "odd").mkdir()
    (tmp_path / OWNER / "odd" / "notes.txt").write_text("no model")
    assert "odd is not a whole model folder" in refusal(tmp_path / "models", f"{OWNER}/odd")
    assert a_hub.requests == []


def test_of_two_folders_the_one_with_a_whole_model_is_taken(a_hub, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    there = find_folder(REPOSITORY, tmp_path / "models")
    (tmp_path / REPOSITORY).mkdir(parents=True)
    (tmp_path / REPOSITORY / "config.json").write_text("{}")
    assert find_folder(REPOSITORY, tmp_path / "models") == there
    assert "the other folder is" in capfd.readouterr().err


def test_a_path_with_a_mistake_in_it_says_that_there_is_no_folder(a_hub, tmp_path):
    make_model(tmp_path / "mine")
    assert refusal(tmp_path, "models/mien") == (
        f"there is no folder 'models/mien' here or in {tmp_path} (did you mean mine?), so the Hub "
        f"was asked: there is no model {a_hub.url}/models/mien, or it is private: then set "
        "HF_TOKEN to a token that may read it; --list shows what is here"
    )
    assert os.listdir(tmp_path) == ["mine"]
    for model in ("a/b/c", "./a/b", "a/", "mien"):
        assert "Hub was asked" not in refusal(tmp_path, model)
    assert a_hub.asked == ["HEAD config.json"]


def test_a_mistake_is_one_line_of_the_program(a_hub, tmp_path):
    environment = os.environ | {"HF_TOKEN": TOKEN, "HOME": str(tmp_path)}
    settings = dict(env=environment, cwd=tmp_path)
    code, out, err = run_generate("models/mine", "--models-dir", tmp_path, "Hello", **settings)
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert err.startswith("gpt2_numpy.py: there is no folder 'models/mine' here or in ")
    assert "no valid token" in err and TOKEN not in err


# The token


def all_bytes(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_only_the_hub_sees_the_token(a_hub, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("default login me password of-mine\n")
    a_hub.storage.faults = {hash_of(a_hub): [cut(3000), status(503)]}
    a_hub.faults["vocab.json"] = [status(503)]
    find_folder(REPOSITORY, tmp_path / "models")
    assert {headers["Authorization"] for _, headers in a_hub.requests} == {f"Bearer {TOKEN}"}
    assert len(a_hub.storage.requests) == 3
    for _, headers in a_hub.storage.requests:
        assert TOKEN not in str(headers) and headers["Authorization"] is None
    assert TOKEN not in "".join(capfd.readouterr())
    assert TOKEN.encode() not in all_bytes(tmp_path / "models")


def hash_of(a_hub):
    """What the weights are called where they are stored."""
    return hashlib.sha256(a_hub.commits[COMMITS[0]][WEIGHTS]).hexdigest()


def test_without_a_token_no_password_is_sent_either(a_hub, tmp_path, monkeypatch):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("default login me password of-mine\n")
    find_folder(REPOSITORY, tmp_path / "models")
    seen = a_hub.requests + a_hub.storage.requests
    assert {headers["Authorization"] for _, headers in seen} == {None}


def test_the_token_goes_along_within_the_hub_alone(a_hub, tmp_path, monkeypatch):
    """As for a repository that has another name now; and through another server and back."""

    def redirect(url):
        return lambda handler, body: send(handler, 307, Location=url)

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    there = f"/{REPOSITORY}/resolve/{COMMITS[0]}"
    a_hub.faults = {
        "HEAD config.json": [redirect(there + "/config.json")],
        "merges.txt": [redirect(a_hub.storage.url + "/free/merges.txt")],
        "vocab.json": [redirect(f"{there}/vocab.json")],
    }
    a_hub.storage.tickets.add("free")
    a_hub.storage.files["merges.txt"] = b""
    a_hub.storage.faults["merges.txt"] = [redirect(f"{a_hub.url}{there}/merges.txt")]
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    assert a_hub.asked.count("GET merges.txt") == 2 == a_hub.asked.count("HEAD config.json")
    assert {headers["Authorization"] for _, headers in a_hub.requests} == {f"Bearer {TOKEN}"}
    assert {headers["Authorization"] for _, headers in a_hub.storage.requests} == {None}


@pytest.mark.parametrize("url", ["https://127.0.0.1:{0}/x", "http://127.0.0.1/x", "http://h:{0}/x"])
def test_another_scheme_port_or_host_is_another_server(a_hub, monkeypatch, url):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    port = a_hub.http.server_port
    for asked, sent in ((url.format(port), None), (f"{a_hub.url}/x", f"Bearer {TOKEN}")):
        request = hub.authorise(requests.Request("GET", asked).prepare())
        assert request.headers.get("Authorization") == sent


@pytest.mark.parametrize("token", ["hf_a b", "hf_a\nX-Evil: b", "hf_é", "hf_\x00", "hf_\u20ac"])
def test_a_token_that_no_header_can_hold_is_not_quoted(a_hub, tmp_path, monkeypatch, token):
    monkeypatch.setattr(hub, "token", lambda: token)
    message = refusal(tmp_path)
    assert "HF_TOKEN has characters in it" in message and "hf_" not in message
    assert a_hub.requests == []


# What is refused


def refuse(code, error="", message="no"):
    return status(code, X_Error_Code=error, X_Error_Message=message)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refuse(401), "there is no model {page}, or it is private: then set HF_TOKEN to a token"),
        (refuse(404, "RepoNotFound"), "there is no model {page}, or it is private: then set HF_"),
        (refuse(401, "GatedRepo"), "{page} is gated: accept its terms there, and set HF_TOKEN to"),
        (refuse(403, "GatedRepo"), "{page} is gated: accept its terms there, and set HF_TOKEN to"),
        (refuse(404, "RevisionNotFound"), "{page} has no revision main; give a branch, tag or com"),
        (refuse(404, "EntryNotFound"), "{page} has no config.json, so it is no model; give a GPT-"),
        (refuse(404), "{page} has no config.json, so it is no model; give a GPT-2, such as "),
        (
            refuse(403, "", "Disabled."),
            "{page}: the server answered 403 Forbidden (Disabled.); set ",
        ),
        (refuse(451), "{page}: the server answered 451 Unavailable For Legal Reasons (no); run "),
        (refuse(503), "{page}/resolve/main/config.json: the server answered 503 Service Unavail"),
        (refuse(302), "{page}: the server answered 302 Found (no); run again later, or set HF_EN"),
        (refuse(401, "", "\x1b[2Jno"), "there is no model "),
        (refuse(403, "", "\x1b[2Jno"), "{page}: the server answered 403 Forbidden (\ufffd[2Jno); "),
    ],
)
def test_what_the_hub_refuses_is_one_line_that_says_why(a_hub, tmp_path, answer, expected):
    a_hub.faults["HEAD config.json"] = [answer] * 3
    message = refusal(tmp_path)
    assert f", so the Hub was asked: {expected.format(page=f'{a_hub.url}/{REPOSITORY}')}" in message
    assert_no_trace(tmp_path)


@pytest.mark.parametrize("answer", [refuse(401), refuse(404, "RepoNotFound")])
def test_with_a_token_a_refusal_may_be_because_of_it(a_hub, tmp_path, monkeypatch, answer):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    a_hub.faults["HEAD config.json"] = [answer]
    message = refusal(tmp_path)
    assert "or HF_TOKEN is of an account that may not read it, or is no valid token" in message
    assert TOKEN not in message


@pytest.mark.parametrize(
    "config",
    [b'{"model_type": "llama"}', b'{"model_type": "gpt2x"}', b'{"model_type": ["\\u001b[2J"]}',
     b"{}", b"[]", b"", b"\xff", b"[" * 9999],
)  # fmt: skip
def test_another_kind_of_model_is_refused_before_its_weights_are_asked_for(a_hub, tmp_path, config):
    a_hub.commits[COMMITS[0]]["config.json"] = config
    message = refusal(tmp_path)
    assert f"{COMMITS[0]}/config.json: " in message and "; give a GPT-2, such as " in message
    assert "llama" not in str(config) or 'model_type is "llama": only GPT-2 is' in message
    assert a_hub.asked == ["HEAD config.json", "GET config.json"]
    assert_no_trace(tmp_path)


def test_weights_that_would_have_to_be_unpickled_are_not_fetched(a_hub, tmp_path):
    del a_hub.commits[COMMITS[0]][WEIGHTS]
    message = refusal(tmp_path)
    assert f"/{REPOSITORY} has no model.safetensors: weights in other files, such as py" in message
    assert not [asked for asked in a_hub.asked if "pytorch_model" in asked]
    assert_no_trace(tmp_path)
    a_hub.commits[COMMITS[1]] = small_model(b" ")  # its owner has added them
    a_hub.revisions["main"] = COMMITS[1]
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[1]])


def test_a_vocabulary_is_one_file_or_two(a_hub, tmp_path):
    files = a_hub.commits[COMMITS[0]]
    del files["merges.txt"]
    message = refusal(tmp_path)
    assert "has no vocabulary, neither tokenizer.json nor vocab.json with merges.txt; " in message
    assert_no_trace(tmp_path)
    files["tokenizer.json"] = model_of_transformers("plain")["tokenizer.json"]
    files["added_tokens.json"] = b"{}"
    del files["tokenizer_config.json"]
    names = ["config.json", "tokenizer.json", "added_tokens.json", WEIGHTS]
    assert_whole(find_folder(REPOSITORY, tmp_path), files, names)
    assert hub.is_fetched(tmp_path / REPOSITORY)


def test_a_revision_may_have_slashes(a_hub, tmp_path):
    a_hub.revisions["refs/pr/7"] = COMMITS[0]
    folder = find_folder(f"{REPOSITORY}@refs/pr/7", tmp_path)
    assert folder == tmp_path / f"{REPOSITORY}@refs--pr--7"
    assert_whole(folder, a_hub.commits[COMMITS[0]])
    n_asked = len(a_hub.asked)
    assert find_folder(f"{REPOSITORY}@refs/pr/7", tmp_path) == folder
    assert len(a_hub.asked) == n_asked


def test_a_folder_of_ones_own_is_not_removed_nor_downloaded_into(a_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / REPOSITORY).mkdir(parents=True)
    with pytest.raises(ModelError, match="missing are"):
        find_folder(REPOSITORY, tmp_path / "models")
    monkeypatch.chdir("/")
    (tmp_path / "models" / REPOSITORY).mkdir(parents=True)
    a_hub.faults["HEAD config.json"] = [refuse(404, "EntryNotFound")] * 9
    with pytest.raises(ModelError, match=r"has no config\.json"):
        find_folder(f"{REPOSITORY}", tmp_path / "models")
    assert (tmp_path / "models" / REPOSITORY).is_dir() and (tmp_path / REPOSITORY).is_dir()


def test_a_model_too_large_for_this_computer_is_refused_before_its_weights(a_hub, tmp_path):
    a_hub.commits[COMMITS[0]]["config.json"] = b'{"model_type": "gpt2", "n_layer": 1000000}'
    assert "memory" in refusal(tmp_path)
    assert "GET model.safetensors" not in a_hub.asked


def test_a_tokenizer_that_cannot_be_read_is_refused_before_the_weights(a_hub, tmp_path):
    files = a_hub.commits[COMMITS[0]]
    tokenizer = json.loads(model_of_transformers("plain")["tokenizer.json"])
    files["tokenizer.json"] = json.dumps(tokenizer | {"normalizer": {"type": "NFC"}}).encode()
    for _ in range(2):
        assert "has a normalizer, {'type': 'NFC'}" in refusal(tmp_path)
        assert "GET model.safetensors" not in a_hub.asked


@pytest.mark.parametrize("name", ["plain", "sharded", "old"])
def test_a_model_is_loaded_by_its_name_and_computes_what_transformers_does(a_hub, tmp_path, name):
    a_hub.commits[COMMITS[0]] = model_of_transformers(name)
    _, hparams, params = utils.load_encoder_hparams_and_params(REPOSITORY, tmp_path)
    answers = np.load(FIXTURES / "huggingface" / "answers.npz")
    logits = gpt2(answers[f"{name}/ids"], **params, n_head=hparams["n_head"])
    assert np.allclose(logits, answers[f"{name}/logits"], atol=1e-4)


@pytest.mark.parametrize("name", ["config.json", "vocab.json"])
def test_a_small_file_is_small(a_hub, tmp_path, monkeypatch, name):
    monkeypatch.setattr(hub, "SMALL_FILE", 1000)
    a_hub.commits[COMMITS[0]][name] += b" " * 1000
    assert f"/{name}: is 0.0 MB long, far more than this file has; run" in refusal(tmp_path)
    assert f"GET {name}" not in a_hub.asked


# The weights in several files


def test_weights_in_several_files(a_hub, tmp_path):
    files = a_hub.commits[COMMITS[0]] = sharded_model()
    names = [name for name in files if name not in ("README.md", "pytorch_model.bin")]
    folder = find_folder(REPOSITORY, tmp_path)
    assert_whole(folder, files, names)
    assert hub.is_model(folder)
    (folder / names[-1]).unlink()
    assert hub.is_model(folder) and hub.is_unfinished(folder)
    assert_whole(find_folder(REPOSITORY, tmp_path), files, names)


@pytest.mark.parametrize(
    "name",
    ["../../x.safetensors", "/x.safetensors", "a/x.safetensors", "a\\x.safetensors", "",
     "..safetensors", "a..b.safetensors", ".safetensors", ".x.safetensors", "x.safetensors\n",
     "C:x.safetensors", "pytorch_model-00001-of-00002.bin", "x.safetensors.bin",
     "x" * 200 + ".safetensors"],
)  # fmt: skip
def test_an_index_names_plain_files_alone(a_hub, tmp_path, name):
    a_hub.commits[COMMITS[0]] = sharded_model(["good.safetensors", name])
    message = refusal(tmp_path)
    assert f"names {name!r:.80}, which is no plain name of a .safetensors file; give a" in message
    assert_no_trace(tmp_path)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (b"<html>", "is not JSON (it looks like an HTML page)"),
        (b"[]", "is not a JSON object"),
        (b"{}", "has no weight_map that says where each tensor is"),
        (b'{"weight_map": {}}', "has no weight_map that says where each tensor is"),
        (b'{"weight_map": ["a.safetensors"]}', "has no weight_map that says where each tensor is"),
        (b'{"weight_map": {"a": 7}}', "names 7, which is no plain name"),
    ],
)
def test_what_is_no_index(a_hub, tmp_path, index, reason):
    a_hub.commits[COMMITS[0]] = sharded_model() | {"model.safetensors.index.json": index}
    assert f"/model.safetensors.index.json: {reason}" in refusal(tmp_path)
    assert_no_trace(tmp_path)


def test_an_index_of_ten_thousand_files_is_refused(a_hub, tmp_path):
    weight_map = {str(i): f"model-{i:05}-of-10000.safetensors" for i in range(10_000)}
    index = json.dumps({"weight_map": weight_map}).encode()
    a_hub.commits[COMMITS[0]] = sharded_model() | {"model.safetensors.index.json": index}
    assert "index.json: names 10000 files, more than 1000; " in refusal(tmp_path)
    assert len(a_hub.asked) == 5
    assert_no_trace(tmp_path)


def test_a_file_of_weights_that_is_not_there(a_hub, tmp_path):
    files = a_hub.commits[COMMITS[0]] = sharded_model()
    del files["model-00002-of-00002.safetensors"]
    assert "has no model-00002-of-00002.safetensors, which its model.saf" in refusal(tmp_path)
    assert_no_trace(tmp_path)


# One commit


def test_a_branch_that_moves_in_the_middle_changes_nothing(a_hub, tmp_path):
    a_hub.commits[COMMITS[1]] = small_model(b" ")

    def move(handler, body):
        a_hub.revisions["main"] = COMMITS[1]
        a_hub.serve_file(handler, COMMITS[0], "config.json")

    a_hub.faults["HEAD config.json"] = [move]
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    assert json.loads((tmp_path / REPOSITORY / NOTE).read_text())["commit"] == COMMITS[0]


def interrupt_weights(a_hub, models_dir):
    """Let a download come to a part of the weights, and no further; the folder."""
    a_hub.storage.faults = {hash_of(a_hub): [cut(5000)] + [cut(0)] * 2}
    assert "the connection broke off after 5000 of 102400 bytes; run again later" in refusal(
        models_dir
    )
    return models_dir / REPOSITORY


def test_a_part_goes_on_with_the_commit_that_it_is_of(a_hub, tmp_path):
    folder = interrupt_weights(a_hub, tmp_path)
    a_hub.commits[COMMITS[1]] = small_model(b" ")
    a_hub.revisions = {"main": COMMITS[1]}
    for path in (REPOSITORY, str(folder)):  # by its name or its path
        (folder / "vocab.json").unlink()
        assert_whole(find_folder(path, tmp_path), a_hub.commits[COMMITS[0]])
    assert a_hub.storage.starts(hash_of(a_hub)) == [0, 5000, 5000, 5000]


def test_a_commit_that_is_gone_says_what_to_do(a_hub, tmp_path):
    folder = interrupt_weights(a_hub, tmp_path)
    a_hub.commits = {COMMITS[1]: small_model(b" ")}
    a_hub.revisions = {"main": COMMITS[1]}
    message = refusal(tmp_path)
    assert message == (
        f"{a_hub.url}/{REPOSITORY} no longer has the commit {COMMITS[0]}, of which {folder} has a "
        "part; remove this folder to fetch the model as it is now"
    )
    shutil.rmtree(folder)
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[1]])


@pytest.mark.parametrize("names", [["download.lock"], ["download.lock", f"{NOTE}.tmp"], [NOTE]])
def test_a_folder_in_which_nothing_has_come_is_bound_to_no_commit(a_hub, tmp_path, names):
    """As kill -9 may leave it."""
    folder = tmp_path / REPOSITORY
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(json.dumps(Note(REPOSITORY, "main", "c" * 40)._asdict()))
    a_hub.faults["HEAD config.json"] = [refuse(401)]
    refusal(tmp_path)
    assert_no_trace(tmp_path)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(json.dumps(Note(REPOSITORY, "main", "c" * 40)._asdict()))
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    assert json.loads((folder / NOTE).read_text())["commit"] == COMMITS[0]


@pytest.mark.parametrize(
    "note",
    [b"", b"[]", b"{}", b"\xff", b'{"repository": "../x", "revision": "main", "commit": "%s"}',
     b'{"repository": "a/b", "revision": "../x", "commit": "%s"}',
     b'{"repository": "a/b", "revision": "main", "commit": "main"}',
     b'{"repository": "a/b", "revision": "main", "commit": 7}'],
)  # fmt: skip
def test_a_note_that_says_nothing_is_refused(a_hub, tmp_path, note):
    folder = interrupt_weights(a_hub, tmp_path)
    (folder / NOTE).write_bytes(note.replace(b"%s", COMMITS[0].encode()))
    n_asked = len(a_hub.asked)
    for model in (REPOSITORY, folder):
        message = refusal(tmp_path, model)
        assert message.startswith(f"{folder / NOTE}: ") and f"; remove {folder} to " in message
    assert len(a_hub.asked) == n_asked and (folder / "model.safetensors.part").exists()


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"X_Repo_Commit": "main"}, "the server does not say which commit it is of"),
        ({"X_Repo_Commit": COMMITS[1]}, f"the server answers with another commit, {COMMITS[1]}"),
        ({"X_Linked_ETag": '"1"'}, "the server does not say what it hashes to"),
        ({"X_Linked_ETag": ""}, "the server does not say what it hashes to"),
    ],
)
def test_what_cannot_be_checked_is_not_fetched(a_hub, tmp_path, headers, reason):
    def serve_otherwise(handler, body):
        a_hub.serve_file(handler, COMMITS[0], WEIGHTS, **headers)

    a_hub.faults[f"HEAD {WEIGHTS}"] = [serve_otherwise]
    assert f"{COMMITS[0]}/{WEIGHTS}: {reason}" in refusal(tmp_path)
    assert a_hub.storage.requests == []


def test_the_hash_of_a_redirection_is_not_that_of_the_file(a_hub, tmp_path):
    def redirect(handler, body):
        headers = {"X_Repo_Commit": COMMITS[0], "ETag": f'"{git_hash(b"Found")}"'}
        send(handler, 302, b"Found", Location=f"{a_hub.storage.url}/1/2", **headers)

    a_hub.faults[f"HEAD {WEIGHTS}"] = [redirect]
    assert f"{WEIGHTS}: the server does not say what it hashes to" in refusal(tmp_path)


def test_a_server_that_is_no_hub_is_refused(a_hub, tmp_path):
    a_hub.faults["HEAD config.json"] = [lambda handler, body: serve(handler, b'{"a": 1}')]
    assert "config.json: the server does not say which commit it is of, as" in refusal(tmp_path)
    assert_no_trace(tmp_path)


# Whole and checked


@pytest.mark.parametrize("name", FETCHED)
def test_a_file_that_is_not_what_it_hashes_to_does_not_get_its_name(a_hub, tmp_path, name):
    body = a_hub.commits[COMMITS[0]][name]
    damaged = bytes([body[0] ^ 1]) + body[1:]
    if name == WEIGHTS:
        a_hub.storage.faults = {hash_of(a_hub): [lambda handler, body: serve(handler, damaged)]}
    else:
        a_hub.faults[name] = [lambda handler, body: serve(handler, damaged)]
    kind = "SHA-256" if name == WEIGHTS else "Git's SHA-1"
    assert f"{COMMITS[0]}/{name}: {kind} of what came is " in refusal(tmp_path)
    assert not (tmp_path / REPOSITORY / name).exists()
    assert not (tmp_path / REPOSITORY / f"{name}.part").exists()
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])


@pytest.mark.parametrize("form", ['"{}"', 'W/"{}"', "{}"])
def test_the_hash_is_there_in_whatever_form(a_hub, tmp_path, form):
    def serve_form(handler, body):
        etag = form.format(git_hash(a_hub.commits[COMMITS[0]]["config.json"]))
        a_hub.serve_file(handler, COMMITS[0], "config.json", ETag=etag)

    a_hub.faults["HEAD config.json"] = [serve_form]
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])


def test_weights_of_another_size_are_refused_before_they_are_fetched(a_hub, tmp_path):
    def lie(handler, body):
        a_hub.serve_file(handler, COMMITS[0], WEIGHTS, X_Linked_Size=99)

    a_hub.faults[f"HEAD {WEIGHTS}"] = [lie]
    assert "is 102400 bytes long instead of 99" in refusal(tmp_path)
    assert not list((tmp_path / REPOSITORY).glob(f"{WEIGHTS}*"))


def test_too_little_room_is_said_before_the_weights_are_fetched(a_hub, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=fetching.SMALL_FILE + 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = refusal(tmp_path)
    assert "not enough disk space" in message and "--models-dir" in message
    assert a_hub.storage.requests == []


def test_a_folder_that_cannot_be_written_to(a_hub, tmp_path):
    (tmp_path / OWNER).write_text("a file")
    message = refusal(tmp_path)
    assert "cannot write to" in message and "--models-dir" in message and a_hub.requests == []


def test_a_cut_download_goes_on_by_a_link_that_is_asked_for_again(a_hub, tmp_path):
    """A link is good for one request here: the second would be refused by the one of before."""
    a_hub.storage.faults = {hash_of(a_hub): [cut(5000), cut(4000)]}
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    assert a_hub.storage.starts(hash_of(a_hub)) == [0, 5000, 9000]
    assert a_hub.asked.count(f"GET {WEIGHTS}") == 3


def test_a_link_that_expired_on_the_way_is_asked_for_again(a_hub, tmp_path, capfd):
    def serve_late(handler, body):
        a_hub.serve_file(handler, COMMITS[0], WEIGHTS)
        a_hub.storage.tickets.clear()

    a_hub.faults[WEIGHTS] = [serve_late]
    a_hub.storage.faults = {hash_of(a_hub): [status(403)]}
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    assert "answered 403 Forbidden; the link to it may have expired" in capfd.readouterr().err


def test_a_refusal_of_the_hub_itself_after_its_own_redirection_is_final(a_hub, tmp_path):
    """It is no link that has expired: nothing would come of asking again."""

    def move(handler, body):
        send(handler, 307, Location=handler.path.replace(NAME, f"{NAME}-moved"))

    a_hub.faults["config.json"] = [move]
    refusal(tmp_path)
    assert a_hub.asked.count("GET config.json") == 2  # and where it leads


def test_storage_without_ranges_starts_over(a_hub, tmp_path, capfd):
    def serve_all(handler, body):
        send(handler, 200, body, ETag='"1"')

    a_hub.storage.faults = {hash_of(a_hub): [cut(5000), serve_all]}
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    assert "the server starts over from the beginning" in capfd.readouterr().err


@pytest.mark.parametrize("key", ["HEAD config.json", "config.json", WEIGHTS, f"HEAD {WEIGHTS}"])
def test_a_circle_of_redirections_ends(a_hub, tmp_path, key):
    def turn(handler, body):
        send(handler, 302, Location=handler.path)

    a_hub.faults[key] = [turn] * 99
    assert f"{key.split()[-1]}: more than 5 redirects in a row; run again" in refusal(tmp_path)
    assert len(a_hub.faults[key]) == 99 - 6


def test_a_fault_that_passes_is_waited_for(a_hub, tmp_path, capfd):
    names = [f"{method}{name}" for method in ("HEAD ", "") for name in FETCHED]
    a_hub.faults = {name: [status(503), status(429, Retry_After=1)] for name in names}
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    assert capfd.readouterr().err.count("trying again") == 2 * len(names)


def test_no_connection_is_one_line_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited"))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}/")
        message = refusal(tmp_path, "models/mine")
    assert "there is no folder 'models/mine' here" in message and "refused" in message
    assert "; run again later, or set HF_ENDPOINT to another mirror, or unset it; " in message
    assert_no_trace(tmp_path)


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://[1"]
)
@pytest.mark.parametrize("token", ["", TOKEN])
def test_an_endpoint_that_is_none(tmp_path, monkeypatch, url, token):
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_TOKEN", token)
    message = refusal(tmp_path)
    assert "HF_ENDPOINT" in message and TOKEN not in message


def test_without_an_endpoint_it_is_hugging_faces(monkeypatch):
    for value in ("", None):
        monkeypatch.setenv("HF_ENDPOINT", "") if value == "" else monkeypatch.delenv("HF_ENDPOINT")
        assert hub.page_of(Note("a/b", DEFAULT_REVISION)) == "https://huggingface.co/a/b"
        assert hub.ask_again() == "run again later, or set HF_ENDPOINT to a mirror"


# Interrupted


PROGRAM = """
import sys, utils
from files import download
download.CHUNK, download.LOCK_WAIT = 1000, 0.01
utils.find_folder(sys.argv[1], sys.argv[2])
"""


def start_download(models_dir):
    command = [sys.executable, "-c", PROGRAM, REPOSITORY, str(models_dir)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_killed_half_way_and_run_again_after_the_branch_has_moved(a_hub, tmp_path):
    a_hub.storage.faults = {hash_of(a_hub): [stall_after(60_000)]}
    folder = tmp_path / REPOSITORY
    part = folder / f"{WEIGHTS}.part"
    process = start_download(tmp_path)
    wait_until(lambda: part.exists() and part.stat().st_size >= 50_000)
    process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    process.communicate(timeout=TOO_LATE)
    kept = part.stat().st_size
    a_hub.commits[COMMITS[1]] = small_model(b" ")
    a_hub.revisions["main"] = COMMITS[1]
    n_asked = len(a_hub.asked)
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    assert a_hub.storage.starts(hash_of(a_hub)) == [0, kept]
    assert [asked for asked in a_hub.asked[n_asked:] if "GET" in asked] == [f"GET {WEIGHTS}"]


def test_of_two_processes_one_downloads_and_the_other_waits(a_hub, tmp_path):
    a_hub.storage.faults = {hash_of(a_hub): [stall_after(60_000)]}
    part = tmp_path / REPOSITORY / f"{WEIGHTS}.part"
    first = start_download(tmp_path)
    wait_until(lambda: part.exists() and part.stat().st_size >= 50_000)
    second = start_download(tmp_path)
    assert "another process is downloading" in second.stderr.readline()
    first.kill()
    first.communicate(timeout=TOO_LATE)
    second.communicate(timeout=TOO_LATE)
    assert second.returncode == 0
    assert_whole(tmp_path / REPOSITORY, a_hub.commits[COMMITS[0]])
    assert a_hub.asked.count("GET config.json") == 1


def test_many_at_once_fetch_every_file_once(a_hub, tmp_path):
    threads = [threading.Thread(target=find_folder, args=(REPOSITORY, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TOO_LATE)
    assert_whole(tmp_path / REPOSITORY, a_hub.commits[COMMITS[0]])
    assert [asked for asked in a_hub.asked if "GET" in asked] == [f"GET {name}" for name in FETCHED]
    assert a_hub.asked.count("HEAD config.json") == 1


KEYS = [f"{method}{name}" for method in ("HEAD ", "") for name in FETCHED]


@pytest.mark.parametrize("key", KEYS)
def test_control_c_at_any_request_passes_on_and_the_next_call_goes_on(
    a_hub, tmp_path, monkeypatch, key
):
    def interrupt(seconds):
        raise KeyboardInterrupt

    a_hub.faults[key] = [status(503)]
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            find_folder(REPOSITORY, tmp_path)
    assert (tmp_path / OWNER).exists() == (key not in ("HEAD config.json", "config.json"))
    assert_whole(find_folder(REPOSITORY, tmp_path), a_hub.commits[COMMITS[0]])
    assert a_hub.asked.count(key if " " in key else f"GET {key}") <= 2 + (key == KEYS[0])


def test_nothing_is_whole_before_its_weights_are(a_hub, tmp_path, monkeypatch):
    """Stopped before any of the renamings, a folder is unfinished, and then finished."""
    a_hub.commits[COMMITS[0]] = sharded_model()
    replace = os.replace
    for n in itertools.count():
        left = n

        def stop(source, target):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stop)
            try:
                find_folder(REPOSITORY, tmp_path / str(n))
                break
            except KeyboardInterrupt:
                folder = tmp_path / str(n) / REPOSITORY
                assert not hub.is_fetched(folder)
        assert hub.is_fetched(find_folder(REPOSITORY, tmp_path / str(n)))
    assert n == 8


def test_a_download_raises_its_own_error(tmp_path):
    with pytest.raises(HubError, match="run again later"):
        hub.fetch_model(tmp_path / "a" / "b", parse_name("a/b"), lambda hparams: None)
    assert issubclass(HubError, fetching.DownloadError) and utils.find_folder("tales")


def test_a_folder_that_nobody_may_look_into_is_no_model(tmp_path, monkeypatch):
    def refuse_to_look(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refuse_to_look)
    assert not hub.is_model(tmp_path)
