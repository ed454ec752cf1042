"""Compact spectra that are made in seconds, and good for nothing but to be there."""

TINY = {
    "functions": 12,
    "width": 8,
    "own": 4,
    "few": 2,
    "sloped": 2,
    "plain": 24,
    "training": {"epochs": 1, "batch_size": 2},
}
