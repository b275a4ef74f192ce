"""What the notebooks compute at length: trainings, counts, and results of runs that take long."""

from . import joining, model, quality, sampling

__all__ = ["joining", "model", "quality", "sampling"]
