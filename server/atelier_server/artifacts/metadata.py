"""Texts in the two forms of metadata that JPEG, WebP and AVIF have in common: EXIF and XMP."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

from PIL import ExifTags, Image

NAMESPACE = "urn:atelier:v1/"
"""XML namespace of the XMP property `record`."""

_UNICODE = b"UNICODE\0"
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:atelier="{namespace}">'
    "<atelier:record>{record}</atelier:record>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)


def exif_with(comment: str) -> bytes:
    """EXIF whose UserComment is the text, where the tools of Stable Diffusion look for it in such files.

    Source: Exif 3.0, 4.6.6.4 (UserComment: eight bytes say how the rest is coded). The order of the bytes in
    UTF-16 is the file's own, and Pillow writes big-endian EXIF.
    """
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UNICODE + comment.encode(
        "utf-16-be"
    )
    return exif.tobytes()


def xmp_with(record: str) -> bytes:
    """An XMP packet with the JSON text as the property `record` of our NAMESPACE.

    Source: ISO 16684-1, 7.3 (packets) and 7.4 (serialisation).
    """
    # JSON has escaped most of what XML has no way to write; these are the rest.
    writable = re.sub("[\x7f-\x9f\ufffe\uffff]", lambda odd: f"\\u{ord(odd[0]):04x}", record)
    return _PACKET.format(namespace=NAMESPACE, record=escape(writable)).encode()
