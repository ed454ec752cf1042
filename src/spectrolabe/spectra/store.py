"""The store: ragged spectra with their labels in one folder of Arrow shards, memory-mapped.

A store is a folder with ``store.json`` (format, version, label names, rows) and
``shard-00000.arrow``, ``shard-00001.arrow`` and so on, which Hugging Face ``datasets`` opens as
they are. A shard appears by one atomic rename and holds whole source files only, so that after an
interruption whatever is there is valid, and says by itself which files are done.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from spectrolabe.errors import InputError, unknown_name
from spectrolabe.guard import blaming, unwritten
from spectrolabe.labels import Labels
from spectrolabe.spectra.shards import (
    CARD,
    FORMAT_VERSION,
    LISTS,
    SCALARS,
    flat_view,
    is_store,
    read_card,
    read_shard,
    schema_of,
    shard_number,
    shards_of,
    table_of,
    write_atomically,
    write_card,
)
from spectrolabe.spectra.spectrum import Frame, Spectrum

if TYPE_CHECKING:
    import datasets

__all__ = ["FORMAT_VERSION", "Store", "StoreWriter", "is_store", "open_store"]


def open_store(path: str | Path) -> Store:
    """Open a store for reading.

    Parameters
    ----------
    path : str or Path
        The folder.

    Raises
    ------
    InputError
        If it is no store, of another format version, or a shard is damaged or lost.
    """
    return Store(path)


class Store:
    """Spectra and labels on disk, read through a memory map.

    Rows are numbered from 0 in the order written. ``len(store)`` is their number, ``store[i]`` the
    spectrum of a row; its arrays are views of the map and cost no copy.

    Parameters
    ----------
    path : str or Path
        The folder of the store.

    Raises
    ------
    InputError
        As `open_store`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with blaming(self.path, "a store"):
            self._open()

    def _open(self) -> None:
        card = read_card(self.path)
        self.names: tuple[str, ...] = tuple(card["labels"])
        schema = schema_of(self.names)
        tables = [read_shard(shard, schema) for shard in shards_of(self.path)]
        rows = sum(len(table) for table in tables)
        if rows < card["rows"]:
            raise InputError(
                self.path,
                expected=f"{card['rows']} spectra",
                found=f"{rows} in {len(tables)} shards",
                fix="A shard was lost; run the same ingest again to restore it.",
            )
        self._table = pa.concat_tables(tables) if tables else schema.empty_table()
        self._map_pixels()

    def _map_pixels(self) -> None:
        """Keep, for each chunk, its first row and numpy views of offsets and flat values."""
        self._starts, self._chunks, start = [], [], 0
        for batch in self._table.select(list(LISTS)).to_batches():
            self._starts.append(start)
            self._chunks.append([flat_view(batch.column(name)) for name in LISTS])
            start += len(batch)

    def __reduce__(self) -> tuple[object, ...]:
        return (open_store, (self.path,))  # a worker process maps the files itself

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def arrays(self, i: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """Return read-only views of the memory map for one spectrum; nothing is copied.

        Returns
        -------
        wavelength : ndarray, shape (M,), float64
            Vacuum Å.
        flux, ivar : ndarray, shape (M,), float32
        resolution : ndarray, shape (M,) or (1,), float32
            One value when R is constant.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path}: row {i} of {len(self)}")
        k = bisect_right(self._starts, i) - 1
        j = i - self._starts[k]
        w, f, v, r = (flat[at[j] : at[j + 1]] for at, flat in self._chunks[k])
        return w, f, v, r

    def __getitem__(self, i: int) -> Spectrum:
        i = int(i) + len(self) if i < 0 else int(i)
        wavelength, flux, ivar, resolution = self.arrays(i)
        row = self._table.select(list(SCALARS)).slice(i, 1).to_pylist()[0]
        with blaming(self.path, f"a spectrum in row {i}"):
            return Spectrum(
                wavelength=wavelength,
                flux=flux,
                ivar=ivar,
                resolution=float(resolution[0]) if len(resolution) == 1 else resolution,
                frame=Frame(row["frame"]),
                meta=json.loads(row["meta"]),
                **{key: row[key] for key in ("rv", "survey", "spectrum_id", "star_id")},
            )

    def iter_shuffled(self, rng: np.random.Generator) -> Iterator[tuple[int, Spectrum]]:
        """Yield every row once, in random order, with its number."""
        for i in rng.permutation(len(self)):
            yield int(i), self[i]

    def column(self, name: str) -> NDArray:
        """Return one value per spectrum.

        Parameters
        ----------
        name : str
            ``frame survey spectrum_id star_id file split rv snr ra dec good``, a label ``teff`` or
            its standard deviation ``e_teff``. Unknown numbers are NaN; rv and ra, dec are in km/s
            and degrees; ``good`` tells whether the labels pass the survey's quality cut.

        Returns
        -------
        ndarray, shape (N,)

        Raises
        ------
        InputError
            If there is no such column; the message lists them.
        """
        if name not in self._table.column_names or name in LISTS:
            known = [n for n in self._table.column_names if n not in LISTS]
            raise unknown_name(self.path, name, known, kind="column of one value per spectrum")
        values = self._table[name].to_numpy()
        return values.astype(str) if self._table.schema.field(name).type == pa.string() else values

    def by_star(self) -> tuple[NDArray, NDArray]:
        """Return the rows in the order of their stars, and where in it each star begins.

        Returns
        -------
        order : ndarray, shape (N,), int64
            Sorted by star_id, and by row where that is the same.
        begins : ndarray, shape (stars,), int64
        """
        if not len(self):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        stars = self._table["star_id"]  # not as an array of numpy, which would be many times larger
        order = pc.sort_indices(stars)
        stars = stars.take(order)
        changes = pc.not_equal(stars.slice(1), stars.slice(0, len(stars) - 1))
        begins = np.flatnonzero(np.r_[True, changes.to_numpy()])
        return order.to_numpy().astype(np.int64), begins

    @cached_property
    def labels(self) -> Labels:
        """The labels of the store, one row per spectrum."""
        shape = (len(self.names), len(self))
        values = np.array([self.column(name) for name in self.names]).reshape(shape)
        sigma = np.array([self.column(f"e_{name}") for name in self.names]).reshape(shape)
        return Labels(self.names, values.T, sigma.T, self.column("star_id"))

    @cached_property
    def dataset(self) -> datasets.Dataset:
        """The same shards as a Hugging Face `datasets.Dataset`."""
        from datasets import Dataset, concatenate_datasets  # slow to import

        shards = shards_of(self.path)
        if not shards:
            return Dataset(schema_of(self.names).empty_table())
        return concatenate_datasets([Dataset.from_file(str(shard)) for shard in shards])


class StoreWriter:
    """Appends spectra to a store; a context manager.

    A shard is written when it holds ``shard_size`` spectra and the source file has ended, so that
    no file is ever half stored. Opened on the folder of an interrupted run, it continues after the
    last whole shard: files in `done` need not be read again.

    Parameters
    ----------
    path : str or Path
        Folder of the store; made when absent.
    label_names : sequence of str
        Labels of the registry; each becomes the columns ``L`` and ``e_L``.
    shard_size : int, optional
        Spectra in a shard. 512 spectra of 7,500 pixels are 60 MB and are held in memory once.

    Attributes
    ----------
    done : set of str
        Source files whose spectra are all safely on disk.
    ids : set of str
        Every spectrum_id given so far.
    rows : int
        Spectra on disk.

    Raises
    ------
    InputError
        If a label is unknown, the folder holds something else or a store of other labels or
        another version.
    """

    def __init__(
        self, path: str | Path, label_names: Sequence[str] = (), *, shard_size: int = 512
    ) -> None:
        self.path, self.names, self.shard_size = Path(path), tuple(label_names), int(shard_size)
        if self.shard_size < 1:
            raise InputError("shard_size", expected="at least 1", found=str(shard_size))
        self._schema = schema_of(self.names)
        self.done: set[str] = set()
        self.ids: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._file = ""
        self._broken = False
        self.rows, self._next = 0, 0
        self._resume() if is_store(self.path) else self._create()

    def _create(self) -> None:
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise InputError(
                self.path,
                expected="a store or an empty folder",
                found=f"something else without {CARD}",
                fix="Give another output.",
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._write_card()

    def _resume(self) -> None:
        card = read_card(self.path)
        if tuple(card["labels"]) != self.names:
            raise InputError(
                self.path,
                expected=f"a store of the labels {', '.join(self.names) or '(none)'}",
                found=f"one of {', '.join(card['labels']) or '(none)'}",
                fix="Give another output, or the label table that this store was begun with.",
            )
        for leftover in self.path.glob(".*.part"):
            leftover.unlink()
        for shard in shards_of(self.path):
            table = read_shard(shard, self._schema)
            self.rows += len(table)
            self.done |= set(table["file"].to_pylist()) - {""}
            self.ids |= set(table["spectrum_id"].to_pylist())
            self._next = shard_number(shard) + 1
        self._write_card()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            # the file in hand may be incomplete: it is left for the next run
            self._rows = [row for row in self._rows if not row["file"] or row["file"] != self._file]
        if not self._broken:
            self.close()

    def append(
        self,
        spectrum: Spectrum,
        *,
        values: Mapping[str, float] | ArrayLike | None = None,
        sigma: Mapping[str, float] | ArrayLike | None = None,
        split: str = "",
        file: str | None = None,
        snr: float | None = None,
        good: bool | None = None,
    ) -> None:
        """Add one spectrum.

        Parameters
        ----------
        spectrum : Spectrum
        values, sigma : mapping of label to number, or array_like of shape (L,), optional
            Labels and their standard deviations; an array is in the order of ``label_names``.
            What is not given is NaN.
        split : str, optional
            For example ``train`` or ``val``.
        file : str, optional
            Source file; ``meta["file"]`` when not given. Spectra of one file must follow each
            other.
        snr : float, optional
            Of the survey's catalogue; ``spectrum.snr`` when not given or NaN.
        good : bool, optional
            Whether the labels pass the survey's quality cut; true when not given and there are
            values.

        Raises
        ------
        InputError
            If the id is empty or in the store already, the file was finished before, a label is
            unknown, or a shard cannot be written, for example because the disk is full.
        """
        file = str(spectrum.meta.get("file", "")) if file is None else file
        self._check(spectrum, file)
        if file != self._file or not file:
            if len(self._rows) >= self.shard_size:
                self.flush()
            self._file = file
        self._rows.append(
            {
                "wavelength": spectrum.wavelength,
                "flux": spectrum.flux,
                "ivar": spectrum.ivar,
                "resolution": np.atleast_1d(np.asarray(spectrum.resolution, np.float32)),
                "frame": str(spectrum.frame),
                "survey": spectrum.survey,
                "spectrum_id": spectrum.spectrum_id,
                "star_id": spectrum.star_id,
                "file": file,
                "split": str(split),
                "rv": spectrum.rv,
                "snr": spectrum.snr if snr is None or np.isnan(snr) else float(snr),
                "ra": _degrees(spectrum.meta, "ra"),
                "dec": _degrees(spectrum.meta, "dec"),
                "good": values is not None if good is None else bool(good),
                "meta": json.dumps(dict(spectrum.meta), default=_plain),
                **self._label_row(values, ""),
                **self._label_row(sigma, "e_"),
            }
        )
        self.ids.add(spectrum.spectrum_id)

    def _check(self, spectrum: Spectrum, file: str) -> None:
        if not spectrum.spectrum_id or spectrum.spectrum_id in self.ids:
            raise InputError(
                spectrum.where,
                expected="a spectrum_id that the store does not have yet",
                found=f"spectrum_id {spectrum.spectrum_id!r} for the second time"
                if spectrum.spectrum_id
                else "an empty one",
                fix="Is the same spectrum given twice?",
            )
        if file in self.done:
            raise InputError(
                self.path,
                expected="the spectra of one file after each other",
                found=f"more of {file} after it was finished",
            )

    def _label_row(
        self, given: Mapping[str, float] | ArrayLike | None, prefix: str
    ) -> dict[str, float]:
        if given is None:
            given = {}
        if isinstance(given, Mapping):
            for name in given:
                if name not in self.names:
                    raise unknown_name(self.path, name, self.names, kind="label of this store")
            return {prefix + name: float(given.get(name, np.nan)) for name in self.names}
        numbers = np.asarray(given, dtype=np.float64)
        if numbers.shape != (len(self.names),):
            raise InputError(
                self.path,
                expected=f"one number for each of {', '.join(self.names)}",
                found=f"shape {numbers.shape}",
            )
        return {prefix + name: float(x) for name, x in zip(self.names, numbers, strict=True)}

    def flush(self) -> None:
        """Write what is held as one shard; it is on disk when this returns."""
        if not self._rows:
            return
        shard = self.path / f"shard-{self._next:05d}.arrow"
        if shard.exists():
            self._broken = True
            raise InputError(
                shard,
                expected="no such file yet",
                found="one of another process",
                fix="Let only one process write to a store.",
            )
        table = table_of(self._rows, self._schema)
        with self._safely(f"a shard of {table.nbytes / 1e6:.0f} MB"):
            write_atomically(shard, table)
        self.rows, self._next = self.rows + len(table), self._next + 1
        self.done |= {row["file"] for row in self._rows} - {""}
        self._rows = []
        self._write_card()

    def close(self) -> None:
        """Write what is left. Called at the end of the ``with`` block."""
        self.flush()

    def _write_card(self) -> None:
        with self._safely(CARD):
            write_card(self.path, self.names, self.rows)

    @contextmanager
    def _safely(self, what: str) -> Iterator[None]:
        """Turn a failure to write into a message; what was written before stays valid."""
        try:
            yield
        except OSError as error:
            self._broken = True
            kept = f"the {self.rows} spectra written before are valid"
            raise unwritten(f"{self.path}, {what}", error, kept) from error


def _degrees(meta: Mapping[str, Any], key: str) -> float:
    try:
        return float(meta[key])
    except (KeyError, TypeError, ValueError):
        return float("nan")


def _plain(value: Any) -> Any:
    """Numpy scalars and arrays as JSON; anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
