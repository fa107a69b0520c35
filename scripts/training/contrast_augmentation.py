"""Random contrast and style: the same head as another sequence, scanner or source might show it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, ResizeWithPadOrCrop

from ..dataset.sampling import SliceDataset
from ..transforms.channels import known_channels

__all__ = ["RandSwapAmplituded", "RandTissueContrastd"]

QUANTILES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0)  # of the tissue: fluid, gray and white matter, and fat differ
STEPS = (0.25, 1.5)  # least and largest step between two of them, before the spread is made one again
LOW_FREQUENCIES = (0.01, 0.09)  # half the side of the exchanged square of the spectrum, as a share of its side


class RandTissueContrastd(RandomizableTransform, MapTransform):
    """Give each tissue of a slice a random brightness: a tone curve through the quantiles of its tissue.

    The curve rises throughout, or falls throughout (T1 against T2), or turns once (fluid is dark in FLAIR and bright in
    T2), and is nowhere constant, so that lesions mostly still differ from their surroundings. The result has mean 0 and
    standard deviation 1 over the tissue, as in inference.

    Args:
        keys: slices (C, H, W) in standard deviations, background below all tissue.
        prob: probability of the transform.
        foreground_key: where there is tissue, (1, H, W) of 0 and 1.

    Reference:
        Billot et al., SynthSeg, Medical Image Analysis 86, 2023, randomizes contrast per tissue class.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.2, foreground_key: str = "foreground") -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.foreground_key = foreground_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        tissue = torch.as_tensor(d[self.foreground_key])[0] > 0.5
        if not self._do_transform or int(tissue.sum()) < len(QUANTILES):
            return d
        levels = self._levels()
        for key in self.key_iterator(d):
            d[key] = torch.stack([_recolored(plane, tissue, levels) for plane in torch.as_tensor(d[key])])
        return d

    def _levels(self) -> np.ndarray:
        """Brightness at the quantiles: rising, falling, or turning once in the darker or the brighter half."""
        steps = self.R.uniform(*STEPS, size=len(QUANTILES) - 1)
        turn = self.R.randint(1, len(steps) - 1)
        sign = 1.0 if self.R.rand() < 0.5 else -1.0
        if self.R.rand() < 0.5:
            steps[:turn] *= -1.0
        return np.concatenate([[0.0], np.cumsum(sign * steps)])


class RandSwapAmplituded(RandomizableTransform, MapTransform):
    """Give a slice the style of a slice of another source: the amplitudes of its low frequencies; phases stay.

    Amplitudes of low frequencies hold brightness, bias field and much of the contrast; phases hold the anatomy. They
    are mixed with those of the other slice at a random share. Of both slices only the tissue is seen, around its mean.
    The result has mean 0 and standard deviation 1 over the tissue, as in inference.

    Args:
        keys: slices (C, H, W) in standard deviations, background below all tissue.
        donors: slices without random transforms; with those of a single source nothing is changed.
        prob: probability of the transform.
        foreground_key: where there is tissue, (1, H, W) of 0 and 1.
        source_key: name of the slice's source.

    Reference:
        Yang and Soatto, FDA: Fourier Domain Adaptation for Semantic Segmentation, CVPR 2020, exchange amplitudes; Xu et
        al., A Fourier-based Framework for Domain Generalization, CVPR 2021, mix them at a random share.
    """

    def __init__(
        self,
        keys: KeysCollection,
        donors: SliceDataset,
        prob: float = 0.2,
        foreground_key: str = "foreground",
        source_key: str = "source",
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.donors, self.foreground_key, self.source_key = donors, foreground_key, source_key
        sources = [record["source"] for record in donors.data]
        self.of_source = {name: np.flatnonzero(np.array(sources) == name) for name in sorted(set(sources))}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return d
        others = [name for name in self.of_source if name != d[self.source_key]]
        tissue = torch.as_tensor(d[self.foreground_key])[0] > 0.5
        if not others or not bool(tissue.any()):
            return d
        indices = self.of_source[others[self.R.randint(len(others))]]
        donor = self.donors[int(indices[self.R.randint(len(indices))])]
        half, share = self.R.uniform(*LOW_FREQUENCIES), self.R.uniform()
        shown, inside = known_channels(torch.as_tensor(donor["image"])), torch.as_tensor(donor["foreground"])[0] > 0.5
        style = ResizeWithPadOrCrop(tissue.shape)(_around_mean(shown[[self.R.randint(len(shown))]], inside))[0]
        for key in self.key_iterator(d):
            planes = torch.as_tensor(d[key])
            styled = (_with_amplitudes(_around_mean(plane, tissue), style, half, share) for plane in planes)
            d[key] = torch.stack([_with_tissue(p, tissue, new[tissue]) for p, new in zip(planes, styled, strict=True)])
        return d


def _around_mean(plane: torch.Tensor, tissue: torch.Tensor) -> torch.Tensor:
    """Planes (..., H, W) less the mean of their tissue; 0 elsewhere."""
    return torch.where(tissue, plane - plane[..., tissue].mean().nan_to_num(), 0.0)


def _with_amplitudes(plane: torch.Tensor, style: torch.Tensor, half: float, share: float) -> torch.Tensor:
    """A plane (H, W) whose low frequencies have, at a share, the amplitudes of another plane of its size."""
    spectrum, other = torch.fft.rfft2(plane), torch.fft.rfft2(style)
    rows, columns = torch.fft.fftfreq(plane.shape[0]).abs(), torch.fft.rfftfreq(plane.shape[1])
    weight = share * ((rows[:, None] <= half) & (columns[None] <= half))
    amplitude = (1 - weight) * spectrum.abs() + weight * other.abs()
    return torch.fft.irfft2(torch.polar(amplitude, spectrum.angle()), s=plane.shape)


def _recolored(plane: torch.Tensor, tissue: torch.Tensor, levels: np.ndarray) -> torch.Tensor:
    """A plane (H, W) after the tone curve, its tissue of mean 0 and standard deviation 1."""
    values = plane[tissue].numpy()
    knots = np.maximum.accumulate(np.quantile(values, QUANTILES) + 1e-4 * np.arange(len(QUANTILES)))
    return _with_tissue(plane, tissue, torch.from_numpy(np.interp(values, knots, levels)))


def _with_tissue(plane: torch.Tensor, tissue: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """A plane (H, W) with other values (N,) of its tissue, of mean 0 and standard deviation 1."""
    changed = plane.clone()
    spread = max(float(values.std(correction=0)), 1e-3)
    changed[tissue] = ((values - values.mean()) / spread).to(plane.dtype)
    return changed
