"""The other Transformers, of GPT-2's own functions, and the network that they are compared with.

encoder.py         every position sees every other; positions as sines and cosines
translation.py     an encoder and a decoder that attends to it; greedy and beam search
vision.py          an image as a sequence of patches, and the class that it belongs to
recurrent.py       the LSTM: one position after the other

padding.py         sequences of different lengths side by side
initialisation.py  parameters to begin with
training.py        train.py's loop for any of these models
"""
