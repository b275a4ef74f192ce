"""The pictures of the notebooks: `base` has what all are made of, and each subject its module."""

from . import (
    attention,
    backprop,
    base,
    embeddings,
    heads,
    model,
    quality,
    sampling,
    stream,
    tokens,
    training,
)
from .base import bars, canvas, heatmap, text

__all__ = [
    "attention",
    "backprop",
    "bars",
    "base",
    "canvas",
    "embeddings",
    "heads",
    "heatmap",
    "model",
    "quality",
    "sampling",
    "stream",
    "text",
    "tokens",
    "training",
]
