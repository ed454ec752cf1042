"""Physical constants in cgs units (CODATA 2018, as in `scipy.constants`)."""

from scipy import constants as si

BOLTZMANN = si.k * 1e7  # erg/K
PLANCK = si.h * 1e7  # erg s
LIGHT = si.c * 1e2  # cm/s
ELECTRON_MASS = si.m_e * 1e3  # g
ELECTRON_CHARGE = si.e * si.c * 10.0  # esu
ATOMIC_MASS = si.atomic_mass * 1e3  # g
ELECTRON_VOLT = si.eV * 1e7  # erg
BOHR_RADIUS = si.physical_constants["Bohr radius"][0] * 1e2  # cm
THOMSON = si.physical_constants["Thomson cross section"][0] * 1e4  # cm2
RYDBERG_HYDROGEN = 109677.58341  # 1/cm, with the mass of the proton
BOLTZMANN_EV = BOLTZMANN / ELECTRON_VOLT  # eV/K
