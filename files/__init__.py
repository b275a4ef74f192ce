"""File formats and fetching.

tf_checkpoint.py  TensorFlow's checkpoints
tf_names.py       the names that a model's parameters have in them
tree_names.py     trees of arrays as flat dicts, and back
openai_folder.py  a model folder in OpenAI's layout
released.py       OpenAI's models, and where they are
hub.py            models on Hugging Face's Hub, and where they are
download.py       downloads that go on where they stopped
whole.py          files that are written whole or not at all
lock.py           locks between processes
memory.py         how much memory there is, and whether it is enough
messages.py       what a person is told: notices, sizes, errors in one line
"""
