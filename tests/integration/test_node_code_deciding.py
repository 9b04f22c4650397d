"""Researchers' code before a site decides on it: approved by its hash, and not one byte else."""

import signal
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from learn_texts import PLAIN
from node_coded import UNPROTECTED, allow_by_code, refusal, told, with_plan, with_text
from node_homes import Consortium, entries, p2pfl, p2pfl_json
from node_processes import running

from ledger.provenance.kinds import CodeApproved
from p2pfl.core.manifest_code import text_digest
from p2pfl.runtime.commands.doctoring_code import check_code
from p2pfl.runtime.confinement.terms import terms_here
from p2pfl.runtime.plan_code import check_startable, versions_changed
from p2pfl.runtime.training_answers import TrainingError

TORCH = version("torch")


@pytest.fixture(scope="module")
def proposed(founded: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """A study with code that nobody decided on yet; two of three sites would start it."""
    made = with_text(founded.copied(tmp_path_factory.mktemp("code") / "c"))
    return with_plan(made, *UNPROTECTED, "--rounds", "3", approving=0)


@pytest.fixture
def undecided(proposed: Consortium, tmp_path: Path) -> Consortium:
    return proposed.copied(tmp_path / "c")


@pytest.mark.nodes
def test_a_site_reads_the_whole_text_and_what_changed_before_it_decides(
    undecided: Consortium,
) -> None:
    code, home = undecided.manifest.code, undecided.home(1)
    assert code is not None
    shown = p2pfl(home, "study", "show", undecided.study)
    for number, line in enumerate(PLAIN.splitlines(), 1):
        assert f"{number:>4}  {line}" in shown
    assert code.sha256.hex() in shown.replace("\n", "").replace(" ", "")
    assert "No text was approved at this site before." in shown
    assert "finds no files, network, processes or native code" in shown
    seen = p2pfl_json(home, "study", "show", undecided.study)["code"]
    assert seen["packages"] == [{"name": "torch", **dict.fromkeys(("proposed", "here"), TORCH)}]
    undecided.approve(1)
    # Another study with a text that is three characters longer: shown as what differs.
    (undecided.folder / "plan.py").write_text(PLAIN.replace('"hidden": 8', '"hidden": 128'))
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
    old, new = (text_digest(text).hex() for text in (PLAIN, PLAIN.replace("ReLU", "SiLU")))
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
    allow_by_code(home)
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
        (PLAIN.replace("def loss(self", "def loss(self self"), "plan.py line 18: "),
        (
            PLAIN.replace("import torch\n", "import torch\nimport nowhere\n"),
            "line 2 imports nowhere",
        ),
        (PLAIN.replace("8,", "8,\t"), "plan.py line 7: character 30 is U+0009"),
        pytest.param(
            PLAIN.replace("inputs.features", "3"),
            "plan.py: RuntimeError: mat1 and mat2 shapes",
            marks=pytest.mark.nodes,
        ),
        pytest.param(
            PLAIN.replace("return weight", "open('/etc/passwd')\n        return weight"),
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
