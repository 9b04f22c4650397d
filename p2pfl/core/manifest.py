"""The study manifest: strict reading of the TOML whose SHA-256 is the study's id.

Whoever approves a study approves these bytes, so nothing in them may be ignored: an unknown key,
a number out of range or two values that contradict each other refuse the whole document. The
bytes may come from another site and are bounded before they are parsed.

Names of rules and topologies are literals here; that a rule takes its parameters and that a graph
can be drawn is asked of `p2pfl.averaging`, so that nobody approves a study that cannot run.
Arguments of a plan are checked for shape only; the plan itself (`p2pfl.learning`) knows which it
has. Must not know: files, clocks, ledgers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, Literal, cast

from gossip.identifiers import Digest, SiteId
from gossip.limits import MANIFEST_BYTES_MAX, MEMBERS_MAX
from p2pfl.averaging import AveragingError, resolve_parameters
from p2pfl.core.encoding import ENCODINGS, Encoding
from p2pfl.core.errors import Inconsistent, MissingKey, OutOfRange
from p2pfl.core.manifest_bundle import read_bundle
from p2pfl.core.manifest_code import read_code
from p2pfl.core.manifest_data import DATA_KEYS, read_data
from p2pfl.core.manifest_graph import (
    TOPOLOGIES,
    check_graph,
    read_degree,
    read_edges,
    read_redraw_rounds,
)
from p2pfl.core.manifest_materials import USES, check_materials, read_materials
from p2pfl.core.manifest_rounds import (
    ROUNDS_MAX,
    check_rounds,
    read_keep,
    read_patience,
    read_staleness,
    read_work_limit,
)
from p2pfl.core.manifest_table import Scalar, Table, parse_toml
from p2pfl.core.manifest_terms import (
    COUNTING_PLANS,
    NO_PRIVACY,
    AveragingTerms,
    CategoryColumn,
    Column,
    DataTerms,
    Guard,
    Manifest,
    Material,
    NumberColumn,
    PlanTerms,
    PrivacyTerms,
    Sampling,
    StudyId,
    StudyTerms,
    Target,
    Unit,
)
from p2pfl.core.manifest_writing import render_manifest

__all__ = [
    "MANIFEST_BYTES_MAX",
    "NO_PRIVACY",
    "ROUNDS_MAX",
    "RULES",
    "TOPOLOGIES",
    "AveragingTerms",
    "CategoryColumn",
    "Column",
    "DataTerms",
    "Guard",
    "Manifest",
    "Material",
    "NumberColumn",
    "PlanTerms",
    "PrivacyTerms",
    "Scalar",
    "StudyId",
    "StudyTerms",
    "Target",
    "checked_delta",
    "parse_data_section",
    "parse_manifest",
    "render_manifest",
    "study_id_of",
]

_PLAIN_RULES: Final = (
    "gossip",
    "mean",
    "gm_clip",
    "cs_plus",
    "cs_redescending",
    "clipped_gossip",
    "nna",
    "trimmed_mean",
    "median",
    "geometric_median",
    "krum",
    "multi_krum",
    "centered_clipping",
)
RULES: Final = (*_PLAIN_RULES, "nnm", *(f"nnm+{rule}" for rule in _PLAIN_RULES))
_SECTIONS: Final = ("study", "plan", "code", "bundle", "data", "privacy", "averaging", *USES)
_STUDY_KEYS: Final = (
    "name",
    "rounds",
    "consensus_rounds",
    "sites",
    "sites_min",
    "neighbours_min",
    "round_deadline_s",
    "expires",
    "seed",
    "initial_model",
    "parameters",
    "patience",
    "work_limit_s",
    "keep",
)
_PRIVATE_KEYS: Final = (
    "mechanism",
    "epsilon",
    "delta",
    "clip_norm",
    "unit",
    "sampling",
    "sampling_rate",
    "noise_multiplier",
    "steps_per_round",
)
_AVERAGING_KEYS: Final = (
    "rule",
    "topology",
    "degree",
    "edges",
    "weighting",
    "share_max",
    "byzantine",
    "parameters",
    "redraw_rounds",
    "guard",
    "encoding",
    "staleness",
)
_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")
_ARGUMENT: Final = re.compile(r"[a-z0-9_]{1,40}")
_DECIMAL: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,15})?(e-?[0-9]{1,2})?")
_YEAR_2100_S: Final = 4_102_444_800


def study_id_of(raw: bytes) -> StudyId:
    """The id of a study: SHA-256 of its manifest's bytes."""
    return StudyId(hashlib.sha256(raw).digest())


def parse_manifest(raw: bytes) -> Manifest:
    """Read a study manifest strictly.

    raw: TOML, at most 48 KiB. Raises ManifestError (a subclass per rule) that names the key,
    what is wrong with it and, for an unknown key, the nearest known one.
    """
    root = Table(parse_toml(raw, bytes_max=MANIFEST_BYTES_MAX), "", _SECTIONS)
    study = _study(root.table("study", _STUDY_KEYS))
    plan = _plan(root.table("plan", ("name", "arguments", "ranges")))
    data = read_data(root.table("data", DATA_KEYS))
    privacy = _privacy(root)
    averaging = _averaging(root.table("averaging", _AVERAGING_KEYS), study, plan, privacy)
    materials = read_materials(root)
    check_materials(materials, study, plan, data)
    check_rounds(study, plan, privacy, averaging)
    return Manifest(
        study=study,
        plan=plan,
        data=data,
        privacy=privacy,
        averaging=averaging,
        raw=raw,
        study_id=study_id_of(raw),
        materials=materials,
        code=read_code(root, plan.name, study.parameters, privacy.clips_patients),
        bundle=read_bundle(
            root,
            plan.name,
            clips_patients=privacy.clips_patients,
            guard=averaging.guard,
            work_limit_s=study.work_limit_s,
        ),
    )


def parse_data_section(raw: bytes) -> DataTerms:
    """Read the [data] section alone; the other sections may be missing or unfinished.

    Raises ManifestError.
    """
    root = Table(parse_toml(raw, bytes_max=MANIFEST_BYTES_MAX), "", _SECTIONS)
    return read_data(root.table("data", DATA_KEYS))


def _study(table: Table) -> StudyTerms:
    sites = table.digests("sites", count_min=2, count_max=MEMBERS_MAX)
    if list(sites) != sorted(set(sites)):
        raise Inconsistent(table.at("sites"), "has to be sorted, each site once")
    return StudyTerms(
        name=table.text("name", _NAME, "1 to 40 of a-z, 0-9 and -"),
        rounds=table.integer("rounds", 1, ROUNDS_MAX),
        consensus_rounds=table.integer("consensus_rounds", 0, 1000),
        sites=tuple(SiteId(site) for site in sites),
        sites_min=table.integer("sites_min", 1, len(sites)),
        neighbours_min=table.integer("neighbours_min", 1, len(sites) - 1),
        round_deadline_s=table.number("round_deadline_s", 0.1, 7 * 86_400.0),
        expires_s=_expiry(table),
        seed=table.integer("seed", 0, 2**63 - 1),
        initial_model=Digest(table.digest("initial_model")),
        parameters=table.integer("parameters", 1, 500_000_000),
        patience=read_patience(table),
        work_limit_s=read_work_limit(table),
        keep=read_keep(table),
    )


def _expiry(table: Table) -> int:
    expires_s = table.moment_s("expires")
    if not 0 < expires_s < _YEAR_2100_S:
        raise OutOfRange(table.at("expires"), expected="a moment before 2100", actual=expires_s)
    return expires_s


def _plan(table: Table) -> PlanTerms:
    arguments: Mapping[str, Scalar] = table.scalars("arguments", _ARGUMENT, count_max=32)
    ranges = table.ranges("ranges", _ARGUMENT, count_max=32) if table.has("ranges") else {}
    for name, (low, high) in ranges.items():
        place = f"{table.at('ranges')}.{name}"
        value = arguments.get(name)
        if value is None:
            raise Inconsistent(place, f'has no "{name}" in {table.at("arguments")}')
        if isinstance(value, bool | str) or not low <= value <= high:
            raise Inconsistent(place, f"is {low:g} to {high:g}, but the argument is {value!r}")
    return PlanTerms(
        name=table.text("name", _NAME, "1 to 40 of a-z, 0-9 and -"),
        arguments=arguments,
        ranges=ranges,
    )


def _privacy(root: Table) -> PrivacyTerms:
    if not root.has("privacy"):
        raise MissingKey(
            "privacy",
            'is missing: it has to be written; without privacy write [privacy] mechanism = "none"',
        )
    table = root.table("privacy", _PRIVATE_KEYS)
    if table.choice("mechanism", ("gaussian", "none")) == "none":
        for key in _PRIVATE_KEYS[1:]:
            if table.has(key):
                raise Inconsistent(table.at(key), 'means nothing with mechanism = "none"')
        return NO_PRIVACY
    unit = table.choice("unit", ("patient", "record", "site"))
    sampling = cast(Sampling, table.choice("sampling", ("full", "poisson")))
    rate = table.number("sampling_rate", 1e-6, 1.0)
    if (sampling == "full") != (rate == 1.0):
        raise Inconsistent(
            table.at("sampling_rate"),
            f'is {rate:g} with sampling = "{sampling}": full batches have 1.0, poisson less',
        )
    steps = table.integer("steps_per_round", 1, 100_000)
    if unit == "site" and (sampling != "full" or steps != 1):
        raise Inconsistent(
            table.at("unit"),
            'is "site", where a round\'s whole update is protected once: it goes with sampling = '
            '"full" and steps_per_round = 1; [plan.arguments] local_steps says how much is trained',
        )
    return PrivacyTerms(
        mechanism="gaussian",
        epsilon=table.number("epsilon", 0.001, 100.0),
        delta=_delta(table),
        clip_norm=table.number("clip_norm", 1e-6, 1e6),
        unit=cast(Unit, unit),
        sampling=sampling,
        sampling_rate=rate,
        # Below 0.3 accountants fail or ask for absurd memory, and nobody would call it private.
        noise_multiplier=table.number("noise_multiplier", 0.3, 1e6),
        steps_per_round=steps,
    )


def _delta(table: Table) -> str:
    text = table.text("delta", _DECIMAL, 'a decimal as a string, like "1e-5"')
    return checked_delta(table.at("delta"), text)


def checked_delta(place: str, text: str) -> str:
    """`text` if it is a decimal in 1e-10…0.01. Raises OutOfRange."""
    try:
        value = Decimal(text)
    except InvalidOperation:  # pragma: no cover - the pattern admits decimals only
        value = Decimal(0)
    if not Decimal("1e-10") <= value <= Decimal("0.01"):
        raise OutOfRange(place, expected="1e-10 to 0.01", actual=text)
    return text


def _averaging(
    table: Table, study: StudyTerms, plan: PlanTerms, privacy: PrivacyTerms
) -> AveragingTerms:
    n = len(study.sites)
    share_max = table.number("share_max", 0.0, 1.0)
    if share_max * n < 1.0 - 1e-5:
        raise Inconsistent(
            table.at("share_max"), f"is {share_max:g}: {n} shares that small do not add up to 1"
        )
    graph_kind = table.choice("topology", TOPOLOGIES)
    terms = AveragingTerms(
        rule=table.choice("rule", RULES),
        topology=graph_kind,
        degree=read_degree(table, graph_kind, n),
        edges=read_edges(table, graph_kind, study),
        weighting=cast(
            Literal["patients", "uniform"], table.choice("weighting", ("patients", "uniform"))
        ),
        share_max=share_max,
        byzantine=table.number("byzantine", 0.0, 0.49),
        parameters=(
            table.scalars("parameters", _ARGUMENT, count_max=16) if table.has("parameters") else {}
        ),
        redraw_rounds=read_redraw_rounds(table, graph_kind),
        guard=_guard(table, privacy),
        encoding=_encoding(table, plan),
        staleness=read_staleness(table, plan),
    )
    _check_rule(table, terms)
    check_graph(table, terms, study)
    return terms


def _guard(table: Table, privacy: PrivacyTerms) -> Guard:
    chosen = table.choice("guard", ("none", "holdout")) if table.has("guard") else "none"
    if chosen == "holdout" and privacy.is_private:
        # Whether a step is taken would tell of patients whom no ε pays for.
        raise Inconsistent(
            table.at("guard"),
            'looks at patients again: a private study cannot have it, write guard = "none"',
        )
    return cast(Guard, chosen)


def _encoding(table: Table, plan: PlanTerms) -> Encoding:
    chosen = table.choice("encoding", ENCODINGS) if table.has("encoding") else "float32"
    if chosen != "float32" and plan.name in COUNTING_PLANS:
        raise Inconsistent(
            table.at("encoding"), f'is "{chosen}": what is counted is exact, write "float32"'
        )
    return cast(Encoding, chosen)


def _check_rule(table: Table, terms: AveragingTerms) -> None:
    try:
        resolve_parameters(terms.rule, terms.parameters, byzantine=terms.byzantine)
    except AveragingError as error:
        raise Inconsistent(table.at("parameters"), f"does not fit the rule: {error}") from None
