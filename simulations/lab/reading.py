"""Strict reading of a scenario file: an unknown key is refused with the nearest known one."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from p2pfl.averaging import RULES
from p2pfl.averaging.topology import TOPOLOGIES
from p2pfl.core.errors import Inconsistent, OutOfRange
from p2pfl.core.manifest_table import Table, parse_toml
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import CHOICES, TABULAR, checked
from simulations.lab.attackers import ATTACKS
from simulations.lab.terms import (
    AttackTerms,
    Averaging,
    DataSource,
    Fault,
    Network,
    Partition,
    Scenario,
    Sweep,
)

SCENARIO_BYTES_MAX: Final = 64 * 1024
SITES_MAX: Final = 10_000
EXECUTED_SITES_MAX: Final = 256
"""As many members as a real roster may have."""
SOURCES: Final = ("table", "digits", "heart-disease", "csv")
PARTITIONS: Final = ("iid", "dirichlet", "quantity", "column", "property")
FAULTS: Final = ("crash", "cut", "join", "leave")
_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")
_TEXT: Final = re.compile(r"[^\x00-\x1f]{0,400}")
_WORD: Final = re.compile(r"[a-z0-9_+-]{1,40}")
_SECTIONS: Final = (
    "scenario",
    "data",
    "partition",
    "model",
    "training",
    "averaging",
    "network",
    "attack",
    "faults",
    "sweep",
)
AXES: Final = ("rule", "attack", "topology", "alpha", "seed", "correction", "at_home", "proximal")
_WORDS: Final[Mapping[str, Sequence[str]]] = {
    "rule": tuple(RULES),
    "attack": ("none", *ATTACKS),
    "topology": tuple(kind for kind in TOPOLOGIES if kind != "custom"),
    "correction": CHOICES["correction"],
    "at_home": CHOICES["at_home"],
}


def read_scenario(raw: bytes) -> tuple[Scenario, Sweep]:
    """A scenario and the axes it sweeps over. Raises ManifestError, PlanRefused."""
    root = Table(parse_toml(raw, bytes_max=SCENARIO_BYTES_MAX), "", _SECTIONS)
    keys = ("name", "seed", "sites", "rounds", "consensus_rounds", "signatures")
    table = root.table("scenario", keys)
    scenario = Scenario(name=table.text("name", _NAME, "1 to 40 of a-z, 0-9 and -"))
    scenario = replace(
        scenario,
        seed=_integer(table, "seed", 0, 2**31 - 1, scenario.seed),
        sites=_integer(table, "sites", 2, SITES_MAX, scenario.sites),
        rounds=_integer(table, "rounds", 1, 1000, scenario.rounds),
        consensus_rounds=_integer(table, "consensus_rounds", 0, 100, scenario.consensus_rounds),
        signatures=_choice(table, "signatures", ("counted", "executed"), scenario.signatures),
        data=_data(_section(root, "data", DataSource)),
        partition=_partition(_section(root, "partition", Partition)),
        averaging=_averaging(_section(root, "averaging", Averaging)),
        network=_network(_section(root, "network", Network)),
        attack=_attack(_section(root, "attack", AttackTerms), scenario),
    )
    scenario = _with_model(root, scenario)
    scenario = replace(scenario, faults=_faults(root, scenario))
    _check(scenario)
    return scenario, _sweep(root)


def _section(root: Table, name: str, of: type[Any]) -> Table:
    known = tuple(field.name for field in fields(of))
    return root.table(name, known) if root.has(name) else Table({}, name, known)


def _integer(table: Table, key: str, low: int, high: int, default: int) -> int:
    return table.integer(key, low, high) if table.has(key) else default


def _number(table: Table, key: str, low: float, high: float, default: float) -> float:
    return table.number(key, low, high) if table.has(key) else default


def _choice(table: Table, key: str, choices: Sequence[str], default: str) -> str:
    return table.choice(key, choices) if table.has(key) else default


def _text(table: Table, key: str) -> str:
    return table.text(key, _TEXT, "a line of text") if table.has(key) else ""


def _data(table: Table) -> DataSource:
    d = DataSource()
    source = _choice(table, "source", SOURCES, d.source)
    fixed = {"digits": 10, "heart-disease": 2, "csv": 2}.get(source)
    if fixed is not None and table.has("classes"):
        raise Inconsistent(table.at("classes"), f'source = "{source}" has {fixed} of them')
    return DataSource(
        source=source,
        path=_text(table, "path"),
        rows=_integer(table, "rows", 4, 100_000, d.rows),
        features=_integer(table, "features", 1, 1000, d.features),
        classes=fixed or _integer(table, "classes", 2, 100, d.classes),
        target=_text(table, "target"),
        site_column=_text(table, "site_column"),
        holdout=_number(table, "holdout", 0.05, 0.9, d.holdout),
    )


def _partition(table: Table) -> Partition:
    d = Partition()
    return Partition(
        kind=_choice(table, "kind", PARTITIONS, d.kind),
        alpha=_number(table, "alpha", 0.01, 1000.0, d.alpha),
        property=_choice(table, "property", ("brightness", "contrast"), d.property),
    )


def _averaging(table: Table) -> Averaging:
    d = Averaging()
    kinds = tuple(kind for kind in TOPOLOGIES if kind != "custom")
    topology = _choice(table, "topology", kinds, d.topology)
    if table.has("degree") and topology != "random-regular":
        raise Inconsistent(table.at("degree"), f'means nothing with topology = "{topology}"')
    return Averaging(
        rule=_choice(table, "rule", tuple(RULES), d.rule),
        topology=topology,
        degree=_integer(table, "degree", 2, 100, d.degree),
        weighting=_choice(table, "weighting", ("uniform", "patients"), d.weighting),
        byzantine=_number(table, "byzantine", 0.0, 0.49, d.byzantine),
        neighbours_min=_integer(table, "neighbours_min", 1, 100, d.neighbours_min),
    )


def _network(table: Table) -> Network:
    d = Network()
    network = Network(
        delay_min_s=_number(table, "delay_min_s", 0.0, 60.0, d.delay_min_s),
        delay_max_s=_number(table, "delay_max_s", 0.0, 60.0, d.delay_max_s),
        loss=_number(table, "loss", 0.0, 0.9, d.loss),
        deadline_s=_number(table, "deadline_s", 0.1, 86_400.0, d.deadline_s),
        train_min_s=_number(table, "train_min_s", 0.001, 86_400.0, d.train_min_s),
        train_max_s=_number(table, "train_max_s", 0.001, 86_400.0, d.train_max_s),
    )
    for low, high in (("delay_min_s", "delay_max_s"), ("train_min_s", "train_max_s")):
        if getattr(network, low) > getattr(network, high):
            raise Inconsistent(table.at(low), f"is larger than {high}")
    return network


def _attack(table: Table, scenario: Scenario) -> AttackTerms:
    return AttackTerms(
        kind=_choice(table, "kind", ("none", *ATTACKS), "none"),
        sites=_integer(table, "sites", 0, SITES_MAX, 0),
        strength=_number(table, "strength", 0.0, 1e6, 0.0),
    )


def _with_model(root: Table, scenario: Scenario) -> Scenario:
    table = root.table("model", ("kind", "hidden")) if root.has("model") else None
    kind, hidden = scenario.model, scenario.hidden
    if table is not None:
        kind = _choice(table, "kind", ("logistic", "mlp"), kind)
        hidden = _integer(table, "hidden", 1, 100_000, hidden)
    known = sorted(TABULAR - {"hidden", "outputs"})
    given: Mapping[str, object] = {}
    if root.has("training"):
        training = root.table("training", known)
        given = {key: training.value(key) for key in known if training.has(key)}
    scalars = {k: v for k, v in given.items() if isinstance(v, bool | int | float | str)}
    if len(scalars) < len(given):
        raise PlanRefused("[training] holds numbers and words alone")
    outputs = 1 if kind == "logistic" else max(2, scenario.data.classes)
    training_arguments = replace(checked(scalars), hidden=hidden, outputs=outputs)
    return replace(scenario, model=kind, hidden=hidden, training=training_arguments)


def _faults(root: Table, scenario: Scenario) -> tuple[Fault, ...]:
    if not root.has("faults"):
        return ()
    found = []
    for place, values in root.rows("faults", count_min=0, count_max=1000):
        table = Table(values, place, ("kind", "sites", "at_s", "for_s"))
        sites = table.numbers("sites", count_min=1, count_max=SITES_MAX, bound=SITES_MAX)
        numbers = tuple(int(site) for site in sites)
        if any(not 0 <= n < scenario.sites or n != s for n, s in zip(numbers, sites, strict=True)):
            expected = f"numbers of sites, 0 to {scenario.sites - 1}"
            raise OutOfRange(table.at("sites"), expected=expected, actual=list(sites))
        found.append(
            Fault(
                kind=table.choice("kind", FAULTS),
                sites=numbers,
                at_s=table.number("at_s", 0.0, 1e7),
                for_s=_number(table, "for_s", 0.0, 1e7, 0.0),
            )
        )
    return tuple(found)


def _sweep(root: Table) -> Sweep:
    if not root.has("sweep"):
        return {}
    table = root.table("sweep", AXES)
    sweep: Sweep = {}
    for axis in AXES:
        if not table.has(axis):
            continue
        if axis in ("alpha", "proximal"):
            sweep[axis] = table.numbers(axis, count_min=1, count_max=100, bound=1e6)
        elif axis == "seed":
            seeds = table.numbers(axis, count_min=1, count_max=100, bound=2**31 - 1)
            sweep[axis] = tuple(int(seed) for seed in seeds)
        else:
            sweep[axis] = table.texts(axis, _WORD, "a word", count_max=100)
            for word in sweep[axis]:
                if word not in _WORDS[axis]:
                    expected = "one of " + ", ".join(_WORDS[axis])
                    raise OutOfRange(table.at(axis), expected=expected, actual=word)
    return sweep


def _check(scenario: Scenario) -> None:
    n, data = scenario.sites, scenario.data
    if scenario.signatures == "executed" and n > EXECUTED_SITES_MAX:
        raise Inconsistent(
            "scenario.signatures",
            f'"executed" is for at most {EXECUTED_SITES_MAX} sites, as many as a roster may have: '
            'write "counted"',
        )
    if scenario.attack.sites * 2 >= n:
        raise Inconsistent("attack.sites", f"{scenario.attack.sites} of {n} sites are too many")
    if scenario.averaging.neighbours_min >= n:
        raise Inconsistent("averaging.neighbours_min", f"there are only {n - 1} other sites")
    if data.source == "csv" and not (data.path and data.target):
        raise Inconsistent("data.path", 'source = "csv" needs path and target')
    if scenario.partition.kind == "column" and data.source not in ("csv", "heart-disease"):
        raise Inconsistent("partition.kind", f'"column" needs real sites, not "{data.source}"')
    if scenario.partition.kind == "property" and data.source != "digits":
        raise Inconsistent("partition.kind", '"property" needs images: source = "digits"')
    if scenario.model == "logistic" and data.classes > 2:
        raise Inconsistent("model.kind", '"logistic" has two classes: take "mlp"')
