"""MONAI bundles in real nodes: each site's own copy, pinned by its digest, confined."""

import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, p2pfl, p2pfl_json, with_study
from node_processes import running

from p2pfl.core.manifest import parse_manifest
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.home import Home

ROOT = Path(__file__).parents[2]
RISK = ROOT / "examples/bundle/risk"
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
    terms = ("--bundle", "risk", *WHOLE, *SHORT, "--rounds", "8", "--sites-min", "2")
    return with_study(made, *terms, "--neighbours-min", "1", approving=0)


@pytest.fixture
def undecided(proposed: Consortium, tmp_path: Path) -> Consortium:
    return proposed.copied(tmp_path / "c")


def refusal(home: Home, *words: str) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        p2pfl(home, *words)
    return caught.value


@pytest.mark.nodes
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
            node.wait("round_done")
        p2pfl(undecided.home(0), "study", "steer", undecided.study, "learning_rate=0.2")
        for node in nodes:
            node.wait("study_complete")
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
        assert len(trained) == 8
        assert len({entry.body["hp"] for entry in trained}) == 2, "steering changed what ran"
        assert {entry.body["code_hash"] for entry in trained} == {bundle.sha256}
        assert audit_code(home) == 0
    assert entries(third, "train.done") == []
    _what_changed_is_shown(undecided, other)


def _what_changed_is_shown(made: Consortium, other: Path) -> None:
    """A study with another bundle, beside the one that was approved here."""
    home, manifest = made.home(0), str(made.folder / "second.toml")
    p2pfl(home, "bundle", "add", str(other), "--name", "risk2")
    drafted = ("--data", "patients", "--bundle", "risk2", "--name", "second", "-o", manifest)
    p2pfl(home, "study", "new", *drafted, *WHOLE)
    study = p2pfl_json(home, "study", "propose", manifest)["study"]
    seen = p2pfl_json(home, "study", "show", study)["bundle"]
    assert seen["compared_with"] == "study"
    changed = [line for line in seen["diff"] if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == ['-        "momentum": 0.9', '+        "momentum": 0.8']


@pytest.mark.nodes
def test_the_document_works_as_it_is_written(
    founded: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = founded.copied(tmp_path / "c")
    home = made.home(0)
    allow_bundles(home)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/bundles.md").read_text("utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.split(" #")[0] for block in blocks for line in block.splitlines() if line]
    assert len(lines) == 7
    said = {}
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "p2pfl"
        said[" ".join(words[:2])] = " ".join(p2pfl(home, *words).split())
    shown = said["bundle show"]
    assert "scripts/__init__.py imports torch" in shown
    assert "Licence: Apache-2.0." in shown
    assert "$import scripts" in shown
    assert (
        "It may report, to people at the site alone: accuracy (0 to 1)." in said["study validate"]
    )
    assert "measures accuracy" in said["study dry-run"]
    manifest = parse_manifest((tmp_path / "risk.toml").read_bytes())
    assert manifest.plan.ranges == {"learning_rate": (0.002, 0.4)}
    assert manifest.privacy.is_by_update
