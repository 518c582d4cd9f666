"""A strict zip reader on bytes in memory.

Two readers that disagree about an archive are how hostile archives hide things, so whatever is ambiguous is refused:
members that share a name or overlap, a local header that contradicts the central directory, bytes before the first
member. Format: PKWARE APPNOTE 6.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import ModelFormatError, UnsupportedModelError
from ..limits import Limits

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # traditional, strong, masked headers
_PATCHED = 0x0020
_STREAMED = 0x0008  # sizes and checksum follow the data; the local header has zeros in their place
_UTF8 = 0x0800
_MAX_DEFLATE_RATIO = 1032  # zlib's documented limit
_DESCRIPTION_FACTOR = 16  # parsing costs many times the text, and compressed text costs a hostile file next to nothing
_U16, _U32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True)
class _Member:
    method: int
    crc: int
    packed: int  # bytes in the archive
    size: int  # bytes once inflated
    start: int  # of the data
    header: int  # start of the local header


class SafeZip:
    """Members of a zip archive by name. Everything but the data is checked on construction.

    Raises ModelFormatError where the archive is damaged or ambiguous, UnsupportedModelError where it is encrypted or
    compressed by anything but deflate, ModelLimitError where it exceeds ``limits``.
    """

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data = data
        self._limits = limits
        self._inflated = 0
        self._sound: set[str] = set()  # stored members that agree with their checksums
        self._members: dict[str, _Member] = {}
        offset, size, count = _directory(data)
        limits.check("entries", count, "members of the zip archive")
        limits.check("header_bytes", size, "size in bytes of the zip archive's central directory")
        for name, member in _entries(data, offset, size, count):
            if name in self._members:
                raise ModelFormatError(f"zip archive: two members are named {name!r}; the archive is ambiguous")
            self._members[name] = member
        _refuse_overlaps(self._members)

    @property
    def file_size(self) -> int:
        """Bytes of the whole archive."""
        return len(self._data)

    def names(self) -> list[str]:
        """Names of all members in the archive's order."""
        return list(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def description(self, name: str) -> memoryview:
        """The bytes of a member that is to be parsed, JSON or a pickle, within ``header_bytes``."""
        member = self._member(name)
        if member.method == _STORED:
            self._limits.check("header_bytes", member.size, f"size in bytes of {name!r}")
        else:
            what = f"{_DESCRIPTION_FACTOR} times the size in bytes of {name!r}, which is compressed"
            self._limits.check("header_bytes", _DESCRIPTION_FACTOR * member.size, what)
        return self.view(name)

    def read(self, name: str) -> bytes:
        """The bytes of a member, checked against its checksum."""
        return bytes(self.view(name))

    def view(self, name: str) -> memoryview:
        """Like :meth:`read`, without a copy where the member is stored uncompressed."""
        member = self._member(name)
        packed = memoryview(self._data)[member.start : member.start + member.packed]
        data = packed if member.method == _STORED else self._inflate(name, member, packed)
        if name not in self._sound and zlib.crc32(data) != member.crc:
            raise ModelFormatError(f"zip member {name!r}: its checksum does not match its data; the file is damaged")
        if member.method == _STORED:  # many tensors may share one
            self._sound.add(name)
        return data

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            raise ModelFormatError(f"zip archive: expected a member {name!r}, found none; the file is incomplete")
        return self._members[name]

    def _inflate(self, name: str, member: _Member, packed: memoryview) -> memoryview:
        self._limits.check_unfolded(
            self._inflated + member.size, len(self._data), f"bytes inflated from the zip archive up to {name!r}"
        )
        self._inflated += member.size
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = stream.decompress(packed, member.size + 1)
        except zlib.error as error:
            raise ModelFormatError(f"zip member {name!r}: damaged compressed data ({error})") from None
        if len(data) != member.size or not stream.eof or stream.unused_data:
            raise ModelFormatError(
                f"zip member {name!r}: expected its data to inflate to exactly {member.size} bytes; the file is damaged"
            )
        return memoryview(data)


def _unpack(layout: struct.Struct, data: bytes, offset: int, signature: bytes, what: str) -> tuple:
    if offset < 0 or offset + layout.size > len(data):
        raise ModelFormatError(f"zip archive: {what} lies outside the file; it is damaged or cut short")
    fields = layout.unpack_from(data, offset)
    if fields[0] != signature:
        raise ModelFormatError(f"zip archive: expected {what} at byte {offset}; the file is damaged")
    return fields[1:]


def _directory(data: bytes) -> tuple[int, int, int]:
    """Offset, size and number of entries of the central directory."""
    end = _find_end(data)
    disk, first_disk, here, count, size, offset, _ = _unpack(_END, data, end, b"PK\5\6", "the end record")
    limit = end
    if end >= _LOCATOR64.size and data[end - _LOCATOR64.size :].startswith(b"PK\6\7"):
        at = end - _LOCATOR64.size
        _, limit, disks = _unpack(_LOCATOR64, data, at, b"PK\6\7", "the zip64 locator")
        record = _unpack(_END64, data, limit, b"PK\6\6", "the zip64 end record")
        record_size, _, _, disk64, first64, here64, count64, size64, offset64 = record
        narrow = ((count, _U16, count64), (here, _U16, here64), (size, _U32, size64), (offset, _U32, offset64))
        if (
            limit + 12 + record_size != at
            or disks > 1
            or any(value != saturated and value != wide for value, saturated, wide in narrow)
        ):
            raise ModelFormatError("zip archive: its two end records contradict each other; the file is damaged")
        disk, first_disk, here, count, size, offset = disk64, first64, here64, count64, size64, offset64
    if disk or first_disk or here != count:
        raise UnsupportedModelError("zip archive: split over several disks; join it first")
    if offset + size != limit or count * _CENTRAL.size > size:
        raise ModelFormatError(
            f"zip archive: the central directory of {size} bytes at byte {offset} does not end where the end record"
            f" starts, byte {limit}; the file is damaged or has bytes in front"
        )
    return offset, size, count


def _find_end(data: bytes) -> int:
    lowest = max(0, len(data) - _END.size - _U16)
    at = len(data) - _END.size
    while (at := data.rfind(b"PK\5\6", lowest, at + 4)) >= 0:
        if at + _END.size + int.from_bytes(data[at + 20 : at + 22], "little") == len(data):
            return at
        at -= 1
    raise ModelFormatError("zip archive: no end record; the file is cut short or has bytes behind")


def _entries(data: bytes, offset: int, size: int, count: int) -> Iterator[tuple[str, _Member]]:
    at, stop = offset, offset + size
    room = offset  # for members and their local headers, which may not overlap: extra fields are not read over and over
    for _ in range(count):
        fields = _unpack(_CENTRAL, data, at, b"PK\1\2", "a central directory entry")
        _, _, flags, method, _, _, crc, packed, full, name_size, extra_size, comment_size, disk, _, _, header = fields
        begin = at + _CENTRAL.size
        at = begin + name_size + extra_size + comment_size
        if at > stop:
            break
        raw = data[begin : begin + name_size]
        name = _decode(raw, flags)
        extra = data[begin + name_size : begin + name_size + extra_size]
        full, packed, header = _widen(name, extra, full, packed, header)
        if disk:
            raise UnsupportedModelError(f"zip member {name!r}: stored on another disk; join the archive first")
        _check_method(name, flags, method, packed, full)
        start = _data_start(data, header, offset, room, name, raw, (flags, method, crc, packed, full))
        room -= start + packed - header
        yield name, _Member(method, crc, packed, full, start, header)
    if at != stop:
        raise ModelFormatError("zip archive: the central directory does not end where it should; the file is damaged")


def _decode(raw: bytes, flags: int) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        raise ModelFormatError(f"zip archive: member name {raw[:99]!r} is neither ASCII nor UTF-8") from None
    if not name or "\0" in name:
        raise ModelFormatError(f"zip archive: {name!r} is no name for a member")
    return name


def _check_method(name: str, flags: int, method: int, packed: int, full: int) -> None:
    if flags & _ENCRYPTED:
        raise UnsupportedModelError(f"zip member {name!r}: encrypted; decrypt the archive first")
    if flags & _PATCHED or method not in (_STORED, _DEFLATED):
        raise UnsupportedModelError(f"zip member {name!r}: compression method {method}; re-save it stored or deflated")
    if (method == _STORED and packed != full) or full > packed * _MAX_DEFLATE_RATIO:
        raise ModelFormatError(f"zip member {name!r}: {packed} bytes cannot hold {full}; the file is damaged")


def _data_start(data: bytes, header: int, limit: int, room: int, name: str, raw: bytes, expected: tuple) -> int:
    """Where a member's data starts, after checking that its local header agrees with the central directory."""
    fields = _unpack(_LOCAL, data, header, b"PK\3\4", f"the local header of {name!r}")
    _, flags, method, _, _, crc, packed, full, name_size, extra_size = fields
    begin = header + _LOCAL.size
    start = begin + name_size + extra_size
    if start - header > room:
        raise ModelFormatError(f"zip member {name!r}: overlaps another; the archive is ambiguous")
    full, packed, _ = _widen(name, data[begin + name_size : start], full, packed, 0)
    flags_there, method_there, *sums = expected
    agrees = [crc, packed, full] == sums or (flags & _STREAMED and (crc, packed, full) == (0, 0, 0))
    if not agrees or (flags, method) != (flags_there, method_there) or data[begin : begin + name_size] != raw:
        raise ModelFormatError(
            f"zip member {name!r}: its local header contradicts the central directory; the file is damaged"
        )
    if start + sums[1] > limit:
        raise ModelFormatError(f"zip member {name!r}: its data runs past the end; the file is damaged or cut short")
    return start


def _widen(name: str, extra: bytes, full: int, packed: int, header: int) -> tuple[int, int, int]:
    """Replace saturated 32-bit fields by the zip64 extra field's, in its order."""
    at, wide = 0, None
    while at + 4 <= len(extra):
        tag, size = struct.unpack_from("<2H", extra, at)
        if tag == 1:
            if wide is not None:
                raise ModelFormatError(f"zip member {name!r}: two zip64 fields; the archive is ambiguous")
            wide = extra[at + 4 : at + 4 + size]
        at += 4 + size
    values, used = [], 0
    for value in (full, packed, header):
        if value == _U32:
            if wide is None or used + 8 > len(wide):
                raise ModelFormatError(f"zip member {name!r}: its zip64 field is missing or too short")
            value = int.from_bytes(wide[used : used + 8], "little")
            used += 8
        values.append(value)
    return values[0], values[1], values[2]


def _refuse_overlaps(members: dict[str, _Member]) -> None:
    end = 0
    for name, member in sorted(members.items(), key=lambda item: item[1].header):
        if member.header < end:
            raise ModelFormatError(f"zip member {name!r}: overlaps the member before it; the archive is ambiguous")
        if end == 0 and member.header != 0:
            raise ModelFormatError(f"zip archive: {member.header} bytes stand in front of the first member")
        end = member.start + member.packed
