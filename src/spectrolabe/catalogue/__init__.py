"""The output catalogue: what its columns and flags mean, its files, and writing it in parts."""

from spectrolabe.catalogue.files import read_catalogue, read_row, write_catalogue
from spectrolabe.catalogue.parts import CatalogueWriter
from spectrolabe.catalogue.schema import (
    Column,
    LabelFlag,
    ResultFlag,
    build_catalogue,
    catalogue_columns,
)

__all__ = [
    "CatalogueWriter",
    "Column",
    "LabelFlag",
    "ResultFlag",
    "build_catalogue",
    "catalogue_columns",
    "read_catalogue",
    "read_row",
    "write_catalogue",
]
