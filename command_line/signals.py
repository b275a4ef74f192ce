"""Ctrl-C and its like while training: the step under way is finished, and everything saved."""

import contextlib
import signal
import threading

from files.messages import notice


class Stop:
    """Whether a run is to stop. No threading.Event: its `set` takes a lock, for which a second
    signal that comes meanwhile would wait for ever, in the same thread."""

    def __init__(self):
        self.is_asked_for = False

    def set(self):
        self.is_asked_for = True

    def is_set(self):
        return self.is_asked_for


@contextlib.contextmanager
def watch_for_stop():
    """with watch_for_stop() as stop: a `Stop` that Ctrl-C sets; a second Ctrl-C is a
    KeyboardInterrupt. The signals that end background jobs and that a closed terminal sends (unless
    nohup has it ignored) set it, too, and may come as often as they like: when a terminal is closed
    both it and the shell send them."""
    stop, n_ctrl_c = Stop(), 0

    def handle(number, frame):
        nonlocal n_ctrl_c
        n_ctrl_c += number == signal.SIGINT
        if number == signal.SIGINT and n_ctrl_c > 1:
            raise KeyboardInterrupt
        stop.set()
        more = "; once more stops without saving" if number == signal.SIGINT else ""
        with contextlib.suppress(RuntimeError):  # stderr is being written to at this moment
            notice(f"\nfinishing this step, then saving{more}")

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    before = {number: signal.signal(number, handle) for number in list_signals()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def list_signals():
    """The signals that ask a program to end, as far as this system has them and whoever started the
    program has not had them ignored: as nohup does, and a shell's script for what ends with &."""
    numbers = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")]
    return [n for n in numbers if n is not None and signal.getsignal(n) is not signal.SIG_IGN]
