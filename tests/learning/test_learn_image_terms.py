"""[data.images] of a manifest: what is read is what is written, and contradictions are refused."""

from __future__ import annotations

import pytest
from learn_images import image_terms
from learn_manifests import table

from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import parse_data_section
from p2pfl.core.manifest_terms import DataTerms, SurvivalTarget
from p2pfl.core.manifest_writing import render_data

IMAGES = render_data(image_terms(modalities_min=1, spacing=(1.0, 1.0, 2.0))).decode()


@pytest.mark.parametrize(
    "terms",
    [
        image_terms(),
        image_terms(modalities_min=1, window=(16, 16), placement="patches", spacing=(1.0, 2.5)),
        table(3),
        DataTerms("tabular", 2, 0.3, None, table(3).columns),
        DataTerms("tabular", 2, 0.3, SurvivalTarget("days", "died"), table(3).columns),
    ],
)
def test_data_terms_are_read_as_they_were_written(terms: DataTerms) -> None:
    assert parse_data_section(render_data(terms)) == terms


def test_a_model_has_channels_for_what_may_be_missing() -> None:
    images = image_terms(modalities_min=1).images
    assert images is not None
    assert images.channels == 4
    assert parse_data_section(IMAGES.encode()).predicted == "whole, core"


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('kind = "images"', 'kind = "tabular"', "data.images means nothing"),
        ("modalities_min = 1", "modalities_min = 3", "data.images.modalities_min"),
        ('    "FLAIR",', '    "t1",', "has a name twice"),
        ("    16,", "    7,", "a whole number from 8 to 1024"),
        ("    16,", "    1024,", "voxels"),
        ('"zscore"', '"range"', "data.images.intensity_range"),
        ('"centre"', '"anywhere"', "one of centre, patches"),
        ("    2.0,", "    0.0,", "0.01 to 100 mm"),
        ('name = "core"', 'name = "whole"', "used a second time"),
        ("labels = [\n    2,\n]", "labels = [300]", "whole numbers 1 to 255"),
        ("modalities = [", "modality = [", "did you mean|modalit"),
    ],
)
def test_a_contradiction_names_its_key(before: str, after: str, problem: str) -> None:
    assert before in IMAGES
    with pytest.raises(ManifestError, match=problem):
        parse_data_section(IMAGES.replace(before, after).encode())


def test_a_table_says_that_it_has_no_target() -> None:
    without = render_data(DataTerms("tabular", 2, 0.3, None, table(1).columns)).decode()
    assert 'target = "none"' in without
    with pytest.raises(ManifestError, match="target"):
        parse_data_section(without.replace('target = "none"\n', "").encode())
