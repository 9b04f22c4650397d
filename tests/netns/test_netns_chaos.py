"""The short form of the chaos run: every kind of fault, judged as the long one is."""

import json
from pathlib import Path

import pytest

from simulations.chaos.__main__ import main

pytestmark = [pytest.mark.netns, pytest.mark.timeout(2400)]


def test_four_nodes_survive_two_minutes_of_everything(tmp_path: Path) -> None:
    result = tmp_path / "chaos.json"
    options = ("--minutes", "2", "--nodes", "4", "--rounds", "25", "--seed", "2")
    code = main([*options, "--keep", str(tmp_path / "run"), "--json", str(result)])
    judged = json.loads(result.read_text())
    assert [f"{x['what']}: {x['wrong']}" for x in judged["findings"] if x["wrong"]] == []
    assert code == 0
    assert judged["plan"], "something has to go wrong in a chaos run"
