"""Progress on the terminal: of training, with lines above the bar, and of other long work."""

import contextlib
import sys
import time

from tqdm import tqdm

from files.messages import notice

tqdm.monitor_interval = 0  # no thread for bars that skip steps: with miniters=1 none does


def progress_bar(n_steps, n_tokens, step):
    """tqdm, counting tokens, n_tokens a step; it shows nothing where stderr is not a terminal."""
    return tqdm(
        total=n_steps * n_tokens,
        initial=step * n_tokens,
        unit=" tokens",
        unit_scale=True,
        miniters=1,
        file=sys.stderr,
        disable=None,
        dynamic_ncols=True,
    )


def advance(bar, n_tokens, loss):
    """Move the bar on by a step."""
    with contextlib.suppress(OSError):  # the terminal may be gone
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        bar.update(n_tokens)


def report(bar, text):
    """Print a line above the bar."""
    with contextlib.suppress(OSError):
        bar.write(text, file=sys.stderr)


def spell_duration(seconds):
    """3725 to "1 h 02 min", 80 to "1 min 20 s"."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 60} min {seconds % 60:02} s"


@contextlib.contextmanager
def progress(n, unit, has_bar=True, seconds=10.0):
    """with progress(28835, "tokens") as advance: advance(64) says that 64 more are done: in a bar
    where stderr is a terminal, else, or without has_bar, by a line every so many seconds."""
    disable = None if has_bar else True  # None: where stderr is no terminal
    settings = dict(unit=f" {unit}", file=sys.stderr, disable=disable, dynamic_ncols=True)
    with tqdm(total=n, **settings) as bar:
        n_done, due = 0, time.monotonic() + seconds

        def advance(n_more):
            nonlocal n_done, due
            n_done += n_more
            bar.update(n_more)
            if bar.disable and time.monotonic() >= due:
                notice(f"{n_done:,} of {n:,} {unit}")
                due = time.monotonic() + seconds

        yield advance
