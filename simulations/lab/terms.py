"""What a scenario file says, as frozen values."""

from dataclasses import dataclass, field, replace

from p2pfl.learning.plans.arguments import Arguments

Sweep = dict[str, tuple[object, ...]]
"""Axis → the values that are tried."""


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where patients come from. rows: per site on average (made-up data only)."""

    source: str = "table"
    path: str = ""
    rows: int = 60
    features: int = 10
    classes: int = 2
    target: str = ""
    site_column: str = ""
    holdout: float = 0.3


@dataclass(frozen=True, slots=True)
class Partition:
    """How patients are spread over sites."""

    kind: str = "iid"
    alpha: float = 1.0
    """Dirichlet's concentration; small is skewed."""
    property: str = "brightness"


@dataclass(frozen=True, slots=True)
class Averaging:
    """Who averages with whom, and how."""

    rule: str = "gm_clip"
    topology: str = "random-regular"
    degree: int = 6
    weighting: str = "uniform"
    byzantine: float = 0.2
    neighbours_min: int = 2


@dataclass(frozen=True, slots=True)
class Network:
    """Virtual wires and machines. Seconds; loss is a share of messages."""

    delay_min_s: float = 0.005
    delay_max_s: float = 0.030
    loss: float = 0.0
    deadline_s: float = 30.0
    train_min_s: float = 0.4
    train_max_s: float = 0.6


@dataclass(frozen=True, slots=True)
class AttackTerms:
    """What the hostile sites, the last ones, send. strength: what the attack's own text says."""

    kind: str = "none"
    sites: int = 0
    strength: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to some sites. at_s, for_s: virtual seconds after the start."""

    kind: str
    sites: tuple[int, ...]
    at_s: float
    for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulated study, with everything that decides its outcome."""

    name: str
    seed: int = 1
    sites: int = 12
    rounds: int = 10
    consensus_rounds: int = 1
    signatures: str = "counted"
    model: str = "mlp"
    hidden: int = 16
    training: Arguments = field(default_factory=Arguments)
    data: DataSource = field(default_factory=DataSource)
    partition: Partition = field(default_factory=Partition)
    averaging: Averaging = field(default_factory=Averaging)
    network: Network = field(default_factory=Network)
    attack: AttackTerms = field(default_factory=AttackTerms)
    faults: tuple[Fault, ...] = ()

    @property
    def rounds_total(self) -> int:
        """With the rounds that only mix."""
        return self.rounds + self.consensus_rounds

    @property
    def hostile(self) -> range:
        """Numbers of the hostile sites."""
        return range(self.sites - self.attack.sites, self.sites)


def with_axis(scenario: Scenario, axis: str, value: object) -> Scenario:
    """The scenario with another value on one axis of a sweep."""
    match axis, value:
        case "rule", str():
            return replace(scenario, averaging=replace(scenario.averaging, rule=value))
        case "topology", str():
            return replace(scenario, averaging=replace(scenario.averaging, topology=value))
        case "attack", str():
            hostile = 0 if value == "none" else scenario.attack.sites
            attack = replace(scenario.attack, kind=value, sites=hostile)
            return replace(scenario, attack=attack)
        case "alpha", float() | int():
            return replace(scenario, partition=replace(scenario.partition, alpha=float(value)))
        case "seed", int():
            return replace(scenario, seed=value)
        case "correction", str():
            return replace(scenario, training=replace(scenario.training, correction=value))
        case "at_home", str():
            return replace(scenario, training=replace(scenario.training, at_home=value))
        case "proximal", float() | int():
            return replace(scenario, training=replace(scenario.training, proximal=float(value)))
        case _:
            raise ValueError(f"no axis {axis} with {value!r}")
