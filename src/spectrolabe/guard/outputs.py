"""Whether a result can be written where it is asked for, seen before the work and not after it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from spectrolabe.errors import InputError

__all__ = ["check_output", "disk_is_full", "unwritten"]


def check_output(path: str | Path, option: str, *, folder: bool = False) -> None:
    """See that a file or folder of this name can be made; folders above it need not be there.

    Parameters
    ----------
    path : str or Path
    option : str
        How the user named it, for the message.
    folder : bool
        A folder is to be written, which may be there already; else a file.

    Raises
    ------
    InputError
        If a file is where a folder must be, or the other way round, or nothing may be written.
    """
    path = Path(path)
    where = f"{option} {path}"
    if folder and path.exists() and not path.is_dir():
        raise InputError(
            where, expected="the name of a folder", found="a file of that name", fix=ANOTHER
        )
    if not folder and path.is_dir():
        raise InputError(
            where,
            expected="the name of a file",
            found="a folder of that name",
            fix=f"Name a file in it, such as {path / 'result'}{path.suffix}.",
        )
    above = path.absolute()
    if not (folder and path.is_dir()):
        above = next(one for one in above.parents if one.exists())
    if not above.is_dir():
        raise InputError(where, expected="a name in a folder", found=f"a file {above}", fix=ANOTHER)
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            where,
            expected="a folder in which you may write",
            found=f"{above}, in which you may not",
            fix=ANOTHER,
        )


def disk_is_full(error: OSError) -> bool:
    """Tell whether a file could not be written for lack of room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def unwritten(where: object, error: OSError, kept: str = "") -> InputError:
    """Return the error for what could not be written.

    Parameters
    ----------
    where : object
        File or folder.
    error : OSError
    kept : str
        What was written before and is still good, if the same command continues from there.
    """
    full = disk_is_full(error)
    again = f"run the same command again to continue: {kept}." if kept else "run again."
    return InputError(
        where,
        expected="room to write" if full else "a place where files can be written",
        found=f"no space left on the disk ({error})" if full else f"{error.strerror or error}",
        fix=f"{'Free some disk' if full else 'Check the path and its rights'} and {again}",
    )


ANOTHER = "Give another name."
