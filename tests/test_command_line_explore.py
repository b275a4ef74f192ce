"""`python -m explorer` as a user starts it: serving the page, writing it, and what is wrong."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from command_line import explore
from programs import ENVIRONMENT, ROOT, default_ctrl_c, needs_posix


def run(capsys, *arguments):
    """Run in this process: exit status, and what was written to stderr."""
    try:
        status = explore.main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().err


def start(*arguments):
    on_posix = None if os.name == "nt" else default_ctrl_c
    command = [sys.executable, "-m", "explorer", *map(str, arguments)]
    settings = dict(cwd=ROOT, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE)
    return subprocess.Popen(command, preexec_fn=on_posix, stdout=subprocess.DEVNULL, **settings)


def test_the_page_is_written_to_a_file(capsys, tiny_model, tmp_path):
    path = tmp_path / "page.html"
    status, error = run(capsys, "the hen", "--model", tiny_model, "--out", path)
    assert status == 0 and error.startswith(f"{path}: ") and error.count("\n") == 1
    assert path.read_text("utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(**needs_posix)
def test_the_page_is_served_until_ctrl_c(tiny_model):
    process = start("--model", tiny_model, "--port", "0", "--no-browser", "the hen")
    url = process.stderr.readline().split()[0]
    with urllib.request.urlopen(url) as page:
        assert b"GPT-2, line by line" in page.read()
    body = b"{}"
    question = urllib.request.Request(f"{url}ask/model", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(question) as answer:
        assert b'"prompt": "the hen"' in answer.read()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, "stopped\n")


def test_a_taken_port_says_which_option_to_give(capsys, tiny_model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, error = run(capsys, "--model", tiny_model, "--port", port, "--no-browser")
    assert status == 1 and error.count("\n") == 1
    assert error.startswith(f"explorer: port {port} is taken") and "--port 0" in error


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--port", "70000"], 2, "70000 is not a port, 0 to 65535"),
        (["--port", "many"], 2, "invalid port value"),
        (["one", "two"], 2, "put quotes around the prompt"),
        (["--model", "nonsense"], 1, "nonsense"),
        ([""], 1, "the prompt is empty"),
        (["a" * 65], 1, "65 tokens, but the model's context has 64"),
        (["--out", "no/such/folder/page.html"], 1, "No such file or directory; give another FILE"),
        (["--out", ""], 1, "give another FILE"),
    ],
)
def test_what_is_wrong_is_one_line(capsys, tiny_model, arguments, status, words):
    model = [] if "--model" in arguments else ["--model", tiny_model]
    ended, error = run(capsys, *arguments, *model)
    assert ended == status and words in error
    assert error.startswith("explorer: ") and error.count("\n") == 1


def test_without_a_display_no_browser_is_opened(monkeypatch):
    opened = []
    monkeypatch.setattr(explore.webbrowser, "open", lambda url: opened.append(url) or True)
    monkeypatch.setattr(explore.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not explore.open_browser("http://127.0.0.1:1/") and opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    assert explore.open_browser("http://127.0.0.1:1/") and opened == ["http://127.0.0.1:1/"]


def test_a_missing_package_is_one_line(tmp_path):
    (tmp_path / "regex.py").write_text("raise ModuleNotFoundError('none', name='regex')\n")
    environment = ENVIRONMENT | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "explorer", "--no-browser"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "explorer: regex is not installed; pip install -r requirements.txt\n"
