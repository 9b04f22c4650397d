"""Updates that foreign code had a hand in leave after lengths, and in sizes, that tell little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ops_manifests import PRIVACY
from test_manifest_bundle import bundled
from test_manifest_code import BY_UPDATE, CODE, coded

from p2pfl.core.manifest import NO_PRIVACY, Manifest, parse_manifest
from p2pfl.runtime.release_pace import SHORTEST_S, ReleasePace, is_paced

CELLS = parse_manifest(coded())
WHOLE = parse_manifest(coded(replace(CODE, gradients=""), BY_UPDATE))
BUNDLE = parse_manifest(bundled(BY_UPDATE))


@pytest.mark.parametrize("manifest", [CELLS, WHOLE, BUNDLE], ids=["cells", "whole", "bundle"])
def test_an_update_is_ready_at_one_of_a_few_lengths_whatever_training_took(
    manifest: Manifest,
) -> None:
    pace = ReleasePace()
    took = np.random.default_rng(5).uniform(0.0, 50.0, 400).tolist()
    lasted = [took_s + pace.wait_s(manifest, took_s) for took_s in took]
    lengths = sorted({round(one, 9) for one in lasted})
    assert all(one >= took_s for one, took_s in zip(lasted, took, strict=True))
    # The study waits 30 s for a site: three quarters of that are one of the lengths.
    assert set(lengths) <= {*(SHORTEST_S * 2**power for power in range(5)), 22.5, 45.0, 90.0}
    # Never shorter than before: a study's rounds can tell as much as when each growth was.
    assert lasted == sorted(lasted)


def test_studies_keep_lengths_of_their_own() -> None:
    pace = ReleasePace()
    assert pace.wait_s(WHOLE, 30.0) == 15.0
    assert pace.wait_s(CELLS, 0.25) == 0.75
    assert pace.wait_s(WHOLE, 0.0) == 45.0


def test_what_is_not_protected_from_its_own_code_does_not_wait() -> None:
    by_code = parse_manifest(coded(replace(CODE, gradients="inside"), PRIVACY))
    unprotected = parse_manifest(coded(replace(CODE, gradients=""), NO_PRIVACY))
    for manifest in (by_code, unprotected):
        assert not is_paced(manifest)
        assert ReleasePace().wait_s(manifest, 0.25) == 0.0
