"""The spectra of a row of a catalogue, whose files may have moved since it was made."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from spectrolabe.errors import InputError
from spectrolabe.spectra import Spectrum
from spectrolabe.surveys import read
from spectrolabe.surveys.reading import walked

__all__ = ["Files", "spectra_of_row"]


class Files:
    """Files below folders, by name. Names of a catalogue are compared, never opened as paths.

    Parameters
    ----------
    folders : sequence of str or Path
        Looked through once, when first asked, with all folders below.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.folders = [Path(folder) for folder in folders]
        self._by_name: dict[str, list[str]] | None = None
        self._lock = threading.Lock()

    @property
    def by_name(self) -> dict[str, list[str]]:
        """Paths of all files by their names without folder."""
        with self._lock:
            if self._by_name is None:
                self._by_name = self._looked_through()
            return self._by_name

    def _looked_through(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for folder in self.folders:
            for parent, names in walked(folder):
                for name in names:
                    found[name].append(os.path.join(parent, name))
        return dict(found)

    def paths(self, file: str) -> list[Path]:
        """Return where the files of a row may be, the likeliest first.

        Parameters
        ----------
        file : str
            As the column ``file`` has it: names joined by ``;``.
        """
        found: list[Path] = []
        for name in filter(None, file.split(";")):
            here = [Path(path) for path in self.by_name.get(Path(name).name, ())]
            alike = [path for path in here if path.as_posix().endswith(f"/{name}")]
            found += [*alike, *(path for path in here if path not in alike)]
        return list(dict.fromkeys(found))


def spectra_of_row(paths: Iterable[Path], spectrum_id: str) -> tuple[list[Spectrum], str]:
    """Return the spectra of a row that have usable pixels, or why there are none.

    Parameters
    ----------
    paths : iterable of Path
        Files that may hold them; those after all have been found are not read.
    spectrum_id : str
        As the column has it: names joined by ``;``.

    Returns
    -------
    spectra : list of Spectrum
    reason : str
        Empty if one was found.
    """
    wanted = set(spectrum_id.split(";"))
    found: dict[str, Spectrum] = {}
    reason = "its file is not at hand"
    for path in paths:
        try:
            here = [s for s in read(path) if s.spectrum_id in wanted]
        except InputError as error:
            reason = str(error)
            continue
        for one in here:
            if one.good.any():
                found.setdefault(one.spectrum_id, one)
        reason = "its file holds another" if not here else "it has no usable pixel"
        if wanted <= set(found):
            break
    return list(found.values()), "" if found else reason
