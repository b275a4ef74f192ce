"""The bundled model is what its card says, and it is what speaks when nobody asks for another."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train
import utils
from files.openai_folder import FILES
from gpt2_numpy import generate, log_probs

FOLDER = utils.MODELS_DIR / utils.BUNDLED
CARD = (FOLDER / "README.md").read_text("utf-8")
ROOT = Path(utils.__file__).resolve().parent


@pytest.fixture(scope="module")
def tales():
    return utils.load_encoder_hparams_and_params("tales")


def test_it_loads_by_its_name_and_is_small_enough(tales):
    encoder, hparams, params = tales
    tracked = [path for path in FOLDER.iterdir() if path.name != "training.npz"]
    assert {path.name for path in tracked} >= {*FILES, "README.md", "log.jsonl", "loss.png"}
    assert sum(path.stat().st_size for path in tracked) < 8_000_000
    assert encoder.n_vocab == hparams["n_vocab"]
    assert f"{utils.n_parameters(hparams):,} parameters" in CARD
    assert params["wte"].dtype == np.float32
    for name, value in hparams.items():
        assert f"`{name}` {value:,}" in CARD


def test_its_loss_on_sentences_is_what_the_card_says(tales):
    encoder, hparams, params = tales
    rows = re.findall(r"^\| (.+) \| (\d+\.\d\d) \|$", CARD, re.MULTILINE)
    assert len(rows) >= 4
    for sentence, nats in rows:
        logs = log_probs(encoder.encode(sentence), params, hparams["n_head"])
        assert abs(-logs.sum() - float(nats)) < 0.02, sentence


def test_its_greedy_text_is_what_the_card_says(tales):
    encoder, hparams, params = tales
    quoted = r'--greedy -n 40 "([^"]+)"\n```\n\n> (.+?)\n\n'
    prompt, text = re.search(quoted, CARD, re.DOTALL).groups()
    new = generate(encoder.encode(prompt), params, hparams["n_head"], 40)
    spoken = prompt + encoder.decode(new)
    assert spoken.split() == text.replace("\n>", " ").split()


def test_its_log_ends_where_the_card_says():
    lines = [json.loads(line) for line in (FOLDER / "log.jsonl").read_text().splitlines()]
    last = [line for line in lines if "bits_per_byte" in line][-1]
    steps = [line for line in lines if "loss" in line][-1]
    assert f"{last['bits_per_byte']:.3f} bits per byte" in CARD
    assert last["step"] == steps["step"] and f"{steps['tokens']:,} tokens" in CARD
    assert steps["seconds"] < 3 * 3600


def test_its_held_out_loss_is_what_the_card_says(tales, shared):
    encoder, hparams, params = tales
    text = shared("corpus/fairy_tales_val.txt").read_text("utf-8")
    ids = encoder.encode(text)
    nats = train.negative_log_likelihood(params, ids, hparams["n_head"], hparams["n_ctx"])
    bits = nats / math.log(2) / len(text)
    assert f"{bits:.3f} bits per byte" in CARD
    assert bits < 1.40


def test_it_speaks_without_a_network_when_no_model_is_named():
    environment = {**os.environ, "GPT2_BASE_URL": "http://127.0.0.1:9"}
    for settings in ({}, {"GPT2_MODELS_DIR": "/nonexistent"}):
        done = subprocess.run(
            [sys.executable, ROOT / "gpt2_numpy.py", "Once upon a time", "-n", "10", "--seed", "1"],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment | settings,
        )
        assert done.returncode == 0
        assert done.stdout.startswith("Once upon a time") and len(done.stdout) > 30
        lines = [line for line in done.stderr.splitlines() if "tales" in line]
        assert len(lines) == 1 and "--model 124M" in lines[0]


def test_a_longer_text_than_its_context_goes_on(tales):
    encoder, hparams, params = tales
    prompt = encoder.encode("Once upon a time there was a king. " * 40)
    assert len(prompt) > hparams["n_ctx"]
    with pytest.warns(UserWarning, match="is full"):
        new = list(generate(prompt, params, hparams["n_head"], 3))
    assert len(new) == 3
