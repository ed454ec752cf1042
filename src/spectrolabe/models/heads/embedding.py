"""An embedding in which stars of like labels are neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["embedding_stress"]

NEAR = 0.1  # scaled labels that differ by less are as good as equal: their errors are of this size


def embedding_stress(embedding: Tensor, target: Tensor) -> Tensor:
    """Return how far distances in the embedding are from distances of labels, for a batch.

    The stress of Sammon (1969, IEEE Trans. Comput. 18, 401): the sum over pairs of stars of
    ``(d - t)**2 / t``, over the sum of ``t``, where d is the distance in the embedding and t that
    of the labels, the root of the mean square difference of the scaled labels known of both stars.
    Dividing by t is what makes near neighbours count; below 0.1 it is divided by 0.1.

    All labels weigh the same, Teff as much as [Eu/H]: neighbours shall be alike in all that is
    predicted, and abundances, which go with [Fe/H], make up for their errors by their number.

    Parameters
    ----------
    embedding : Tensor, shape (S, D)
    target : Tensor, shape (S, L)
        Scaled labels, NaN where not known; pairs without a common label do not count.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        known = torch.isfinite(target)
        labels, weight = torch.where(known, target, 0.0).to(torch.float32), known.float()
        common = weight @ weight.T
        square = _square_distances(labels, weight) / common.clamp(min=1.0)
        label_distance = square.clamp(min=0.0).sqrt()
        near = embedding.to(torch.float32)
        distance = (_square_distances(near, torch.ones_like(near)).clamp(min=0.0) + 1e-6).sqrt()
        pairs = torch.triu(common > 0, diagonal=1)
        stress = (distance - label_distance) ** 2 / label_distance.clamp(min=NEAR)
        total = torch.where(pairs, label_distance, 0.0).sum().clamp(min=NEAR)
        return torch.where(pairs, stress, 0.0).sum() / total


def _square_distances(x: Tensor, weight: Tensor) -> Tensor:
    """Sums of the squared differences of what both have, (S, S); never (S, S, D) in memory."""
    square = weight * x**2
    return square @ weight.T + weight @ square.T - 2.0 * x @ x.T
