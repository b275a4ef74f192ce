"""log.jsonl: its lines, and its mending."""

import json

import pytest

from command_line.log import begin_log, write_log
from train import TrainError


def test_a_damaged_log_is_mended(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{}\n9\n\xff\n{"step": 5}\n{"st')
    assert begin_log(tmp_path, 3) == path
    assert path.read_text() == '{"step": 1}\n'
    path.write_text('{"step": 1}\n{"st')
    write_log(path, step=2)
    assert path.read_text() == '{"step": 1}\n{"st\n{"step": 2}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


def test_an_evaluation_that_has_not_been_done_is_not_in_the_log(tmp_path):
    lines = ['{"step": 3, "val_loss": 1}', '{"step": 4, "loss": 1}', '{"step": 4, "val_loss": 1}']
    path = tmp_path / "log.jsonl"
    for evaluated, kept in ((True, lines), (False, lines[:2])):
        path.write_text("\n".join(lines))
        assert begin_log(tmp_path, 4, evaluated).read_text().splitlines() == kept


def test_a_run_that_begins_begins_its_log(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 0}\n')
    assert begin_log(tmp_path, 0).read_text() == ""


def test_numbers_are_rounded_and_whole_ones_are_whole(tmp_path):
    path = begin_log(tmp_path, 0)
    write_log(path, step=1234567890, loss=1 / 3)
    assert path.read_text() == '{"step": 1234567890, "loss": 0.333333}\n'
    assert json.loads(path.read_text())["loss"] == 0.333333


def test_a_log_that_cannot_be_written_is_said_at_once_and_later_costs_a_line(tmp_path):
    with pytest.raises(TrainError, match=r"cannot write .*log\.jsonl: No such file"):
        begin_log(tmp_path / "none", 0)
    write_log(tmp_path / "none" / "log.jsonl", step=1)
