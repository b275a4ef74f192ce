"""What the notebooks count and train at length: each subject has its module."""

from . import model

__all__ = ["model"]
