"""The [data] terms of the two demonstration data sets, written from domain knowledge, and how the
tumours are trained on.

Responsible for column names, public ranges and typical values. A range says where values of that
measurement usually lie (values beyond are clipped); none of them is computed from patients by the
demonstration, which is what a consortium agreeing on a study has to do, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from p2pfl.core.manifest_terms import CategoryColumn, Column, DataTerms, NumberColumn, Target

HOLDOUT: Final = 0.34

# mean, error and worst of ten measurements of cell nuclei: low, high, typical.
# Source of the measurements: Street, Wolberg & Mangasarian 1993, "Nuclear feature extraction for
# breast tumor diagnosis"; the numbers are rounded to what the three statistics usually span.
_NUCLEI: Final = (
    ("radius", (5.0, 25.0, 13.0), (0.1, 1.2, 0.3), (5.0, 30.0, 15.0)),
    ("texture", (10.0, 30.0, 19.0), (0.3, 3.0, 1.1), (10.0, 42.0, 25.0)),
    ("perimeter", (40.0, 160.0, 86.0), (0.5, 9.0, 2.3), (50.0, 200.0, 98.0)),
    ("area", (100.0, 1700.0, 550.0), (5.0, 160.0, 25.0), (150.0, 2600.0, 690.0)),
    ("smoothness", (0.06, 0.14, 0.1), (0.0, 0.016, 0.006), (0.08, 0.2, 0.13)),
    ("compactness", (0.0, 0.25, 0.09), (0.0, 0.08, 0.02), (0.0, 0.7, 0.2)),
    ("concavity", (0.0, 0.35, 0.06), (0.0, 0.12, 0.025), (0.0, 0.9, 0.23)),
    ("concave points", (0.0, 0.16, 0.03), (0.0, 0.03, 0.01), (0.0, 0.28, 0.1)),
    ("symmetry", (0.1, 0.26, 0.18), (0.0, 0.045, 0.02), (0.15, 0.5, 0.28)),
    ("fractal dimension", (0.05, 0.085, 0.06), (0.0, 0.012, 0.003), (0.05, 0.14, 0.08)),
)


def _nuclei_columns() -> tuple[Column, ...]:
    columns: list[Column] = []
    for name, mean, _, _ in _NUCLEI:
        columns.append(NumberColumn(f"mean {name}", *mean, ()))
    for name, _, error, _ in _NUCLEI:
        columns.append(NumberColumn(f"{name} error", *error, ()))
    for name, _, _, worst in _NUCLEI:
        columns.append(NumberColumn(f"worst {name}", *worst, ()))
    return tuple(columns)


CANCER_PATIENT_COLUMN: Final = "patient"
CANCER_TARGET: Final = Target("malignant", 0.0)
CANCER_TERMS: Final = DataTerms(
    kind="tabular",
    patients_min=16,
    holdout=HOLDOUT,
    target=CANCER_TARGET,
    columns=_nuclei_columns(),
)

# A 0 in chol or trestbps means "not measured" (kept as 0 it would give away the site); slope, ca
# and thal are mostly missing and left out. An unanswered yes-or-no question is worth one half.
# Source: heart-disease.names; LEARNING.md, "Preparation".
HEART_FILE_COLUMNS: Final = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
    "num",
)
HEART_PATIENT_COLUMN: Final = "patient"
HEART_TERMS: Final = DataTerms(
    kind="tabular",
    patients_min=20,
    holdout=HOLDOUT,
    target=Target("num", 0.0),
    columns=(
        NumberColumn("age", 20.0, 90.0, 55.0, ()),
        NumberColumn("sex", 0.0, 1.0, 0.5, ()),
        CategoryColumn("cp", (1.0, 2.0, 3.0, 4.0), ()),
        NumberColumn("trestbps", 80.0, 200.0, 130.0, (0.0,)),
        NumberColumn("chol", 100.0, 500.0, 240.0, (0.0,)),
        NumberColumn("fbs", 0.0, 1.0, 0.5, ()),
        CategoryColumn("restecg", (0.0, 1.0, 2.0), ()),
        NumberColumn("thalach", 60.0, 210.0, 140.0, ()),
        NumberColumn("exang", 0.0, 1.0, 0.5, ()),
        NumberColumn("oldpeak", -3.0, 7.0, 1.0, ()),
    ),
)

SHARED_ARGUMENTS: Final[Mapping[str, int]] = {"width": 4, "levels": 2, "blocks": 0, "batch_size": 2}
"""Few parameters: what a patient may change is spread over all of them, and so is the noise."""
OPEN_ARGUMENTS: Final[Mapping[str, float]] = {"local_steps": 25, "learning_rate": 0.03}
PRIVATE_ARGUMENTS: Final[Mapping[str, float | str]] = {
    "optimiser": "sgd",
    "learning_rate": 12.0,
    "schedule": "cosine",
}
"""Plain steps: Adam divides by the size of gradients, which under noise is the size of the noise.
With a bound below most patients' gradients each gives a direction, and steps are made longer.
"""
PRIVATE_CLIP_NORM: Final = 0.1
PRIVATE_STEPS: Final = 2
