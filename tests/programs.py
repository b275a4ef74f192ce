"""The program, started as a user starts it: what the tests of command_line/ share."""

import os
import subprocess
import sys
from pathlib import Path

from encoder import get_encoder
from gpt2_numpy import generate
from utils import load_encoder_hparams_and_params

ROOT = Path(__file__).resolve().parents[1]


# gpt2_numpy.py


def generate_command(model, *arguments):
    return [sys.executable, str(ROOT / "gpt2_numpy.py"), "--model", str(model), *arguments]


def start_generating(model, *arguments, **settings):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.Popen(generate_command(model, *arguments), **pipes | settings)


def run_generate(model, *arguments, stdin=b"", **settings):
    """Run to the end: exit status, stdout and stderr as text."""
    process = start_generating(model, *arguments, **settings)
    out, err = process.communicate(stdin, timeout=60)
    return process.returncode, (out or b"").decode(), err.decode()


def expect_text(model, prompt, n_tokens, **settings):
    """What the functions themselves say: the prompt and its continuation."""
    _, hparams, params = load_encoder_hparams_and_params(str(model))
    encoder = get_encoder(model)
    ids = encoder.encode(prompt) or [encoder.eot]
    new = []
    for i in generate(ids, params, hparams["n_head"], n_tokens, **settings):
        if i == encoder.eot:
            break
        new.append(i)
    return prompt + encoder.decode(new)


needs_posix = dict(condition=os.name == "nt", reason="Windows has no such signals and shells")
