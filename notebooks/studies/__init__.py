"""What the notebooks compute at length: trainings, counts, and results of runs that take long."""

from . import quality, sampling

__all__ = ["quality", "sampling"]
