"""How a program starts: also where a package is missing or broken, and under an early Ctrl-C."""

import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from command_line import OURS
from command_line.launch import OLDEST_PYTHON
from programs import ENVIRONMENT, ROOT, default_ctrl_c, needs_posix

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


PROGRAMS = ["gpt2_numpy.py", "train.py"]


def run_program(program, *arguments, path=None, options=(), **settings):
    """Run a program from the shell, from another folder; path is one that Python looks into before
    its packages."""
    environment = ENVIRONMENT | ({} if path is None else {"PYTHONPATH": str(path)})
    command = [sys.executable, *options, ROOT / program, *arguments]
    settings = {"cwd": ROOT.parent, "env": environment, "timeout": 60} | settings
    return subprocess.run(command, capture_output=True, text=True, **settings)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("options", [[], ["-P"]])
def test_each_program_hands_over_wherever_python_looks_for_modules(program, options):
    done = run_program(program, "--no-such-option", options=options)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"{program}: unrecognized") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("package", ["numpy", "regex"])
def test_without_a_package_each_program_says_so(program, package, tmp_path):
    (tmp_path / f"{package}.py").write_text(
        f"raise ModuleNotFoundError('none', name='{package}')\n"
    )
    done = run_program(program, "the", path=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    line = f"{program}: {package} is not installed; pip install -r requirements.txt"
    assert done.stderr == f"{line} in {ROOT}\n"  # for it was started in another folder


@pytest.mark.parametrize("program", PROGRAMS)
def test_modules_of_our_names_that_came_first_are_not_ours(program, tmp_path):
    for name in set(OURS) - {"files"}:
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "messages.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text(f"import {', '.join(OURS)}, files.messages\n")
    done = run_program(program, "--no-such-option", path=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"{program}: unrecognized")


@pytest.mark.parametrize(
    ("module", "error", "words"),
    [
        ("utils", "PermissionError(13, 'Permission denied', 'utils.py')", "denied: 'utils.py'"),
        ("encoder", "ModuleNotFoundError('No module named encoder')", "No module named encoder"),
    ],
)
def test_a_file_of_ours_that_cannot_be_read_is_one_line(module, error, words):
    done = run_start("train", "the", prelude=HIDE.format(package=module, error=error))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "a part of the code cannot be read (" in done.stderr and words in done.stderr


@pytest.mark.skipif(**needs_posix)
@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_that_a_package_would_turn_into_another_error_is_one_word(program, tmp_path):
    """As NumPy does: it takes whatever happens while it is imported for a broken installation."""
    (tmp_path / "numpy.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    raise ImportError('a bad installation')\n"
    )
    done = run_program(program, "the", path=tmp_path, preexec_fn=default_ctrl_c)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_before_the_first_import_is_silent(program, tmp_path):
    prelude = HIDE.format(package="command_line", error="KeyboardInterrupt")
    (tmp_path / "sitecustomize.py").write_text(prelude)
    done = run_program(program, "the", path=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.skipif(**needs_posix)
def test_ctrl_c_stays_ignored_in_a_background_job():
    prelude = "import signal, os\nsignal.signal(signal.SIGINT, signal.SIG_IGN)"
    prelude += HIDE.format(package="encoder", error="os.kill(os.getpid(), signal.SIGINT)")
    prelude = prelude.replace("raise os.kill", "os.kill")
    done = run_start("train", "--no-such-option", prelude=prelude)
    assert done.returncode == 2 and done.stderr.startswith("train.py: unrecognized")


def test_an_old_python_is_one_line():
    prelude = "import sys; sys.version_info = (3, 10, 2, 'final', 0)"
    done = run_start("train", "the", prelude=prelude)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "this is Python 3.10, which is too old; run it with Python 3.11 or" in done.stderr


# What `uv run gpt2_numpy.py` installs: inline script metadata, by the expression of PEP 723.
SCRIPT_METADATA = re.compile(
    r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_says_what_it_needs_as_requirements_txt_does(program):
    (block,) = SCRIPT_METADATA.finditer((ROOT / program).read_text("utf-8"))
    lines = [line.removeprefix("# ") for line in block["content"].splitlines()]
    metadata = tomllib.loads("\n".join(lines))
    needed = (ROOT / "requirements.txt").read_text().split()
    assert block["type"] == "script"
    assert metadata == {
        "requires-python": f">={'.'.join(map(str, OLDEST_PYTHON))}",
        "dependencies": [name for name in needed if not name.startswith("pytest")],
    }


@pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")
@pytest.mark.parametrize("program", PROGRAMS)
def test_uv_finds_what_a_program_needs(program, tmp_path):
    """Without a network and with nothing in its cache it names what it cannot get."""
    command = ["uv", "run", "--offline", "--no-python-downloads", "--python", sys.executable]
    environment = ENVIRONMENT | {"UV_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [*command, ROOT / program], capture_output=True, text=True, env=environment
    )
    assert done.returncode != 0 and "numpy>=" in done.stderr
