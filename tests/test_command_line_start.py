"""How a program starts: also where a package is missing or broken, and under an early Ctrl-C."""

import subprocess
import sys

import pytest
from programs import ROOT

# Hides a package, or makes its import raise, in the process that begins with this.
HIDE = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            raise {error}
sys.meta_path.insert(0, Finder())
"""


def run_start(program, *arguments, prelude="", redirect=""):
    code = f"{prelude}\nfrom command_line import start\nraise SystemExit(start({program!r}))"
    command = [sys.executable, "-c", code, *arguments]
    if redirect:
        command = ["sh", "-c", f'"$@" {redirect}', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize(
    ("program", "name", "package"),
    [
        ("generate", "gpt2_numpy.py", "regex"),
        ("generate", "gpt2_numpy.py", "numpy"),
        ("train", "train.py", "regex"),
        ("train", "train.py", "numpy"),
        ("train", "train.py", "tqdm"),
    ],
)
def test_a_missing_package_is_one_line(program, name, package):
    prelude = HIDE.format(package=package, error="ModuleNotFoundError('none', name=name)")
    done = run_start(program, "the", prelude=prelude)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{name}: {package} is not installed; pip install -r requirements.txt\n"


@pytest.mark.parametrize(
    "error",
    [
        "ImportError('libregex.so: cannot open\\nshared object', name=name)",
        "ModuleNotFoundError('no _regex', name='regex._regex')",
        "AttributeError('a package in pieces')",
        "SyntaxError('a file cut short')",
    ],
)
def test_a_broken_package_is_one_line(error):
    done = run_start("generate", "the", prelude=HIDE.format(package="regex", error=error))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gpt2_numpy.py: regex cannot be imported (")
    assert done.stderr.endswith("); pip install --force-reinstall -r requirements.txt\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("program", ["generate", "train"])
@pytest.mark.parametrize("package", ["regex", "encoder"])
def test_ctrl_c_during_the_imports_is_one_word(program, package):
    prelude = HIDE.format(package=package, error="KeyboardInterrupt")
    done = run_start(program, "the", prelude=prelude)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_closed_stderr_is_survived():
    prelude = HIDE.format(package="regex", error="ModuleNotFoundError('none', name=name)")
    done = run_start("generate", "the", prelude=prelude, redirect="2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    done = run_start("train", "--no-such-option", redirect="2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_what_only_downloads_need_may_be_missing(tiny_model):
    prelude = HIDE.format(package="requests", error="ModuleNotFoundError('none', name=name)")
    prelude += HIDE.format(package="tqdm", error="ModuleNotFoundError('none', name=name)")
    done = run_start("generate", "--model", str(tiny_model), "-n", "1", "the", prelude=prelude)
    assert done.returncode == 0 and done.stdout.startswith("the")


@pytest.mark.parametrize(
    ("program", "name"), [("gpt2_numpy.py", "gpt2_numpy.py"), ("train.py",) * 2]
)
def test_each_program_hands_over(program, name):
    done = subprocess.run(
        [sys.executable, ROOT / program, "--no-such-option"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"{name}: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("file", ["train.py", "command_line/__init__.py", "command_line/errors.py"])
def test_nothing_is_executed_before_the_imports(file):
    import ast

    body = ast.parse((ROOT / file).read_text("utf-8")).body[1:]
    kinds = [isinstance(node, ast.Import | ast.ImportFrom) for node in body]
    assert kinds == sorted(kinds, reverse=True)
