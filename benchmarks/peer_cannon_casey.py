"""The Cannon of Casey et al. (2016) on the spectra of an archive: run by `benchmarks/peers.py`.

As released it cannot be imported by Python 3.10 or later (``from collections import Iterable``),
and its covariances are those of scaled labels: here they are scaled back.
"""

import collections
import collections.abc
import resource
import sys
import time

import numpy as np

collections.Iterable = collections.abc.Iterable
import thecannon  # noqa: E402


def main(given: str, result: str) -> None:
    """Learn a quadratic model, and fit every set of spectra."""
    data = np.load(given, allow_pickle=False)
    names = data["names"].tolist()
    table = {name: data["labels"][:, i] for i, name in enumerate(names)}
    vectorizer = thecannon.vectorizer.PolynomialVectorizer(names, 2)
    found = {}
    begin = time.process_time()
    learner = thecannon.CannonModel(
        table, data["flux"], data["ivar"], vectorizer, dispersion=data["wavelength"]
    )
    learner.train(threads=1)
    found["training"] = time.process_time() - begin
    for case in data["cases"].tolist():
        begin = time.process_time()
        mean, covariance, _ = learner.test(data[f"flux_{case}"], data[f"ivar_{case}"])
        found[f"seconds_{case}"] = time.process_time() - begin
        found[f"mean_{case}"] = mean
        sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        found[f"sigma_{case}"] = sigma * learner._scales
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    np.savez(result, **found)


main(*sys.argv[1:])
