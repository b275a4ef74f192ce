"""What the notebooks compute at length: trainings, counts, and results of runs that take long."""

from . import backprop, bugs, gradient_checks, heads, joining, model, quality, sampling, training

__all__ = [
    "backprop",
    "bugs",
    "gradient_checks",
    "heads",
    "joining",
    "model",
    "quality",
    "sampling",
    "training",
]
