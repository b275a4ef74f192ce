"""Fixtures that several test files share."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

# A name that is no folder is asked for on Hugging Face's Hub: nothing listens on this port.
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:1"
os.environ["NO_PROXY"] = "*"
os.environ.pop("HF_TOKEN", None)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared():
    """shared(name) is a file or folder of the material beside the checkout; without it, a skip."""

    def find(name):
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs ../shared/{name}, which is not part of the repository")
        return path

    return find


@pytest.fixture(scope="session")
def random_params():
    """random_params(**hparams) are parameters large enough that every part of the model matters."""

    def make(n_vocab=61, n_ctx=20, n_embd=24, n_head=3, n_layer=2, seed=0, dtype=np.float32):
        rng = np.random.default_rng(seed)

        def normal(*shape):
            return (0.4 * rng.standard_normal(shape)).astype(dtype)

        def norm():
            return {"g": 1 + normal(n_embd), "b": normal(n_embd)}

        def linear(n_in, n_out):
            return {"w": normal(n_in, n_out), "b": normal(n_out)}

        return {
            "wte": normal(n_vocab, n_embd),
            "wpe": normal(n_ctx, n_embd),
            "blocks": [
                {
                    "ln_1": norm(),
                    "attn": {
                        "c_attn": linear(n_embd, 3 * n_embd),
                        "c_proj": linear(n_embd, n_embd),
                    },
                    "ln_2": norm(),
                    "mlp": {
                        "c_fc": linear(n_embd, 4 * n_embd),
                        "c_proj": linear(4 * n_embd, n_embd),
                    },
                }
                for _ in range(n_layer)
            ],
            "ln_f": norm(),
        }

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, random_params):
    """A model folder of a few kB: the 256 bytes, three merges, <|endoftext|>, random weights."""
    from encoder import bytes_to_unicode
    from files.tf_checkpoint import write_checkpoint
    from files.tf_names import name_tensors

    folder = tmp_path_factory.mktemp("tiny-model")
    merges = [("h", "e"), ("Ġ", "t"), ("Ġt", "he")]
    tokens = [*bytes_to_unicode().values(), *("".join(pair) for pair in merges), "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "encoder.json").write_text(json.dumps(vocabulary), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "vocab.bpe").write_text("\n".join(lines) + "\n", "utf-8")
    hparams = {"n_vocab": len(tokens), "n_ctx": 64, "n_embd": 24, "n_head": 3, "n_layer": 2}
    (folder / "hparams.json").write_text(json.dumps(hparams))
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    write_checkpoint(folder / "model.ckpt", name_tensors(random_params(**hparams)))
    return folder


WORDS = "the king and queen of a far land went to see their son who had a golden bird in it".split()


@pytest.fixture(scope="session")
def story(tmp_path_factory):
    """A text of a few thousand words."""
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, 12)) + "." for _ in range(300)]
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.fixture(scope="session")
def trained(story, tmp_path_factory):
    """The folder of a whole small run of train.py; only to be read."""
    from programs import make_options, run_train

    folder = tmp_path_factory.mktemp("trained") / "model"
    assert run_train(story, "--out", folder, *make_options()) == 0
    return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """{name: bytes} of a small model's six files."""
    from files.openai_folder import FILES
    from helpers import make_model

    folder = make_model(tmp_path_factory.mktemp("served"))
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def hurried(monkeypatch):
    """A download that is in a hurry."""
    from files import download as fetching

    monkeypatch.setattr(fetching, "CHUNK", 1000)
    monkeypatch.setattr(fetching, "READ_TIMEOUT", 0.2)
    monkeypatch.setattr(fetching, "ATTEMPTS", 3)
    monkeypatch.setattr(fetching, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(fetching, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(fetching, "LOCK_WAIT", 0.01)


@pytest.fixture
def server(files, monkeypatch, hurried):
    """A server of this model under the name of 124M, and a download that is in a hurry."""
    from file_server import Server
    from files import released
    from helpers import HPARAMS, vocabulary_digests

    server = Server(dict(files))
    monkeypatch.setenv("GPT2_BASE_URL", f"{server.url}/models/")
    monkeypatch.setattr(released, "RELEASED", {"124M": tuple(HPARAMS.values())})
    monkeypatch.setattr(released, "VOCABULARY", vocabulary_digests(files))
    yield server
    server.close()


@pytest.fixture
def a_hub(monkeypatch, hurried):
    """Hugging Face's Hub, with a small repository, and a download that is in a hurry."""
    from hub_server import Hub

    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    yield hub
    hub.close()
