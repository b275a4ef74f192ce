"""How a program ends: its exit status, and what it does not wait for."""

import subprocess
import sys

import pytest

from programs import ENVIRONMENT, ROOT, default_ctrl_c, needs_posix

# A program that leaves a thread at work behind, and text that is not yet written.
PROGRAM = """
import threading
from command_line import launch

def main():
    print("text")
    threading.Thread(target=threading.Event().wait).start()
    {end}

launch.import_main = lambda program: main
raise SystemExit(launch.launch("train"))
"""


@pytest.mark.parametrize(
    ("end", "err"), [("return 130", ""), ("raise KeyboardInterrupt", "stopped\n")]
)
def test_ctrl_c_waits_for_no_thread(end, err):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "text\n", err)


@pytest.mark.skipif(**needs_posix)
def test_ctrl_c_at_pythons_own_end_is_no_error():
    end = "import atexit, os; atexit.register(os.kill, os.getpid(), 2); return 0"
    code = PROGRAM.replace("    threading.Thread", "    # threading.Thread").format(end=end)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        preexec_fn=default_ctrl_c,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (-2, "")


@pytest.mark.parametrize("status", [0, 1])
def test_the_exit_status_is_mains(status):
    code = PROGRAM.replace("    threading.Thread", "    # threading.Thread")
    command = [sys.executable, "-c", code.format(end=f"return {status}")]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=60)
    assert done.returncode == status
