"""Writes text into the metadata of JPEG, WebP and AVIF files: EXIF for people and their tools, XMP for programs."""

from __future__ import annotations

import re
import struct
from xml.sax.saxutils import escape

NAMESPACE = "urn:atelier:v1/"
"""XML namespace of the XMP property `record`."""

_HEADER = b"Exif\0\0"
_BIG_ENDIAN = b"MM\0*"  # and where the first directory begins
_ENTRY = ">HHI4s"  # tag, type, number of values, the values or where they are
_LONG, _UNDEFINED = 4, 7  # types
_EXIF_IFD, _VERSION, _USER_COMMENT = 0x8769, 0x9000, 0x9286  # tags
_VERSION_3 = b"0300"
_UNICODE = b"UNICODE\0"
_FIRST_OFFSET = 8

_XMP_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:atelier="{namespace}">'
    "<atelier:record>{record}</atelier:record>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


def build_exif(comment: str) -> bytes:
    """EXIF with the text as UserComment, where Stable Diffusion tools look for it in these formats.

    Source: Exif 3.0, 4.6.2 (directories), 4.6.6.4 (UserComment: its type is UNDEFINED, and eight bytes say how the
    rest is coded). UTF-16 uses the byte order of the file. Written by hand because Pillow gives the tag the type BYTE,
    in which strict readers do not find the text.
    """
    text = _UNICODE + comment.encode("utf-16-be")
    exif_offset = _FIRST_OFFSET + _directory_bytes(1)
    text_offset = exif_offset + _directory_bytes(2)
    first = _build_directory((_EXIF_IFD, _LONG, 1, struct.pack(">I", exif_offset)))
    second = _build_directory(
        (_VERSION, _UNDEFINED, len(_VERSION_3), _VERSION_3),
        (_USER_COMMENT, _UNDEFINED, len(text), struct.pack(">I", text_offset)),
    )
    return _HEADER + _BIG_ENDIAN + struct.pack(">I", _FIRST_OFFSET) + first + second + text


def build_xmp(record: str) -> bytes:
    """An XMP packet with the JSON text as the property `record` of our NAMESPACE.

    Source: ISO 16684-1, 7.3 (packets) and 7.4 (serialisation).
    """
    # JSON has escaped most characters that XML cannot contain; these are the rest.
    writable = re.sub("[\x7f-\x9f\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", record)
    return _XMP_PACKET.format(namespace=NAMESPACE, record=escape(writable)).encode()


def _build_directory(*entries: tuple[int, int, int, bytes]) -> bytes:
    """The entries, which are sorted by tag, with their number before and no other directory after them."""
    packed = b"".join(struct.pack(_ENTRY, *entry) for entry in entries)
    return struct.pack(">H", len(entries)) + packed + bytes(4)


def _directory_bytes(entries: int) -> int:
    return 2 + entries * struct.calcsize(_ENTRY) + 4
