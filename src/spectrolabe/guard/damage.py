"""Whatever a damaged file makes the code stumble over becomes an error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spectrolabe.errors import InputError

__all__ = ["blaming"]

LONGEST = 300  # characters of what a library said


@contextmanager
def blaming(path: object, what: str) -> Iterator[None]:
    """Turn every failure of the block into an `InputError` that names the file.

    What is read was written by somebody else, so that any exception is taken to speak of the file;
    the original one is the cause of the new one. Errors that name the file already are left alone.

    Parameters
    ----------
    path : object
        The file or folder.
    what : str
        What was expected of it, for the message.

    Raises
    ------
    InputError
        Instead of any `Exception`, lack of memory included.
    """
    try:
        yield
    except InputError as error:
        if Path(str(path)).name in str(error):
            raise
        raise InputError(
            f"{path}, {error.where}", expected=error.expected, found=error.found, fix=error.fix
        ) from error
    except Exception as error:
        said = " ".join(str(error).split())
        if len(said) > LONGEST:
            said = said[:LONGEST] + " ..."
        raise InputError(path, expected=what, found=f"{type(error).__name__}: {said}") from error
