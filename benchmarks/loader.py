"""How many random spectra a second does one core read from a store?

    OMP_NUM_THREADS=1 python benchmarks/loader.py [--spectra 2000] [--pixels 7514] [--folder DIR]

Writes a synthetic store of ragged spectra, then reads it in random order, warm from the file cache:
as views, as padded batches (every value is copied), as `Spectrum`, and through Hugging Face
`datasets` for comparison. Goal: 5,000 spectra/s in padded batches.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.spectra.store import Store, StoreWriter, open_store

BATCH = 64
SPREAD = 0.1  # of the number of pixels


def write(path: Path, spectra: int, pixels: int, rng: np.random.Generator) -> float:
    """Write the store and return spectra a second of wall time."""
    sizes = rng.integers(int(pixels * (1 - SPREAD)), int(pixels * (1 + SPREAD)), spectra)
    grid = 15100.0 * np.exp(1.4e-5 * np.arange(sizes.max()))
    noise = rng.normal(1.0, 0.01, sizes.max() + spectra).astype(np.float32)
    start = time.perf_counter()
    with StoreWriter(path, ("teff", "logg", "fe_h")) as writer:
        for i, size in enumerate(sizes):
            spectrum = Spectrum(
                wavelength=grid[:size],
                flux=noise[i : i + size],
                ivar=np.full(size, 1e4, np.float32),
                resolution=22500.0,
                frame=Frame.REST,
                survey="apogee",
                spectrum_id=f"s{i}",
                star_id=f"star{i // 3}",
                meta={"file": f"f{i}.fits"},
            )
            writer.append(spectrum, values={"teff": 4500.0, "logg": 2.0, "fe_h": -0.1}, snr=100.0)
    return spectra / (time.perf_counter() - start)


def views(store: Store, rows: NDArray) -> None:
    """Zero-copy views."""
    for i in rows:
        store.arrays(i)


def batches(store: Store, rows: NDArray) -> None:
    """Copy into padded arrays, as a loader does."""
    for start in range(0, len(rows), BATCH):
        chosen = [store.arrays(i) for i in rows[start : start + BATCH]]
        size = max(len(arrays[0]) for arrays in chosen)
        wavelength = np.zeros((len(chosen), size))
        flux, ivar = (np.zeros((len(chosen), size), np.float32) for _ in range(2))
        for k, (w, f, v, _) in enumerate(chosen):
            wavelength[k, : len(w)], flux[k, : len(w)], ivar[k, : len(w)] = w, f, v


def spectra(store: Store, rows: NDArray) -> None:
    """`Spectrum` with all its checks."""
    for i in rows:
        store[i]


def huggingface(store: Store, rows: NDArray) -> None:
    """Rows of `datasets.Dataset` in numpy format."""
    dataset = store.dataset.with_format("numpy")
    for i in rows:
        dataset[int(i)]


def rate(read: Callable[[Store, NDArray], None], store: Store, rows: NDArray) -> float:
    """Spectra a second of processor time: the best of three."""
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        read(store, rows)
        best = min(best, time.process_time() - start)
    return len(rows) / best


def main() -> None:
    """Print one line for each way of reading."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spectra", type=int, default=2000)
    parser.add_argument("--pixels", type=int, default=7514)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "store"
        print(
            f"write            {write(path, options.spectra, options.pixels, rng):10.0f} spectra/s"
        )
        start = time.perf_counter()
        store = open_store(path)
        print(f"open             {1e3 * (time.perf_counter() - start):10.1f} ms")
        rows = rng.permutation(len(store))
        print(f"views            {rate(views, store, rows):10.0f} spectra/s")
        print(f"padded batches   {rate(batches, store, rows):10.0f} spectra/s")
        print(f"Spectrum         {rate(spectra, store, rows):10.0f} spectra/s")
        print(f"datasets, numpy  {rate(huggingface, store, rows[:300]):10.0f} spectra/s")


if __name__ == "__main__":
    main()
