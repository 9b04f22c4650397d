"""Which patients are never trained on: a split by patient from the manifest's seed.

Responsible for one decision per patient. The site enters through its patients' keys, so two sites
draw differently under one seed, and a patient who comes back lands on the same side.

Two ways to cut, from the same draws, so that their results can be compared:

* `STRATIFIED` (studies without DP): of each label, the share with the lowest draws. Both labels
  are on both sides, but one more patient can move another one over the cut.
* `INDEPENDENT` (private studies): everyone whose draw is below the share. Adding or removing a
  patient moves nobody else, so it changes the training set by at most that one record, which is
  what the noise is scaled to. With a stratified cut two records could change, and the claimed ε
  would be too small. The price: the sizes vary, and a small site may hold out one label only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum
from typing import Final, TypeVar, assert_never

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.errors import DataRefused

_DOMAIN: Final = b"p2pfl holdout 1\0"


class Cut(Enum):
    """How draws become a hold-out."""

    STRATIFIED = "stratified"
    INDEPENDENT = "independent"


P = TypeVar("P", bound=Patients)


def counted(prepared: P, manifest: Manifest) -> P:
    """The patients that a counting study adds up: of statistics those who are not held out, of
    an evaluation the hold-out of the model's own study, or everybody. Raises DataRefused.
    """
    arguments = manifest.plan.arguments
    if manifest.plan.name == "evaluation":
        if arguments.get("part") == "all":
            return prepared
        cut = Cut(arguments.get("cut"))
    else:
        cut = Cut.INDEPENDENT if manifest.privacy.is_private else Cut.STRATIFIED
    held_out = held_out_patients(
        prepared.patients, prepared.labels, manifest.data.holdout, manifest.study.seed, cut
    )
    chosen = prepared.rows(held_out if manifest.plan.name == "evaluation" else ~held_out)
    if chosen.size == 0:
        raise DataRefused("hold-out", "nobody is left to count", fix="register a larger dataset")
    return chosen


def split(prepared: P, manifest: Manifest) -> tuple[P, P]:
    """Cut the patients into those to train on and those held out, as the manifest says.

    Raises DataRefused if either side is empty.
    """
    cut = Cut.INDEPENDENT if manifest.privacy.is_private else Cut.STRATIFIED
    held_out = held_out_patients(
        prepared.patients, prepared.labels, manifest.data.holdout, manifest.study.seed, cut
    )
    train, holdout = prepared.rows(~held_out), prepared.rows(held_out)
    if train.size == 0 or holdout.size == 0:
        raise DataRefused(
            "hold-out",
            f"{train.size} patients to train on and {holdout.size} held out",
            fix="register a larger dataset",
        )
    return train, holdout


def held_out_patients(
    patients: Sequence[bytes], labels: NDArray[np.float32], share: float, seed: int, cut: Cut
) -> NDArray[np.bool_]:
    """Decide for each patient. patients: n keys; labels: float32[n]; share in [0, 1).

    Returns bool[n], true where held out.
    """
    draws = np.array([_draw(patient, seed) for patient in patients])
    match cut:
        case Cut.INDEPENDENT:
            return draws < share
        case Cut.STRATIFIED:
            held_out = np.zeros(len(draws), dtype=np.bool_)
            for label in (0.0, 1.0):
                members = np.flatnonzero(labels == label)
                count = int(np.floor(share * len(members) + 0.5))
                held_out[members[np.argsort(draws[members], kind="stable")[:count]]] = True
            return held_out
        case _:
            assert_never(cut)


def _draw(patient: bytes, seed: int) -> float:
    """A number in [0, 1) that only this patient and the seed decide."""
    digest = hashlib.sha256(_DOMAIN + str(seed).encode() + b"\0" + patient).digest()
    return int.from_bytes(digest[:7], "big") / 2.0**56
