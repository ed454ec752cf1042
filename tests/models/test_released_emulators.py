"""The released emulators: small, with a card that says how good they are, and right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.models.files import read_card
from spectrolabe.models.released import EMULATOR
from spectrolabe.spectra import air_to_vacuum, convolve_lsf

WEIGHTS = Path(__file__).parents[2] / "weights"
RANGES = {"emulator-optical": (3700.0, 9800.0), "emulator-h": (15100.0, 17000.0)}
SUN = {"teff": 5772.0, "logg": 4.44, "fe_h": 0.0, "v_micro": 1.0}
# air Å, equivalent width of the Sun's centre of the disc in mÅ: Moore, Minnaert & Houtgast 1966
LINES = {6252.56: 111.0, 6065.48: 112.0, 6439.08: 157.0}  # Fe I, Fe I, Ca I


@pytest.fixture(scope="module", params=sorted(RANGES))
def released(request: pytest.FixtureRequest) -> tuple[str, Emulator]:
    return request.param, load_emulator(WEIGHTS / request.param)


def sun(emulator: Emulator) -> list[float]:
    return [SUN.get(name, 0.0) for name in emulator.names]


def test_size_range_and_card(released: tuple[str, Emulator]) -> None:
    name, emulator = released
    folder = WEIGHTS / name
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 25e6
    low, high = RANGES[name]
    assert emulator.wavelength[0] < low + 1
    assert emulator.wavelength[-1] > high - 1
    assert emulator.resolution == 28000.0
    assert len(emulator.names) >= 34
    assert (
        emulator.card["training_data"]["stars"] + emulator.card["training_data"]["stars_kept_apart"]
        == 3000
    )
    unseen = emulator.card["unseen"]
    assert unseen["mae_of_basis"] < unseen["mae"] < 2e-3
    assert unseen["slopes"]["fe_h"] < 0.1


def test_flux_and_continuum_are_those_of_a_star(released: tuple[str, Emulator]) -> None:
    _, emulator = released
    flux = emulator.basis.flux(emulator.latents(sun(emulator))).numpy()[0]
    assert flux.max() < 1.02
    assert flux.min() > -0.02
    assert np.median(flux) > 0.9
    middle = emulator.wavelength[len(emulator.wavelength) // 2]
    (continuum,) = emulator.continuum(sun(emulator), [middle])[0]
    planck = 3.741771e-5 / (middle * 1e-8) ** 5 / np.expm1(1.438777 / (middle * 1e-8) / 5772) * 1e-8
    assert continuum == pytest.approx(
        planck, rel=0.35
    )  # H- lets deep, hot layers through at 1.6 um


def test_lines_of_the_sun_have_the_strength_of_the_atlas() -> None:
    emulator = load_emulator(WEIGHTS / "emulator-optical")
    for centre, width in LINES.items():
        grid = air_to_vacuum(np.arange(centre - 0.5, centre + 0.5, 0.01))
        (flux,) = emulator.flux(sun(emulator), grid, 28000.0)
        assert 1e3 * 0.01 * (flux.max() - flux).sum() == pytest.approx(width, rel=0.25), centre


def test_the_nearest_instrument_sees_what_a_far_one_sees_blurred() -> None:
    emulator = load_emulator(WEIGHTS / "emulator-optical")
    fine = np.exp(np.arange(np.log(5000.0), np.log(5400.0), 1 / (3.0 * 28000.0)))
    (sharp,) = emulator.flux(sun(emulator), fine, 28000.0)
    (low,) = emulator.flux(sun(emulator), fine, 1800.0)
    blurred = convolve_lsf(fine, sharp, 1800.0, input_resolution=28000.0)
    inside = slice(400, -400)
    np.testing.assert_allclose(low[inside], blurred[inside], atol=2e-3)


def test_to_load_is_not_to_draw() -> None:
    """Random numbers of a training that loads emulators are those of one that has them."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_emulator(WEIGHTS / "emulator-h")
    assert torch.equal(torch.rand(3), expected)


def test_the_released_encoder_was_made_with_these() -> None:
    """Its first fit ends with spectra of emulators by name: those that it has learnt from."""
    card = json.loads((WEIGHTS / "unified-v1" / "card.json").read_text())
    names = card["encoder"]["compact"]["emulators"]
    known = card["transfer"]["start_trained_on"]["emulators"]
    found = {name: read_card(WEIGHTS / name, EMULATOR)["weights_sha256"] for name in names}
    assert found == known


@pytest.mark.data
def test_turbospectrum_makes_the_same_stars(shared_data: Path) -> None:
    """The error of emulation and the difference of the codes and line lists together."""
    emulator = load_emulator(WEIGHTS / "emulator-optical")
    with np.load(shared_data / "turbospectrum" / "turbospectrum.npz") as file:
        data = {name: file[name] for name in file.files}
    names = [{"Teff": "teff", "FeH": "fe_h", "vmic": "v_micro"}.get(str(n), str(n).lower())
             for n in data["label_names"]]  # fmt: skip
    labels = np.array([
        [dict(zip(names, row, strict=True)).get(name, 0.0) for name in emulator.names]
        for row in data["labels"].astype(float)
    ])  # fmt: skip
    inside = ((labels >= emulator.low) & (labels <= emulator.high)).all(axis=1)
    rows = np.flatnonzero((data["kind"] == "random") & inside & (labels[:, 0] > 4500))[:8]
    assert len(rows) >= 5
    vacuum = air_to_vacuum(data["wave_air"])
    grid = vacuum[(data["wave_air"] > 4800) & (data["wave_air"] < 6800)]
    scale = float(data["flux_scale"])
    found = []
    for row in rows:
        theirs = convolve_lsf(vacuum, data["flux_u16"][row] * scale, 1800.0)
        ours = emulator.flux(labels[row], grid, 1800.0)[0]
        found.append(np.std(ours - np.interp(grid, vacuum, theirs)))
    assert np.median(found) < 0.012
