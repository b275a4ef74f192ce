"""How a program ends when something is wrong."""

import sys

from command_line.errors import (
    describe_import_error,
    end_output,
    fail,
    report_stop,
    survive_closed_stderr,
)


def test_an_error_is_a_line_with_the_programs_name(capsys):
    assert fail("train.py", "the text is empty") == 1
    assert report_stop() == 130
    assert capsys.readouterr().err == "train.py: the text is empty\nstopped\n"


def test_a_package_is_missing_or_broken():
    missing = ModuleNotFoundError("No module named 'requests'", name="requests")
    assert describe_import_error(missing).startswith("requests is not installed; pip install -r")
    assert describe_import_error(missing, "tqdm").startswith("tqdm cannot be imported (No module")
    broken = ImportError("cannot import name 'x'\nfrom 'requests'", name="requests")
    line = describe_import_error(broken)
    assert line.startswith("requests cannot be imported (cannot import name 'x' from 'requests')")
    assert "--force-reinstall" in line and "\n" not in line
    assert describe_import_error(ImportError("no name")).startswith("a package cannot be")


def test_a_closed_stderr_becomes_one_that_takes_everything(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    survive_closed_stderr()
    print("lost", file=sys.stderr)
    sys.stderr.close()


def test_output_that_cannot_be_written_is_an_error_unless_nobody_reads_on(capsys):
    assert end_output("train.py", BrokenPipeError(32, "Broken pipe")) == 0
    assert end_output("train.py", OSError(28, "No space left on device")) == 1
    line = "train.py: cannot write to standard output: No space left on device\n"
    assert capsys.readouterr().err == line
