"""Manifest options about who averages with whom: the graph, and whether it can be drawn at all."""

from __future__ import annotations

from typing import Final

from gossip.identifiers import SiteId
from p2pfl.averaging import AveragingError, topology
from p2pfl.core.errors import Inconsistent
from p2pfl.core.manifest_rounds import ROUNDS_MAX
from p2pfl.core.manifest_table import Table
from p2pfl.core.manifest_terms import AveragingTerms, StudyTerms

TOPOLOGIES: Final = ("complete", "ring", "torus", "exponential", "random-regular", "custom")


def read_degree(table: Table, kind: str, n: int) -> int:
    if kind != "random-regular":
        if table.has("degree"):
            raise Inconsistent(table.at("degree"), f'means nothing with topology = "{kind}"')
        return 0
    # More than half of the others is better served by "complete", and hard to draw.
    return table.integer("degree", 2, max(2, n // 2))


def read_redraw_rounds(table: Table, kind: str) -> int:
    if not table.has("redraw_rounds"):
        return 0
    if kind != "random-regular":
        raise Inconsistent(table.at("redraw_rounds"), f'means nothing with topology = "{kind}"')
    return table.integer("redraw_rounds", 1, ROUNDS_MAX)


def read_edges(table: Table, kind: str, study: StudyTerms) -> tuple[tuple[SiteId, SiteId], ...]:
    if kind != "custom":
        if table.has("edges"):
            raise Inconsistent(table.at("edges"), f'means nothing with topology = "{kind}"')
        return ()
    last = len(study.sites) - 1
    return tuple(
        (study.sites[first], study.sites[second])
        for first, second in table.index_pairs("edges", last, count_max=8192)
    )


def check_graph(table: Table, terms: AveragingTerms, study: StudyTerms) -> None:
    """A graph that cannot be drawn, or gives too few neighbours, is found before anyone runs it."""
    try:
        graph = topology.neighbours(
            terms.topology,
            study.sites,
            degree=terms.degree,
            seed=study.seed,
            edges=terms.edges,
        )
    except AveragingError as error:
        raise Inconsistent(table.at("topology"), f"cannot be drawn: {error}") from None
    fewest = min(len(around) for around in graph.values())
    if study.neighbours_min > fewest:
        raise Inconsistent(
            "study.neighbours_min",
            f'is {study.neighbours_min}, but "{terms.topology}" gives a site {fewest} neighbours',
        )
