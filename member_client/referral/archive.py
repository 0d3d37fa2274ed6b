"""The one strict form of a referral package's ZIP file.

A ZIP can say one thing to one reader and another to the next: two files of one name, a directory that disagrees with
the files, data before, between and after them, encrypted or compressed members, links, paths that leave the folder. So
a package is only ever this: files of plain bytes (method 0, "stored"), one after the other in the order given, no
folder entries, no extra fields, no comments, one fixed time, then the directory, then its end. Whoever reads writes
again and compares, so that no byte is free; and since nothing is compressed, nothing can unfold.

It is a ZIP file like any other to every other program. Source: PKWARE APPNOTE 6.3, sections 4.3 and 4.4.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping

from sharing_protocol.errors import Malformed, Unproven

MAX_BYTES = 64 * 1024 * 1024
MAX_FILES = 2100
MAX_NAME = 100

_NAME = re.compile(r"(?:[a-z][a-z0-9-]*/)?[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)*")
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_CENTRAL_HEADER = struct.Struct("<4s6H3I5H2I")
_END_RECORD = struct.Struct("<4s4H2IH")
_VERSION = 20
_MADE_BY_UNIX = 3 << 8 | _VERSION
_TIME, _DATE = 0, 1 << 5 | 1  # midnight of 1 January 1980, the first that a ZIP can say
_REGULAR_FILE = 0o100644 << 16


def pack(files: Mapping[str, bytes]) -> bytes:
    """Write files, in the order of the mapping.

    Raises:
        Malformed: `not_a_package`: a name that is none, too many files, or too many bytes.
    """
    if len(files) > MAX_FILES:
        raise _not_a_package(f"it has at most {MAX_FILES:,} files, not {len(files):,}")
    local, central, at = [], [], 0
    for name, data in files.items():
        if len(name) > MAX_NAME or not _NAME.fullmatch(name):
            raise _not_a_package(f"{name[:MAX_NAME]!r} is not a name of a file in it")
        fields = (_TIME, _DATE, zlib.crc32(data), len(data), len(data), len(name), 0)
        written = name.encode("ascii")
        local += [_LOCAL_HEADER.pack(_LOCAL, _VERSION, 0, 0, *fields), written, data]
        central += [
            _CENTRAL_HEADER.pack(_CENTRAL, _MADE_BY_UNIX, _VERSION, 0, 0, *fields, 0, 0, 0, _REGULAR_FILE, at),
            written,
        ]
        at += _LOCAL_HEADER.size + len(written) + len(data)
        if at > MAX_BYTES:
            raise _not_a_package(f"it has at most {MAX_BYTES:,} bytes")
    directory = b"".join(central)
    end = _END_RECORD.pack(_END, 0, 0, len(files), len(files), len(directory), at, 0)
    whole = b"".join((*local, directory, end))
    if len(whole) > MAX_BYTES:
        raise _not_a_package(f"it has at most {MAX_BYTES:,} bytes")
    return whole


def unpack(data: bytes) -> dict[str, bytes]:
    """Read what `pack` wrote, and nothing else.

    Raises:
        Malformed: `not_a_package`: it does not even begin like one, or is too large.
        Unproven: `changed`: naming the file or the part where it is not in the one form.
    """
    if len(data) > MAX_BYTES:
        raise _not_a_package(f"it has at most {MAX_BYTES:,} bytes")
    if data[:4] != _LOCAL:
        raise _not_a_package("it does not begin as a ZIP file does")
    files: dict[str, bytes] = {}
    at, before = 0, ""
    while data[at : at + 4] == _LOCAL:
        name, content, at = _file(data, at, before)
        if name in files:
            raise _changed(f"there are two files named {name}")
        if len(files) == MAX_FILES:
            raise _changed(f"there are more than {MAX_FILES:,} files")
        files[name], before = content, name
    whole = pack(files)
    if whole != data:
        raise _changed(_difference(data, whole, at, before))
    return files


def _file(data: bytes, at: int, before: str) -> tuple[str, bytes, int]:
    """The file at a place: its name, its bytes, and where the next begins."""
    where = f"after {before}" if before else "at its beginning"
    if at + _LOCAL_HEADER.size > len(data):
        raise _changed(f"the archive breaks off {where}")
    _, _, flags, method, *_, checksum, size, length, name_length, extra = _LOCAL_HEADER.unpack_from(data, at)
    start = at + _LOCAL_HEADER.size
    name = data[start : start + min(name_length, MAX_NAME + 1)].decode("ascii", "replace")
    if name_length > MAX_NAME or not _NAME.fullmatch(name):
        raise _changed(f"the file {where} has a name that no file of a package has: {name[:MAX_NAME]!r}")
    if flags or method or extra or size != length:
        what = "encrypted" if flags & 1 else "compressed" if method else "written by another program"
        raise _changed(f"{name} is {what}; a package holds plain bytes in one form")
    start += name_length
    if start + size > len(data):
        raise _changed(f"the archive breaks off in {name}")
    content = data[start : start + size]
    if zlib.crc32(content) != checksum:
        raise _changed(f"{name} was changed: its checksum is another")
    return name, content, start + size


def _difference(data: bytes, whole: bytes, directory: int, last: str) -> str:
    if len(data) > len(whole) and data.startswith(whole):
        return f"{len(data) - len(whole):,} bytes follow the end of the archive"
    place = next((at for at, (one, other) in enumerate(zip(data, whole, strict=False)) if one != other), len(whole))
    if place >= directory:
        return f"the archive's directory, or what stands after {last}, was changed (byte {place:,})"
    return f"the header of a file was changed (byte {place:,})"


def _changed(detail: str) -> Unproven:
    return Unproven("changed", detail)


def _not_a_package(reason: str) -> Malformed:
    return Malformed("not_a_package", f"not a referral package: {reason}")
