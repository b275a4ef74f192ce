"""The prompt from standard input, and many prompts from a file (--prompts)."""

import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

from files.messages import advise
from gpt2_numpy import GPT2Error


@dataclass
class Prompt:
    """A prompt, and what else its line of JSON holds, which its results have, too."""

    text: str
    further: dict = field(default_factory=dict)
    where: str = ""  # it stands, for messages: "prompts.txt, line 3: "


def read_source(path):
    """The text of a file, or of standard input, which is called -, in UTF-8. GPT2Error."""
    where = name_source(path)
    if path == "-" and sys.stdin is None:
        raise GPT2Error("the prompt - is to be read from standard input, which is closed")
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).expanduser().read_bytes()
        return content.decode("utf-8-sig")  # a byte-order mark is no text
    except OSError as error:
        cure = advise(error) if isinstance(error, PermissionError) else "give a text file"
        raise GPT2Error(f"cannot read {where}: {error.strerror}; {cure}") from error
    except UnicodeDecodeError as error:
        raise GPT2Error(
            f"{where} is not UTF-8 (byte {error.start}: {error.reason}); convert the text first, "
            "for example with iconv"
        ) from error


def name_source(path):
    """What a path is called in messages."""
    return "standard input" if path == "-" else str(path)


def read_prompts(path, may_be_json, reserved):
    """(the Prompts of a file, how many of its lines are empty): a prompt a line. GPT2Error.

    may_be_json: whether the lines may be JSON, each a str or an object with the key "prompt": they
    are when the first begins with { or is a JSON str. reserved: the keys that a result has, and
    that a line of JSON may therefore not have.
    """
    lines = read_source(path).replace("\r\n", "\n").split("\n")
    full = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not full:
        raise GPT2Error(f"{name_source(path)} has no prompt; write one on each line")
    n_empty = len(lines) - len(full) - (not lines[-1])  # the last line end begins no line
    parse = parse_prompt if may_be_json and is_json(full[0][1]) else plain_prompt
    where = name_source(path)
    return [parse(line, f"{where}, line {n}: ", reserved) for n, line in full], n_empty


def plain_prompt(line, where, reserved):
    """The Prompt of a line of text."""
    return Prompt(line, where=where)


def is_json(line):
    """Whether a line is one of JSON: an object, be it damaged, or a whole str."""
    if line.lstrip().startswith("{"):
        return True
    try:
        return isinstance(json.loads(line), str)
    except ValueError:
        return False


def parse_finite(text):
    """A number of JSON as a float; ValueError where it is none that JSON could hold again."""
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value


def parse_prompt(line, where, reserved):
    """The Prompt of a line of JSON. GPT2Error, which says where."""
    try:
        value = json.loads(line, parse_float=parse_finite, parse_constant=parse_finite)
        json.dumps([[value]])  # as a result will hold it, a little deeper
    except json.JSONDecodeError as error:
        raise GPT2Error(f"{where}not JSON: {error.msg} (character {error.pos + 1})") from None
    except (ValueError, RecursionError):
        raise GPT2Error(f"{where}a number that is too large, or brackets too deep") from None
    further = value if isinstance(value, dict) else {"prompt": value}
    text = further.pop("prompt", None)
    if not isinstance(text, str):
        raise GPT2Error(f'{where}neither a text in quotes nor an object with a text as "prompt"')
    if taken := sorted(reserved.intersection(further)):
        raise GPT2Error(f'{where}"{taken[0]}" is what a result calls a field; give it another name')
    return Prompt(text, further, where)
