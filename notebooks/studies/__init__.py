"""What the notebooks compute at length: trainings, counts, and results of runs that take long."""

from . import heads, joining, model, quality, sampling

__all__ = ["heads", "joining", "model", "quality", "sampling"]
