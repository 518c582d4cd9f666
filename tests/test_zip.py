"""The strict zip reader: what it takes, and every ambiguity it refuses."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

from lstm_fast.errors import ModelFormatError, ModelLimitError, UnsupportedModelError
from lstm_fast.importers._zip import SafeZip
from lstm_fast.limits import Limits

CONTENT = {"a/one.txt": b"hello " * 50, "a/empty": b"", "zwei-\u00fc": bytes(range(256))}


def make(method: int = zipfile.ZIP_STORED, *, force_zip64: bool = False, stream: bool = False) -> bytes:
    class Unseekable(io.BytesIO):
        def seek(self, *_):
            raise io.UnsupportedOperation

        def tell(self):
            raise io.UnsupportedOperation

    buffer = Unseekable() if stream else io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in CONTENT.items():
            with archive.open(name, "w", force_zip64=force_zip64) as member:
                member.write(data)
    return buffer.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("force_zip64", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_sound_archives(method, force_zip64, stream):
    archive = SafeZip(make(method, force_zip64=force_zip64, stream=stream), Limits())
    assert archive.names() == list(CONTENT)
    for name, data in CONTENT.items():
        assert name in archive
        assert archive.read(name) == bytes(archive.view(name)) == bytes(archive.description(name)) == data


def test_numpy_archive_comment_and_empty_archive():
    buffer = io.BytesIO()
    np.savez(buffer, x=np.arange(5))
    assert SafeZip(buffer.getvalue(), Limits()).names() == ["x.npy"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"PK\5\6 a comment that looks like an end record" + bytes(30)
    assert SafeZip(buffer.getvalue(), Limits()).names() == []


def zip64_end(data: bytes) -> bytes:
    """The archive with a zip64 end record, its narrow fields saturated."""
    count, size, offset = struct.unpack("<H2L", data[-12:-2])
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(data) - 22, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:-22] + record + locator + end


def test_zip64_end_record():
    data = zip64_end(make())
    assert SafeZip(data, Limits()).names() == list(CONTENT)
    wrong = bytearray(data)
    wrong[-22 - 20 - 56 + 32] ^= 1  # number of entries
    with pytest.raises(ModelFormatError):
        SafeZip(bytes(wrong), Limits())
    contradicting = data[:-22] + make()[-22:-12] + b"\7\0" + data[-10:]
    with pytest.raises(ModelFormatError, match="contradict"):
        SafeZip(contradicting, Limits())


def one_member(name: bytes = b"x", data: bytes = b"abc", **changes: int) -> bytes:
    """An archive of one member, written field by field; ``changes`` prefixed ``local_`` or ``central_`` lie."""
    fields = {"flags": 0, "method": 0, "crc": zlib.crc32(data), "packed": len(data), "size": len(data)}

    def value(where: str, field: str) -> int:
        return changes.get(f"{where}_{field}", changes.get(field, fields[field]))

    def common(where: str) -> bytes:
        head = struct.pack("<H2H", 20, value(where, "flags"), value(where, "method"))
        sums = struct.pack("<3L", value(where, "crc"), value(where, "packed"), value(where, "size"))
        return head + bytes(4) + sums + struct.pack("<2H", len(name), 0)

    local = b"PK\3\4" + common("local") + name + data
    header = changes.get("header", 0)
    central = b"PK\1\2" + struct.pack("<H", 20) + common("central") + struct.pack("<3H2L", 0, 0, 0, 0, header) + name
    return local + central + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)


def test_one_member_is_sound():
    assert SafeZip(one_member(), Limits()).read("x") == b"abc"


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (one_member(flags=1), UnsupportedModelError, "encrypted"),
        (one_member(flags=0x40), UnsupportedModelError, "encrypted"),
        (one_member(method=12), UnsupportedModelError, "compression method 12"),
        (one_member(local_flags=2), ModelFormatError, "contradicts the central directory"),
        (one_member(local_method=8), ModelFormatError, "contradicts the central directory"),
        (one_member(local_crc=1), ModelFormatError, "contradicts the central directory"),
        (one_member(local_size=4), ModelFormatError, "contradicts the central directory"),
        (one_member().replace(b"x", b"y", 1), ModelFormatError, "contradicts the central directory"),
        (one_member(size=4), ModelFormatError, "3 bytes cannot hold 4"),
        (one_member(packed=99, size=99), ModelFormatError, "runs past the end"),
        (one_member(method=8, size=3 * 1032 + 1), ModelFormatError, "3 bytes cannot hold"),
        (one_member(packed=0xFFFFFFFF), ModelFormatError, "zip64 field is missing"),
        (one_member(header=1), ModelFormatError, "local header"),
        (one_member(header=0xFFFFFFF0), ModelFormatError, "outside the file"),
        (one_member(name=b"\xff", flags=0x800), ModelFormatError, "neither ASCII nor UTF-8"),
        (one_member(name=b"\xff"), ModelFormatError, "neither ASCII nor UTF-8"),
        (one_member(name=b""), ModelFormatError, "no name for a member"),
        (one_member(name=b"a\0b"), ModelFormatError, "no name for a member"),
        (b"prefix" + one_member(), ModelFormatError, "bytes in front"),
        (one_member() + b"x", ModelFormatError, "no end record"),
        (one_member()[:-1], ModelFormatError, "no end record"),
        (b"", ModelFormatError, "no end record"),
    ],
)
def test_what_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        SafeZip(data, Limits())


def test_prefix_with_corrected_offsets():
    data = b"junk" + one_member(header=4)
    data = data[:-6] + struct.pack("<L", data.index(b"PK\1\2")) + data[-2:]
    with pytest.raises(ModelFormatError, match="4 bytes stand in front"):
        SafeZip(data, Limits())


def test_duplicates_and_overlaps():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x", b"2")
    with pytest.raises(ModelFormatError, match="two members are named 'x'"):
        SafeZip(buffer.getvalue(), Limits())
    inner = one_member(b"b", b"inside")  # its local header and data become the data of the outer member
    local = inner[: inner.index(b"PK\1\2")]
    outer = one_member(b"a", local)
    split = outer.index(b"PK\1\2", 31 + len(local))
    at = outer.index(local)
    entry = inner[inner.index(b"PK\1\2") : -22]
    entry = entry[:42] + struct.pack("<L", at) + entry[46:]
    directory = outer[split:-22] + entry
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(directory), split, 0)
    with pytest.raises(ModelFormatError, match="overlaps"):
        SafeZip(outer[:split] + directory + end, Limits())


def test_checksum_and_damaged_streams():
    with pytest.raises(ModelFormatError, match="checksum"):
        SafeZip(one_member(crc=1), Limits()).read("x")
    packed = zlib.compress(b"abc" * 9)[2:-4]
    crc = zlib.crc32(b"abc" * 9)
    for data, size in ((b"\xff" * 9, 27), (packed, 26), (packed, 28), (packed + b"!", 27), (packed[:-1], 27)):
        archive = SafeZip(one_member(data=data, method=8, size=size, crc=crc), Limits())
        with pytest.raises(ModelFormatError, match="damaged"):
            archive.read("x")
    assert SafeZip(one_member(data=packed, method=8, size=27, crc=crc), Limits()).read("x") == b"abc" * 9


def test_missing_member():
    with pytest.raises(ModelFormatError, match="expected a member 'nope'"):
        SafeZip(one_member(), Limits()).read("nope")


def test_bombs_stop_at_the_limits():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(4):
            archive.writestr(str(index), bytes(10 << 20))
    archive = SafeZip(buffer.getvalue(), Limits())
    assert len(archive.read("0")) == len(archive.read("1")) == 10 << 20
    with pytest.raises(ModelLimitError, match=r"lf\.Limits\(inflated_bytes="):
        archive.read("2")
    with pytest.raises(ModelLimitError, match=r"lf\.Limits\(entries="):
        SafeZip(buffer.getvalue(), Limits(entries=3))
    with pytest.raises(ModelLimitError, match=r"lf\.Limits\(header_bytes="):
        SafeZip(buffer.getvalue(), Limits(header_bytes=10))


def test_descriptions_may_unfold_to_a_sixteenth_of_what_they_may_be():
    def of(method: int, size: int) -> SafeZip:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("config.json", bytes(size))
        return SafeZip(buffer.getvalue(), Limits(header_bytes=1600))

    assert len(of(zipfile.ZIP_STORED, 1600).description("config.json")) == 1600
    assert len(of(zipfile.ZIP_DEFLATED, 100).description("config.json")) == 100
    for method, size in ((zipfile.ZIP_STORED, 1601), (zipfile.ZIP_DEFLATED, 101)):
        with pytest.raises(ModelLimitError, match=r"config\.json.*lf\.Limits\(header_bytes="):
            of(method, size).description("config.json")


def read_all(data: bytes) -> list[bytes]:
    archive = SafeZip(data, Limits())
    return [archive.read(name) for name in archive.names()]


def test_every_truncation_and_bit_flip_stays_in_the_family():
    data = make(zipfile.ZIP_DEFLATED, force_zip64=True)
    damaged = [data[:size] for size in range(0, len(data), 3)]
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for sample in damaged:
        with contextlib.suppress(ModelFormatError):
            read_all(sample)
