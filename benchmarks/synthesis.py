"""CPU seconds of the parts of a synthesis: 3900-9000 Å at 0.05 Å.

OMP_NUM_THREADS=1 python benchmarks/synthesis.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

from spectrolabe.synthesis import Star, synthesise, wavelength_grid
from spectrolabe.synthesis.differential import DIFFERENTIAL
from spectrolabe.synthesis.hydrogen import add_hydrogen_lines
from spectrolabe.synthesis.linelist import load_lines
from spectrolabe.synthesis.opacity import add_lines
from spectrolabe.synthesis.spectrum import Continuum, Layers, Piece
from spectrolabe.synthesis.transfer import emergent_flux

STARS = {
    "Sun": Star(5777.0, 4.44, 0.0, 1.0),
    "Arcturus": Star(4286.0, 1.66, -0.52, 1.6, {"Mg": 0.4, "Si": 0.3}),
    "metal-poor giant": Star(4700.0, 1.5, -2.0, 2.0, {"Mg": 0.4}),
    "F dwarf": Star(6550.0, 4.0, 0.0, 1.8),
}


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the CPU time of the best call."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def profile(star: Star) -> dict[str, float]:
    """Return the CPU time of each part."""
    grid = wavelength_grid(3900.0, 9000.0)
    lines = load_lines(grid[0], grid[-1])
    layers = Layers.of(star, "marcs")
    piece = Piece.of(layers, grid, lines)
    base = piece.continuum.at(grid)
    reference = (piece.continuum.grid, piece.continuum.absorption)
    scattering = (piece.continuum.grid, piece.continuum.scattering)
    parts = {
        "layers": lambda: Layers.of(star, "marcs"),
        "continuum": lambda: Continuum.of(layers, grid).at(grid),
        "hydrogen": lambda: add_hydrogen_lines(base.copy(), grid, layers.gas, 1.0),
        "lines": lambda: add_lines(
            base.copy(),
            grid,
            lines,
            layers.gas,
            1.0,
            continuum=reference,
            tau5000=layers.tau5000,
        ),
        "transfer": lambda: emergent_flux(
            piece.opacity,
            grid,
            scattering=scattering,
            tau=layers.tau5000,
            reference=layers.opacity5000,
            temperature=layers.gas.temperature,
        ),
        "all": lambda: synthesise(star, grid),
    }
    row = {part: seconds(work) for part, work in parts.items()}
    row["with 34 differential"] = seconds(
        lambda: synthesise(star, grid, differential=DIFFERENTIAL),
        1,
    )
    return row


def main() -> None:
    """Print one row a star."""
    for name, star in STARS.items():
        times = profile(star)
        print(f"{name}: " + ", ".join(f"{part} {value:.2f}" for part, value in times.items()))


if __name__ == "__main__":
    main()
