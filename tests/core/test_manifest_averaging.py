"""The [averaging] section: a study that cannot run is refused before anyone approves it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ops_manifests import AVERAGING, SITES, STUDY, rendered

from p2pfl.averaging import RULES as AVERAGING_RULES
from p2pfl.averaging.topology import TOPOLOGIES as AVERAGING_TOPOLOGIES
from p2pfl.core import errors
from p2pfl.core.manifest import (
    NO_PRIVACY,
    RULES,
    TOPOLOGIES,
    AveragingTerms,
    parse_manifest,
)
from p2pfl.core.names import Round
from p2pfl.core.participants import Neighbourhoods


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
        (replace(AVERAGING, redraw_rounds=5), "means nothing"),
        (replace(AVERAGING, guard="holdout"), "looks at patients again"),
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
    random = replace(AVERAGING, topology="random-regular", degree=2, redraw_rounds=3)
    assert parse_manifest(rendered(averaging=random)).averaging == random


def test_a_guard_comes_back_and_no_guard_is_not_written() -> None:
    guarded = replace(AVERAGING, guard="holdout")
    raw = rendered(averaging=guarded, privacy=NO_PRIVACY)
    assert parse_manifest(raw).averaging == guarded
    assert b"guard" not in rendered()
    assert b"redraw" not in rendered()


def test_an_encoding_comes_back_holds_for_trained_rounds_and_float32_is_not_written() -> None:
    encoded = replace(AVERAGING, encoding="bf16")
    manifest = parse_manifest(rendered(averaging=encoded))
    assert manifest.averaging == encoded
    last = manifest.study.rounds - 1
    assert [manifest.encoding_at(at) for at in (0, last, last + 1)] == ["bf16", "bf16", "float32"]
    assert b"encoding" not in rendered()
    with pytest.raises(errors.OutOfRange, match=r"averaging\.encoding"):
        parse_manifest(rendered(averaging=encoded).replace(b'"bf16"', b'"fp8"'))


def test_a_graph_is_drawn_anew_after_its_rounds_and_not_before() -> None:
    terms = replace(AVERAGING, topology="random-regular", degree=2, redraw_rounds=3)
    assert [terms.epoch_of(at) for at in (0, 2, 3, 5, 6)] == [0, 0, 1, 1, 2]
    assert AVERAGING.epoch_of(29) == 0
    manifest = parse_manifest(rendered(averaging=terms))
    hoods = Neighbourhoods(manifest, SITES[0], 50)
    hoods.sites_changed(dict.fromkeys(SITES[1:], 50))
    drawn = [hoods.at(Round(at)).neighbours for at in range(33)]
    assert all(drawn[at] == drawn[at - at % 3] for at in range(33))
    assert len(set(drawn)) > 1
    for at, near in enumerate(drawn):
        possible = {site for site in SITES if hoods.is_possible(Round(at), site)}
        assert possible == set(near)


def test_rounds_that_do_not_exist_draw_no_graphs() -> None:
    terms = replace(AVERAGING, topology="random-regular", degree=2, redraw_rounds=1)
    hoods = Neighbourhoods(parse_manifest(rendered(averaging=terms)), SITES[0], 50)
    first = hoods.is_possible(Round(0), SITES[1])
    assert all(hoods.is_possible(Round(at), SITES[1]) == first for at in (33, 2**40, -1))
    assert not hoods.is_possible(Round(0), SITES[0])


@pytest.mark.parametrize("edges", ["[[0, 9]]", "[[0]]", "[[true, 1]]", "[3]"])
def test_edges_have_to_be_pairs_of_sites(edges: str) -> None:
    written = f'topology = "custom"\nedges = {edges}'.encode()
    raw = rendered().replace(b'topology = "complete"', written)
    with pytest.raises((errors.OutOfRange, errors.WrongType), match=r"averaging\.edges\[0\]"):
        parse_manifest(raw)


def test_names_of_rules_and_topologies_are_those_of_averaging() -> None:
    assert set(RULES) == set(AVERAGING_RULES)
    assert set(TOPOLOGIES) == set(AVERAGING_TOPOLOGIES)
