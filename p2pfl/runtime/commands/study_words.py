"""A study in words that a data manager can decide on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gossip.identifiers import SiteId
from gossip.roster import Roster
from p2pfl.averaging import topology
from p2pfl.averaging.hiding import noise_distance
from p2pfl.core.encoding import Encoding
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest, PrivacyTerms, StudyTerms, Target
from p2pfl.core.names import StudyId
from p2pfl.core.participants import study_graph
from p2pfl.core.pausing import paused_words, stopped_words
from p2pfl.core.watch import noise_deviation
from p2pfl.runtime.commands.bundles import BundleSeen
from p2pfl.runtime.commands.code_seen import CodeSeen

_CLAIMS = (topology.Claim.NONE, topology.Claim.LIMIT, topology.Claim.YES)
"""The weakest first."""
_DRAWINGS_LOOKED_AT = 8
_UNITS = {
    "patient": "one patient",
    "record": "one record (a patient may have several)",
    "site": "all patients of a site together",
}


@dataclass(frozen=True, slots=True)
class StudySummary:
    """What `study show` and `study validate` tell."""

    study: bytes
    name: str
    proposer: str
    standing: str
    sites: tuple[str, ...]
    sites_min: int
    neighbours_min: int
    rounds: int
    consensus_rounds: int
    rounds_done: int
    expires_s: int
    plan: str
    arguments: tuple[str, ...]
    parameters: int
    data: str
    privacy: str
    averaging: str
    robustness: str
    apart: str
    """Neighbours that cannot reach each other, in words; empty if all can."""
    code: CodeSeen | None = None
    """A researcher's own text, where the plan is one."""
    bundle: BundleSeen | None = None
    """The bundle, where the study runs one."""
    paused: str = ""
    """By whom, since when and why; empty if it is not paused."""
    stopped: str = ""
    """By whom, when and why it ended early; empty if it did not."""


def summary(
    manifest: Manifest,
    roster: Roster | None,
    past: StudyHistory | None,
    code: CodeSeen | None = None,
    bundle: BundleSeen | None = None,
) -> StudySummary:
    """Describe a study; `past` is what this site recorded about it, if anything."""
    study = manifest.study

    def name_of(site: bytes) -> str:
        for card in roster.members if roster else ():
            if card.site == site:
                return card.name
        return site.hex()[:12]

    return StudySummary(
        study=manifest.study_id,
        name=study.name,
        proposer=name_of(past.proposer) if past and past.proposer else "",
        standing=past.standing.value if past else "not recorded",
        sites=tuple(sorted(name_of(site) for site in study.sites)),
        sites_min=study.sites_min,
        neighbours_min=study.neighbours_min,
        rounds=study.rounds,
        consensus_rounds=study.consensus_rounds,
        rounds_done=len(past.averaged) if past else 0,
        expires_s=study.expires_s,
        plan=manifest.plan.name,
        arguments=tuple(
            f"{name} = {value}{_steered(past, name)}{_steerable(manifest, name)}"
            for name, value in sorted(manifest.plan.arguments.items())
        ),
        parameters=study.parameters,
        data=data_words(manifest),
        privacy=privacy_words(manifest.privacy, study.rounds) + by_code_words(manifest),
        averaging=averaging_words(manifest),
        robustness=robustness_words(manifest),
        apart="" if roster is None else apart_words(manifest, roster),
        code=code,
        bundle=bundle,
        paused="" if past is None else paused_words(past, StudyId(manifest.study_id), name_of),
        stopped="" if past is None else stopped_words(past, name_of),
    )


def apart_words(manifest: Manifest, roster: Roster) -> str:
    """Pairs of the study's neighbours of which neither can be dialled; empty if there are none.

    Nothing travels between them, so they are left out of the topology at both."""
    dialling = {card.site: card.name for card in roster.members if not card.addresses}
    graphs = _graphs(manifest) if len(dialling) > 1 else ()
    pairs = {
        tuple(sorted((dialling[site], dialling[other])))
        for graph in graphs
        for site in dialling.keys() & graph.keys()
        for other in dialling.keys() & set(graph[site])
        if site < other
    }
    if not pairs:
        return ""
    told = ", ".join(f"{one} and {other}" for one, other in sorted(pairs))
    lonely = _lonely(manifest, dialling, graphs)
    return (
        f"{told} only dial, so they cannot reach each other: they are left out of each other's "
        "neighbours in this study, and no round waits for them. It helps if one of each pair can "
        "be dialled (`p2pfl roster set-address HOST:PORT`), or a topology without that pair."
        + (f" As it is, {lonely}." if lonely else "")
    )


def _lonely(
    manifest: Manifest, dialling: Mapping[SiteId, str], graphs: tuple[topology.Graph, ...]
) -> str:
    """Sites that are left with fewer neighbours than a round needs: it would wait for ever."""
    needed = manifest.study.neighbours_min
    left = {
        name: min(sum(near not in dialling for near in graph[site]) for graph in graphs)
        for site, name in dialling.items()
        if all(site in graph for graph in graphs)
    }
    few = [f"{name} has {n}" for name, n in sorted(left.items()) if n < needed]
    return f"{' and '.join(few)} of the {needed} neighbours that each round needs" if few else ""


def _graphs(manifest: Manifest) -> tuple[topology.Graph, ...]:
    """The study's graph, or the first drawings of one that is drawn anew."""
    return tuple(study_graph(manifest, epoch) for epoch in range(_DRAWINGS_LOOKED_AT))


def data_words(manifest: Manifest) -> str:
    """What a site's table has to hold."""
    data = manifest.data
    parts = [f"{data.patients_min} patients or more"]
    if data.images is not None:
        sides = "×".join(map(str, data.images.window))
        parts.append(f"images {', '.join(data.images.modalities)}, seen in windows of {sides}")
    if data.columns:
        parts.append("columns " + ", ".join(column.name for column in data.columns))
    if isinstance(data.target, Target):
        predicted = f'"{data.target.column}" > {data.target.positive_above:g}'
    else:
        predicted = data.predicted
    parts += [f"predicts {predicted}", f"{data.holdout:.0%} of them are never trained on"]
    return "; ".join(parts)


def privacy_words(privacy: PrivacyTerms, rounds: int) -> str:
    """What the privacy terms promise, without symbols nobody explained."""
    if not privacy.is_private:
        return (
            "NONE. Updates are computed from patients without protection: whoever receives them "
            "may be able to tell whether a certain patient was in the data."
        )
    if privacy.is_by_update:
        return (
            f"Differential privacy for {_UNITS[privacy.unit]}: ε = {privacy.epsilon:g} over all "
            f"{rounds} rounds at δ = {privacy.delta}. The node itself clips each round's whole "
            f"update to {privacy.clip_norm:g} and adds noise of {privacy.noise_multiplier:g} times "
            "twice that, whatever the training did."
        )
    factor = math.exp(min(privacy.epsilon, 50.0))
    sampled = (
        f"all patients, {privacy.steps_per_round} step(s) a round"
        if privacy.sampling == "full"
        else f"a random {privacy.sampling_rate:.2%} of the patients in each of "
        f"{privacy.steps_per_round} steps a round"
    )
    return (
        f"Differential privacy for {_UNITS[privacy.unit]}: ε = {privacy.epsilon:g} over all "
        f"{rounds} rounds at δ = {privacy.delta}. Whether any one of them was in the data changes "
        f"the probability of anything that leaves the site by a factor of at most {factor:.3g} "
        f"(except with probability δ). Each contribution is clipped to {privacy.clip_norm:g} and "
        f"drowned in noise of {privacy.noise_multiplier:g} times that; {sampled}."
    )


def by_code_words(manifest: Manifest) -> str:
    """What has to be added where a researcher's own code keeps the promise, or a node does."""
    code = manifest.code
    if code is None or not code.gradients:
        return ""
    if code.is_enforced:
        return (
            " The plan's own code computes one patient's gradient at a time; the node clips it "
            "and adds the noise where that code cannot reach."
        )
    return (
        " BY APPROVED CODE: the process that runs the researcher's code does the clipping and "
        "the noise. Code that cheats voids this promise, and no node would notice."
    )


def averaging_words(manifest: Manifest) -> str:
    """How sites mix models."""
    terms, study = manifest.averaging, manifest.study
    shares = (
        f"weighted by patients, no site above {terms.share_max:.0%}"
        if terms.weighting == "patients"
        else "all sites weighted alike"
    )
    redrawn = f", drawn anew every {terms.redraw_rounds} round(s)" if terms.redraw_rounds else ""
    guarded = (
        "; a step that is worse on the own hold-out than chance explains is cut or refused"
        if terms.guard == "holdout"
        else ""
    )
    stale = (
        f", then takes what is up to {terms.staleness} round(s) old at less weight"
        if terms.staleness
        else ""
    )
    return (
        f"{terms.rule} on a {terms.topology} graph{redrawn}, {shares}; a round counts with "
        f"{study.neighbours_min} neighbour(s) or more, waits at most "
        f"{study.round_deadline_s:g} s for them"
        f"{stale}{guarded}{_encoding_words(terms.encoding)}{_own_decision_words(study)}"
    )


def _encoding_words(encoding: Encoding) -> str:
    match encoding:
        case "float32":
            return ""
        case "bf16":
            return "; updates travel as bf16, half as many bytes, rounded at random"
        case "int8":
            return "; updates travel as int8, a quarter of the bytes, rounded at random"


def _own_decision_words(study: StudyTerms) -> str:
    """What each site decides by itself: when it trains no more, for how long, what it keeps."""
    stops = (
        f"; a site whose own hold-out gains nothing for {study.patience} round(s) only mixes from "
        "then on"
    )
    boxed = (
        f"; a round's local work ends after {study.work_limit_s:g} s, however many steps are left"
    )
    best = "; each site releases the averaged model that was best on its own hold-out"
    said = ((stops, study.patience), (boxed, study.work_limit_s), (best, study.keep == "best"))
    return "".join(words for words, is_on in said if is_on)


def robustness_words(manifest: Manifest) -> str:
    """What the graph bears if the declared share of sites lies, and how fast it mixes.

    A graph that is drawn anew counts as its worst of the first drawings."""
    terms, sites = manifest.averaging, manifest.study.sites
    # Before decisions are known every site counts alike; at most β of the sites may lie.
    hostile = max(1, math.floor(terms.byzantine * len(sites))) if terms.byzantine else 0
    hostile = min(hostile, len(sites) - 1)
    shares = topology.uniform_shares_u(sites)
    epochs = terms.epoch_of(max(0, manifest.study.rounds_total - 1)) + 1
    graphs = [study_graph(manifest, epoch) for epoch in range(min(epochs, _DRAWINGS_LOOKED_AT))]
    drawn = [(graph, topology.all_mixing_weights_u(graph, shares)) for graph in graphs]
    judged = [topology.breakdown(graph, weights, hostile) for graph, weights in drawn]
    worst = min(judged, key=lambda one: (_CLAIMS.index(one.claim), one.mu2))
    gap = min(topology.spectral_gap(weights) for _, weights in drawn)
    mixing = (
        f"Spectral gap {gap:.2f}: a round of plain mixing leaves {1.0 - gap:.0%} of what sites "
        "differ by, or less."
    )
    return " ".join(filter(None, (worst.sentence, mixing, noise_words(manifest))))


def noise_words(manifest: Manifest) -> str:
    """How far privacy noise alone puts two honest updates apart; empty without privacy."""
    patients = manifest.data.patients_min
    deviation = noise_deviation(manifest, patients)
    if not deviation:
        return ""
    apart = noise_distance(deviation, manifest.study.parameters)
    return (
        f"Noise alone puts honest updates of sites with {patients} patients {apart:.2g} apart "
        "(σ√(2d)): a liar within that distance cannot be told from noise. After the first round "
        "the node says R, which part of the distances seen that is."
    )


def range_words(manifest: Manifest, name: str) -> str:
    """Between which values an argument may be steered."""
    low, high = manifest.plan.ranges[name]
    return f"{low:g} to {high:g}"


def steerable_words(manifest: Manifest) -> str:
    """What the proposer may steer while the study runs."""
    if not manifest.plan.ranges:
        return "Its manifest names no ranges, so nothing of it can be steered."
    listed = (f"{name} {range_words(manifest, name)}" for name in sorted(manifest.plan.ranges))
    return f"Its manifest lets these be steered: {', '.join(listed)}."


def steered_words(past: StudyHistory) -> tuple[str, ...]:
    """What differs from the manifest here, and from which round on."""
    if not past.steerings:
        return ()
    newest = past.steerings[-1]
    since = f" from round {newest.round + 1} on"
    return tuple(f"{name} = {value}{since}" for name, value in newest.changes)


def _steered(past: StudyHistory | None, name: str) -> str:
    newest = dict(past.steerings[-1].changes) if past and past.steerings else {}
    return f", steered to {newest[name]}" if name in newest else ""


def _steerable(manifest: Manifest, name: str) -> str:
    if name not in manifest.plan.ranges:
        return ""
    return f" (may be steered within {range_words(manifest, name)})"
