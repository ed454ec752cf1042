"""Reading what others wrote: limits, and one kind of error for whatever is wrong with a file."""

from spectrolabe.guard.damage import blaming
from spectrolabe.guard.limits import (
    LIMIT_VARIABLE,
    MOST_COLUMNS,
    check_name,
    check_unpacked,
    inside,
    unpacked,
    unpacked_limit,
)
from spectrolabe.guard.outputs import check_output, disk_is_full, unwritten
from spectrolabe.guard.text import read_json, read_text

__all__ = [
    "LIMIT_VARIABLE",
    "MOST_COLUMNS",
    "blaming",
    "check_name",
    "check_output",
    "check_unpacked",
    "disk_is_full",
    "inside",
    "read_json",
    "read_text",
    "unpacked",
    "unpacked_limit",
    "unwritten",
]
