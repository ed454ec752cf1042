"""Against spectra computed with Turbospectrum: the windows are short, the stars far apart."""

from __future__ import annotations

import numpy as np
import pytest

from spectrolabe.spectra import air_to_vacuum, convolve_lsf
from spectrolabe.synthesis import Star, synthesise

pytestmark = pytest.mark.data
WINDOWS = ((4290.0, 4330.0), (5160.0, 5200.0), (6480.0, 6510.0), (8480.0, 8560.0))  # Å in air


@pytest.fixture(scope="module")
def reference(shared_data):
    with np.load(shared_data / "turbospectrum" / "turbospectrum.npz") as file:
        return {key: file[key] for key in file.files}


def star_of(reference, row):
    value = dict(zip(reference["label_names"], map(float, reference["labels"][row]), strict=True))
    x_fe = {name[:-3]: v for name, v in value.items() if name.endswith("_Fe")}
    return Star(value["Teff"], value["logg"], value["FeH"], value["vmic"], x_fe)


def inside(reference, window):
    air = reference["wave_air"]
    pixels = (air > window[0]) & (air < window[1])
    return pixels, air_to_vacuum(air[pixels])


@pytest.mark.parametrize(
    "row", [1, 2, 6, 7], ids=["subgiant", "giant", "metal-rich giant", "dwarf"]
)
@pytest.mark.parametrize("window", WINDOWS, ids=lambda w: f"{w[0]:.0f}")
def test_flux(reference, row, window):
    """Measured in windows of 300 Å: std 0.1 to 0.6 per cent at R = 28,000 in most of them."""
    pixels, vacuum = inside(reference, window)
    theirs = reference["flux_u16"][row][pixels] * float(reference["flux_scale"])
    ours = synthesise(star_of(reference, row), vacuum).flux
    difference = convolve_lsf(vacuum, ours - theirs, 28000.0)
    assert abs(difference.mean()) < 0.006
    assert difference.std() < (0.025 if row == 6 else 0.012)


@pytest.mark.parametrize(
    ("label", "name", "window"),
    [
        ("teff", "Teff", WINDOWS[1]),
        ("fe_h", "FeH", WINDOWS[1]),
        ("v_micro", "vmic", WINDOWS[1]),
        ("logg", "logg", WINDOWS[1]),
        ("mg_fe", "Mg_Fe", WINDOWS[1]),
        ("c_fe", "C_Fe", WINDOWS[0]),
        ("ti_fe", "Ti_Fe", WINDOWS[0]),
        ("ca_fe", "Ca_Fe", WINDOWS[3]),
        ("ba_fe", "Ba_Fe", (6485.0, 6510.0)),
    ],
)
def test_differential_spectra_of_the_sun(reference, label, name, window):
    kinds = [str(kind) for kind in reference["kind"]]
    base, other = kinds.index("grad:sun:base"), kinds.index(f"grad:sun:{name}")
    step = float(reference["fd_step"][list(reference["label_names"]).index(name)])
    pixels, vacuum = inside(reference, window)
    flux = reference["flux_u16"][:, pixels].astype(float) * float(reference["flux_scale"])
    theirs = (flux[other] - flux[base]) / step
    ours = synthesise(star_of(reference, base), vacuum, differential=[label]).differential[0]
    assert (ours @ theirs) / (theirs @ theirs) == pytest.approx(1.0, abs=0.05)
