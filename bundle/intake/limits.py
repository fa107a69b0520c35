"""Limits of one request: size, time and memory."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOCAL", "MIB", "Limits"]

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Limits of one request; the defaults are for a public service.

    Args:
        request_bytes: of all its files together, as received.
        files: of a DICOM series.
        side_pixels: along any axis.
        voxels: of all its files together, 64 Mi.
        slices: of a volume; each slice becomes 256 x 256 pixels, even if it is smaller in the file.
        inflated_bytes: of a file after decompression.
        inflate_ratio: decompressed to compressed bytes; checked once more than `inflate_free_bytes` are decompressed,
            since empty background compresses well.
        inflate_free_bytes: see `inflate_ratio`.
        seconds: wall time for checking and decoding.
        memory_bytes: that checking and decoding may add to the process.
    """

    request_bytes: int = 32 * MIB
    files: int = 1024
    side_pixels: int = 4096
    voxels: int = 64 * MIB
    slices: int = 512
    inflated_bytes: int = 256 * MIB
    inflate_ratio: float = 200.0
    inflate_free_bytes: int = 32 * MIB
    seconds: float = 20.0
    memory_bytes: int = 2048 * MIB


# for files on the user's own machine: as large as a research scanner writes them
LOCAL = Limits(
    request_bytes=4096 * MIB,
    files=16384,
    side_pixels=16384,
    voxels=1024 * MIB,
    slices=8192,
    inflated_bytes=8192 * MIB,
    seconds=300.0,
    memory_bytes=32768 * MIB,
)
