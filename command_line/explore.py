"""What `python -m explorer` does: serve the page, or write it as one file."""

import argparse
import errno
import os
import sys
import webbrowser
from pathlib import Path

from command_line.errors import describe_import_error, fail, report_stop
from command_line.options import OneLineParser, port
from command_line.version import describe_version
from explorer.answers import AnswerError, Answers
from explorer.page import make_page
from explorer.server import HOST, Server
from files.messages import notice, readable
from files.whole import write_whole
from gpt2_numpy import GPT2Error
from utils import ModelError, load_encoder_hparams_and_params

PROGRAM = "explorer"
PORT = 8765
PROMPT = "The king had a daughter, and the king's"

DESCRIPTION = """\
Show a prompt on its way through the code, in a browser.

  python -m explorer                                serve the page on this machine, and open it
  python -m explorer "The cat sat" --out page.html  write it as one file that needs no server
"""


def make_parser():
    parser = OneLineParser(
        prog=PROGRAM,
        description=DESCRIPTION,
        usage='python -m %(prog)s ["PROMPT"] [--model NAME|FOLDER] [--port N] [--no-browser] '
        "[--out FILE]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        stray="put quotes around the prompt",
    )
    add = parser.add_argument
    add("--version", action="version", version=describe_version(PROGRAM))
    add("prompt", metavar="PROMPT", nargs="?", default=PROMPT, help=f"default: {PROMPT!r}")
    add(
        "--model",
        default="tales",
        metavar="NAME|FOLDER",
        help="as gpt2_numpy.py takes it (default: tales, which comes with the code)",
    )
    add(
        "--port",
        type=port,
        default=PORT,
        metavar="N",
        help=f"where the page is served (default: {PORT}); 0 is any that is free",
    )
    add("--no-browser", action="store_true", help="say where the page is, and open no browser")
    add("--out", metavar="FILE", help="write the page with this prompt to a file, and end")
    return parser


def main(argv=None):
    """Run the command line; return the exit status. Whatever is wrong is one line on stderr."""
    options = make_parser().parse_args(argv)
    try:
        encoder, hparams, params = load_encoder_hparams_and_params(options.model)
        answers = Answers(options.model, encoder, hparams, params)
        answers.answer("tokens", {"text": options.prompt})  # what is wrong with it is said now
        if options.out is not None:
            return write_page(answers, options.prompt, Path(os.path.expanduser(options.out)))
    except ImportError as error:  # of what only downloads need
        return fail(PROGRAM, describe_import_error(error))
    except (ModelError, AnswerError, GPT2Error) as error:
        return fail(PROGRAM, error)
    except MemoryError:
        return fail(PROGRAM, "not enough memory for a model of this size")
    return serve(answers, options)


def write_page(answers, prompt, path):
    page = make_page(answers, prompt).encode()
    try:
        write_whole({path: page})
    except OSError as error:
        return fail(PROGRAM, f"{error.filename}: {error.strerror}; give another FILE to --out")
    notice(f"{path}: {readable(len(page))}; open it with a browser")
    return 0


def open_browser(url):
    """Open the page, and say whether that was possible. Without a display there would at best be a
    browser in the terminal, which could not show it."""
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(has_display or not sys.platform.startswith("linux")) and webbrowser.open(url)


def serve(answers, options):
    """Serve the page until Ctrl-C."""

    def answer(question, asked):
        prompt = {"prompt": options.prompt} if question == "model" else {}
        return answers.answer(question, asked) | prompt

    try:
        server = Server(options.port, answer)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {options.port} is taken, perhaps by another explorer"
        else:
            reason = f"cannot serve on {HOST}:{options.port}: {error.strerror}"
        return fail(PROGRAM, f"{reason}; give another with --port, or --port 0 for any")
    with server:
        notice(f"{server.url}   (Ctrl-C ends it)")
        if not options.no_browser and not open_browser(server.url):
            notice("no browser could be opened; open that address yourself")
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            return report_stop()
    return 0
