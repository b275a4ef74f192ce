"""The prompt from standard input, and many prompts from a file."""

import json

import pytest

from command_line.prompts import Prompt, read_prompts, read_source
from gpt2_numpy import GPT2Error


@pytest.fixture
def read(tmp_path):
    def read_content(content, may_be_json=False, reserved=frozenset({"text", "seed"})):
        path = tmp_path / "prompts.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_prompts(path, may_be_json, reserved)

    return read_content


def texts_of(read_result):
    return [prompt.text for prompt in read_result[0]]


def test_a_prompt_is_a_line_with_the_spaces_it_has(read):
    assert texts_of(read("a\n  b \r\nø c\n")) == ["a", "  b ", "ø c"]
    assert texts_of(read(b"\xef\xbb\xbfa\nb")) == ["a", "b"]  # a byte-order mark; no last line end


def test_lines_without_text_are_counted(read):
    assert read("a\n\n \nb\n\n")[1] == 3
    assert read("a\nb\n")[1] == read("a\nb")[1] == 0


def test_what_looks_like_json_is_a_prompt_unless_json_is_asked_for(read):
    assert texts_of(read('{"prompt": "a"}\n')) == ['{"prompt": "a"}']
    assert texts_of(read('{"prompt": "a"}\n', may_be_json=True)) == ["a"]


def test_a_line_of_json_is_a_text_or_an_object_and_keeps_what_else_it_has(read):
    prompts, n_empty = read('"a\\nb"\n\n{"prompt": "", "id": 7}\n', may_be_json=True)
    assert [(p.text, p.further) for p in prompts] == [("a\nb", {}), ("", {"id": 7})]
    assert n_empty == 1 and prompts[1].where.endswith("prompts.txt, line 3: ")


@pytest.mark.parametrize("line", ['"Hello," she said', "[1", "17", "Once upon a time", "null"])
def test_lines_of_text_are_none_of_json(read, line):
    assert texts_of(read(f"{line}\n", may_be_json=True)) == [line]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"prompt": "a"', "line 1: not JSON"),
        ('{"prompt": "a"}\nb', "line 2: not JSON"),
        ('{"prompt": "a"}\n\n{"prompt": 7}', "line 3: neither a text in quotes nor an object"),
        ('{"text": "a"}', "line 1: neither a text"),
        ('"a"\n["b"]', "line 2: neither a text"),
        ('{"prompt": "a", "seed": 1}', 'line 1: "seed" is what a result calls a field'),
        ("{" + '"a":{' * 100_000, "line 1: a number that is too large, or brackets too deep"),
        ('{"prompt": "a", "b": 1e999}', "line 1: a number that is too large"),
        ('{"prompt": "a", "b": NaN}', "line 1: a number that is too large"),
        ('{"prompt": "a", "b": 1' + "0" * 5000 + "}", "line 1: a number that is too large"),
        ("", "has no prompt; write one on each line"),
        (" \n\n", "has no prompt"),
        (b"a\n\xff", "is not UTF-8 (byte 2"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(read, lines, message):
    with pytest.raises(GPT2Error) as error:
        read(lines, may_be_json=True)
    assert message in str(error.value) and "prompts.txt" in str(error.value)


def test_brackets_that_could_be_read_but_not_written_again_are_refused(read, monkeypatch):
    def too_deep(value):
        raise RecursionError

    monkeypatch.setattr(json, "dumps", too_deep)
    with pytest.raises(GPT2Error, match="line 1: a number that is too large, or brackets too deep"):
        read('{"prompt": "a", "b": [[]]}', may_be_json=True)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(
        GPT2Error, match=r"cannot read .*none.txt: No such file.*; give a text file"
    ):
        read_source(tmp_path / "none.txt")
    with pytest.raises(GPT2Error, match="cannot read"):
        read_source(tmp_path)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "p.txt").write_text("a\n")
    assert read_prompts("~/p.txt", False, set())[0] == [Prompt("a", where="~/p.txt, line 1: ")]
