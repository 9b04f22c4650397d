"""MONAI bundles in real nodes: each site's own copy, pinned by its digest, confined."""

import shutil
import signal
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, p2pfl, p2pfl_json, with_study
from node_processes import running

from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.home import Home

RISK = Path(__file__).parents[2] / "examples/bundle/risk"
WHOLE = ("--unit", "site", "--epsilon", "5", "--clip-norm", "1")
SHORT = ("--consensus-rounds", "1", "--round-deadline", "30", "--argument", "learning_rate=0.1")


def allow_bundles(home: Home) -> None:
    """What somebody who may writes into policy.toml."""
    policy = home.policy.read_text()
    home.policy.write_text(policy.replace("plans = [", 'plans = [\n    "bundle",'))


@pytest.fixture(scope="module")
def proposed(founded: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Two of three sites installed the bundle; nobody decided yet."""
    made = founded.copied(tmp_path_factory.mktemp("bundle") / "c")
    for home in made.homes:
        allow_bundles(home)
    for home in made.homes[:2]:
        p2pfl(home, "bundle", "add", str(RISK))
    features = p2pfl_json(made.home(0), "data", "list")[0]
    assert features["name"] == "patients"
    terms = ("--bundle", "risk", *WHOLE, *SHORT, "--rounds", "3", "--sites-min", "2")
    return with_study(made, *terms, "--neighbours-min", "1", approving=0)


@pytest.fixture
def undecided(proposed: Consortium, tmp_path: Path) -> Consortium:
    return proposed.copied(tmp_path / "c")


def refusal(home: Home, *words: str) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        p2pfl(home, *words)
    return caught.value


@pytest.mark.long
def test_a_bundle_runs_where_it_is_installed_and_nowhere_else(undecided: Consortium) -> None:
    bundle = undecided.manifest.bundle
    assert bundle is not None
    assert set(bundle.packages) == {"ignite", "monai", "torch"}
    assert dict(bundle.metrics) == {"accuracy": (0.0, 1.0)}
    for index in (0, 1):
        undecided.approve(index)
    third = undecided.home(2)
    assert "NOT INSTALLED" in p2pfl(third, "study", "show", undecided.study)
    refused = refusal(third, "study", "approve", undecided.study, "--data", "patients")
    assert "not installed here" in refused.message
    # The bundle's name means nothing: a site with other bytes under it cannot approve.
    other = undecided.folder / "risk"
    shutil.copytree(RISK, other)
    config = other / "configs/train.json"
    config.write_text(config.read_text().replace("0.9", "0.8"))
    p2pfl(third, "bundle", "add", str(other))
    refused = refusal(third, "study", "approve", undecided.study, "--data", "patients")
    assert "not installed here" in refused.message
    with running(undecided.homes[:2]) as nodes:
        for node in nodes:
            node.wait("study_complete", wait_s=120)
            assert not node.said("training_failed")
            assert "torch" not in node.maps()
            assert "/ignite/" not in node.maps()
            assert node.stop(signal.SIGTERM)[0] == 0
    for home in undecided.homes[:2]:
        (approved,) = entries(home, "code.approved")
        assert approved.body["text"] == bundle.sha256
        assert approved.body["kept_by"] == "node"
        assert set(approved.body["versions"]) == {"ignite", "monai", "torch"}
        trained = entries(home, "train.done")
        assert len(trained) == 3
        assert {entry.body["code_hash"] for entry in trained} == {bundle.sha256}
        assert audit_code(home) == 0
    assert entries(third, "train.done") == []
