"""The terminal: what `python gpt2_numpy.py` and `python train.py` do."""
