"""Which of a folder's patients have the images a study needs: decided from the index alone."""

from __future__ import annotations

from dataclasses import dataclass

from p2pfl.core.manifest_terms import ImageTerms
from p2pfl.runtime.image_index import ImageIndex, IndexedPatient
from p2pfl.runtime.image_mapping import MAPPING_FILE, ImageMapping


class DoesNotFit(ValueError):
    """No patient can have what the study needs. problem, fix: sentences without a full stop."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Fit:
    """The patients a study can use, and what the data's keeper has to know of the others."""

    patients: tuple[IndexedPatient, ...]
    notes: tuple[str, ...]


def fitting(index: ImageIndex, terms: ImageTerms, mapping: ImageMapping) -> Fit:
    """The patients with enough modalities, and with a mask where the study marks regions.

    Raises DoesNotFit.
    """
    own = [mapping.own_modality(name, index.modalities) for name in terms.modalities]
    nowhere = [name for name, found in zip(terms.modalities, own, strict=True) if found is None]
    if len(terms.modalities) - len(nowhere) < terms.modalities_min:
        raise DoesNotFit(
            f"no images called {', '.join(nowhere)}; there are {', '.join(index.modalities)}",
            f'write {nowhere[0]} = "own name" below [modalities] in {MAPPING_FILE}',
        )
    kept: list[IndexedPatient] = []
    few = unmarked = partly = 0
    for patient in index.patients:
        have = sum(name is not None and name in patient.images for name in own)
        if have < terms.modalities_min:
            few += 1
        elif terms.regions and patient.mask is None:
            unmarked += 1
        else:
            partly += have < len(terms.modalities)
            kept.append(patient)
    counted = (
        (few, f"left out: fewer than {terms.modalities_min} of {len(terms.modalities)} modalities"),
        (unmarked, "left out: no mask"),
        (partly, "with some modality missing: zeros stand for it, and the model is told"),
    )
    notes = tuple(f"{count} patients {words}" for count, words in counted if count)
    return Fit(tuple(kept), notes)
