"""Files of other kinds, of two kinds at once, and under names that are meant to do harm."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import numpy as np

from .cases import OK, Case, Make, constant, encoded, head, nifti, zipped
from .dicoms import dicom

OTHER = ("unsupported",)
STARTS = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff\xe0", "gzip": b"\x1f\x8b\x08\0", "NIfTI": b"\x5c\1\0\0"}
NAMES = {
    "above": "../../x.png",
    "far above": "../" * 40 + "etc/x.png",
    "absolute": "/tmp/hostile-canary.png",
    "drive": "C:\\x.png",
    "share": "\\\\host\\share\\x.png",
    "NUL": "x\0.png",
    "long": "x" * 4096 + ".png",
    "lines": "x\r\nSet-Cookie: a=b.png",
    "right to left": "x\u202egnp.exe",
    "device": "CON",
    "device with suffix": "NUL.png",
    "percent": "%2e%2e%2fx.png",
    "twice percent": "%252e%252e%252fx.png",
    "shell": "$(touch hostile-canary).png",
    "pipe": "|touch hostile-canary",
    "semicolon": "x;touch hostile-canary;.png",
    "quotes": "x\"'`.png",
    "empty": "",
    "dot": ".",
    "dots": "..",
    "hidden": ".bashrc",
    "wildcard": "*?.png",
    "markup": "<script>alert(1)</script>.png",
    "wrong suffix": "scan.nii.gz",
    "emoji": "\U0001f9e0.png",
}


def cases() -> Iterator[Case]:
    """All of them."""
    yield from random_bytes()
    yield from polyglots()
    picture = encoded(head())
    for name, filename in NAMES.items():
        yield Case(name, "names", constant(picture), (OK,), filename)


def random_bytes() -> Iterator[Case]:
    """Noise, text and programs."""

    for count in (1, 2, 7, 8, 132, 348, 352, 1000, 4096, 2**20):
        yield Case(f"{count} of noise", "random", _noise(b"\0", count - 1), OTHER)
    others = {
        "nothing": b"",
        "zeros": bytes(4096),
        "ones": b"\xff" * 4096,
        "text": b"this is not a scan\n" * 40,
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "JSON": b'{"a": 1}',
        "ELF": b"\x7fELF\2\1\1" + bytes(400),
        "script": b"#!/bin/sh\ntouch hostile-canary\n",
        "pickle": b"\x80\4\x95" + bytes(100),
        "zip": _zip(),
        "RAR": b"Rar!\x1a\7\0" + bytes(99),
        "npy": b"\x93NUMPY\1\0" + bytes(200),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(200),
        "xz": b"\xfd7zXZ\0" + bytes(99),
        "bzip2": b"BZh9" + bytes(99),
        "zstd": b"\x28\xb5\x2f\xfd" + bytes(99),
        "tar": b"x".ljust(257, b"\0") + b"ustar\0" + bytes(300),
        "XML bomb": b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>',
        "UTF-16": "a scan".encode("utf-16") * 40,
    }
    for name, data in others.items():
        yield Case(name, "random", constant(data), OTHER)
    for name, start in STARTS.items():
        codes = ("truncated", "damaged", "header", "declared_size", "unsupported", "too_large")
        for count in (8, 1000, 100_000):
            yield Case(f"{name} and {count} of noise", "random", _noise(start, count), codes)


def _noise(start: bytes, count: int) -> Make:
    return lambda rng: start + rng.bytes(count)


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(2**24))
    return buffer.getvalue()


def polyglots() -> Iterator[Case]:
    """Two kinds at once: what is read is what the content says first."""
    picture, archive, scan = encoded(head()), _zip(), dicom()
    yield Case("PNG and zip", "polyglot", constant(picture + archive), (OK,))
    yield Case("JPEG and zip", "polyglot", constant(encoded(head(), "JPEG") + archive), (OK,))
    for name, start in {"ELF": b"\x7fELF\2\1\1", "TIFF": b"II*\0", "PE": b"MZ\x90\0", "script": b"#!/bin/sh\n"}.items():
        yield Case(f"DICOM behind {name}", "polyglot", constant(start.ljust(128, b"\0") + scan[128:]), (OK,))
    yield Case("DICOM behind PNG", "polyglot", constant(picture[:128] + scan[128:]), (OK,))
    for filename, data in {"a.jpg": picture, "a.dcm": zipped(nifti()), "a.nii.gz": nifti(), "a.png": scan}.items():
        yield Case(f"called {filename}", "polyglot", constant(data), (OK,), filename)
    both = np.frombuffer(nifti(), np.uint8).tobytes()
    yield Case("NIfTI and zip", "polyglot", constant(both + archive), (OK,))
