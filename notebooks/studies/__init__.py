"""What the notebooks compute at length: trainings, counts, and results of runs that take long."""

from . import heads

__all__ = ["heads"]
