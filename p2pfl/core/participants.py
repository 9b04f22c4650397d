"""Who takes part in a study: proposals, other sites' decisions, neighbours and their weights."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from gossip.identifiers import SiteId
from gossip.messages import Decision, StudyDecision
from ledger.provenance.records_round import STALENESS
from p2pfl.averaging import resolve_parameters, topology
from p2pfl.core.events import KnownDecision
from p2pfl.core.manifest import Manifest
from p2pfl.core.manifest_table import Scalar
from p2pfl.core.names import Round, StudyId

RULES_KEPT = 64
"""Rules with their parameters, worked out once: a study needs them in every round."""
GRAPHS_KEPT = 16
"""Graphs and shares follow from public values: they are worked out once and kept, the newest."""
UNKNOWN_STUDIES_MAX = 32
"""Decisions kept per site about studies whose manifest has not arrived yet."""


HOODS_MAX = 4
"""Graphs held at a time: the round's own, the next one's, and what neighbours ahead speak of."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A study that was proposed, and by whom."""

    manifest: Manifest
    proposer: SiteId


class Decisions:
    """The newest decision of every other site, per study."""

    def __init__(self) -> None:
        self._by_study: dict[StudyId, dict[SiteId, StudyDecision]] = {}

    def take(self, sender: SiteId, message: StudyDecision, known: frozenset[StudyId]) -> bool:
        """Note a decision; False if it is older than what is known.

        A site's entries are ordered by its own log, so the larger sequence number is newer."""
        study = StudyId(message.study)
        of_study = self._by_study.setdefault(study, {})
        earlier = of_study.get(sender)
        if earlier is not None and earlier.entry_seq >= message.entry_seq:
            return False
        of_study[sender] = message
        self._forget_oldest_unknown(sender, known)
        return True

    def forget(self, sender: SiteId) -> None:
        """A site goes on in another log: its entries are numbered anew."""
        for of_study in self._by_study.values():
            of_study.pop(sender, None)

    def remember(self, known: tuple[KnownDecision, ...]) -> None:
        """Take over what is known from before, of studies whose manifests are kept here."""
        for one in known:
            study = StudyId(one.decision.study)
            self._by_study.setdefault(study, {})[one.site] = one.decision

    def of(self, study: StudyId) -> Mapping[SiteId, StudyDecision]:
        """Site → newest decision."""
        return self._by_study.get(study, {})

    def approved(self, study: StudyId) -> dict[SiteId, int]:
        """Sites that approve the study, with their public patient buckets."""
        return {
            site: decision.patients_bucket
            for site, decision in sorted(self.of(study).items())
            if decision.decision is Decision.APPROVED
        }

    def _forget_oldest_unknown(self, sender: SiteId, known: frozenset[StudyId]) -> None:
        """The newest stay: a study's proposal follows its first decision closely, or never."""
        unknown = [s for s, by in self._by_study.items() if s not in known and sender in by]
        for study in unknown[:-UNKNOWN_STUDIES_MAX]:
            del self._by_study[study][sender]
            if not self._by_study[study]:
                del self._by_study[study]


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Whom a site averages with this round, and how much each counts.

    Weights are in millionths; what is missing to a million is the site's own weight."""

    graph: Mapping[bytes, tuple[bytes, ...]]
    """Of this site and its neighbours, who averages with whom."""
    neighbours: tuple[SiteId, ...]
    shares_u: Mapping[bytes, int]
    _weights_u: dict[SiteId, int] = field(default_factory=dict, repr=False, compare=False)
    """Each neighbour's mixing weight, once somebody has asked."""

    def weights_u(self, me: SiteId) -> Mapping[SiteId, int]:
        """Mixing weight of each neighbour in millionths, rounded down. me: whose neighbourhood."""
        if not self._weights_u:
            mixed = topology.mixing_weights_u(self.graph, self.shares_u, me, self.neighbours)
            self._weights_u.update((SiteId(s), weight) for s, weight in mixed.items() if s != me)
        return self._weights_u


def study_graph(manifest: Manifest, epoch: int = 0) -> topology.Graph:
    """Who would average with whom if every site of the manifest took part.

    epoch: which drawing of a random graph that is drawn anew."""
    terms, study = manifest.averaging, manifest.study
    return _drawn(terms.topology, study.sites, terms.degree, study.seed, epoch, terms.edges)


@lru_cache(GRAPHS_KEPT)
def _drawn(
    kind: str,
    sites: tuple[SiteId, ...],
    degree: int,
    seed: int,
    epoch: int,
    edges: tuple[tuple[SiteId, SiteId], ...],
) -> topology.Graph:
    return topology.neighbours(kind, sites, degree=degree, seed=seed, epoch=epoch, edges=edges)


def neighbourhood(
    manifest: Manifest,
    graph: topology.Graph,
    me: SiteId,
    buckets: Mapping[SiteId, int],
    dial_only: Collection[bytes] = frozenset(),
) -> Neighbourhood:
    """The neighbours of `me` among the sites in `buckets` (which contains `me`).

    graph: drawn over all sites of the manifest, here thinned to those that take part: every site
    computes the same one from public values. dial_only: sites that nobody can dial; nothing
    travels between two of them, so they are no neighbours, whatever was drawn."""
    terms = manifest.averaging

    def near_to(site: bytes) -> tuple[bytes, ...]:
        is_mute = site in dial_only
        return tuple(
            n for n in graph.get(site, ()) if n in buckets and not (is_mute and n in dial_only)
        )

    own = tuple(SiteId(site) for site in near_to(me))
    is_weighted = terms.weighting == "patients"
    counted = tuple(sorted((s, bucket if is_weighted else 1) for s, bucket in buckets.items()))
    shares_u = _shares_u(counted, terms.share_max)
    # Mixing weights look at the neighbours' neighbours, and no further.
    near = {bytes(site): near_to(site) for site in (me, *own) if site in graph}
    return Neighbourhood(near, own, shares_u)


@lru_cache(GRAPHS_KEPT)
def _shares_u(counted: tuple[tuple[SiteId, int], ...], share_max: float) -> Mapping[bytes, int]:
    # Fewer sites than the cap allows for: then nobody can have less than an equal share.
    cap = max(share_max, 1 / len(counted))
    return topology.capped_shares_u({bytes(site): n for site, n in counted}, cap)


class Neighbourhoods:
    """The neighbours of every round: a random graph may be drawn anew while a study runs."""

    def __init__(self, manifest: Manifest, me: SiteId, bucket: int) -> None:
        self.buckets: dict[SiteId, int] = {me: bucket}
        self._dial_only: frozenset[SiteId] = frozenset()
        self._manifest = manifest
        self._me = me
        self._rounds_total = manifest.study.rounds_total
        self._linked: dict[int, frozenset[bytes]] = {}
        """Epoch → who could be a neighbour: hardly any memory, and each graph is drawn once
        however often a peer names its rounds."""
        self._hoods: dict[int, Neighbourhood] = {}

    def sites_changed(
        self, buckets: Mapping[SiteId, int], dial_only: frozenset[SiteId] = frozenset()
    ) -> None:
        """`buckets` holds the other sites that approve, `dial_only` those that nobody can dial."""
        self._dial_only = dial_only
        self.buckets = {**buckets, self._me: self.buckets[self._me]}
        self._hoods.clear()

    def is_possible(self, round_: Round, site: SiteId) -> bool:
        """Whether a site may average with this one in a round, once it has approved."""
        if not 0 <= round_ < self._rounds_total:
            round_ = Round(0)  # refused by its number, later and by name
        epoch = self._manifest.averaging.epoch_of(round_)
        linked = self._linked.get(epoch)
        if linked is None:
            graph = study_graph(self._manifest, epoch)
            linked = self._linked[epoch] = frozenset(graph.get(self._me, ()))
        return site in linked and site != self._me

    def at(self, round_: Round) -> Neighbourhood:
        """Neighbours and shares in a round, among the sites that approve at present."""
        epoch = self._manifest.averaging.epoch_of(round_)
        hood = self._hoods.get(epoch)
        if hood is None:
            if len(self._hoods) >= HOODS_MAX:
                self._hoods.pop(min(self._hoods))
            graph = study_graph(self._manifest, epoch)
            hood = neighbourhood(self._manifest, graph, self._me, self.buckets, self._dial_only)
            self._hoods[epoch] = hood
        return hood


def weights_u(hood: Neighbourhood, me: SiteId, alive: tuple[SiteId, ...]) -> dict[SiteId, int]:
    """Mixing weight of each neighbour that was heard, in millionths, rounded down."""
    return {site: weight for site, weight in hood.weights_u(me).items() if site in alive}


def rule_parameters(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    """The averaging rule's parameters, defaults filled in, as they go on record."""
    terms = manifest.averaging
    # With their types: 1 and 1.0 are one key, and stand on record as two numbers.
    given = tuple((name, value, type(value)) for name, value in terms.parameters.items())
    return _rule_parameters(terms.rule, given, terms.byzantine, terms.staleness)


@lru_cache(RULES_KEPT)
def _rule_parameters(
    rule: str, given: tuple[tuple[str, Scalar, type], ...], byzantine: float, staleness: int
) -> tuple[tuple[str, str], ...]:
    parameters = {name: value for name, value, _ in given}
    resolved = resolve_parameters(rule, parameters, byzantine=byzantine)
    named = {name: repr(value) for name, value in resolved.items()}
    stale = {STALENESS: str(staleness)} if staleness else {}
    return tuple(sorted((named | stale).items()))
