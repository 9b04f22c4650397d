"""What a researcher's text says of a released model is hearsay: cut down to what makes sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ops_manifests import STUDY, rendered
from test_manifest_bundle import bundled
from test_manifest_code import BY_UPDATE, CODE, CODE_PLAN

from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import StudyId, parse_manifest
from p2pfl.runtime.commands.model_code import (
    predictions_of,
    require_runnable,
    scores_of,
    tensors_of,
)
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.jsonable import Json

MANIFEST = parse_manifest(
    rendered(
        study=replace(STUDY, parameters=7),
        plan=CODE_PLAN,
        privacy=BY_UPDATE,
        code=replace(CODE, gradients=""),
    )
)
SAID: dict[str, Json] = {
    "n": 20,
    "score": 0.123456,
    "auc": 0.98765432,
    "loss": 0.61234567,
    "measures": {"specificity": 0.77777777, "row": 61.0},
    "notes": ["fine\x1b[2J"],
}


def test_scores_are_cut_down_to_what_the_study_names() -> None:
    found = scores_of(SAID, MANIFEST)
    assert found["measures"] == {"specificity": 0.7778}
    assert (found["score"], found["auc"], found["loss"]) == (0.1235, 0.9877, 0.6123)
    assert found["notes"] == ["fine?[2J"]


@pytest.mark.parametrize(
    "wrong", [{"n": 1.5}, {"score": 2.0}, {"auc": float("nan")}, {"loss": "x"}, {"measures": []}]
)
def test_scores_that_are_none_are_refused(wrong: dict[str, Json]) -> None:
    with pytest.raises(OperatorError, match="makes no sense"):
        scores_of({**SAID, **wrong}, MANIFEST)


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [{"name": "a", "shape": [3]}],
        [{"name": "a", "shape": [8]}],
        [{"name": "a", "shape": [-7, -1]}],
        [{"name": "a", "shape": [3]}, {"name": "a", "shape": [4]}],
        [{"name": "../a", "shape": [7]}],
        "all",
    ],
)
def test_tensors_that_do_not_fit_the_model_are_refused(tensors: Json) -> None:
    with pytest.raises(OperatorError, match="makes no sense"):
        tensors_of({"tensors": tensors}, MANIFEST)
    fitting: Json = [{"name": "a", "shape": [3, 2]}, {"name": "b.c", "shape": []}]
    assert tensors_of({"tensors": fitting}, MANIFEST) == fitting


def test_predictions_carry_probabilities_and_nothing_else(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text('id,age\n"a,1",50\nb,60\n')
    said = b"id,probability\n=evil(),0.250000\nx,1.000000\n"
    assert predictions_of(said, table, "id") == b'id,probability\n"a,1",0.250000\nb,1.000000\n'
    assert predictions_of(said, table, "") == b"row,probability\n1,0.250000\n2,1.000000\n"
    for wrong in (b"", said + b"y,0.500000\n", said.replace(b"0.25", b"61.5")):
        with pytest.raises(OperatorError, match="makes no sense"):
            predictions_of(wrong, table, "id")


def test_a_text_that_is_not_approved_any_more_is_not_run() -> None:
    past = StudyHistory(StudyId(MANIFEST.study_id))
    with pytest.raises(OperatorError, match="was not run"):
        require_runnable(MANIFEST, past)
    with pytest.raises(OperatorError, match="ran a bundle"):
        require_runnable(parse_manifest(bundled()), past)
