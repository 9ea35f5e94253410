"""The one policy for reading and writing pictures.

Reading: the limits on bytes and pixels are checked from the header, before decoding. The EXIF
orientation is applied. Everything becomes RGB, 8 bit; an alpha channel is set aside and put back,
grey comes back as grey, palette and CMYK become RGB, 16 bit is reduced to 8. Only the formats of
``FORMATS`` are opened; of several frames the first is taken, or none (of a phone's MPO, the first).
"""

from deblur.images.formats import FORMATS, HEIC_INSTALLED, SUFFIXES, Limits
from deblur.images.picture import Picture
from deblur.images.ranges import to_float, to_uint8
from deblur.images.reading import (
    Header,
    decode_rgb,
    read_header,
    read_picture,
    read_rgb,
    read_size,
)
from deblur.images.writing import encode_picture

__all__ = [
    "FORMATS",
    "HEIC_INSTALLED",
    "SUFFIXES",
    "Header",
    "Limits",
    "Picture",
    "decode_rgb",
    "encode_picture",
    "read_header",
    "read_picture",
    "read_rgb",
    "read_size",
    "to_float",
    "to_uint8",
]
