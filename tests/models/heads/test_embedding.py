"""The stress of an embedding against its definition, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spectrolabe.models.heads.embedding import NEAR, embedding_stress


def by_pairs(embedding, target):
    stress, total = 0.0, 0.0
    for i in range(len(target)):
        for j in range(i):
            both = np.isfinite(target[i]) & np.isfinite(target[j])
            if both.any():
                of_labels = np.sqrt(np.mean((target[i] - target[j])[both] ** 2))
                distance = np.linalg.norm(embedding[i] - embedding[j])
                stress += (distance - of_labels) ** 2 / max(of_labels, NEAR)
                total += of_labels
    return stress / total


def test_it_is_sammons_stress_of_the_labels_known_of_both_stars():
    rng = np.random.default_rng(0)
    embedding, target = rng.normal(size=(7, 5)), rng.normal(size=(7, 3))
    target[0, 1] = target[3, [0, 2]] = np.nan
    target[4, [1, 2]] = np.nan  # nothing in common with star 3
    found = embedding_stress(torch.tensor(embedding), torch.tensor(target))
    assert found.item() == pytest.approx(by_pairs(embedding, target), rel=1e-4)


def test_distances_that_are_those_of_the_labels_have_none():
    target = torch.randn(20, 2)
    stress = embedding_stress(target / np.sqrt(2.0), target)  # root of the mean square
    assert stress.item() == pytest.approx(0.0, abs=1e-5)


def test_stars_at_one_place_are_pulled_apart_without_infinite_gradients():
    embedding = torch.zeros(4, 3, requires_grad=True)
    embedding_stress(embedding + 0.0, torch.randn(4, 2)).backward()
    assert torch.isfinite(embedding.grad).all()
