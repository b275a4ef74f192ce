"""The pictures of the notebooks: `base` has what all are made of, and each subject its module."""

from . import attention, backprop
from .base import bars, canvas, heatmap, text

__all__ = ["attention", "backprop", "bars", "canvas", "heatmap", "text"]
