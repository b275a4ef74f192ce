"""A conversation, line by line: over a pipe, and at a terminal."""

import contextlib
import os
import select
import signal
import time

import pytest

from programs import (
    ENVIRONMENT,
    default_ctrl_c,
    expect_text,
    generate_command,
    needs_posix,
    run_generate,
    start_generating,
)


def test_each_line_is_a_prompt_and_the_end_of_the_input_ends_it(tiny_model):
    options = ["-i", "--greedy", "-n", "3"]
    status, out, err = run_generate(tiny_model, *options, stdin=b"the\na b\r\n\nhe")
    texts = [expect_text(tiny_model, prompt, 3) + "\n" for prompt in ("the", "a b", "", "he")]
    assert (status, out) == (0, "".join(texts))
    assert "> " not in err
    assert run_generate(tiny_model, *options, stdin=b"")[:2] == (0, "")


def test_a_line_that_makes_no_sense_is_said_and_the_next_one_read(tiny_model):
    status, out, err = run_generate(tiny_model, "-i", "--score", stdin=b"a\n\xff\nthe the\n")
    assert status == 0 and "nats in total" in out
    single, broken, *_ = err.splitlines()
    assert single.startswith("gpt2_numpy.py: --score needs a prompt of two tokens")
    assert broken == "gpt2_numpy.py: the line is not UTF-8; is the terminal or the file in UTF-8?"


def test_the_same_seed_gives_each_line_the_same_text_and_none_a_new_one(tiny_model):
    lines = b"the\nthe\n"
    out = run_generate(tiny_model, "-i", "--seed", "1", "-n", "9", stdin=lines)[1]
    text = expect_text(tiny_model, "the", 9, temperature=0.8, top_k=40, rng=1) + "\n"
    assert out == 2 * text
    err = run_generate(tiny_model, "-i", "-n", "1", stdin=lines)[2]
    seeds = [line.split()[1] for line in err.splitlines() if line.startswith("seed ")]
    assert len(seeds) == 2 and seeds[0] != seeds[1]


def test_a_byte_order_mark_is_no_text(tiny_model):
    out = run_generate(tiny_model, "-i", "--greedy", "-n", "1", stdin=b"\xef\xbb\xbfthe\n")[1]
    assert out == expect_text(tiny_model, "the", 1) + "\n"


def test_a_line_keeps_the_spaces_it_ends_with(tiny_model):
    out = run_generate(tiny_model, "-i", "--greedy", "-n", "1", stdin=b"the \t\r\n")[1]
    assert out == expect_text(tiny_model, "the \t", 1) + "\n"


@pytest.mark.skipif(**needs_posix)
def test_ctrl_c_ends_it_where_nobody_is_typing(tiny_model):
    process = start_generating(
        tiny_model, "-i", "--greedy", "-n", "1000000", preexec_fn=default_ctrl_c
    )
    process.stdin.write(b"the\nthe\nthe\n")
    process.stdin.flush()
    assert process.stdout.read(3) == b"the"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.endswith(b"stopped\n")


class Terminal:
    """The program at a terminal of its own, and what it shows there."""

    def __init__(self, model, *arguments):
        import pty

        self.shown, self.has_ended = b"", False
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            command = generate_command(model, *arguments)
            os.execve(command[0], command, ENVIRONMENT | {"TERM": "dumb"})

    def type(self, text):
        os.write(self.terminal, text)

    def wait_for(self, text, seconds=30):
        """Wait until the text has been shown, after what was waited for before."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.terminal, 4096)
                except OSError as error:  # how Linux says that the program has ended
                    raise AssertionError(self.shown) from error
        _, _, self.shown = self.shown.partition(text)

    def press_ctrl_c(self, text):
        """Type Ctrl-C; and again, as a person would, until the text is shown: Python sees a signal
        late that comes in the moment in which it begins to wait for a key."""
        for _ in range(30):
            self.type(b"\x03")
            with contextlib.suppress(AssertionError):
                self.wait_for(text, seconds=1)
                break
        else:
            raise AssertionError(self.shown)
        while select.select([self.terminal], [], [], 0.1)[0]:  # what a second one has brought
            self.shown += os.read(self.terminal, 4096)
        self.shown = b""

    def end(self):
        """Type Ctrl-D, after the sign for a prompt; the exit status."""
        self.type(b"\x04")
        deadline = time.monotonic() + 30
        while not (ended := os.waitpid(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.has_ended = True
        return os.waitstatus_to_exitcode(ended[1])

    def close(self):
        if not self.has_ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)


@pytest.fixture
def start_terminal(tiny_model):
    """Terminals, closed afterwards whatever happens."""
    terminals = []

    def start(*arguments):
        terminals.append(Terminal(tiny_model, *arguments))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


@pytest.mark.skipif(**needs_posix)
def test_at_a_terminal_ctrl_c_stops_an_answer_and_ctrl_d_ends(tiny_model, start_terminal):
    terminal = start_terminal("-i", "--greedy", "-n", "1000000")
    terminal.wait_for(b"each line is a prompt; Ctrl-C stops an answer, Ctrl-D ends")
    terminal.wait_for(b"> ")
    terminal.type(b"half a line")
    terminal.wait_for(b"half a line")  # for Ctrl-C also drops the keys that nobody has read yet
    terminal.press_ctrl_c(b"> ")
    for _ in range(2):
        terminal.type(b"the cat\n")
        terminal.wait_for(expect_text(tiny_model, "the cat", 3)[:9].encode())
        terminal.press_ctrl_c(b"> ")
    assert terminal.end() == 0


@pytest.mark.skipif(**needs_posix)
def test_lines_are_edited_and_remembered(start_terminal):
    pytest.importorskip("readline")
    terminal = start_terminal("-i", "--greedy", "-n", "0")
    terminal.wait_for(b"> ")
    terminal.type(b"abd\x7fc\n")  # a letter taken back
    terminal.wait_for(b"\nabc")
    terminal.wait_for(b"> ")
    terminal.type(b"\x10\n")  # Ctrl-P: the line before
    terminal.wait_for(b"\nabc")
    terminal.wait_for(b"> ")
    assert terminal.end() == 0


@pytest.mark.skipif(**needs_posix)
def test_where_the_text_goes_to_a_file_the_prompt_sign_does_not(tiny_model, tmp_path):
    import pty
    import subprocess

    master, slave = pty.openpty()
    with open(tmp_path / "out", "wb") as out:
        process = subprocess.Popen(
            generate_command(tiny_model, "-i", "--greedy", "-n", "2"),
            stdin=slave,
            stdout=out,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        os.write(master, b"the\n\x04")
        err = process.communicate(timeout=60)[1]
    os.close(master)
    os.close(slave)
    assert (tmp_path / "out").read_text() == expect_text(tiny_model, "the", 2) + "\n"
    assert err.count(b"> ") == 2
