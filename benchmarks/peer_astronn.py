"""astroNN's convolutional network for APOGEE on an archive: run by `benchmarks/peers.py`.

As released it asks Keras for its version where TensorFlow 2.15 no longer has it.
"""

import resource
import sys
import time

import numpy as np
import tensorflow as tf

tf.keras.__version__ = tf.__version__
tf.config.threading.set_intra_op_parallelism_threads(1)
from astroNN.models import ApogeeCNN  # noqa: E402

EPOCHS = 60


def main(given: str, result: str) -> None:
    """Learn, and predict for every set of spectra; missing pixels are at the continuum."""
    data = np.load(given, allow_pickle=False)
    tf.keras.utils.set_random_seed(0)
    found = {}
    begin = time.process_time()
    network = ApogeeCNN()
    network.max_epochs = EPOCHS
    network.fit(_whole(data["flux"], data["ivar"]), data["labels"])
    found["training"] = time.process_time() - begin
    for case in data["cases"].tolist():
        flux = _whole(data[f"flux_{case}"], data[f"ivar_{case}"])
        begin = time.process_time()
        found[f"mean_{case}"] = np.asarray(network.predict(flux))
        found[f"seconds_{case}"] = time.process_time() - begin
        found[f"sigma_{case}"] = np.full(found[f"mean_{case}"].shape, np.nan)
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    np.savez(result, **found)


def _whole(flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    return np.where(ivar > 0, flux, 1.0).astype(np.float32)


main(*sys.argv[1:])
