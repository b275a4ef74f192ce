"""File formats and fetching: TensorFlow's checkpoints, downloads, files written whole."""
