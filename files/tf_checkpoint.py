"""TensorFlow's V2 checkpoint format, read and written with nothing but NumPy.

A checkpoint such as "model.ckpt" is a prefix that its files share. The tensors' bytes lie raw, one
after the other, in `model.ckpt.data-00000-of-00001` (or in several such shards). What they are is
said in `model.ckpt.index`, a table of keys and values sorted by key, as in LevelDB:

    data block 0        name of a tensor -> its dtype, shape, shard, offset, size and checksum
    data block 1, ...   the names that follow
    metaindex block     empty here
    index block         for each data block: a key not before its last one -> where it lies
    footer, 48 bytes    where the metaindex block and the index block lie; a magic number

It is read from its end, and this file goes the same way down: footer, blocks, the entries in them,
the protocol buffers in these, tensors. Then come the checksum and the writer. All numbers are
little-endian.

Sources: TensorFlow's tensorflow/core/util/tensor_bundle and core/protobuf/tensor_bundle.proto,
LevelDB's doc/table_format.md, Snappy's format_description.txt, protobuf.dev's "Encoding",
RFC 3720 appendix B.4 (CRC-32C).
"""

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from files.whole import write_whole

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER_SIZE = 48
TRAILER_SIZE = 5  # of a block: one byte for its compression, four for its checksum
PLAIN, SNAPPY = 0, 1

# A damaged file may claim anything; these are far beyond what a true one needs
# (GPT-2 1558M has 580 tensors and an index of about 20 kB).
MAX_INDEX = 1 << 22  # bytes: of the file, of one block, of all names and entries together
MAX_TENSORS = 1 << 16
MAX_DIMS = 32  # as many as NumPy 1 can hold

# DataType in tensorflow/core/framework/types.proto. bfloat16 is the upper half of a float32.
BFLOAT16 = 14
DTYPES = {1: "<f4", 2: "<f8", 19: "<f2", BFLOAT16: "<u2", 10: "?"}
DTYPES |= {6: "i1", 5: "<i2", 3: "<i4", 9: "<i8", 4: "u1", 17: "<u2", 22: "<u4", 23: "<u8"}
WRITTEN_DTYPES = {np.dtype("<f4"): 1, np.dtype("<f2"): 19}


class CheckpointError(ValueError):
    """A checkpoint cannot be read or written: one line that says which file, and why."""


class Entry(NamedTuple):
    """What the index says about one tensor (BundleEntryProto)."""

    dtype: int
    shape: tuple
    shard: int
    offset: int  # in bytes, from the start of the shard
    size: int  # in bytes
    crc32c: int  # of these bytes, masked


class Checkpoint(Mapping):
    """{name: array}, in the order of the index; an array is made when it is asked for."""

    def __init__(self, prefix, entries, shards):
        self._prefix, self._entries, self._shards = prefix, entries, shards

    def __len__(self):
        return len(self._entries)

    def __iter__(self):
        return iter(self._entries)

    def __contains__(self, name):
        return name in self._entries

    def __getitem__(self, name):
        entry = self._entries[name]
        refusal = f"{self._prefix}: {name!r} has TensorFlow's DataType {entry.dtype}, not supported"
        _require(entry.dtype in DTYPES, f"{refusal} (only floats, integers and bool are)")
        array = self._bytes(entry).view(DTYPES[entry.dtype]).reshape(entry.shape)
        if entry.dtype == BFLOAT16:
            array = (array.astype("<u4") << 16).view("<f4")
            array.flags.writeable = False
        return array

    def _bytes(self, entry):
        return self._shards[entry.shard][entry.offset : entry.offset + entry.size]

    def verify(self):
        """Compare the bytes of every tensor of a supported type with their checksum."""
        for name, entry in self._entries.items():
            if entry.dtype in DTYPES and _masked_crc32c(self._bytes(entry)) != entry.crc32c:
                damage = f"the bytes of {name!r} do not match their checksum"
                raise CheckpointError(f"{self._prefix}.data-*: {damage}")


def read_checkpoint(prefix, verify=False):
    """The tensors of the checkpoint at `prefix`, as a read-only mapping {name: array}.

    The arrays are read-only views of one memory map per shard (only bfloat16 is copied, to
    float32): nothing is read before it is used. The index is always checked in full, against
    its checksums and against the size of the data; `verify=True` also reads every tensor and
    checks its CRC-32C. Tensors of unsupported types, such as strings, are listed, and refused
    when asked for. Raises CheckpointError.
    """
    index_path = Path(f"{prefix}.index")
    with _errors_of(index_path):
        _require(index_path.is_file(), _why_no_index(prefix))
        before = index_path.stat()
        with open(index_path, "rb") as file:
            n_shards, entries = parse_index(file.read(MAX_INDEX + 1))

    shards = {}
    for shard in sorted({entry.shard for entry in entries.values()}):
        path = Path(f"{prefix}.data-{shard:05d}-of-{n_shards:05d}")
        with _errors_of(path):
            shards[shard] = map_shard(path, {k: e for k, e in entries.items() if e.shard == shard})

    with _errors_of(index_path):
        # A writer takes the old index away before it touches the data: see `_swap_in`.
        after = index_path.stat()
        same = (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        _require(same, "was replaced while it was being read, try again")
    checkpoint = Checkpoint(prefix, entries, shards)
    if verify:
        checkpoint.verify()
    return checkpoint


def _require(condition, message):
    """Raise CheckpointError with a message unless a condition holds."""
    if not condition:
        raise CheckpointError(message)


@contextlib.contextmanager
def _errors_of(path):
    """Whatever is wrong with the file becomes a CheckpointError that names it."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{error.filename or path}: {error.strerror or error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _why_no_index(prefix):
    if Path(prefix).is_file():
        advice = "leave out .index or .data-..., and save a V1 checkpoint (one file) again as V2"
        return f"no such file, but {prefix} is one: {advice}"
    return "no such file, or not a regular one"


def _looks_like(head):
    """What was fetched in place of a checkpoint's file, as its first bytes show."""
    if head.startswith(b"version https://git-lfs"):
        return "; this is a git-LFS pointer, run `git lfs pull`"
    if head.lstrip().startswith(b"<"):
        return "; this is an HTML or XML page, fetch the file itself"
    return ""


def map_shard(path, entries):
    """The bytes of a data file, mapped into memory, after a check that the tensors lie in it."""
    _require(path.is_file(), "no such file, or not a regular one, but the index refers to it")
    data = np.empty(0, np.uint8)  # an empty file cannot be mapped
    if path.stat().st_size > 0:
        data = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].offset):
        _require(entry.size == 0 or entry.offset >= end, f"{name!r} overlaps another tensor")
        end = max(end, entry.offset + entry.size)
        if end > data.size:
            hint = _looks_like(data[:64].tobytes())
            raise CheckpointError(f"cut short at {data.size} bytes, {name!r} ends at {end}{hint}")
    return data


def parse_index(table):
    """The number of shards and {name: Entry}, in the order of the names, of an index file.

    Key "" comes first and holds a BundleHeaderProto; every other key is the name of a tensor.
    """
    _require(len(table) <= MAX_INDEX, f"larger than any index ({MAX_INDEX} bytes)")
    pairs = _bounded(_table_entries(table))
    key, value = next(pairs, (None, None))
    _require(key == b"", "it has no header")
    header = _parse_message(value)
    n_shards, endianness = _number(header, 1), _number(header, 2)
    _require(endianness == 0, "it is big-endian, which is not supported")
    for version in header.get(3, []):
        min_consumer = _number(_parse_message(version), 2)
        _require(min_consumer <= 1, "it asks for a reader of a later version of the format")

    entries = {key: _parse_entry(key, value, n_shards) for key, value in pairs}
    try:
        return n_shards, {key.decode(): entry for key, entry in entries.items()}
    except UnicodeDecodeError as error:
        raise CheckpointError(f"a name that is not UTF-8: {error.object!r}") from None


def _table_entries(table):
    """Yield every (key, value) of a sorted table, block by block.

    A block is found by its handle, two varints: offset and size. The blocks have to fill the
    table end to end, so no two handles can name the same bytes.
    """
    handles, magic = table[-FOOTER_SIZE : -len(MAGIC)], table[-len(MAGIC) :]
    if len(table) < FOOTER_SIZE or magic != MAGIC:
        raise CheckpointError(f"not the index of a checkpoint{_looks_like(table[:64])}")
    metaindex, at = _parse_handle(handles, 0)
    index, at = _parse_handle(handles, at)
    _require(not any(handles[at:]), "the footer is not padded with zeros")

    index_entries = list(_bounded(_block_entries(_read_block(table, index))))
    blocks = [_parse_handle(value, 0)[0] for _, value in index_entries]
    end = 0
    for offset, size in [*blocks, metaindex, index]:
        _require(offset == end, "its blocks do not lie end to end")
        end = offset + size + TRAILER_SIZE
    _require(end == len(table) - FOOTER_SIZE, "its blocks do not end at its footer")
    _require(not any(_block_entries(_read_block(table, metaindex))), "its metaindex is not empty")

    previous = None
    for (last_key, _), block in zip(index_entries, blocks, strict=True):
        for key, value in _block_entries(_read_block(table, block)):
            is_sorted = (previous is None or previous < key) and key <= last_key
            _require(is_sorted, "its keys are not sorted")
            yield key, value
            previous = key
        previous = last_key


def _bounded(pairs):
    """Pass (key, value) pairs on, up to a limit: a few compressed bytes can stand for many."""
    total = 0
    for count, (key, value) in enumerate(pairs):
        total += len(key) + len(value)
        if count > MAX_TENSORS or total > MAX_INDEX:
            raise CheckpointError(f"it claims over {MAX_TENSORS} names, or far too long ones")
        yield key, value


def _parse_handle(buffer, at):
    """The (offset, size) that `buffer` holds at `at`, and where they end."""
    offset, at = _parse_varint(buffer, at)
    size, at = _parse_varint(buffer, at)
    return (offset, size), at


def _read_block(table, handle):
    """A block's contents; behind them stand the compression and a checksum of both."""
    contents, at = _slice(table, *handle)
    trailer, _ = _slice(table, at, TRAILER_SIZE)
    if _masked_crc32c(contents + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise CheckpointError(f"damaged: the block at {handle[0]} does not match its checksum")
    _require(trailer[0] in (PLAIN, SNAPPY), f"a block has unknown compression {trailer[0]}")
    return _uncompress_snappy(contents) if trailer[0] == SNAPPY else contents


def _block_entries(block):
    """Yield the (key, value) pairs of a block.

    A key is stored as the number of bytes that it shares with the key before it, and the rest.
    Now and then one shares nothing, so that a search can start there: the offsets of these
    entries, the restarts, follow the entries as uint32, and last comes their number.
    """
    n_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (n_restarts + 1)
    _require(n_restarts > 0 and end >= 0, "a block's restarts do not fit in")
    restarts = iter(np.frombuffer(block, "<u4", n_restarts, end))
    restart = next(restarts)
    _require(restart == 0, "a block's first restart is not 0")

    entries, key, at = block[:end], b"", 0
    while at < end:
        start = at
        n_shared, at = _parse_varint(entries, at)
        n_rest, at = _parse_varint(entries, at)
        n_value, at = _parse_varint(entries, at)
        if start == restart:
            key, restart = b"", next(restarts, None)
        _require(n_shared <= len(key), "a key shares more than there is")
        rest, at = _slice(entries, at, n_rest)
        value, at = _slice(entries, at, n_value)
        key = key[:n_shared] + rest
        yield key, value
    _require(end == 0 or restart is None, "a block's restart is not the start of an entry")


def _uncompress_snappy(block):
    """Undo Snappy: the length as a varint, then literal bytes and copies of earlier ones.

    The low two bits of a tag say which: 0 a literal; 1, 2, 3 a copy from 11, 16 or 32 bits
    back. A copy may run into its own result: 1 back, 4 long repeats a byte four times.
    """
    length, at = _parse_varint(block, 0)
    plausible = length <= min(MAX_INDEX, 22 * len(block))  # 3 bytes make 64 at most
    _require(plausible, f"{len(block)} compressed bytes claim to be {length}")
    out = bytearray()
    while at < len(block) and len(out) <= length:
        tag, at = block[at], at + 1
        kind, size = tag & 3, (tag >> 2) + 1
        if kind == 0:
            if size > 60:  # then 1 to 4 bytes of size follow
                extra, at = _slice(block, at, size - 60)
                size = int.from_bytes(extra, "little") + 1
            literal, at = _slice(block, at, size)
            out += literal
        else:
            extra, at = _slice(block, at, (1, 2, 4)[kind - 1])
            distance = int.from_bytes(extra, "little")
            if kind == 1:
                distance, size = distance | tag >> 5 << 8, (tag >> 2 & 7) + 4
            _require(0 < distance <= len(out), "a compressed block copies from outside of itself")
            source = len(out) - distance
            copied = out[source : source + size]
            out += (copied * (size // len(copied) + 1))[:size]
    _require(len(out) == length, "a compressed block is not as long as it claims")
    return bytes(out)


def _slice(buffer, at, size):
    """The `size` bytes of `buffer` at `at`, and where they end."""
    if at + size > len(buffer):
        raise CheckpointError(f"damaged or cut short: {size} bytes do not fit where they should be")
    return buffer[at : at + size], at + size


def _parse_varint(buffer, at):
    """The number at `at`, and where it ends: digits to base 128, the lowest first.

    All digits but the last have their top bit set.
    """
    value = 0
    for shift in range(0, 70, 7):
        _require(at < len(buffer), "damaged or cut short within a number")
        digit, at = buffer[at], at + 1
        value |= (digit & 127) << shift
        if digit < 128:
            is_shortest = digit > 0 or shift == 0
            _require(is_shortest and value < 1 << 64, "a number is longer than it may be")
            return value, at
    raise CheckpointError("a number does not end")


# A protocol buffer is a sequence of fields: a varint, 8 * number + wire type, and the value.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def _parse_message(message):
    """{field number: [value, ...]} of a protocol buffer.

    A value is an int, or bytes where it is a text or another message.
    """
    _require(isinstance(message, bytes), "a number stands where a message should")
    fields, at = {}, 0
    while at < len(message):
        tag, at = _parse_varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            value, at = _parse_varint(message, at)
        elif wire_type == BYTES:
            size, at = _parse_varint(message, at)
            value, at = _slice(message, at, size)
        elif wire_type in (FIXED32, FIXED64):
            value, at = _slice(message, at, 4 if wire_type == FIXED32 else 8)
            value = int.from_bytes(value, "little")
        else:
            raise CheckpointError(f"a field of unknown wire type {wire_type}")
        fields.setdefault(number, []).append(value)
    return fields


def _number(fields, number):
    """The number in a field: 0 where it is absent, the last where it is repeated."""
    value = fields.get(number, [0])[-1]
    _require(isinstance(value, int), "bytes stand where a number should (a V1 checkpoint?)")
    return value


def _parse_entry(key, value, n_shards):
    """The Entry for a tensor, from its BundleEntryProto, checked as far as it can be by itself."""
    name = key.decode(errors="replace")
    fields = _parse_message(value)
    _require(7 not in fields, f"{name!r} is partitioned (saved in slices), which is not supported")
    shape = tuple(
        _number(_parse_message(dim), 1)
        for shape in fields.get(2, [])
        for dim in _parse_message(shape).get(2, [])
    )
    dtype, shard, offset, size, crc = (_number(fields, number) for number in (1, 3, 4, 5, 6))
    _require(dtype != 0, f"{name!r} has no dtype")
    _require(shard < n_shards, f"{name!r} is said to be in shard {shard} of {n_shards}")
    possible = len(shape) <= MAX_DIMS and math.prod(dim or 1 for dim in shape) < 1 << 60
    _require(possible, f"{name!r} has an impossible shape")
    if dtype in DTYPES:
        wanted = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        _require(size == wanted, f"{name!r} has {size} bytes, but its shape {shape} takes {wanted}")
    return Entry(dtype, shape, shard, offset, size, crc)


# The divisor of CRC-32C, x^32 + x^28 + x^27 + ... + x^6 + 1: bit k stands for x^k.
POLYNOMIAL = 0x11EDC6F41
DISTANCES = [32 - power for power in range(32) if POLYNOMIAL >> power & 1]  # of terms to x^32


def crc32c(data):
    """The CRC-32C of bytes or of an array's bytes, as an int.

    It is the remainder of a long division. The bits of the message are the coefficients of a
    polynomial over GF(2), where adding and subtracting are both XOR, and the divisor is
    P(x) = x^32 + x^28 + x^27 + ... + 1. To cancel the leading term x^(k+32), subtract x^k P(x):
    that flips one more bit for each lower term of P. Then cancel the next, bit by bit, down to
    a remainder of 32 bits. (And two details: 32 zeros are appended to the message beforehand;
    its first 32 bits are inverted, and so is the remainder.)

    NumPy would rather cancel many bits at once. Over GF(2), squaring a sum squares its terms,
    as 2ab = 0: so P(x)^2 = P(x^2), and P(x)^n = P(x^n) for every power of two n. This is a
    multiple of P(x), so dividing by it first leaves the remainder by P(x) unchanged; and to
    divide by P(x^n) is the same long division, with rows of n bits in place of single bits.
    Hence: divide with long rows, until 32 are left; halve the rows; divide again. (Within a
    byte the lowest bit comes first, which only matters once the rows are shorter than bytes.)
    """
    data = _bytes_of(data)
    if data.size < 1024:
        return _crc32c_by_bytes(data, 0xFFFFFFFF)
    remainder, chunk = ~data[:4], 1 << 20  # inverts the first 32 bits; a megabyte at a time
    for start in range(4, data.size, chunk):
        message = np.concatenate([remainder, data[start : start + chunk]])
        remainder = _divide(message, row_size=1 << 14)
    for log2_row_size in range(13, 3, -1):
        remainder = _divide(remainder, 1 << log2_row_size)
    return _crc32c_by_bytes(remainder, 0)


def _divide(message, row_size):
    """The remainder of `message` by P(x^(8 row_size)): 32 rows of `row_size` bytes, or less.

    P has no x^31, x^30 and x^29, so a row changes none of the three below it: four go at once.
    """
    excess, step = message.size - 32 * row_size, 4 * row_size
    if excess <= 0:
        return message
    if excess % step:  # zeros in front change nothing
        message = np.concatenate([np.zeros(-excess % step, np.uint8), message])
    for start in range(0, message.size - 32 * row_size, step):
        leading = message[start : start + step]
        for distance in DISTANCES:
            below = start + distance * row_size
            message[below : below + step] ^= leading
    return message[-32 * row_size :]


def _crc32c_by_bytes(data, register):
    """The textbook's loop, 8 bits of the division at a time; here bit 31 - k stands for x^k."""
    for byte in data.tobytes():
        register = register >> 8 ^ BYTE_REMAINDERS[(register ^ byte) & 0xFF]
    return register ^ 0xFFFFFFFF


def _divide_byte(register):
    """The remainder of a single byte: what it adds to the register eight bits later."""
    reversed_polynomial = int(f"{POLYNOMIAL:b}"[:0:-1], 2)
    for _ in range(8):
        register = register >> 1 ^ (reversed_polynomial if register & 1 else 0)
    return register


BYTE_REMAINDERS = [_divide_byte(byte) for byte in range(256)]


def _bytes_of(data):
    """The bytes of `data`, in C order, as an array of uint8."""
    array = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _masked_crc32c(data):
    """The CRC-32C as it is stored: changed, since the CRC of data with its CRC is a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_checkpoint(prefix, tensors, beside=None):
    """Write {name: array of float32 or float16} as a checkpoint of one shard.

    beside: {path: content} of files that belong to these weights alone, such as the vocabulary (see
        files/whole.py); they take their names in this order, before the weights do

    All files are written whole under temporary names, *.tmp, before the first takes the place of
    one that was there; when anything fails until then, nothing has changed. After that there is no
    index until all others have their names: a process that is killed leaves the old files, or the
    new ones, or no checkpoint that could be read. The arrays may be views of the old one. There
    must not be two writers at once. Raises CheckpointError.
    """
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"{prefix}: more than {MAX_TENSORS} tensors could not be read again")
    for name, tensor in tensors.items():
        is_text = isinstance(name, str) and name.encode(errors="ignore").decode() == name
        if not is_text or not name:
            raise CheckpointError(f"{prefix}: {name!r} cannot be the name of a tensor")
        if getattr(tensor, "dtype", None) not in WRITTEN_DTYPES:
            raise CheckpointError(f"{prefix}: {name!r} is not an array of float32 or float16")
    pairs = sorted((name.encode(), tensor) for name, tensor in tensors.items())
    index, data = Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")
    contents = {
        **(beside or {}),
        data: lambda file: file.writelines(_bytes_of(tensor) for _, tensor in pairs),
        index: lambda file: file.write(_build_table(_build_entries(pairs))),
    }
    for path in contents:
        _require(not path.is_dir(), f"{path}: is a directory")
    with _errors_of(index):
        write_whole(contents, rename=_swap_in)


def _swap_in(temporary):
    """Give all files their names, with no moment at which an index is beside what is not its own.

    temporary: {temporary name: name}, the index last. A reader that comes in between finds none.
    """
    parts = list(temporary)
    index = temporary[parts[-1]]
    old_index = Path(f"{index}.old")
    old_index.unlink(missing_ok=True)
    try:
        if index.exists():
            os.replace(index, old_index)
        for part in parts:
            os.replace(part, temporary[part])
    except BaseException:
        # An interrupt must not cost both. Where a file cannot take its name, there is no index.
        with contextlib.suppress(OSError):
            if parts[0].exists():
                os.replace(old_index, index)
            else:
                for part in filter(Path.exists, parts):
                    os.replace(part, temporary[part])
        raise
    finally:
        if index.exists():
            old_index.unlink(missing_ok=True)


def _build_entries(pairs):
    """The index's [(key, value)] for [(key, array)], which lie in the data file in that order."""
    header = _build_field(1, 1) + _build_field(3, _build_field(1, 1))  # one shard, version 1
    entries, offset = [(b"", header)], 0
    for key, array in pairs:
        data = _bytes_of(array)
        shape = b"".join(_build_field(2, _build_field(1, dim)) for dim in array.shape)
        value = _build_field(1, WRITTEN_DTYPES[array.dtype]) + _build_field(2, shape)
        value += _build_field(4, offset) + _build_field(5, data.size)
        value += bytes([8 * 6 + FIXED32]) + _masked_crc32c(data).to_bytes(4, "little")
        entries.append((key, value))
        offset += data.size
    return entries


def _build_field(number, value):
    """A field of a protocol buffer, of a number or of bytes; the number 0 is not written."""
    if isinstance(value, bytes):
        return _build_varint(8 * number + BYTES) + _build_varint(len(value)) + value
    return _build_varint(8 * number + VARINT) + _build_varint(value) if value else b""


def _build_varint(value):
    """A number as digits to base 128: what `_parse_varint` reads."""
    digits = b""
    while value >= 128:
        digits += bytes([value & 127 | 128])
        value >>= 7
    return digits + bytes([value])


def _build_table(entries):
    """The table for sorted [(key, value)]; its blocks have up to 1024 entries."""
    table, index = bytearray(), []

    def append(entries):
        """Append a block and return its handle."""
        block = _build_block(entries)
        handle = _build_varint(len(table)) + _build_varint(len(block))
        block += bytes([PLAIN])
        table.extend(block + _masked_crc32c(block).to_bytes(4, "little"))
        return handle

    for start in range(0, len(entries), 1024):
        block = entries[start : start + 1024]
        index.append((block[-1][0], append(block)))
    handles = append([]) + append(index)
    return bytes(table) + handles.ljust(FOOTER_SIZE - len(MAGIC), b"\0") + MAGIC


def _build_block(entries):
    """A block in which no key shares bytes with the one before, so that all are restarts."""
    block, restarts = bytearray(), []
    for key, value in entries:
        restarts.append(len(block))
        block += _build_varint(0) + _build_varint(len(key)) + _build_varint(len(value))
        block += key + value
    restarts = restarts or [0]
    return bytes(block) + np.array([*restarts, len(restarts)], "<u4").tobytes()
