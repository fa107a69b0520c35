"""Which of the network's channels the files of a case fill; the channels of missing sequences are zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..core.filenames import ABSENT
from .volumes import UnreadableImageError

__all__ = ["channels_of_files", "spread", "wrong_number"]


def channels_of_files(files: Sequence[Path], modalities: Sequence[str], told: Callable[[Path], str]) -> dict[int, Path]:
    """The files of a case by their channel.

    Args:
        files: one for each modality, `ABSENT` in the place of a missing one, in the order of the modalities; or fewer,
            whose names or headers tell their sequences.
        modalities: channels, in order.
        told: sequence of a file by its name or header, "" where nothing tells.

    Returns:
        File by channel, in the order of the channels; empty where a file's sequence is unknown or not among the
        modalities, or two files have one sequence.

    Raises:
        UnreadableImageError: when all are missing.
    """
    if len(files) == len(modalities):
        there = {number: file for number, file in enumerate(files) if str(file) != ABSENT}
        if not there:
            raise UnreadableImageError(files[0], f"no file of {', '.join(modalities)}; give one of them", "missing")
        return there
    names = [told(file) for file in files]
    if len(set(names)) < len(names) or not set(names) <= set(modalities):
        return {}
    return dict(sorted((modalities.index(name), file) for name, file in zip(names, files, strict=True)))


def spread(channels: Sequence[np.ndarray], numbers: Sequence[int], count: int) -> np.ndarray:
    """Channels (H, W, D) at their places among `count`, zeros elsewhere: (count, H, W, D).

    >>> spread([np.ones((1, 1, 1))], [1], 3).ravel()
    array([0., 1., 0.])
    """
    whole = np.zeros((count, *channels[0].shape), dtype=channels[0].dtype)
    for number, channel in zip(numbers, channels, strict=True):
        whole[number] = channel
    return whole


def wrong_number(file: Path, channels: int, modalities: Sequence[str]) -> UnreadableImageError:
    """The error of a scan with another number of channels than the network's."""
    reason = f"number of channels is {channels}, expected are {len(modalities)}: {', '.join(modalities)}"
    return UnreadableImageError(file, f"{reason}; give a file for each", "rank")
