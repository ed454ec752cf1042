"""What figures of many rows show."""

from __future__ import annotations

import numpy as np
from astropy.table import vstack

from spectrolabe.validation import label_figures
from spectrolabe.validation.catalogue_rows import read_rows
from tests.validation.made_up import catalogue, true_labels, write


def test_no_survey_is_drawn_over_the_others(tmp_path):
    half = label_figures.SHOWN  # rows of each survey, so that a sample is drawn
    truth = true_labels(2 * half)
    tables = [
        catalogue(truth[part], survey, [f"{survey}{i}" for i in range(half)])
        for survey, part in (("apogee", slice(half)), ("lamost_lrs", slice(half, None)))
    ]
    path = write(vstack(tables, metadata_conflicts="silent"), tmp_path / "both.parquet")
    figure = label_figures.planes(read_rows([path]), ["mg_fe"], "fe_h")
    colours = figure.axes[0].collections[0].get_facecolor()
    assert len(colours) == label_figures.SHOWN
    above = np.all(colours == colours[0], axis=1)[-300:]
    assert 100 < above.sum() < 200
