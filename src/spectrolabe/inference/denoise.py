"""Files of spectra to files of the same spectra without noise, each in the format of its survey."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from astropy.io import fits

from spectrolabe.errors import InputError
from spectrolabe.inference.run import listed_bad, write_bad
from spectrolabe.inference.starts import first_guess
from spectrolabe.models.denoiser import Denoiser, load_denoiser
from spectrolabe.models.emulator import Emulator, load_emulator
from spectrolabe.models.files import write_file
from spectrolabe.models.released import DENOISER, find_emulators, find_model
from spectrolabe.progress import shown_progress
from spectrolabe.spectra import Frame, Spectrum
from spectrolabe.surveys import UnrecognisedError, get, read, recognise
from spectrolabe.surveys.files import opened
from spectrolabe.surveys.products import table_of
from spectrolabe.surveys.reading import Source, expand

__all__ = ["BAD", "DenoiseReport", "denoise"]

BAD = "bad.csv"  # in the folder of the output
GZIP = ".gz"


@dataclass(frozen=True)
class DenoiseReport:
    """What a run did.

    Parameters
    ----------
    folder : Path
    written : int
        Files that this run wrote.
    spectra : int
        Spectra in them that were denoised.
    skipped : int
        Files that an earlier run had written.
    bad : tuple of (str, str)
        Input and reason of whatever gave no result; also in ``bad.csv`` of the folder.
    seconds : float
    passed : tuple of str
        Tables without spectra that this run passed over in folders.
    """

    folder: Path
    written: int
    spectra: int
    skipped: int
    bad: tuple[tuple[str, str], ...]
    seconds: float
    passed: tuple[str, ...] = ()


def denoise(
    model: str | Path,
    inputs: Iterable[str | Path],
    output: str | Path,
    *,
    survey: str | None = None,
    jointly: bool = False,
    device: str = "cpu",
) -> DenoiseReport:
    """Write every file of the inputs without noise; run again to continue.

    Files keep their names, without ``.gz``, and their folders below one that was given. Files of
    surveys whose format cannot be written become tables, one for each spectrum. Every header says
    that a model made it. Velocities that files do not state are found with templates.

    Parameters
    ----------
    model : str or Path
        Of `spectrolabe.models.denoiser`: a run, a name or ``default``.
    inputs : iterable of str or Path
        Files, folders and globs.
    output : str or Path
        A folder; made when absent.
    survey : str, optional
        Read files as this survey instead of recognising them.
    jointly : bool
        The visits of a star in one file tell each other what the star is.
    device : str

    Raises
    ------
    InputError
        If the model or an input cannot be found, or the disk is full. Bad files among good ones
        are listed in the report instead.
    """
    begin = time.monotonic()
    if survey is not None:
        get(survey)
    denoiser = load_denoiser(find_model(model, DENOISER)).to(device)
    folder = Path(output)
    names = [inputs] if isinstance(inputs, str | Path) else inputs
    sources = expand(names, leave=[folder])
    folder.mkdir(parents=True, exist_ok=True)
    todo = [source for source in sources if not _written(folder, source)]
    again = {source.name for source in todo}
    bad = [one for one in listed_bad(folder / BAD) if one[0] not in again]
    written = spectra = 0
    passed = []
    for source in shown_progress(iter(todo), len(todo), "denoise"):
        try:
            count, problems = _file(denoiser, source, folder, survey, jointly=jointly)
            written, spectra = written + (count > 0), spectra + count
            bad += [(source.name, reason) for reason in problems]
        except UnrecognisedError as error:
            if error.is_table and source.walked:  # a catalogue among the spectra
                passed.append(source.name)
            else:
                bad.append((source.name, str(error)))
        except InputError as error:
            bad.append((source.name, str(error)))
        write_bad(folder / BAD, bad)
    write_bad(folder / BAD, bad)
    skipped = len(sources) - len(todo)
    seconds = time.monotonic() - begin
    return DenoiseReport(folder, written, spectra, skipped, tuple(bad), seconds, tuple(passed))


def _target(folder: Path, source: Source) -> Path:
    return folder / source.name.removesuffix(GZIP)


def _written(folder: Path, source: Source) -> bool:
    target = _target(folder, source)
    return target.is_file() or _numbered(target, 1).is_file()


def _numbered(target: Path, number: int) -> Path:
    """Name of the table of one spectrum."""
    return target.with_name(f"{target.name.split('.')[0]}-{number}.fits")


def _file(
    denoiser: Denoiser, source: Source, folder: Path, survey: str | None, *, jointly: bool
) -> tuple[int, list[str]]:
    """Denoise one file; how many spectra, and what is wrong with others."""
    spectra = read(source.path, survey)
    moved = _with_velocities(spectra)
    made, problems = _denoised(denoiser, moved, jointly=jointly)
    made = [new.replace(rv=old.rv) for new, old in zip(made, spectra, strict=True)]
    good = [one for one in made if one.good.any()]
    if not good:
        return 0, problems
    target = _target(folder, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened(source.path) as file:
        chosen = recognise(file) if survey is None else get(survey)
        hdus = chosen.rewritten(file, made, denoiser.name) if file.hdus is not None else None
        if hdus is not None:
            _write(target, hdus)
            return len(good), problems
    # the first is written last: with it the file counts as done
    for number, one in reversed(list(enumerate(good, start=1))):
        _write(_numbered(target, number), table_of(one, denoiser.name))
    return len(good), problems


def _with_velocities(spectra: Sequence[Spectrum]) -> list[Spectrum]:
    """The same spectra; those that state no velocity have the one that templates find."""
    lacking = [
        i
        for i, one in enumerate(spectra)
        if one.frame is not Frame.REST and not np.isfinite(one.rv) and one.good.any()
    ]
    found = list(spectra)
    if lacking:
        guess = first_guess([[spectra[i]] for i in lacking], _emulators())
        for i, shift, error in zip(lacking, guess.shift, guess.e_shift, strict=True):
            if np.isfinite(error[0]):
                found[i] = spectra[i].replace(rv=float(shift[0]))
    return found


@cache
def _emulators() -> list[Emulator]:
    return [load_emulator(folder) for folder in find_emulators("default")]


def _denoised(
    denoiser: Denoiser, spectra: Sequence[Spectrum], *, jointly: bool
) -> tuple[list[Spectrum], list[str]]:
    """The same spectra in the same order; of those that cannot be denoised nothing is known."""
    usable, problems = [], []
    for number, spectrum in enumerate(spectra):
        try:
            denoiser.check(spectrum)
            usable.append(number)
        except InputError as error:
            problems.append(str(error))
    made = [one.replace(flux=np.zeros(len(one)), ivar=np.zeros(len(one))) for one in spectra]
    groups = list(_groups(spectra, usable, jointly=jointly))
    found = denoiser.denoise([[spectra[i] for i in group] for group in groups])
    for group, star in zip(groups, found, strict=True):
        for i, one in zip(group, star, strict=True):
            made[i] = one
    return made, problems


def _groups(
    spectra: Sequence[Spectrum], usable: Sequence[int], *, jointly: bool
) -> Iterator[list[int]]:
    """Which spectra are read together: visits of a star, but no combination of them."""
    stars: dict[str, list[int]] = {}
    for i in usable:
        if jointly and not spectra[i].meta.get("coadd"):
            stars.setdefault(spectra[i].star_id, []).append(i)
        else:
            yield [i]
    yield from stars.values()


def _write(path: Path, hdus: fits.HDUList) -> None:
    stream = io.BytesIO()
    hdus.writeto(stream, output_verify="silentfix")
    write_file(path, stream.getvalue())
