"""Spectra that are not what a fit takes them for: what does it say of them?

    python benchmarks/fit_bad_input.py DATA --emulators weights/emulator-optical weights/emulator-h

DATA holds ``lamost_dr10``, ``miles`` and ``apogee``. Real LAMOST spectra are spoilt in one way
after the other; some are bad as they are. Counted is how often the flag that is right is set, and
what else is. Writes ``fit_bad_input.md``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fits import Arrays, emulators_of, fit_stars, flag_names, identity
from pages import remarks, table, write_page
from reference_stars import degraded
from samples import lamost, miles
from spectrolabe.catalogue import ResultFlag
from spectrolabe.models.emulator import Emulator
from spectrolabe.spectra import Frame, Spectrum, doppler_shift, vacuum_to_air
from spectrolabe.spectra.wavelength import SPEED_OF_LIGHT

STARS, SEED, SNR_CUT = 20, 33, 50.0
Stars = list[list[Spectrum]]


@dataclass(frozen=True)
class Case:
    """One kind of bad input: what was done, the flags of which one should be set, the stars."""

    title: str
    wanted: ResultFlag
    stars: Stars


def each(stars: Stars, change: Callable[[Spectrum], Spectrum]) -> Stars:
    """Apply a change to every spectrum."""
    return [[change(spectrum) for spectrum in star] for star in stars]


def few_pixels(spectrum: Spectrum) -> Spectrum:
    """Leave 30 pixels."""
    keep = np.zeros(len(spectrum), bool)
    keep[np.flatnonzero(spectrum.good)[1000:1030]] = True
    return spectrum.replace(ivar=np.where(keep, spectrum.ivar, 0.0))


def moved(spectrum: Spectrum, velocity: float) -> Spectrum:
    """Shift the wavelengths, and say nothing of it."""
    return spectrum.replace(wavelength=spectrum.wavelength * doppler_shift(1.0, velocity))


def in_emission(
    spectrum: Spectrum, lines: Sequence[float], width: float, height: float
) -> Spectrum:
    """Add emission lines at the star's velocity: FWHM in km/s, height over the local flux."""
    fwhm = np.hypot(width, SPEED_OF_LIGHT / np.asarray(spectrum.resolution, float))
    flux = spectrum.flux.astype(float)
    for line in lines:
        at = line * doppler_shift(1.0, spectrum.rv)
        near = spectrum.good & (np.abs(spectrum.wavelength - at) < 60.0)
        if not near.any():
            continue
        speed = (spectrum.wavelength / at - 1.0) * SPEED_OF_LIGHT
        flux += height * np.median(flux[near]) * np.exp(-4 * np.log(2) * (speed / fwhm) ** 2)
    return spectrum.replace(flux=np.where(spectrum.good, flux, spectrum.flux))


def doubled(spectrum: Spectrum, velocity: float, share: float) -> Spectrum:
    """Add the star to itself with another velocity: a double-lined binary."""
    good = spectrum.good
    other = np.interp(
        spectrum.wavelength / doppler_shift(1.0, velocity),
        spectrum.wavelength[good],
        spectrum.flux[good].astype(float),
    )
    flux = np.where(good, spectrum.flux, 0.0) + share * other
    ivar = np.where(good, spectrum.ivar / (1.0 + share), 0.0)
    return spectrum.replace(flux=flux, ivar=ivar)


def stretched(spectrum: Spectrum) -> Spectrum:
    """Distort the wavelengths: 0 at one end, 200 km/s at the other."""
    speed = np.linspace(0.0, 200.0, len(spectrum))
    return spectrum.replace(wavelength=spectrum.wavelength * doppler_shift(1.0, speed))


def noise_only(spectrum: Spectrum, rng: np.random.Generator) -> Spectrum:
    """Replace the flux by its median and noise of S/N 10."""
    level = float(np.median(spectrum.flux[spectrum.good]))
    flux = level * (1.0 + 0.1 * rng.normal(size=len(spectrum)))
    ivar = np.where(spectrum.good, (0.1 * level) ** -2.0, 0.0)
    return spectrum.replace(flux=flux, ivar=ivar, rv=np.nan)


def real_binary(folder: Path) -> Stars:
    """Return the visits of an APOGEE double-lined binary (El-Badry et al. 2018)."""
    stars = []
    with np.load(folder / "apogee" / "visits_2M06133561+2433362.npz") as file:
        print({key: file[key].shape for key in file}, flush=True)
        wave = next(np.atleast_2d(file[k]) for k in file if k.startswith("wave"))
        flux, error = np.atleast_2d(file["flux"]), np.atleast_2d(file["flux_err"])
    for k in range(len(flux)):
        good = np.isfinite(flux[k]) & (error[k] > 0) & (error[k] < 1)
        spectrum = Spectrum(
            wave[min(k, len(wave) - 1)],
            np.where(good, flux[k], 1.0),
            np.where(good, error[k] ** -2.0, 0.0),
            22500.0,
            Frame.BARYCENTRIC,
            survey="apogee",
            spectrum_id=f"visit {k}",
            star_id=f"2M06133561+2433362 visit {k}",
        )
        stars.append([spectrum])
    return stars


def cases(folder: Path) -> list[Case]:
    """Return everything that is tried."""
    whole = lamost(folder / "lamost_dr10", split="val")
    teff, rng = whole.labels["teff"], np.random.default_rng(SEED)
    usual = rng.permutation(np.flatnonzero((whole.snr > SNR_CUT) & (teff > 4800) & (teff < 6700)))
    good = whole.take(np.sort(usual[:STARS])).spectra
    hot = whole.take(np.flatnonzero(teff > 7900.0)[:STARS]).spectra
    library = miles(folder / "miles")
    cool = library.take(np.flatnonzero(library.labels["teff"] < 4000.0)[:STARS]).spectra
    solar = library.take(
        np.flatnonzero(np.abs(library.labels["teff"] - 5600) < 500)[:STARS]
    ).spectra
    sharp = [[s] for s in degraded(folder, "Sun", "GALAH", 60000.0, np.inf, 0)[:1]]
    flag = ResultFlag
    calcium, hydrogen = (3934.77, 3969.59, 8500.35, 8544.44, 8664.52), (6564.61, 4862.68)
    velocity = flag.WRONG_VELOCITY
    unknown = lambda s: s.replace(rv=np.nan)  # noqa: E731
    rest = lambda s: s.replace(frame=Frame.REST)  # noqa: E731
    air = lambda s: s.replace(wavelength=vacuum_to_air(s.wavelength))  # noqa: E731
    second = flag.SECOND_STAR
    return [
        Case("LAMOST as observed", flag(0), good),
        Case("LAMOST, velocity not stated", flag(0), each(good, unknown)),
        Case("wavelengths times 3", flag.OUT_OF_RANGE, each(good, lambda s: _times(s, 3.0))),
        Case("wavelengths times 0.45", flag.OUT_OF_RANGE, each(good, lambda s: _times(s, 0.45))),
        Case("Å taken for nm", flag.OUT_OF_RANGE, each(good, lambda s: _times(s, 0.1))),
        Case("R = 60,000", flag.OUT_OF_RANGE, sharp),
        Case("30 good pixels", flag.FEW_PIXELS, each(good, few_pixels)),
        Case("no good pixel", flag.FEW_PIXELS, each(good, lambda s: s.replace(ivar=0.0 * s.ivar))),
        Case("velocity wrong by 300 km/s", velocity, each(good, lambda s: moved(s, 300.0))),
        Case("velocity wrong by -300 km/s", velocity, each(good, lambda s: moved(s, -300.0))),
        Case("velocity wrong by 60 km/s", velocity, each(good, lambda s: moved(s, 60.0))),
        Case("moved by 150 km/s, said to be at rest", velocity, each(each(good, rest), _receding)),
        Case("air wavelengths taken as vacuum", velocity, each(good, air)),
        Case("MILES, air taken as vacuum", velocity, each(solar, air)),
        Case("wavelengths stretched by 200 km/s", flag.WRONG_WAVELENGTHS, each(good, stretched)),
        Case(
            "Hα, Hβ in emission, 100 km/s wide",
            flag.EMISSION,
            each(good, lambda s: in_emission(s, hydrogen, 100.0, 0.8)),
        ),
        Case(
            "Ca II in emission, 60 km/s wide",
            flag.EMISSION,
            each(good, lambda s: in_emission(s, calcium, 60.0, 0.5)),
        ),
        Case("equal binary, 250 km/s apart", second, each(good, lambda s: doubled(s, 250.0, 1.0))),
        Case("1:2 binary, 250 km/s apart", second, each(good, lambda s: doubled(s, 250.0, 0.5))),
        Case("1:2 binary, 80 km/s apart", second, each(good, lambda s: doubled(s, 80.0, 0.5))),
        Case("APOGEE visits of a binary (real)", second, real_binary(folder)),
        Case("noise", flag.NO_RESULT, each(good, lambda s: noise_only(s, rng))),
        Case("A stars (real, LASP Teff > 7900 K)", flag.POOR_FIT | flag.OUT_OF_COVERAGE, hot),
        Case("MILES, Teff < 4000 K (real)", flag.POOR_FIT | flag.OUT_OF_COVERAGE, cool),
    ]


def _times(spectrum: Spectrum, factor: float) -> Spectrum:
    return spectrum.replace(wavelength=spectrum.wavelength * factor)


def _receding(spectrum: Spectrum) -> Spectrum:
    return moved(spectrum, 150.0 - spectrum.rv)


def silent(found: Arrays) -> NDArray:
    """Tell which stars have numbers and no flag at all, shape (N,)."""
    return np.isfinite(found["values"]).any(axis=1) & (found["result_flags"] == 0)


def row_of(case: Case, found: Arrays, usual: Arrays | None) -> list[str]:
    """Cells of one case; ``usual`` are the fits of the same stars as observed."""
    flags = found["result_flags"].astype(int)
    right = (flags & int(case.wanted)) > 0 if case.wanted else flags == 0
    others = Counter(
        name
        for bits in flags.tolist()
        for name in flag_names(bits & ~int(case.wanted)).split(", ")
        if name != "–"
    )
    known = np.isfinite(found["values"]).any(axis=1)
    change = "–"
    if usual is not None and len(usual["fitted"]) == len(flags) and known.any():
        j = found["names"].tolist().index("teff")
        change = f"{np.nanmedian(np.abs(found['values'] - usual['values'])[known, j]):.0f}"
    names = " or ".join(f.name or "" for f in ResultFlag if f & case.wanted) or "none"
    return [
        case.title,
        names,
        f"{right.sum()} of {len(flags)}",
        f"{silent(found).sum()}",
        f"{(~known).sum()}",
        change,
        ", ".join(f"{name} {count}" for name, count in others.most_common(5)) or "–",
    ]


def main() -> None:
    """Spoil, fit, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--emulators", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("build/fit_bad_input"))
    arguments = parser.parse_args()
    emulators: Sequence[Emulator] = emulators_of(arguments.emulators)
    rows, said, usual = [], [], None
    for k, case in enumerate(cases(arguments.folder)):
        name = f"{k:02d}-{case.title.split(',')[0].split('(')[0].strip().replace(' ', '-')}"
        found = fit_stars(arguments.work, name.replace("/", "-"), case.stars, emulators)
        usual = found if usual is None else usual
        rows.append(row_of(case, found, usual if k else None))
        print(rows[-1], flush=True)
        words = [m for m in found["messages"].tolist() if m]
        if words:
            said.append(f"- {case.title}: “{words[0]}”")
    head = ["input", "flag wanted", "set", "numbers without any flag", "no number at all"]
    head += ["median change of Teff [K]", "other flags"]
    sections = [
        f"""# Bad input to fits

```
python benchmarks/fit_bad_input.py DATA --emulators {" ".join(map(str, arguments.emulators))}
```

Emulators {", ".join(f"`{one}`" for one in identity(emulators))}. {STARS} LAMOST spectra of FGK
stars (S/N_g > {SNR_CUT:g}), spoilt in one way after the other, and spectra that are bad as they
are. *Set*: how many have the flag that is right (in the first two rows: no flag). *Median
change*: of the stars that still have a number, against the same spectra as observed.

{table(head, rows)}

{remarks("summary")}""",
        "## What the user is told\n\nThe first message of each case:\n\n" + "\n".join(said),
    ]
    write_page(arguments.output / "fit_bad_input.md", sections)


if __name__ == "__main__":
    main()
