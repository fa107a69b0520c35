"""NRRD and MetaImage: cut, lying, enormous, and pointing at other files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

from .cases import OK, Case, constant, volume

VOXELS = volume().tobytes(order="F")  # (64, 56, 4), int16
NOT_READ = ("header", "truncated", "damaged", "unsupported", "rank")


def nrrd(body: bytes = VOXELS, **changes: str) -> bytes:
    """An NRRD file, its fields changed; an empty one is left out."""
    fields = {"type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "64 56 4"}
    fields |= {"space directions": "(2,0,0) (0,2,0) (0,0,3)", "endian": "little", "encoding": "raw"}
    fields |= {"space origin": "(0,0,0)", **{name.replace("_", " "): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    return "\n".join(["NRRD0005", *lines]).encode() + b"\n\n" + body


def metaimage(body: bytes = VOXELS, **changes: str) -> bytes:
    """A MetaImage file, its fields changed; an empty one is left out."""
    fields = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False"}
    fields |= {"CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0"}
    fields |= {"ElementSpacing": "2 2 3", "DimSize": "64 56 4", "ElementType": "MET_SHORT"} | changes
    fields["ElementDataFile"] = fields.pop("ElementDataFile", "LOCAL")
    return "".join(f"{name} = {value}\n" for name, value in fields.items() if value).encode() + body


def cases() -> Iterator[Case]:
    """All of both."""
    yield from nrrd_cases()
    yield from metaimage_cases()
    for name, data in {"NRRD": nrrd(), "MetaImage": metaimage()}.items():
        for part in range(1, 8):
            cut = constant(data[: len(data) * part // 8])
            yield Case(f"{part} of 8 of {name}", "grids", cut, ("truncated", "damaged", "header"))
        yield Case(f"{name} and noise", "grids", lambda rng, data=data: data[:40] + rng.bytes(5000), NOT_READ)
        yield Case(f"{name} in gzip", "grids", constant(gzip.compress(data, mtime=0)), ("unsupported",))


def nrrd_cases() -> Iterator[Case]:
    """What an NRRD header may say."""
    packed = gzip.compress(VOXELS, mtime=0)
    for name, data in {"raw": nrrd(), "gzip": nrrd(packed, encoding="gzip")}.items():
        yield Case(f"NRRD {name}", "grids", constant(data), (OK,))
    refused = {
        "file elsewhere": ({"data_file": "/etc/passwd"}, ("unsupported",)),
        "list of files": ({"data_file": "LIST"}, ("unsupported",)),
        "pattern of files": ({"data_file": "../%d.raw 1 4 1"}, ("unsupported",)),
        "another encoding": ({"encoding": "hex"}, NOT_READ),
        "unknown encoding": ({"encoding": "zstd"}, NOT_READ),
        "blocks": ({"type": "block", "block_size": "7"}, ("header",)),
        "no sizes": ({"sizes": ""}, ("header",)),
        "negative sizes": ({"sizes": "64 -56 4"}, ("header",)),
        "two sizes": ({"sizes": "64 56"}, ("header",)),
        "one axis": (
            {"dimension": "1", "sizes": "9", "space": "", "space_directions": "", "space_origin": ""},
            NOT_READ,
        ),
        "four axes": ({"dimension": "4", "sizes": "64 28 2 4"}, NOT_READ),
        "directions of nan": ({"space_directions": "(nan,0,0) (0,2,0) (0,0,3)"}, (*NOT_READ, "nonfinite")),
        "directions of zero": ({"space_directions": "(0,0,0) (0,2,0) (0,0,3)"}, NOT_READ),
        "broken gzip": ({"encoding": "gzip"}, ("damaged", "truncated")),
        "bytes to skip": ({"byte_skip": "-1"}, ("header",)),
    }
    for name, (changes, codes) in refused.items():
        yield Case(f"NRRD {name}", "grids", constant(nrrd(**changes)), codes)  # type: ignore[arg-type]
    for sides in ("30000 30000 30000", "4096 4096 4096", "99999999999 1 1"):
        huge = constant(nrrd(sizes=sides))
        yield Case(f"NRRD of {sides}", "declared size", huge, ("declared_size", "too_large"))
    bomb = constant(nrrd(gzip.compress(bytes(2**28), mtime=0), encoding="gzip", sizes="4000 4000 16"))
    yield Case("NRRD of zeros", "inflate", bomb, ("too_large", "declared_size", "inflate", "memory", "damaged"))


def metaimage_cases() -> Iterator[Case]:
    """What a MetaImage header may say."""
    packed = zlib.compress(VOXELS)
    sized = {"CompressedData": "True", "CompressedDataSize": str(len(packed))}
    yield Case("MetaImage raw", "grids", constant(metaimage()), (OK,))
    yield Case("MetaImage compressed", "grids", constant(metaimage(packed, **sized)), (OK,))
    for place in ("/etc/passwd", "../x.raw", "LIST", "%03d.raw 1 4 1", "x.raw"):
        data = constant(metaimage(ElementDataFile=place))
        yield Case(f"MetaImage at {place}", "grids", data, ("unsupported", "header"))
    refused = {
        "no size": {"DimSize": ""},
        "size 0": {"DimSize": "64 0 4"},
        "two sides": {"DimSize": "64 56"},
        "strings": {"ElementType": "MET_STRING"},
        "four axes": {"NDims": "4", "DimSize": "64 28 2 4"},
        "spacing 0": {"ElementSpacing": "0 0 0"},
        "matrix of zeros": {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
        "matrix of nan": {"TransformMatrix": "nan 0 0 0 1 0 0 0 1"},
        "noise for zlib": sized,
    }
    for name, changes in refused.items():
        yield Case(f"MetaImage {name}", "grids", constant(metaimage(**changes)), NOT_READ)
    for sides in ("30000 30000 30000", "4096 4096 4096"):
        huge = constant(metaimage(DimSize=sides))
        yield Case(f"MetaImage of {sides}", "declared size", huge, ("declared_size", "too_large"))
