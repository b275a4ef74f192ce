"""Formats and fetching: checkpoints, model folders, names, downloads, files written whole."""
