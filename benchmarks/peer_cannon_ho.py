"""TheCannon (Ho et al. 2015) on the spectra of an archive: run by `benchmarks/peers.py`."""

import resource
import sys
import time

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from TheCannon import dataset, model


def main(given: str, result: str) -> None:
    """Learn a quadratic model, and fit every set of spectra."""
    data = np.load(given, allow_pickle=False)
    found = {}
    names = data["names"].tolist()
    train = (data["flux"], data["ivar"], data["labels"])
    learner = model.CannonModel(2, useErrors=False)
    ids = np.arange(len(train[0]))
    for case in data["cases"].tolist():
        flux, ivar = data[f"flux_{case}"].copy(), data[f"ivar_{case}"].copy()
        stars = np.arange(len(flux))
        both = dataset.Dataset(data["wavelength"], ids, *train, stars, flux, ivar)
        both.set_label_names(names)
        if learner.coeffs is None:
            begin = time.process_time()
            learner.train(both)
            found["training"] = time.process_time() - begin
            learner.scatters = np.maximum(learner.scatters, 1e-6)
        begin = time.process_time()
        errors, _ = learner.infer_labels(both, starting_guess=np.zeros(len(names)))
        found[f"seconds_{case}"] = time.process_time() - begin
        found[f"mean_{case}"] = both.test_label_vals
        found[f"sigma_{case}"] = errors * learner.scales
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    np.savez(result, **found)


main(*sys.argv[1:])
