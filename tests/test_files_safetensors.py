"""The safetensors format: what its own library wrote, and files that are wrong on purpose."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from files import safetensors
from files.safetensors import (
    MAX_COMMAS,
    MAX_HEADER,
    SafetensorsError,
    read_safetensors,
    write_safetensors,
)

FOLDERS = Path(__file__).parent / "fixtures" / "huggingface"
RNG = np.random.default_rng(0)
TENSORS = {
    "f4": RNG.standard_normal((2, 3)).astype(np.float32),
    "f2": RNG.standard_normal(5).astype(np.float16),
    "f8": RNG.standard_normal((1, 2, 2)),
    "i1": np.int8([-128, 127]),
    "i2": np.int16([[-2]]),
    "i4": np.int32([7, -7]),
    "i8": np.int64(-(2**62)),
    "u1": np.uint8([0, 255]),
    "u2": np.uint16([65535]),
    "u4": np.uint32([2**32 - 1]),
    "u8": np.uint64([2**64 - 1]),
    "bool": np.array([True, False, True]),
    "nothing": np.zeros((0, 4), np.float32),
    "scalar": np.array(2.5, np.float32),
    "ключ 🐺": np.ones(1, np.float32),
}


def write_raw(path, header, buffer=b"", length=None):
    """A file of a header, JSON or bytes as they are, that claims to be of this length."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(header) if length is None else length
    path.write_bytes(struct.pack("<Q", length) + header + buffer)
    return path


def entry(begin, end, dtype="U8", shape=None):
    return {
        "dtype": dtype,
        "shape": [end - begin] if shape is None else shape,
        "data_offsets": [begin, end],
    }


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, TENSORS, metadata={"format": "pt", "": "é"})
    found = read_safetensors(path)
    assert set(found) == set(TENSORS) and len(found) == len(TENSORS)
    assert found.metadata == {"format": "pt", "": "é"}
    for name, array in TENSORS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert np.array_equal(found[name], array) and name in found
        assert not found[name].flags.writeable and found[name].flags.aligned
    with pytest.raises(KeyError):
        found["of no such name"]


def test_what_the_library_wrote_is_written_with_the_same_bytes(tmp_path):
    """Of a file of the safetensors library, header and all, but for how its JSON is written."""
    for path in FOLDERS.rglob("*.safetensors"):
        found = read_safetensors(path)
        if any(found.entries[name].dtype == "BF16" for name in found):
            continue  # NumPy has none
        copy = tmp_path / "x.safetensors"
        write_safetensors(copy, found, found.metadata)
        assert copy.read_bytes() == path.read_bytes(), path


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    values = np.float32([1.0, -2.5, 3.140625, np.inf, 1e-40])
    upper = (values.view("<u4") >> 16).astype("<u2").tobytes()
    path = write_raw(tmp_path / "x", {"x": entry(0, 10, "BF16", [5])}, upper)
    found = read_safetensors(path)["x"]
    assert found.dtype == np.float32 and not found.flags.writeable
    assert np.array_equal(found, (values.view("<u4") >> 16 << 16).view("<f4"))


def test_nothing_is_read_before_it_is_used(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"x": np.ones(4, np.float32)})
    base = read_safetensors(path)["x"]
    while not isinstance(base, np.memmap):
        base = base.base
    assert Path(base.filename) == path


def test_what_is_not_aligned_is_copied(tmp_path):
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
    header += b'"x":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}'
    path = write_raw(tmp_path / "x", header, b"\0" + np.float32(1.5).tobytes())
    found = read_safetensors(path)["x"]
    assert found.flags.aligned and found == 1.5


def test_types_that_numpy_lacks_are_listed_and_refused_when_asked_for(tmp_path):
    header = {"a": entry(0, 3, "F8_E4M3"), "b": entry(3, 7, "F32", [1])}
    found = read_safetensors(write_raw(tmp_path / "x", header, bytes(7)))
    assert list(found) == ["a", "b"] and found["b"] == 0
    with pytest.raises(SafetensorsError, match=r"x: 'a' is F8_E4M3, not supported$"):
        found["a"]


def test_spaces_may_fill_up_the_header_and_an_order_of_its_own_is_kept(tmp_path):
    header = json.dumps({"z": entry(2, 3), "a": entry(0, 2)}).encode() + b"  "
    found = read_safetensors(write_raw(tmp_path / "x", header, b"\1\2\3"))
    assert list(found) == ["z", "a"] and found["a"].tolist() == [1, 2] and found["z"] == 3


def test_a_file_without_tensors_is_one(tmp_path):
    assert dict(read_safetensors(write_raw(tmp_path / "x", {}))) == {}
    assert read_safetensors(write_raw(tmp_path / "x", {"__metadata__": {"a": "b"}})).metadata


WRONG = {
    "nothing": (b"", b"", 0, "not JSON"),
    "a list": ([], b"", None, "not a JSON object"),
    "no UTF-8": (b'{"\xff":1}', b"", None, "not JSON in UTF-8"),
    "half a surrogate": (b'{"\\ud800": 3}', b"", None, "entry of"),
    "spaces first": (b" {}", b"", None, "not a JSON object"),
    "cut off": (b'{"x":', b"", None, "not JSON"),
    "longer than the file": ({}, b"", 3, "claims 3 bytes, and 2 follow"),
    "longer than anything": ({}, b"", 2**64 - 1, "claims 18446744073709551615 bytes"),
    "nested": (b"[" * (MAX_COMMAS + 1), b"", None, "has more in it than a model's"),
    "nested in a tensor": (b'{"x":' + b"[" * 50_000, b"", None, "not JSON"),
    "nested objects": (b'{"x":' * 60_000, b"", None, "not JSON"),
    "too many": (b'{"x":[' + b"0," * (MAX_COMMAS + 1) + b"0]}", b"", None, "has more in it than"),
    "too large": ({"x": entry(0, 0, "U8", [0, 2**59, 2**59])}, b"", None, "which is too large"),
    "huge number": (b'{"x":' + b"9" * 5000 + b"}", b"", None, "not JSON"),
    "twice": (b'{"x":{},"y":{},"x":{}}', b"", None, "'x' is there twice"),
    "twice inside": (b'{"x":{"dtype":"U8","dtype":"U8"}}', b"", None, "'dtype' is there twice"),
    "hole at the start": ({"x": entry(1, 2)}, b"\0\0", None, "a hole before 'x', at byte 0"),
    "hole": ({"x": entry(0, 1), "y": entry(2, 3)}, bytes(3), None, "a hole before 'y', at byte 1"),
    "overlap": (
        {"x": entry(0, 2), "y": entry(1, 3)},
        bytes(3),
        None,
        "an overlap at 'y', at byte 2",
    ),
    "same place": ({"x": entry(0, 2), "y": entry(0, 2)}, bytes(2), None, "an overlap at"),
    "rest": ({"x": entry(0, 2)}, bytes(3), None, "have 2 bytes, and its buffer 3"),
    "no rest": ({"x": entry(0, 2)}, bytes(1), None, "have 2 bytes, and its buffer 1"),
    "backwards": (
        {"x": {"dtype": "U8", "shape": [0], "data_offsets": [2, 1]}},
        b"",
        None,
        "no begin and end",
    ),
    "three offsets": (
        {"x": {"dtype": "U8", "shape": [], "data_offsets": [0, 1, 2]}},
        b"",
        None,
        "no begin",
    ),
    "wrong size": ({"x": entry(0, 3, "F32", [1])}, bytes(3), None, "F32 of this shape has 4 bytes"),
    "no shape": ({"x": {"dtype": "U8", "data_offsets": [0, 1]}}, bytes(1), None, "expected dtype"),
    "more": ({"x": entry(0, 1) | {"y": 1}}, bytes(1), None, "expected dtype"),
    "negative": ({"x": entry(0, 1, "U8", [-1])}, bytes(1), None, "whole numbers"),
    "fraction": ({"x": entry(0, 1, "U8", [1.0])}, bytes(1), None, "whole numbers"),
    "truth": ({"x": entry(0, 1, "U8", [True])}, bytes(1), None, "whole numbers"),
    "too long": ({"x": entry(0, 0, "U8", [0, 2**60])}, b"", None, "whole numbers"),
    "too many axes": ({"x": entry(0, 1, "U8", [1] * 33)}, bytes(1), None, "whole numbers"),
    "offset text": ({"x": {"dtype": "U8", "shape": [], "data_offsets": "01"}}, b"", None, "whole"),
    "dtype": ({"x": entry(0, 1, 8)}, bytes(1), None, "expected a text"),
    "not an entry": ({"x": 3}, b"", None, "the header's entry of 'x' is 3"),
    "metadata": ({"__metadata__": {"a": 1}}, b"", None, "not texts"),
    "metadata list": ({"__metadata__": ["a"]}, b"", None, "not texts"),
    "metadata null": ({"__metadata__": None}, b"", None, "not texts"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_is_one_line_that_names_the_file(tmp_path, kind):
    header, buffer, length, words = WRONG[kind]
    path = write_raw(tmp_path / "x", header, buffer, length)
    with pytest.raises(SafetensorsError) as refused:
        read_safetensors(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ") and words in line
    assert "\n" not in line and len(line) < 400


def test_a_header_longer_than_the_format_allows_is_refused(tmp_path):
    path = write_raw(tmp_path / "x", {}, length=MAX_HEADER + 1)
    with open(path, "r+b") as file:
        file.truncate(MAX_HEADER + 100)  # with holes, which take no room
    with pytest.raises(SafetensorsError, match=f"claims {MAX_HEADER + 1} bytes"):
        read_safetensors(path)


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(tmp_path, monkeypatch):
    path, other = tmp_path / "x", tmp_path / "y"
    write_safetensors(path, {"x": np.ones(4, np.float32)})
    write_safetensors(other, {"aaaaaaaaaaaaaaaaaaaa": np.zeros(9, np.float32)})
    parse = safetensors.parse_header

    def replace(*arguments):
        os.replace(other, path)
        return parse(*arguments)

    monkeypatch.setattr(safetensors, "parse_header", replace)
    assert read_safetensors(path)["x"].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("size", [0, 1, 7, 8])
def test_a_file_that_ends_before_its_header_is_refused(tmp_path, size):
    path = tmp_path / "x"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0"[:size])
    with pytest.raises(SafetensorsError, match=f"{path}: not a safetensors file"):
        read_safetensors(path)


def test_what_cannot_be_read_has_the_systems_reason_as_its_cause(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SafetensorsError, match=str(path)) as refused:
            read_safetensors(path)
        assert isinstance(refused.value.__cause__, OSError)


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": np.array(["a"])},
        {"x": np.array([None])},
        {"x": np.zeros(1, complex)},
        {"x": np.zeros(1, "M8[s]")},
        {"__metadata__": np.zeros(1)},
    ],
)
def test_what_the_format_does_not_have_is_not_written(tmp_path, tensors):
    with pytest.raises(SafetensorsError, match="cannot be written"):
        write_safetensors(tmp_path / "x", tensors)
    assert not list(tmp_path.iterdir())


def test_other_byte_orders_and_strides_are_written_as_the_format_has_them(tmp_path):
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    write_safetensors(tmp_path / "x", {"x": array.T, "y": array[:, ::2]})
    found = read_safetensors(tmp_path / "x")
    assert np.array_equal(found["x"], array.T) and np.array_equal(found["y"], array[:, ::2])


def test_ten_thousand_damaged_files_are_refused_or_read_as_what_they_say(tmp_path):
    """Cut off, flipped or overwritten: never another exception, never bytes of elsewhere."""
    rng = np.random.default_rng(3)
    write_safetensors(tmp_path / "x", TENSORS, metadata={"format": "pt"})
    whole = (tmp_path / "x").read_bytes()
    n_header = 8 + struct.unpack("<Q", whole[:8])[0]
    outcomes = {"refused": 0, "read": 0}
    for i in range(10_000):
        path = tmp_path / str(i)  # a new one, as many file systems are slow to cut one off
        damaged = bytearray(whole)
        kind = rng.integers(4)
        place = int(rng.integers(n_header + 20))
        if kind == 0:
            del damaged[int(rng.integers(len(whole))) :]
        elif kind == 1:
            damaged[place] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            damaged[place : place + 4] = rng.bytes(4)
        else:
            damaged[place:place] = rng.bytes(int(rng.integers(1, 9)))
        path.write_bytes(damaged)
        try:
            found = read_safetensors(path)
            arrays = [found[name] for name in found if found.entries[name].dtype in DTYPES_READ]
        except SafetensorsError as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
            outcomes["refused"] += 1
            continue
        finally:
            path.unlink()
        outcomes["read"] += 1
        entries = sorted((e.begin, e.end) for e in found.entries.values())
        assert (
            sum(end - begin for begin, end in entries)
            == len(damaged) - 8 - struct.unpack("<Q", damaged[:8])[0]
        )
        assert all(array.size < 1000 for array in arrays)
    assert outcomes["refused"] > 7000 and outcomes["read"] > 100


DTYPES_READ = {
    "F32",
    "F16",
    "BF16",
    "F64",
    "BOOL",
    "I8",
    "I16",
    "I32",
    "I64",
    "U8",
    "U16",
    "U32",
    "U64",
}
