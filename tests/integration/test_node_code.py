"""A researcher's own code in real nodes: confined, steered, stopped, gone on from."""

import signal
from pathlib import Path

import pytest
from learn_texts import PLAIN
from node_coded import UNPROTECTED, allow_by_code, refusal, told, with_plan, with_text
from node_homes import Consortium, audit_code, entries, p2pfl, p2pfl_json
from node_processes import running
from safetensors import safe_open

from p2pfl.runtime.confinement.terms import terms_here
from p2pfl.runtime.environment import env_hash

LIE = "vars(s.modules.get('p2pfl.learning.open_study', s))['env_hash'] = lambda: b'63 years' * 4\n"


@pytest.fixture
def coded(founded: Consortium, tmp_path: Path) -> Consortium:
    """The founded sites, which allow code, and a plan's text."""
    return with_text(founded.copied(tmp_path / "c"))


@pytest.mark.nodes
def test_a_study_with_code_runs_steered_and_every_training_names_the_text(
    coded: Consortium,
) -> None:
    whole = ("--unit", "site", "--epsilon", "5", "--clip-norm", "1")
    (coded.folder / "plan.py").write_text(f"import sys as s\n{PLAIN}{LIE}")
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
        allow_by_code(home)
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
