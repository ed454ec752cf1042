"""Orbitals of the jumping electron in strong lines of the H band, which linemake does not name."""

from __future__ import annotations

NEAR = 0.006  # eV between linemake's energies and those of NIST

# species, orbitals, lower levels and range of upper levels in eV (NIST Atomic Spectra Database)
H_BAND: tuple[tuple[str, str, tuple[float, ...], tuple[float, float]], ...] = (
    ("C 1", "pd", (9.003,), (9.72, 9.75)),  # 3p 1D - 3d 1F
    ("C 1", "df", (9.631,), (10.38, 10.42)),  # 3d 1D - 4f
    ("Mg 1", "pd", (5.932, 5.933), (6.71, 6.72)),  # 4p 3P - 4d 3D
    ("Al 1", "pd", (4.085, 4.087), (4.82, 4.83)),  # 4p 2P - 4d 2D
    ("Si 1", "sp", (5.082,), (5.85, 5.87)),  # 4s 1P - 4p 1P
    ("Si 1", "pd", (5.863,), (6.60, 6.63)),  # 4p 1P - 3d 1P
    ("S 1", "ps", (8.045, 8.046), (8.83, 8.85)),  # 4p 3P - 5s 3S
    ("S 1", "df", (8.699, 8.700, 8.701), (9.49, 9.51)),  # 3d 3D - 4f 3F
    ("K 1", "df", (2.670,), (3.48, 3.49)),  # 3d 2D - 4f 2F
    ("Mn 1", "sp", (4.889, 5.133), (5.69, 5.93)),  # 5s 8S, 6S - 5p
    ("Fe 1", "sp", (5.308, 5.352, 5.385, 5.410, 5.426), (6.05, 6.50)),  # 5s 7D - 5p
    ("Fe 1", "sp", (5.539, 5.587, 5.621, 5.642, 5.653), (6.05, 6.50)),  # 5s 5D - 5p
    ("Ni 1", "sp", (5.283, 5.305), (6.00, 6.15)),  # 5s 3D - 5p
)


def orbitals_of(species: str, energy: float, upper: float) -> str:
    """Return the orbitals of the lower and the upper level, ``xx`` when they are not known."""
    for name, orbitals, lower, (low, high) in H_BAND:
        near = any(abs(energy - level) < NEAR for level in lower)
        if name == species and near and low <= upper <= high:
            return orbitals
    return "xx"
