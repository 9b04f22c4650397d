"""The [averaging] section: a study that cannot run is refused before anyone approves it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ops_manifests import AVERAGING, SITES, STUDY, rendered

from p2pfl.averaging import RULES as AVERAGING_RULES
from p2pfl.averaging.topology import TOPOLOGIES as AVERAGING_TOPOLOGIES
from p2pfl.core import errors
from p2pfl.core.manifest import RULES, TOPOLOGIES, AveragingTerms, parse_manifest


@pytest.mark.parametrize(
    ("averaging", "what"),
    [
        (replace(AVERAGING, parameters={"stepz": 3}), "no parameter"),
        (replace(AVERAGING, parameters={"steps": 3000}), "does not fit the rule"),
        (replace(AVERAGING, topology="torus"), "cannot be drawn"),
        (replace(AVERAGING, topology="custom", edges=((SITES[0], SITES[1]),)), "cannot be drawn"),
        (replace(AVERAGING, degree=2), "means nothing"),
        (replace(AVERAGING, edges=((SITES[0], SITES[1]),)), "means nothing"),
        (replace(AVERAGING, share_max=0.1), "do not add up"),
    ],
)
def test_averaging_that_cannot_run_is_refused(averaging: AveragingTerms, what: str) -> None:
    with pytest.raises(errors.Inconsistent, match=what):
        parse_manifest(rendered(averaging=averaging))


def test_more_neighbours_than_the_graph_has_are_refused() -> None:
    ring = replace(AVERAGING, topology="ring")
    study = replace(STUDY, neighbours_min=3)
    with pytest.raises(errors.Inconsistent, match="gives a site 2 neighbours"):
        parse_manifest(rendered(study=study, averaging=ring))


def test_custom_and_random_graphs_come_back() -> None:
    edges = tuple((SITES[at], SITES[(at + 1) % 5]) for at in range(5))
    custom = replace(AVERAGING, topology="custom", edges=edges)
    assert parse_manifest(rendered(averaging=custom)).averaging == custom
    random = replace(AVERAGING, topology="random-regular", degree=2)
    assert parse_manifest(rendered(averaging=random)).averaging == random


@pytest.mark.parametrize("edges", ["[[0, 9]]", "[[0]]", "[[true, 1]]", "[3]"])
def test_edges_have_to_be_pairs_of_sites(edges: str) -> None:
    written = f'topology = "custom"\nedges = {edges}'.encode()
    raw = rendered().replace(b'topology = "complete"', written)
    with pytest.raises((errors.OutOfRange, errors.WrongType), match=r"averaging\.edges\[0\]"):
        parse_manifest(raw)


def test_names_of_rules_and_topologies_are_those_of_averaging() -> None:
    assert set(RULES) == set(AVERAGING_RULES)
    assert set(TOPOLOGIES) == set(AVERAGING_TOPOLOGIES)
