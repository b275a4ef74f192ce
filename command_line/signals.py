"""Ctrl-C and its like while training: the step under way is finished, and everything saved."""

import contextlib
import signal
import threading

from files.messages import notice


@contextlib.contextmanager
def watch_for_stop():
    """with watch_for_stop() as stop: an event that Ctrl-C sets; a second Ctrl-C is a
    KeyboardInterrupt. The same for the signals that end background jobs and that a closed terminal
    sends (unless nohup has it ignored)."""
    stop = threading.Event()

    def handle(number, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        notice("\nfinishing this step, then saving; once more stops without saving")

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
    """The signals that ask a program to end, as far as this system has them."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers
