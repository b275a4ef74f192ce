"""files/tf_checkpoint.py reads what TensorFlow wrote, refuses damage, writes all or nothing.

The golden files and what they hold come from fixtures/make_tf_checkpoints.py.
"""

import gzip
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from files import tf_checkpoint
from files.tf_checkpoint import CheckpointError, crc32c, read_checkpoint, write_checkpoint

FIXTURES = Path(__file__).parent / "fixtures"
DATA = "data-00000-of-00001"


def golden(name):
    with np.load(FIXTURES / f"{name}.npz") as expected:
        return dict(expected)


def assert_equal(tensors, expected):
    assert sorted(tensors) == sorted(expected)
    for name, array in expected.items():
        assert tensors[name].dtype == array.dtype, name
        assert tensors[name].shape == array.shape, name
        assert np.array_equal(tensors[name], array), name


@pytest.fixture
def copy(tmp_path):
    """copy(name) is the prefix of a copy of that golden checkpoint, to be damaged."""

    def make(name):
        for path in FIXTURES.glob(f"{name}.ckpt.*"):
            shutil.copy(path, tmp_path)
        return tmp_path / f"{name}.ckpt"

    return make


@pytest.mark.parametrize("name", ["one_block", "float16", "two_shards"])
def test_reads_what_tensorflow_wrote(name):
    tensors = read_checkpoint(FIXTURES / f"{name}.ckpt", verify=True)
    assert_equal(tensors, golden(name))
    assert_equal(dict(tensors.items()), golden(name))
    assert list(tensors) == sorted(tensors)
    assert len(tensors) == 16 and "model/wte" in tensors and "wte" not in tensors
    with pytest.raises(KeyError):
        tensors["wte"]


def test_reads_every_supported_dtype_and_refuses_others_by_name():
    tensors = read_checkpoint(str(FIXTURES / "mixed.ckpt"), verify=True)
    expected = golden("mixed")
    assert_equal({name: tensors[name] for name in expected}, expected)
    assert sorted(set(tensors) - set(expected)) == ["as_complex64", "as_string"]
    assert "as_string" in tensors
    assert not any(tensors[name].flags.writeable for name in expected)
    with pytest.raises(CheckpointError, match=r"mixed.ckpt: 'as_string' .*DataType 7"):
        tensors["as_string"]


def test_reads_several_blocks(copy):
    prefix = copy("several_blocks")
    table = gzip.decompress(Path(f"{prefix}.index.gz").read_bytes())
    Path(f"{prefix}.index").write_bytes(table)
    assert len(table) > 3 * 200_000
    assert_several_blocks(read_checkpoint(prefix, verify=True))


def test_reads_snappy():
    assert_several_blocks(read_checkpoint(FIXTURES / "snappy.ckpt", verify=True))


def assert_several_blocks(tensors):
    names = [f"{i:03d}" + "/a_scope_with_a_long_name" * 150 for i in range(200)]
    assert_equal(tensors, {name: np.float32([i, -i]) for i, name in enumerate(names)})


def test_refuses_a_partitioned_variable():
    with pytest.raises(CheckpointError, match=r"partitioned.ckpt.index: 'split/embedding' is part"):
        read_checkpoint(FIXTURES / "partitioned.ckpt")


def test_reads_the_reference_model(shared):
    tensors = read_checkpoint(shared("reference-model") / "model.ckpt", verify=True)
    assert sum(array.size for array in tensors.values()) * 4 == 12_447_744
    assert tensors["model/h5/attn/c_attn/w"].shape == (1, 192, 3 * 192)
    assert 0.9 < tensors["model/ln_f/g"].mean() < 10


def test_tensors_are_read_only_views_of_one_map():
    tensors = read_checkpoint(FIXTURES / "one_block.ckpt")
    owners = set()
    for array in tensors.values():
        assert not array.flags.writeable and not array.flags.owndata
        while isinstance(array.base, np.ndarray):
            array = array.base
        owners.add(id(array.base))
    assert len(owners) == 1


def crc32c_bit_by_bit(data):
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    "data, crc",
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # this and the following: RFC 3720, appendix B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_of_known_vectors(data, crc):
    assert crc32c(data) == crc


def test_crc32c_of_all_lengths_and_alignments():
    data = np.random.default_rng(0).integers(0, 256, 20_000, np.uint8)
    lengths = [*range(301), *range(1020, 1030), 2047, 2048, 2049, 16_385, 19_990]
    for length in lengths:
        start = length % 9
        part = data[start : start + length]
        assert crc32c(part) == crc32c_bit_by_bit(part.tobytes()), length


def test_crc32c_of_several_chunks():
    """The CRC of a message followed by its CRC is a constant, whatever the message."""
    rng = np.random.default_rng(0)
    for length in (1 << 19, (1 << 20) + 4, 2_500_001):
        data = rng.integers(0, 256, length, np.uint8)
        crc = np.frombuffer(crc32c(data).to_bytes(4, "little"), np.uint8)
        assert crc32c(np.concatenate([data, crc])) == 0x48674BC7
        data[length // 3] ^= 16
        assert crc32c(np.concatenate([data, crc])) != 0x48674BC7


def test_crc32c_of_an_array_is_that_of_its_bytes_in_c_order():
    array = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-2].T
    assert crc32c(array) == crc32c(array.tobytes())
    assert crc32c(np.float32(1)[()].reshape(())) == crc32c(np.float32(1).tobytes())


def refusal(prefix, **options):
    """The message with which a checkpoint is refused, in whole or in a tensor; or None."""
    try:
        tensors = read_checkpoint(prefix, **options)
        for name in tensors:
            tensors[name].sum()
    except CheckpointError as error:
        assert str(error).startswith(str(prefix)) and "\n" not in str(error)
        return str(error)


def block_handles(table):
    handles = table[-48:-8]
    metaindex, at = tf_checkpoint._parse_handle(handles, 0)
    index, _ = tf_checkpoint._parse_handle(handles, at)
    entries = tf_checkpoint._block_entries(tf_checkpoint._read_block(table, index))
    return [tf_checkpoint._parse_handle(value, 0)[0] for _, value in entries] + [metaindex, index]


def with_checksums(table, handles):
    """The table with checksums that fit its blocks, so that a mutation reaches the parser."""
    table = bytearray(table)
    for offset, size in handles:
        end = offset + size + 1
        crc = tf_checkpoint._masked_crc32c(bytes(table[offset:end]))
        table[end : end + 4] = crc.to_bytes(4, "little")
    return bytes(table)


def test_every_flipped_bit_of_an_index_is_refused():
    table = (FIXTURES / "mixed.ckpt.index").read_bytes()
    for i in range(8 * len(table)):
        damaged = bytearray(table)
        damaged[i // 8] ^= 1 << i % 8
        with pytest.raises(CheckpointError):
            tf_checkpoint.parse_index(bytes(damaged))


def test_an_index_cut_short_anywhere_is_refused():
    table = (FIXTURES / "one_block.ckpt.index").read_bytes()
    tf_checkpoint.parse_index(table)
    for length in range(len(table)):
        with pytest.raises(CheckpointError):
            tf_checkpoint.parse_index(table[:length])


@pytest.mark.parametrize("name", ["one_block", "mixed", "partitioned", "two_shards"])
def test_mutations_behind_right_checksums_raise_nothing_else(copy, name):
    rng = random.Random(name)
    prefix = copy(name)
    index = Path(f"{prefix}.index")
    table = index.read_bytes()
    handles = block_handles(table)
    numbers = [b"\0", b"\x7f", b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\1", b"\x80" * 8 + b"\x40"]
    refused = 0
    for _ in range(400):
        damaged = bytearray(table)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(len(damaged) - 10)
            if rng.random() < 0.5:
                damaged[at] ^= 1 << rng.randrange(8)
            else:
                number = rng.choice(numbers)
                damaged[at : at + len(number)] = number
        index.write_bytes(with_checksums(damaged, handles))
        refused += refusal(prefix) is not None
    assert refused > 200


HEADER = (b"", b"\x08\x01\x1a\x02\x08\x01")


def field(number, value):
    return tf_checkpoint._build_field(number, value)


def entry(dtype=1, shape=(2,), shard=0, offset=0, size=8):
    dims = b"".join(field(2, field(1, dim)) for dim in shape)
    numbers = {3: shard, 4: offset, 5: size}
    fields = b"".join(field(number, value) for number, value in numbers.items())
    return field(1, dtype) + field(2, dims) + fields


def block(entries, restarts=(0,)):
    """A block of (bytes shared, rest of the key, value)."""
    numbers = tf_checkpoint._build_varint
    body = b"".join(
        numbers(shared) + numbers(len(rest)) + numbers(len(value)) + rest + value
        for shared, rest, value in entries
    )
    return body + np.array([*restarts, len(restarts)], "<u4").tobytes()


def table_of(data_block, compression=0, handle=None, last_key=b"\xff"):
    """A table with one data block, as it is or as a given handle says."""
    out = bytearray()

    def append(contents, compression=0):
        numbers = tf_checkpoint._build_varint
        position = numbers(len(out)) + numbers(len(contents))
        contents = contents + bytes([compression])
        crc = tf_checkpoint._masked_crc32c(contents)
        out.extend(contents + crc.to_bytes(4, "little"))
        return position

    own_handle = append(data_block, compression)
    handles = append(block([]))
    handles += append(block([(0, last_key, own_handle if handle is None else handle)]))
    return bytes(out) + handles.ljust(40, b"\0") + tf_checkpoint.MAGIC


def one_tensor(header=HEADER[1], key=b"x", **claims):
    return table_of(block([(0, b"", header), (0, key, entry(**claims))]))


def two_tensors(first, second):
    return table_of(block([(0, b"", HEADER[1]), (0, *first), (0, *second)]))


def snappy(body, length):
    return table_of(tf_checkpoint._build_varint(length) + body, compression=1)


SMALLEST = [(0, b"", HEADER[1])]
SHARING = [*SMALLEST, (0, b"x", entry()), (1, b"y", entry(offset=8))]
HOSTILE = {
    "negative size": (one_tensor(size=2**64 - 8), "18446744073709551608 bytes, but"),
    "negative offset": (one_tensor(offset=2**64 - 8), "cut short at 16 bytes"),
    "huge offset": (one_tensor(offset=2**62), "cut short at 16 bytes"),
    "negative dimension": (one_tensor(shape=(2**64 - 1, 2**64 - 2)), "impossible shape"),
    "overflowing shape": (one_tensor(shape=(2**32, 2**32), size=0), "impossible shape"),
    "huge empty shape": (one_tensor(shape=(2**62, 0), size=0), "impossible shape"),
    "too many dimensions": (one_tensor(shape=(1,) * 33, size=4), "impossible shape"),
    "size against shape": (one_tensor(shape=(3,)), "8 bytes, but its shape .3,. takes 12"),
    "dtype 0": (one_tensor(dtype=0), "no dtype"),
    "no such shard": (one_tensor(shard=1), "in shard 1 of 1"),
    "huge shard count": (one_tensor(field(1, 2**31 - 1)), "data-00000-of-2147483647: no such"),
    "big-endian": (one_tensor(HEADER[1] + field(2, 1)), "big-endian"),
    "later version": (one_tensor(HEADER[1] + field(3, field(2, 2))), "later version"),
    "no header": (table_of(block([(0, b"x", entry())])), "no header"),
    "V1": (one_tensor(field(1, b"a message")), "V1"),
    "not UTF-8": (one_tensor(key=b"\xff"), "not UTF-8"),
    "overlap": (two_tensors((b"x", entry()), (b"y", entry(offset=4))), "'y' overlaps"),
    "duplicate": (two_tensors((b"x", entry()), (b"x", entry(offset=8))), "not sorted"),
    "unsorted": (two_tensors((b"y", entry()), (b"x", entry(offset=8))), "not sorted"),
    "past the index's key": (table_of(block(SMALLEST), last_key=b""), None),
    "wrong index key": (table_of(block([*SMALLEST, (0, b"x", entry())]), last_key=b"w"), "sorted"),
    "block outside": (table_of(block(SMALLEST), handle=b"\0\xff\x7f"), "end to end"),
    "block in a cycle": (table_of(block(SMALLEST), handle=b"\x23\x0d"), "end to end"),
    "shares too much": (table_of(block([*SMALLEST, (1, b"x", entry())])), "shares more"),
    "restart in an entry": (table_of(block(SMALLEST, [0, 1])), "restart is not the start"),
    "keys that share bytes": (table_of(block(SHARING)), None),
    "restart that shares": (table_of(block(SHARING, [0, len(block(SHARING[:2])) - 8])), "shares"),
    "bytes before the footer": (one_tensor()[:-48] + bytes(5) + one_tensor()[-48:], "do not end"),
    "first restart": (table_of(block(SMALLEST, [1])), "first restart"),
    "no restarts": (table_of(block(SMALLEST, [])), "restarts do not fit"),
    "many restarts": (table_of(block(SMALLEST) + b"\xff\xff\xff\xff"), "restarts do not fit"),
    "unknown compression": (table_of(block(SMALLEST), compression=2), "compression 2"),
    "growing keys": (
        table_of(block([*SMALLEST, *((i, b"a", b"\x08\x07") for i in range(5000))])),
        "claims over",
    ),
    "snappy bomb": (snappy(b"\0a", 2**40), "claim to be 1099511627776"),
    "snappy too long": (snappy(b"\0a" + b"\xfe\1\0" * 100, 100), "not as long"),
    "snappy too short": (snappy(b"\0a", 9), "not as long"),
    "snappy before the start": (snappy(b"\0a\xfe\2\0", 65), "copies from outside"),
    "snappy distance 0": (snappy(b"\0a\xfe\0\0", 65), "copies from outside"),
    "snappy literal cut short": (snappy(b"\xfc\xff\xff\xff\xff", 80), "cut short"),
}


def test_entries_that_take_more_bytes_than_any_index_are_refused():
    entries = [(b"x", bytes(tf_checkpoint.MAX_INDEX // 2))] * 3  # as snappy blocks could hold them
    with pytest.raises(CheckpointError, match="claims over"):
        list(tf_checkpoint._bounded(entries))


def test_more_tensors_than_can_be_read_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(tf_checkpoint, "MAX_TENSORS", 3)
    tensors = {f"t{i}": np.zeros(1, np.float32) for i in range(4)}
    with pytest.raises(CheckpointError, match="more than 3 tensors"):
        write_checkpoint(tmp_path / "model.ckpt", tensors)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_index(case, tmp_path):
    table, why = HOSTILE[case]
    prefix = tmp_path / "model.ckpt"
    Path(f"{prefix}.index").write_bytes(table)
    Path(f"{prefix}.{DATA}").write_bytes(bytes(16))
    message = refusal(prefix)
    if why is None:
        assert message is None
    else:
        assert message is not None and re.search(why, message), message


def test_what_stands_in_place_of_an_index(copy):
    prefix = copy("one_block")
    index = Path(f"{prefix}.index")
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    for contents, why in [
        (b"", "not the index of a checkpoint"),
        (lfs, "git-LFS"),
        (b"\n<!DOCTYPE html><html>" + bytes(100), "HTML"),
    ]:
        index.write_bytes(contents)
        assert why in refusal(prefix)
    os.truncate(index, 1 << 36)  # it takes no disk
    assert "larger than any index" in refusal(prefix)
    index.unlink()
    assert "no such file" in refusal(prefix)
    index.mkdir()
    assert "no such file" in refusal(prefix)
    index.rmdir()
    if hasattr(os, "mkfifo"):  # opening one would wait for ever
        os.mkfifo(index)
        assert "no such file" in refusal(prefix)


def test_a_single_file_is_a_v1_checkpoint_or_a_wrong_prefix(copy):
    prefix = copy("one_block")
    index = Path(f"{prefix}.index")
    assert "leave out .index" in refusal(index)
    index.rename(prefix)
    assert "V1" in refusal(prefix)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_an_unreadable_file(copy):
    prefix = copy("one_block")
    Path(f"{prefix}.index").chmod(0)
    assert "Permission denied" in refusal(prefix)


def test_what_stands_in_place_of_the_data(copy):
    prefix = copy("one_block")
    data = Path(f"{prefix}.{DATA}")
    whole = data.read_bytes()
    for contents, why in [
        (whole[:-1], "cut short at 1823 bytes, 'model/wte' ends at 1824"),
        (b"", "cut short at 0 bytes"),
        (b"<html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS"),
    ]:
        data.write_bytes(contents)
        assert why in refusal(prefix) and DATA in refusal(prefix)
    data.unlink()
    assert "no such file" in refusal(prefix)


def test_a_flipped_bit_in_the_data_is_found_by_verify(copy):
    prefix = copy("one_block")
    data = Path(f"{prefix}.{DATA}")
    contents = bytearray(data.read_bytes())
    contents[-1] ^= 1
    data.write_bytes(contents)
    assert refusal(prefix) is None
    assert "'model/wte' do not match their checksum" in refusal(prefix, verify=True)


def test_an_index_replaced_while_it_is_read_is_noticed(copy, monkeypatch):
    prefix = copy("one_block")
    tensors = dict(read_checkpoint(prefix))
    map_shard = tf_checkpoint.map_shard

    def write_and_map(*arguments):
        write_checkpoint(prefix, tensors)
        return map_shard(*arguments)

    monkeypatch.setattr(tf_checkpoint, "map_shard", write_and_map)
    assert "replaced" in refusal(prefix)


TENSORS = {
    "scalar": np.array(1.5, np.float32),
    "empty": np.zeros((2, 0, 3), np.float16),
    "odd": np.arange(3, dtype=np.float16),
    "strided": np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-3].T,
    "zz/ümläut": np.ones((1, 2), np.float32),
}


@pytest.mark.parametrize("n_more", [0, 3000])
def test_written_tensors_are_read_back(tmp_path, n_more):
    tensors = TENSORS | {f"many/{i}": np.full(i % 3, i, np.float32) for i in range(n_more)}
    write_checkpoint(tmp_path / "model.ckpt", tensors)
    assert sorted(os.listdir(tmp_path)) == [f"model.ckpt.{DATA}", "model.ckpt.index"]
    assert_equal(read_checkpoint(tmp_path / "model.ckpt", verify=True), tensors)


def test_nothing_is_written_as_nothing(tmp_path):
    write_checkpoint(tmp_path / "model.ckpt", {})
    assert dict(read_checkpoint(tmp_path / "model.ckpt", verify=True)) == {}


@pytest.mark.parametrize("name", ["one_block", "float16"])
def test_the_data_file_is_the_one_that_tensorflow_writes(tmp_path, name):
    write_checkpoint(tmp_path / "model.ckpt", golden(name))
    data = (tmp_path / f"model.ckpt.{DATA}").read_bytes()
    assert data == (FIXTURES / f"{name}.ckpt.{DATA}").read_bytes()


def test_a_checkpoint_is_written_over_itself(copy):
    prefix = copy("one_block")
    write_checkpoint(prefix, read_checkpoint(prefix))
    assert_equal(read_checkpoint(prefix, verify=True), golden("one_block"))


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": np.zeros(2)},
        {"x": np.zeros(2, np.int32)},
        {"x": [1.0, 2.0]},
        {"x": None},
        {"": np.zeros(2, np.float32)},
        {"\ud800": np.zeros(2, np.float32)},
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, tensors):
    with pytest.raises(CheckpointError, match=r"model\.ckpt: '.*' (is not an array|cannot be)"):
        write_checkpoint(tmp_path / "model.ckpt", TENSORS | tensors)
    assert os.listdir(tmp_path) == []


OLD, NEW = {"x": np.zeros(4, np.float32)}, {"x": np.ones(4, np.float32)}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("happens", ["before", "after"])
@pytest.mark.parametrize("old", [OLD, {}])
def test_a_failed_write_leaves_the_old_or_the_new_and_nothing_else(
    tmp_path, monkeypatch, error, step, happens, old
):
    """Fails at either file's fsync or at one of the three renamings, done or not done."""
    prefix = tmp_path / "model.ckpt"
    if old:
        write_checkpoint(prefix, old)
    steps_left = [step]

    def failing(function):
        def call(*arguments):
            steps_left[0] -= 1
            if happens == "after" or steps_left[0] != -1:
                function(*arguments)
            if steps_left[0] == -1:
                raise error

        return call

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "replace", failing(os.replace))
    fails = step < (5 if old else 4)
    if fails:
        with pytest.raises((CheckpointError, KeyboardInterrupt)):
            write_checkpoint(prefix, NEW)
    else:
        write_checkpoint(prefix, NEW)
    monkeypatch.undo()
    files = sorted(os.listdir(tmp_path))
    if files:
        assert files == [f"model.ckpt.{DATA}", "model.ckpt.index"]
        x = read_checkpoint(prefix, verify=True)["x"]
        assert x.tolist() in ([0] * 4, [1] * 4)
    else:
        assert not old


@pytest.mark.parametrize("suffix", ["index", DATA, "index.tmp", f"{DATA}.tmp"])
def test_a_directory_in_the_way_of_writing(tmp_path, suffix):
    prefix = tmp_path / "model.ckpt"
    Path(f"{prefix}.{suffix}").mkdir()
    with pytest.raises(CheckpointError, match=r"model\.ckpt"):
        write_checkpoint(prefix, NEW)
    assert os.listdir(tmp_path) == [f"model.ckpt.{suffix}"]


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere.*No such file"):
        write_checkpoint(tmp_path / "nowhere" / "model.ckpt", NEW)


def test_the_old_index_is_never_beside_the_new_data(tmp_path, monkeypatch):
    prefix = tmp_path / "model.ckpt"
    write_checkpoint(prefix, OLD)
    replace, seen = os.replace, []

    def watching(source, target):
        replace(source, target)
        try:
            seen.append(float(read_checkpoint(prefix)["x"][0]))
        except CheckpointError:
            seen.append(None)

    monkeypatch.setattr(os, "replace", watching)
    write_checkpoint(prefix, NEW)
    assert seen == [None, None, 1.0]
