"""Both programs, started as a user starts them, and what the tests of command_line/ share."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from command_line import train
from encoder import get_encoder
from gpt2_numpy import generate
from utils import load_encoder_hparams_and_params

ROOT = Path(__file__).resolve().parents[1]
# A user's Python buffers what it writes; where a test runner's does not, some mistakes cannot show.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


# gpt2_numpy.py


def generate_command(model, *arguments):
    return [sys.executable, str(ROOT / "gpt2_numpy.py"), "--model", str(model), *arguments]


def start_generating(model, *arguments, **settings):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    settings = {"env": ENVIRONMENT} | pipes | settings
    return subprocess.Popen(generate_command(model, *arguments), **settings)


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


# train.py

TINY = dict(
    n_vocab=300,
    n_ctx=16,
    n_embd=16,
    n_head=2,
    n_layer=2,
    batch_size=4,
    n_steps=8,
    eval_every=4,
    save_every=3,
    log_every=2,
    warmup=2,
    sample="the king",
    dropout=0.1,
)


def make_options(**changes):
    """TINY with changes, as a command line; None takes an option out."""
    chosen = {name: value for name, value in (TINY | changes).items() if value is not None}
    return [
        part
        for name, value in chosen.items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]


def run_train(*arguments):
    """Run in this process; the exit status."""
    return train.main([str(argument) for argument in arguments])


def run_refused(capsys, *arguments):
    """Run what must be refused; return its one line."""
    code = run_train(*arguments)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith("learning a vocabulary")]
    assert code == 1 and len(lines) == 1 and lines[0].startswith("train.py: "), error
    return lines[0]


def start_training(*arguments):
    command = [sys.executable, ROOT / "train.py", *arguments]
    on_posix = None if os.name == "nt" else default_ctrl_c
    return subprocess.Popen(
        command, text=True, stderr=subprocess.PIPE, env=ENVIRONMENT, preexec_fn=on_posix
    )


def wait_for_step(process, folder, step):
    log, deadline = folder / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and f'"step": {step},' in log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


def read_log(folder, damaged=0, key="step"):
    """The log's records, without so many damaged lines at its end, of those that have a key."""
    lines = (Path(folder) / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines[: len(lines) - damaged]]
    return [record for record in records if key in record]


def read_log_without_times(folder):
    return [
        {name: value for name, value in line.items() if name != "seconds"}
        for line in read_log(folder)
    ]


needs_posix = dict(condition=os.name == "nt", reason="Windows has no such signals and shells")


def default_ctrl_c():
    """For preexec_fn: the child of a background job would ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
