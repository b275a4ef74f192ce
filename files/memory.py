"""How much memory this process can have, as the operating system's files tell."""

import contextlib
import os
from pathlib import Path

CONTAINER_LIMITS = (  # of Linux control groups, version 2 and 1, as seen inside a container
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


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
    limits = []
    for path in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # the file may say "max", which is no limit
            limits.append(int(Path(path).read_text()))
    return tuple(None if n is None else min([n, *limits]) for n in (total, available))
