"""A researcher's own code in real nodes: approved by its hash, confined, and not one byte else."""

import signal
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, p2pfl, with_study
from node_processes import running

from p2pfl.runtime.home import Home

TEXT = """\
import torch
from torch import nn
from torch.nn import functional


class Plan:
    arguments = {"hidden": 8, "weight": 1.0}
    steerable = ["weight"]
    measures = ["right"]

    def model(self, inputs, arguments):
        return nn.Sequential(
            nn.Linear(inputs.features, arguments["hidden"]),
            nn.ReLU(),
            nn.Linear(arguments["hidden"], 1),
        )

    def loss(self, outputs, target):
        weight = 1.0 + (self.arguments["weight"] - 1.0) * target
        return weight * functional.binary_cross_entropy_with_logits(
            outputs[:, 0], target, reduction="none"
        )

    def log_odds(self, outputs):
        return outputs[:, 0]

    def metrics(self, outputs, target):
        return {"right": ((outputs[:, 0] > 0) == (target > 0.5)).float().mean()}
"""
SHORT = ("--consensus-rounds", "1", "--round-deadline", "20", "--argument", "learning_rate=0.1")


def allow_code(home: Home) -> None:
    """What somebody who may writes into policy.toml."""
    policy = home.policy.read_text()
    home.policy.write_text(policy.replace("plans = [", 'plans = [\n    "code",'))


@pytest.fixture
def coded(founded: Consortium, tmp_path: Path) -> Consortium:
    """Two of the founded sites, which allow code, and a plan's text."""
    made = founded.copied(tmp_path / "c")
    (made.folder / "plan.py").write_text(TEXT)
    for home in made.homes:
        allow_code(home)
    return made


def with_plan(made: Consortium, *terms: str, approving: int | None = None) -> Consortium:
    return with_study(
        made, "--from", str(made.folder / "plan.py"), *SHORT, *terms, approving=approving
    )


def test_a_study_with_code_runs_steered_and_every_training_names_the_text(
    coded: Consortium,
) -> None:
    whole = ("--unit", "site", "--epsilon", "5", "--clip-norm", "1")
    made = with_plan(coded, *whole, "--rounds", "40")
    code = made.manifest.code
    assert code is not None
    with running(made.homes) as nodes:
        for node in nodes:
            node.wait("round_done")
        p2pfl(made.home(0), "study", "steer", made.study, "weight=2.5")
        for node in nodes:
            node.wait("study_complete")
            assert not node.said("training_failed")
            assert "torch" not in node.maps()
            assert node.stop(signal.SIGTERM)[0] == 0
    for home in made.homes:
        (approved,) = entries(home, "code.approved")
        assert approved.body["text"] == code.sha256
        assert approved.body["kept_by"] == "node"
        assert set(approved.body["versions"]) == {"torch"}
        trained = entries(home, "train.done")
        assert {entry.body["code_hash"] for entry in trained} == {code.sha256}
        assert len({entry.body["hp"] for entry in trained}) == 2, "steering changed what ran"
        assert audit_code(home) == 0
    shown = " ".join(p2pfl(made.home(1), "ledger", "audit").split())
    assert "the node itself keeps its privacy terms" in shown
