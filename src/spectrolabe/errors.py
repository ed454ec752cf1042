"""Errors that say what was expected, what was found, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "unknown_name"]

MOST = 50  # names that a message lists


class InputError(ValueError):
    """Something given by the user cannot be used.

    Parameters
    ----------
    where : object
        The file, column, key or argument at fault.
    expected, found : str
        What was needed, and what was there.
    fix : str, optional
        What the user can do about it.
    """

    def __init__(self, where: object, *, expected: str, found: str, fix: str = "") -> None:
        self.where, self.expected, self.found, self.fix = str(where), expected, found, fix
        message = f"{where}: expected {expected}, found {found.removesuffix('.')}."
        super().__init__(_printable(f"{message} {fix}".strip()))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.where, self.expected, self.found, self.fix))


def _printable(text: str) -> str:
    """Text of files may hold what moves the cursor of a terminal, or changes its title."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def _rebuild(where: str, expected: str, found: str, fix: str) -> InputError:
    return InputError(where, expected=expected, found=found, fix=fix)


def unknown_name(where: object, name: str, known: Iterable[str], *, kind: str) -> InputError:
    """Return the error for a name that is not in a closed list, with the nearest match.

    Of a long list the names that are most like it are shown.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    fix = f"Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(names)
    if len(names) > MOST:
        like = difflib.get_close_matches(name, names, n=MOST // 2, cutoff=0.0)
        shown = f"{', '.join(sorted(like))} and {len(names) - len(like)} others"
    return InputError(where, expected=f"a known {kind} ({shown})", found=repr(name), fix=fix)
