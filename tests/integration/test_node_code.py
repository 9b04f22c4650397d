"""A researcher's own code in real nodes: approved by its hash, confined, and not one byte else."""

import signal
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, p2pfl, p2pfl_json, with_study
from node_processes import running
from safetensors import safe_open

from ledger.provenance.kinds import CodeApproved
from p2pfl.core.manifest_code import text_digest
from p2pfl.runtime.commands.doctoring_code import check_code
from p2pfl.runtime.confinement.terms import terms_here
from p2pfl.runtime.environment import env_hash
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.plan_code import check_startable, versions_changed
from p2pfl.runtime.training_answers import TrainingError

TEXT = """\
import torch
from torch import nn
from torch.nn import functional


class Plan:
    arguments = {"hidden": 8, "weight": 1.0}
    steerable = ["weight"]
    measures = {"right": (0.0, 1.0)}

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
LIE = "vars(s.modules.get('p2pfl.learning.open_study', s))['env_hash'] = lambda: b'63 years' * 4\n"
TORCH = version("torch")
UNPROTECTED = ("--privacy", "none")
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


@pytest.mark.nodes
def test_a_study_with_code_runs_steered_and_every_training_names_the_text(
    coded: Consortium,
) -> None:
    whole = ("--unit", "site", "--epsilon", "5", "--clip-norm", "1")
    (coded.folder / "plan.py").write_text(f"import sys as s\n{TEXT}{LIE}")
    made = with_plan(coded, *whole, "--rounds", "12")
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
        assert {entry.body["env_hash"] for entry in trained} == {env_hash()}
        assert {entry.body["level"] for entry in trained} == {terms_here().level.value}
        assert len({entry.body["hp"] for entry in trained}) == 2, "steering changed what ran"
        assert audit_code(home) == 0
    shown = " ".join(p2pfl(made.home(1), "ledger", "audit").split())
    assert "the node itself keeps its privacy terms" in shown


@pytest.mark.nodes
def test_a_study_goes_on_after_a_restart_and_tells_that_its_privacy_is_by_code(
    coded: Consortium,
) -> None:
    for home in coded.homes:
        allowed = "allow_privacy_by_code = true"
        policy = home.policy.read_text().replace("allow_privacy_by_code = false", allowed)
        home.policy.write_text(policy)
    made = with_plan(coded, "--gradients", "inside", "--epsilon", "5", "--rounds", "6")
    with running(made.homes) as nodes:
        nodes[0].wait("round_done")
        nodes[0].stop(signal.SIGTERM)
        with running([made.home(0)]) as (again,):
            for node in (again, *nodes[1:]):
                node.wait("study_complete", wait_s=90)
                assert not node.said("training_failed")
    for home in made.homes:
        assert entries(home, "code.approved")[0].body["kept_by"] == "code"
        assert entries(home, "train.done")
        assert audit_code(home) == 0
        assert "by approved code" in told(home, "ledger", "audit")


@pytest.fixture(scope="module")
def proposed(founded: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """A study with code that nobody decided on yet; two of three sites would start it."""
    made = founded.copied(tmp_path_factory.mktemp("code") / "c")
    (made.folder / "plan.py").write_text(TEXT)
    for home in made.homes:
        allow_code(home)
    return with_plan(made, *UNPROTECTED, "--rounds", "3", approving=0)


@pytest.fixture
def undecided(proposed: Consortium, tmp_path: Path) -> Consortium:
    return proposed.copied(tmp_path / "c")


def told(home: Home, *words: str) -> str:
    """What a command prints, in one line."""
    return " ".join(p2pfl(home, *words).split())


def refusal(home: Home, *words: str) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        p2pfl(home, *words)
    return caught.value


@pytest.mark.nodes
def test_a_site_reads_the_whole_text_and_what_changed_before_it_decides(
    undecided: Consortium,
) -> None:
    code, home = undecided.manifest.code, undecided.home(1)
    assert code is not None
    shown = p2pfl(home, "study", "show", undecided.study)
    for number, line in enumerate(TEXT.splitlines(), 1):
        assert f"{number:>4}  {line}" in shown
    assert code.sha256.hex() in shown.replace("\n", "").replace(" ", "")
    assert "No text was approved at this site before." in shown
    assert "finds no files, network, processes or native code" in shown
    seen = p2pfl_json(home, "study", "show", undecided.study)["code"]
    assert seen["packages"] == [{"name": "torch", **dict.fromkeys(("proposed", "here"), TORCH)}]
    undecided.approve(1)
    # Another study with a text that is three characters longer: shown as what differs.
    (undecided.folder / "plan.py").write_text(TEXT.replace('"hidden": 8', '"hidden": 128'))
    manifest = str(undecided.folder / "other.toml")
    drafted = ("--data", "patients", "--from", str(undecided.folder / "plan.py"), "-o", manifest)
    p2pfl(home, "study", "new", *drafted, *UNPROTECTED, "--name", "other")
    study = p2pfl_json(home, "study", "propose", manifest)["study"]
    differs = p2pfl_json(home, "study", "show", study)["code"]
    assert differs["compared_with"] == "study"
    assert [line for line in differs["diff"] if line[0] in "+-"][2:] == [
        '-    arguments = {"hidden": 8, "weight": 1.0}',
        '+    arguments = {"hidden": 128, "weight": 1.0}',
    ]


def test_a_text_that_was_edited_by_one_byte_does_not_run(undecided: Consortium) -> None:
    home = undecided.home(0)
    for index in (0, 1):
        undecided.approve(index)
    path = home.study(bytes.fromhex(undecided.study))
    edited = path.read_bytes().replace(b"nn.ReLU()", b"nn.SiLU()")
    path.write_bytes(edited)
    refused = refusal(home, "study", "show", undecided.study)
    assert "code.sha256 is not the text's" in refused.message
    # Whoever also writes the new text's hash beside it has made another study.
    old, new = (text_digest(text).hex() for text in (TEXT, TEXT.replace("ReLU", "SiLU")))
    path.write_bytes(edited.replace(old.encode(), new.encode()))
    refused = refusal(home, "study", "show", undecided.study)
    assert "was changed" in refused.message
    with running([home]) as (node,):
        assert "was changed" in node.wait("manifest_damaged")["reason"]
        assert node.status()["studies"] == []
        assert node.stop(signal.SIGTERM)[0] == 0
    assert entries(home, "train.done") == []


def test_packages_that_changed_since_the_approval_need_a_new_one(undecided: Consortium) -> None:
    for index in range(3):
        undecided.approve(index)
    manifest = undecided.manifest
    (entry,) = entries(undecided.home(0), "code.approved")
    approved = CodeApproved.from_body(entry.body)
    assert manifest.code is not None
    confined = terms_here()
    check_startable(manifest, approved, confined)
    (seen,) = check_code(undecided.home(0))
    assert (seen.level.value, seen.fix) == ("ok", "")
    older = replace(approved, versions={"torch": "1.0"})
    with pytest.raises(TrainingError, match=r"torch is .* here, approved was 1\.0"):
        check_startable(manifest, older, confined)
    assert versions_changed(["torch"], older).endswith("here, approved was 1.0")
    with pytest.raises(TrainingError, match="not what was approved here"):
        check_startable(manifest, replace(approved, text=bytes(32)), confined)
    with pytest.raises(TrainingError, match="not what was approved here"):
        check_startable(manifest, None, confined)
    with pytest.raises(TrainingError, match="cannot confine"):
        check_startable(manifest, approved, None)
    other = replace(manifest.code, text=manifest.code.text.replace("ReLU", "SiLU"))
    with pytest.raises(TrainingError, match="not what was approved here"):
        check_startable(replace(manifest, code=other), approved, confined)


def test_the_policy_decides_whether_researchers_code_may_run_at_all(
    undecided: Consortium,
) -> None:
    home = undecided.home(2)
    home.policy.write_text(home.policy.read_text().replace('    "code",', ""))
    refused = refusal(home, "study", "approve", undecided.study, "--data", "patients")
    assert 'policy.toml does not name "code" in plans' in refused.message
    assert "--reason code" in refused.fix


@pytest.mark.nodes
def test_privacy_by_code_is_a_promise_that_the_policy_refuses_by_default(
    undecided: Consortium,
) -> None:
    home = undecided.home(2)
    private = ("--data", "patients", "--from", str(undecided.folder / "plan.py"))
    manifest = str(undecided.folder / "inside.toml")
    said = told(home, "study", "new", *private, "-o", manifest, "--gradients", "inside")
    assert "could not approve it: the study's ε would be by approved code" in said
    study = p2pfl_json(home, "study", "propose", manifest)["study"]
    assert "BY APPROVED CODE" in told(home, "study", "show", study)
    refused = refusal(home, "study", "approve", study, "--data", "patients")
    assert "allow_privacy_by_code = false" in refused.message
    allowed = home.policy.read_text().replace(
        "allow_privacy_by_code = false", "allow_privacy_by_code = true"
    )
    home.policy.write_text(allowed)
    p2pfl(home, "study", "approve", study, "--data", "patients")
    assert entries(home, "code.approved")[-1].body["kept_by"] == "code"


@pytest.mark.nodes
def test_code_of_others_meets_patients_only_after_the_approval(undecided: Consortium) -> None:
    home = undecided.home(1)
    refused = refusal(home, "study", "dry-run", undecided.study, "--data", "patients")
    assert "runs code that is not approved here" in refused.message
    tried = p2pfl_json(home, "study", "dry-run", undecided.study, "--synthetic", "--rounds", "1")
    assert tried["data"] == ""
    assert set(tried["tried"]["rounds"][0]["measures"]) == {"right"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (TEXT.replace("def loss(self", "def loss(self self"), "plan.py line 18: "),
        (
            TEXT.replace("import torch\n", "import torch\nimport nowhere\n"),
            "line 2 imports nowhere",
        ),
        (TEXT.replace("8,", "8,\t"), "plan.py line 7: character 30 is U+0009"),
        pytest.param(
            TEXT.replace("inputs.features", "3"),
            "plan.py: RuntimeError: mat1 and mat2 shapes",
            marks=pytest.mark.nodes,
        ),
        pytest.param(
            TEXT.replace("return weight", "open('/etc/passwd')\n        return weight"),
            "plan.py line 20: fails: ",
            marks=pytest.mark.nodes,
        ),
    ],
)
def test_a_mistake_in_a_text_is_told_with_its_line(
    undecided: Consortium, text: str, what: str
) -> None:
    plan = undecided.folder / "plan.py"
    plan.write_text(text)
    drafted = ("--data", "patients", "--from", str(plan), "-o", str(plan) + ".toml")
    refused = refusal(undecided.home(0), "study", "new", *drafted, *UNPROTECTED)
    assert what in refused.message
    assert not Path(str(plan) + ".toml").exists()


@pytest.mark.nodes
def test_patients_gradients_of_a_study_with_code_come_from_cells(coded: Consortium) -> None:
    rate = ("--sampling-rate", "0.1", "--steps-per-round", "2")
    by_patient = ("--epsilon", "5", *rate, "--rounds", "2", "--gradients")
    made = with_plan(coded, *by_patient, "outside", "--round-deadline", "120")
    privacy = made.manifest.privacy
    with running(made.homes) as nodes:
        for node in nodes:
            node.wait("study_complete")
            assert not node.said("training_failed")
            assert node.stop(signal.SIGTERM)[0] == 0
    for home in made.homes:
        (approved,) = entries(home, "code.approved")
        assert approved.body["kept_by"] == "node"
        trained = entries(home, "train.done")
        assert len(trained) == 2
        for entry in trained:
            assert entry.body["dp"]["mech"] == "poisson"
            assert entry.body["dp"]["sigma"] == repr(privacy.noise_multiplier)
        assert audit_code(home) == 0


@pytest.mark.nodes
def test_a_study_with_code_is_revoked_stopped_resumed_finished_and_gone_on_from(
    coded: Consortium,
) -> None:
    whole = ("--unit", "site", "--epsilon", "2", "--clip-norm", "1", "--rounds", "15")
    made = with_plan(coded, *whole, "--sites-min", "2", "--neighbours-min", "1")
    code = made.manifest.code
    assert code is not None
    last = made.home(2)
    with running(made.homes) as nodes:
        nodes[2].wait("round_done", 2)
        assert nodes[2].training_pids()
        p2pfl(last, "study", "revoke", made.study, "--reason", "second-thoughts")
        nodes[2].until(lambda: not nodes[2].training_pids(), "its process is gone")
        revoked = len(entries(last))
        p2pfl(last, "study", "approve", made.study, "--data", "patients")
        done = len(nodes[2].said("round_done"))
        nodes[2].wait("round_done", done + 1)
        assert nodes[1].stop(signal.SIGTERM)[0] == 0
        with running([made.home(1)]) as (again,):
            for node in (nodes[0], again, nodes[2]):
                node.wait("study_complete")
                assert not node.said("training_failed")
                assert 0.0 <= node.said("round_done")[-1]["measures"]["right"] <= 1.0
    assert [entry.body["text"] for entry in entries(last, "code.approved")] == [code.sha256] * 2
    assert [one for one in entries(last)[revoked:] if one.kind == "train.done"]
    for home in made.homes:
        assert {one.body["code_hash"] for one in entries(home, "train.done")} == {code.sha256}
        assert audit_code(home) == 0
    _the_model_is_used(made)
    _another_study_goes_on_from_it(made)


def _the_model_is_used(made: Consortium) -> None:
    """Under confinement: scored, predicted with, exported; never once its approval is gone."""
    home, study = made.home(0), made.study
    assert "Measured by the study's own code: right" in told(home, "study", "results", study)
    found = p2pfl_json(home, "model", "evaluate", study)["scores"]
    assert set(found["measures"]) == {"right"}
    table, out = made.folder / "site0.csv", made.folder / "predicted.csv"
    p2pfl(home, "model", "predict", study, str(table), "--out", str(out))
    assert len(out.read_text().splitlines()) == len(table.read_text().splitlines())
    p2pfl(home, "model", "export", study, "--out", str(made.folder / "model"))
    with safe_open(made.folder / "model/model.safetensors", framework="numpy") as tensors:
        assert set(tensors.keys()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    refused = refusal(home, "model", "export", study, "--onnx", "--out", str(made.folder / "o"))
    assert "not written as ONNX" in refused.message


def _another_study_goes_on_from_it(made: Consortium) -> None:
    for name in ("study.toml", "study.study"):
        (made.folder / name).unlink()
    terms = ("--continue", made.study, "--name", "further", "--rounds", "2", "--sites-min", "2")
    further = with_plan(made, *terms, *UNPROTECTED, "--neighbours-min", "1", approving=2)
    assert (
        further.manifest.study.initial_model
        == entries(made.home(0), "model.released")[0].body["hash"]
    )
    with running(made.homes[:2]) as nodes:
        for node in nodes:
            node.until(lambda node=node: node.said("study_complete"), "the second study's end")
            assert not node.said("training_failed")
            assert node.stop(signal.SIGTERM)[0] == 0
    for home in made.homes[:2]:
        trained = entries(home, "train.done")
        assert len([one for one in trained if one.body["study"].hex() == further.study]) == 2
        assert audit_code(home) == 0
