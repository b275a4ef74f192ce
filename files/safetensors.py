"""The safetensors format, read and written with nothing but NumPy.

A file has three parts, one after the other:

    8 bytes   how long the header is, a little-endian integer
    header    JSON in UTF-8, for each tensor a line such as
                  "wpe.weight": {"dtype": "F32", "shape": [1024, 768], "data_offsets": [0, 3145728]}
              and "__metadata__", texts under names; spaces may fill it up
    buffer    the tensors' bytes, little-endian and in C order; data_offsets count from here

Every byte of the buffer belongs to one tensor, so that a file has no place for anything else. And
there is nothing in it that could be run: reading it is reading numbers.

Source: "Format" in the README of github.com/huggingface/safetensors.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from files.whole import write_whole

MAX_HEADER = 100_000_000  # bytes, says the format
MAX_COMMAS = 1 << 19  # in the header: GPT-2 1558M's has 2,500; each can stand for a Python object
METADATA = "__metadata__"

# bfloat16, the upper half of a float32, is one that NumPy does not have.
DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "BOOL": "?"}
DTYPES |= {"I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
DTYPES |= {"U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8"}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items() if name != "BF16"}


class SafetensorsError(ValueError):
    """A file that cannot be read, or tensors that cannot be written: one line that says why."""


class Entry(NamedTuple):
    """What the header says of a tensor."""

    dtype: str
    shape: tuple
    begin: int  # in bytes, from the start of the buffer
    end: int


class Safetensors(Mapping):
    """{name: array} in the order of the header; an array is made when it is asked for.

    entries: {name: Entry}, what the header says of each
    metadata: {str: str}, what the file says of itself
    """

    def __init__(self, path, entries, buffer, metadata):
        self._path, self._buffer = path, buffer
        self.entries, self.metadata = entries, metadata

    def __len__(self):
        return len(self.entries)

    def __iter__(self):
        return iter(self.entries)

    def __contains__(self, name):
        return name in self.entries

    def __getitem__(self, name):
        entry = self.entries[name]
        if entry.dtype not in DTYPES:
            raise SafetensorsError(f"{self._path}: {name!r} is {entry.dtype}, not supported")
        array = self._buffer[entry.begin : entry.end].view(DTYPES[entry.dtype])
        if entry.dtype == "BF16":
            array = (array.astype("<u4") << 16).view("<f4")
        array = np.require(array.reshape(entry.shape), requirements="A")
        array.flags.writeable = False
        return array
        # speed: "A" is for aligned. BLAS would copy an array that is not, at every product; here it
        # is copied once. Files are usually filled up so that all are.


def read_safetensors(path):
    """The tensors of a file, as a read-only mapping {name: array}.

    The arrays are read-only views of a memory map: nothing is read before it is used. Only bfloat16
    is copied, to float32, and what does not lie at a multiple of its size. The header is checked in
    full. Tensors of other types, such as float8, are listed, and refused when they are asked for.
    Raises SafetensorsError, with the OSError as its cause where the file could not be read.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            length, rest = int.from_bytes(start, "little"), os.fstat(file.fileno()).st_size - 8
            if len(start) < 8 or length > min(MAX_HEADER, rest):
                claim = f"its header claims {length} bytes" if len(start) == 8 else "it is cut off"
                raise SafetensorsError(
                    f"not a safetensors file: {claim}, and {max(rest, 0)} follow"
                )
            entries, metadata = parse_header(file.read(length), rest - length)
            # Of this open file: by now there may be another of its name.
            buffer = np.memmap(file, np.uint8, mode="r")[8 + length :]
        if len(buffer) != rest - length:
            raise SafetensorsError("it changed while it was read")
        return Safetensors(path, entries, buffer, metadata)
    except OSError as error:
        raise SafetensorsError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # a file that became shorter is one for np.memmap
        raise SafetensorsError(f"{path}: {error}") from None


def parse_header(header, n_buffer):
    """({name: Entry}, metadata) of a header (bytes), before a buffer of n_buffer bytes.

    Raises SafetensorsError that names the first tensor that cannot be.
    """
    if header.count(b",") > MAX_COMMAS or header.count(b"[") > MAX_COMMAS:
        raise SafetensorsError("its header has more in it than a model's can have")
    try:
        described = json.loads(header.decode("utf-8"), object_pairs_hook=dict_of_unique)
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"its header is not JSON in UTF-8: {error}") from None
    if header[:1] != b"{":
        raise SafetensorsError("its header is not a JSON object")
    metadata = described.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(type(v) is str for v in metadata.values()):
        raise SafetensorsError(f"{METADATA} in its header is not texts under names")
    entries = {name: parse_entry(name, value) for name, value in described.items()}
    place = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != place:
            problem = "a hole before" if entry.begin > place else "an overlap at"
            raise SafetensorsError(f"there is {problem} {name!r}, at byte {place} of the buffer")
        place = entry.end
    if place != n_buffer:
        raise SafetensorsError(f"its tensors have {place} bytes, and its buffer {n_buffer}")
    return entries, metadata


def dict_of_unique(pairs):
    """The dict of a JSON object's pairs; ValueError where a name is there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r:.80} is there twice")
    return found


def parse_entry(name, value):
    """The Entry of a tensor, from its value in the header. Raises SafetensorsError."""
    refusal = f"the header's entry of {name!r:.80} is {value!r:.80}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(f"{refusal}, expected dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or not is_sizes(shape) or not is_sizes(offsets):
        raise SafetensorsError(f"{refusal}, expected a text and two lists of whole numbers")
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise SafetensorsError(f"{refusal}, whose data_offsets are no begin and end")
    if math.prod(n for n in shape if n) >= 2**60:  # NumPy refuses it even where one is 0
        raise SafetensorsError(f"{refusal}, which is too large")
    entry = Entry(dtype, tuple(shape), *offsets)
    n_bytes = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize if dtype in DTYPES else None
    if n_bytes not in (None, entry.end - entry.begin):
        raise SafetensorsError(f"{refusal}: {dtype} of this shape has {n_bytes} bytes")
    return entry


def is_sizes(value):
    """Whether this is a list, not longer than NumPy's shapes, of what can be lengths."""
    return (
        isinstance(value, list)
        and len(value) <= 32
        and all(type(n) is int and 0 <= n < 2**60 for n in value)
    )


def write_safetensors(path, tensors, metadata=None):
    """Write {name: array} as a file, whole or not at all.

    Tensors of larger elements come first, so that each lies at a multiple of its size; of equal
    ones those of the lesser name. metadata: {str: str}. Raises SafetensorsError for what the format
    does not have, and OSError.
    """
    described = {} if metadata is None else {METADATA: metadata}
    chosen, place = [], 0
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        dtype = NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None or name == METADATA:
            raise SafetensorsError(f"{path}: {name!r} is {array.dtype}, which cannot be written")
        offsets = [place, place := place + array.nbytes]
        described[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        chosen.append((array, DTYPES[dtype]))
    header = json.dumps(described, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)

    def write(file):
        file.write(len(header).to_bytes(8, "little") + header)
        for array, dtype in chosen:
            file.write(np.ascontiguousarray(array, dtype).data)

    write_whole({Path(path): write})
