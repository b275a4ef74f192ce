"""The pictures of the notebooks: `base` has what all are made of, and each subject its module."""

from . import attention, base, model, stream
from .base import bars, canvas, heatmap, text

__all__ = ["attention", "bars", "base", "canvas", "heatmap", "model", "stream", "text"]
