"""How much memory this process can have, as the operating system tells, and whether it suffices."""

import contextlib
import os
from pathlib import Path

from files.messages import notice, readable

# Linux control groups, version 2 and 1, as seen inside a container: the folder, its files of the
# limit and of what is used, and how the names in its memory.stat begin.
CONTAINERS = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", ""),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)


class LowMemoryError(Exception):
    """This computer can never hold a model: one line that says what it needs, and what there is."""


def measure_memory():
    """(total, available): bytes of memory that this process can have; None where nobody tells."""
    total = available = None
    try:
        with open("/proc/meminfo") as file:
            kib = {key: int(rest.split()[0]) for key, rest in (line.split(":") for line in file)}
        total, available = 1024 * kib["MemTotal"], 1024 * kib["MemAvailable"]
    except (OSError, KeyError, ValueError):  # not Linux
        with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    containers = [measure_container(*container) for container in CONTAINERS]
    limits, left = zip(*containers, strict=True)
    return smallest(total, limits), smallest(available, left)


def smallest(n, limits):
    """The smallest of n and those limits that there are; None where n is."""
    return None if n is None else min([n, *(limit for limit in limits if limit is not None)])


def measure_container(folder, limit_file, used_file, scope):
    """(limit, bytes of it that are not used) of a container; None, both, where there is no limit.

    The files that the system keeps in memory are not counted as used: they are dropped as soon as
    the memory is needed.
    """
    folder = Path(folder)
    try:
        limit = int((folder / limit_file).read_text())
    except (OSError, ValueError):  # no container, or "max", which is no limit
        return None, None
    used = 0
    with contextlib.suppress(OSError, KeyError, ValueError):
        statistics = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
        cached = sum(int(statistics[f"{scope}{kind}_file"]) for kind in ("active", "inactive"))
        used = max(0, int((folder / used_file).read_text()) - cached)
    return limit, max(0, limit - used)


def measure_resident():
    """Bytes of memory that this process holds, or the most that it has held where the system tells
    no more; None where nobody tells."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):  # not Linux
        n_pages = int(Path("/proc/self/statm").read_text().split()[1])
        return n_pages * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ImportError, OSError):  # Windows has no such module
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    return None


def require_memory(model, needed, announcement=""):
    """Refuse a model that can never fit in memory, warn of one that cannot now.

    model: the name that it has in messages
    needed: bytes
    announcement: a notice, unless the model is refused

    Every token reads every weight. Mapped weights that find no room are dropped and read from the
    file again: nothing breaks, but each token waits for the disk. Raises LowMemoryError.
    """
    total, available = measure_memory()
    if total is not None and total < needed:
        raise LowMemoryError(
            f"{model} needs {readable(needed)} of memory, and this computer has {readable(total)}; "
            "take a smaller model"
        )
    if announcement:
        notice(announcement)
    if available is not None and available < needed:
        notice(
            f"{model} needs {readable(needed)} of memory, only {readable(available)} are available:"
            " it may be very slow; close other programs or take a smaller model"
        )
