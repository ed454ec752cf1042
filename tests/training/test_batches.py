"""Batches of surveys with different numbers of pixels."""

from __future__ import annotations

import numpy as np

from spectrolabe.config import DataConfig
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import StoreWriter, open_store
from spectrolabe.training.augmentation import batches
from spectrolabe.training.data import load_sample

PIXELS = (150, 170, 700, 3000)


def _sample(folder, pixels):
    with StoreWriter(folder, ["teff"]) as writer:
        for i in range(60):
            count = pixels[i % len(pixels)]
            spectrum = Spectrum(
                wavelength=np.linspace(4000.0, 5000.0, count),
                flux=np.full(count, float(i)),
                ivar=np.ones(count),
                resolution=2000.0,
                frame=Frame.REST,
                rv=0.0,
                survey="generic",
                spectrum_id=f"s{i}",
                star_id=f"s{i}",
            )
            writer.append(spectrum, values=[5000.0 + i])
    store = open_store(folder)
    return load_sample(store, DataConfig(store=str(folder), labels=("teff",)))


def _shuffled(sample):
    rng = np.random.default_rng(3)
    return [[int(v) for v in pixels.flux[:, 0]] for pixels, _ in batches(sample, 8, rng=rng)]


def test_every_spectrum_comes_once_among_its_like(tmp_path):
    sample = _sample(tmp_path / "store", PIXELS)
    found = _shuffled(sample)
    assert sorted(i for batch in found for i in batch) == list(range(60))
    for batch in found:
        sizes = [PIXELS[i % len(PIXELS)] for i in batch]
        assert max(sizes) < 2 * min(sizes)
    kinds = [PIXELS[batch[0] % len(PIXELS)] > 500 for batch in found]
    assert kinds != sorted(kinds)  # one survey does not come after the other
    assert _shuffled(sample) == found


def test_spectra_of_one_length_come_in_random_order(tmp_path):
    found = _shuffled(_sample(tmp_path / "store", (150,)))
    assert [len(batch) for batch in found] == [8] * 7 + [4]
    expected = np.random.default_rng(3).permutation(60)
    assert [i for batch in found for i in batch] == expected.tolist()
