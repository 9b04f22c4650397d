"""Scenario files: read strictly, refused by name, one commented example for each use."""

from pathlib import Path

import pytest

from p2pfl.core.errors import Inconsistent, ManifestError, OutOfRange, UnknownKey
from p2pfl.learning.errors import PlanRefused
from simulations.lab.reading import read_scenario
from simulations.lab.sweeps import cells_of

EXAMPLES = sorted((Path(__file__).parents[2] / "simulations" / "scenarios").glob("*.toml"))
FIRST = (
    '[scenario]\nname = "x"\nsites = 6\nrounds = 2\n[averaging]\ntopology = "complete"\n'
    "[training]\nlearning_rate = 0.2\n"
)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_scenario_and_says_its_command(path: Path) -> None:
    raw = path.read_bytes()
    scenario, sweep = read_scenario(raw)
    assert scenario.name == path.stem
    assert f"simulations/scenarios/{path.name}" in raw.decode()
    assert len(cells_of(scenario, sweep)) >= 1


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("sites = 6", "site = 6", UnknownKey, "sites"),
        ("[averaging]", "[avering]", UnknownKey, "averaging"),
        ("learning_rate = 0.2", "learning_rte = 0.2", UnknownKey, "learning_rate"),
        ("learning_rate = 0.2", "learning_rate = -1", PlanRefused, "learning_rate"),
        ("learning_rate = 0.2", 'learning_rate = "x"', PlanRefused, "number"),
        ("sites = 6", "sites = 1", OutOfRange, "scenario.sites"),
        ('topology = "complete"', 'topology = "star"', OutOfRange, "averaging.topology"),
        ('topology = "complete"', 'topology = "ring"\ndegree = 4', Inconsistent, "degree"),
        ("rounds = 2", 'rounds = 2\nsignatures = "executed"', None, ""),
        ("sites = 6", 'sites = 300\nsignatures = "executed"', Inconsistent, "256"),
        ("[training]", '[attack]\nkind = "alie"\nsites = 3\n[training]', Inconsistent, "attack"),
        ("[training]", '[partition]\nkind = "column"\n[training]', Inconsistent, "real sites"),
        ("[training]", '[partition]\nkind = "property"\n[training]', Inconsistent, "images"),
        ("[training]", '[data]\nsource = "csv"\n[training]', Inconsistent, "target"),
        ("[training]", '[data]\nsource = "digits"\nclasses = 3\n[training]', Inconsistent, "10"),
        (
            "[training]",
            '[[faults]]\nkind = "crash"\nsites = [9]\nat_s = 1.0\n[training]',
            OutOfRange,
            "0 to 5",
        ),
        ("[training]", '[sweep]\nrules = ["gossip"]\n[training]', UnknownKey, "rule"),
        ("[training]", "[network]\ndelay_min_s = 2.0\n[training]", Inconsistent, "delay_max_s"),
    ],
)
def test_what_is_wrong_in_a_scenario_is_named(
    old: str, new: str, error: type[Exception] | None, words: str
) -> None:
    raw = FIRST.replace(old, new).encode()
    if error is None:
        assert read_scenario(raw)[0].signatures == "executed"
        return
    with pytest.raises((ManifestError, PlanRefused)) as caught:
        read_scenario(raw)
    assert isinstance(caught.value, error)
    assert words in str(caught.value)


def test_a_sweep_is_every_combination() -> None:
    text = FIRST + '[attack]\nsites = 2\n[sweep]\nrule = ["gossip", "median"]\n'
    raw = text + 'attack = ["none", "alie"]\nalpha = [0.1, 1.0]\nseed = [1, 2, 3]\n'
    scenario, sweep = read_scenario(raw.encode())
    cells = cells_of(scenario, sweep)
    assert len(cells) == 2 * 2 * 2 * 3
    quiet = [cell.scenario for cell in cells if cell.scenario.attack.kind == "none"]
    assert {one.attack.sites for one in quiet} == {0}
    assert {one.partition.alpha for one in quiet} == {0.1, 1.0}
