"""A study from draft to decision, and what each site may not do with it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from ops_sites import Ran, done, draft, p2pfl

from p2pfl.core.manifest import parse_manifest
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    EXIT_USAGE,
)


def bodies(home: Path, kind: str) -> list[dict[str, object]]:
    shown = done("ledger", "show", "--home", home, "-n", 100, "--json").json
    return [entry["body"] for entry in shown if entry["kind"] == kind]


def approve(home: Path, study: str, *options: object) -> Ran:
    return p2pfl("study", "approve", study, "--data", "patients", *options, "--home", home)


def test_new_study_is_private_complete_and_explained(consortium: Path) -> None:
    raw = (consortium / "study.toml").read_bytes()
    manifest = parse_manifest(raw)
    assert manifest.privacy.is_private
    assert manifest.privacy.epsilon == 3.0
    assert manifest.privacy.noise_multiplier > 3.0
    assert len(manifest.study.sites) == 2
    assert manifest.study.round_deadline_s == 120.0
    assert manifest.study.parameters == 6
    model = consortium / "site0" / "blobs" / manifest.study.initial_model.hex()
    assert model.is_file()


def test_new_study_says_what_was_chosen(consortium: Path) -> None:
    out = consortium / "other.toml"
    words = ("study", "new", "--data", "patients", "-o", out, "--seed", 9)
    said = done(*words, "--home", consortium / "site0").out
    assert "Full batches of all" in said
    assert "2 sites from the roster" in said


@pytest.mark.parametrize(
    ("options", "code", "what"),
    [
        (("--plan", "tabular-mpl"), EXIT_USAGE, "expected tabular-logistic or tabular-mlp"),
        (("--argument", "learning_rat=0.5"), EXIT_DATA, 'did you mean "learning_rate"?'),
        (("--argument", "learning_rate"), EXIT_USAGE, "not NAME=VALUE"),
        (("--privacy", "off"), EXIT_USAGE, "expected gaussian or none"),
        (("--rounds", "0"), EXIT_REFUSED, "expected 1"),
        (("--epsilon", "0.000001"), EXIT_DATA, "privacy.epsilon"),
        (("--rule", "average"), EXIT_USAGE, "--rule"),
        (("--topology", "star"), EXIT_USAGE, "--topology"),
        (("--topology", "torus"), EXIT_DATA, "cannot be drawn"),
        (("--data", "nothing"), EXIT_NO_INPUT, 'no dataset called "nothing"'),
        (("--schema", "nowhere.toml"), EXIT_NO_INPUT, "cannot be read"),
        (("--name", "Heart Disease"), EXIT_DATA, "study.name"),
    ],
)
def test_a_draft_that_cannot_work_is_refused_and_not_written(
    consortium: Path, options: tuple[str, ...], code: int, what: str
) -> None:
    out = consortium / "bad.toml"
    words = ("study", "new", "--data", "patients", "-o", out, *options)
    refused = p2pfl(*words, "--home", consortium / "site0")
    assert refused.code == code, refused.err
    assert what in refused.err
    assert not out.exists()


def test_a_manifest_is_never_overwritten(consortium: Path) -> None:
    refused = draft(consortium / "site0", consortium / "study.toml")
    assert refused.code == EXIT_CANNOT_CREATE


def test_more_rounds_need_more_noise_for_the_same_epsilon(consortium: Path) -> None:
    site = consortium / "site0"
    draft(site, consortium / "few.toml", "--rounds", 5)
    draft(site, consortium / "many.toml", "--rounds", 80)
    few, many = (
        parse_manifest((consortium / name).read_bytes()) for name in ("few.toml", "many.toml")
    )
    assert few.privacy.noise_multiplier < many.privacy.noise_multiplier


def test_validate_explains_privacy_and_robustness(consortium: Path) -> None:
    words = ("study", "validate", consortium / "study.toml", "--home", consortium / "site0")
    shown = done(*words).out
    assert "Differential privacy for one patient: ε = 3" in shown
    assert "2 sites do not tolerate 1 Byzantine site" in shown
    words_shown = " ".join(shown.split())
    assert "Spectral gap 1.00: a round of plain mixing leaves 0%" in words_shown
    assert "a liar within that distance cannot be told from noise" in words_shown
    assert max(map(len, shown.splitlines())) <= 80


def test_validate_names_a_mistyped_key(consortium: Path) -> None:
    manifest = consortium / "typo.toml"
    manifest.write_text((consortium / "study.toml").read_text().replace("clip_norm", "clip_norms"))
    refused = p2pfl("study", "validate", manifest, "--home", consortium / "site0")
    assert refused.code == EXIT_DATA
    assert 'privacy.clip_norms is not a known key; did you mean "clip_norm"?' in refused.err


def test_proposal_travels_as_one_sealed_file(consortium: Path, proposed: str) -> None:
    for home in (consortium / "site0", consortium / "site1"):
        (line,) = done("study", "list", "--home", home, "--json").json
        assert line["study"] == proposed
        assert line["proposer"] == "site0"
        assert line["standing"] == "undecided"
        assert len(bodies(home, "study.proposed")) == 1
        initial = parse_manifest((home / "studies" / f"{proposed}.toml").read_bytes())
        assert (home / "blobs" / initial.study.initial_model.hex()).is_file()


def test_importing_or_proposing_twice_records_once(consortium: Path, proposed: str) -> None:
    done("study", "propose", consortium / "study.toml", "--home", consortium / "site0")
    done("study", "import", consortium / "study.study", "--home", consortium / "site1")
    for name in ("site0", "site1"):
        assert len(bodies(consortium / name, "study.proposed")) == 1


def test_a_changed_proposal_file_is_refused(consortium: Path, proposed: str) -> None:
    file = consortium / "study.study"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    refused = p2pfl("study", "import", file, "--home", consortium / "site1")
    assert refused.code == EXIT_DATA
    assert "is not signed by its sender" in refused.err


def test_a_manifest_with_another_initial_model_is_not_proposed(consortium: Path) -> None:
    manifest = consortium / "study.toml"
    digest = parse_manifest(manifest.read_bytes()).study.initial_model.hex()
    manifest.write_text(manifest.read_text().replace(digest, "ab" * 32))
    refused = p2pfl("study", "propose", manifest, "--home", consortium / "site0")
    assert refused.code == EXIT_DATA
    assert f'Write initial_model = "{digest}"' in refused.err


def test_a_missing_initial_model_is_made_again_from_the_seed(consortium: Path) -> None:
    home = consortium / "site0"
    shutil.rmtree(home / "blobs")
    (home / "blobs").mkdir()
    done("study", "propose", consortium / "study.toml", "--home", home)
    assert len(list((home / "blobs").iterdir())) == 1


def test_expired_study_is_neither_proposed_nor_approved(consortium: Path) -> None:
    home = consortium / "site0"
    manifest = consortium / "old.toml"
    text = (consortium / "study.toml").read_text()
    expiry = next(line for line in text.splitlines() if line.startswith("expires"))
    manifest.write_text(text.replace(expiry, "expires = 2020-01-01T00:00:00Z"))
    refused = p2pfl("study", "propose", manifest, "--home", home)
    assert refused.code == EXIT_REFUSED
    assert "study expired at" in refused.err


def test_strangers_are_not_proposed_to(consortium: Path) -> None:
    manifest = consortium / "strangers.toml"
    text = (consortium / "study.toml").read_text()
    manifest.write_text(text.replace("sites = [\n", f'sites = [\n    "{"00" * 32}",\n'))
    refused = p2pfl("study", "propose", manifest, "--home", consortium / "site0")
    assert refused.code == EXIT_DATA
    assert "not on the roster" in refused.err


def test_approval_reserves_the_whole_study(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    words = ("study", "approve", proposed[:6], "--data", "patients", "--home", home)
    decided = done(*words, "--json").json
    assert decided["decision"] == "approved"
    assert 2.9 < decided["epsilon_after"] <= 3.0
    (budget,) = done("privacy", "status", "--home", home, "--json").json
    assert budget["spent"] == 0.0
    assert budget["reserved"] == decided["epsilon_after"]
    assert budget["left"] == pytest.approx(budget["cap"] - budget["reserved"])
    (body,) = bodies(home, "study.approved")
    assert len(body["eps_table_u"]) == len(body["eps_study_u"]) == 31
    assert body["dp"]["mech"] == "gaussian"
    assert done("ledger", "audit", "--home", home).code == 0


def test_the_approver_is_a_commitment_that_can_be_erased(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    assert approve(home, proposed, "--by", "Dr. Ada Example").code == 0
    (body,) = bodies(home, "study.approved")
    assert "Ada" not in str(body)
    with sqlite3.connect(f"file:{home / 'ledger.db'}?mode=ro", uri=True) as database:
        (value,) = database.execute("SELECT value FROM secret").fetchone()
    assert value == b"Dr. Ada Example"


def test_revoking_returns_what_was_reserved(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    approve(home, proposed)
    assert "revoked" in done("study", "revoke", proposed, "--home", home).out
    (budget,) = done("privacy", "status", "--home", home, "--json").json
    assert budget["reserved"] == 0.0
    assert p2pfl("study", "revoke", proposed, "--home", home).code == EXIT_REFUSED
    assert approve(home, proposed).code == 0


def test_refusal_is_on_record_and_can_be_reconsidered(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    done("study", "refuse", proposed, "--reason", "not-our-patients", "--home", home)
    assert bodies(home, "study.refused")[0]["reason"] == "not-our-patients"
    assert approve(home, proposed).code == 0
    refused = p2pfl("study", "refuse", proposed, "--reason", "late", "--home", home)
    assert refused.code == EXIT_REFUSED
    assert "is already approved here" in refused.err


def test_reasons_are_codes_and_not_sentences(consortium: Path, proposed: str) -> None:
    words = ("study", "refuse", proposed, "--reason", "Mrs Example said no")
    refused = p2pfl(*words, "--home", consortium / "site0")
    assert refused.code == EXIT_USAGE
    assert bodies(consortium / "site0", "study.refused") == []


def test_second_study_counts_the_first_ones_reservation(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    approve(home, proposed)
    draft(home, consortium / "second.toml", "--name", "second")
    second = done("study", "propose", consortium / "second.toml", "--home", home, "--json").json
    words = ("study", "approve", second["study"], "--data", "patients", "--home", home)
    decided = done(*words, "--json").json
    assert decided["epsilon_before"] == pytest.approx(3.0, abs=0.01)
    assert 3.0 < decided["epsilon_after"] < 6.0


def test_a_study_beyond_the_cap_is_refused_with_what_is_left(consortium: Path) -> None:
    home = consortium / "site0"
    draft(home, consortium / "greedy.toml", "--epsilon", "9")
    greedy = done("study", "propose", consortium / "greedy.toml", "--home", home, "--json").json
    refused = approve(home, greedy["study"])
    assert refused.code == EXIT_REFUSED
    assert "its cap is 8; 8.000 is left" in refused.err
    assert bodies(home, "study.approved") == []


def test_no_privacy_is_refused_unless_the_policy_allows_it(consortium: Path) -> None:
    home = consortium / "site0"
    draft(home, consortium / "bare.toml", "--privacy", "none")
    bare = done("study", "propose", consortium / "bare.toml", "--home", home, "--json").json
    shown = done("study", "show", bare["study"], "--home", home).out
    assert "NONE. Updates are computed from patients without protection" in shown
    refused = approve(home, bare["study"])
    assert refused.code == EXIT_REFUSED
    assert "without differential privacy" in refused.err
    assert "--reason no-privacy" in refused.err
    policy = home / "policy.toml"
    policy.write_text(policy.read_text().replace("privacy = false", "privacy = true"))
    assert approve(home, bare["study"]).code == 0
    (body,) = bodies(home, "study.approved")
    assert body["dp"]["mech"] == "none"
    assert done("ledger", "audit", "--home", home).code == 0


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"data-owner"', '"ethics-board"', 'The role "data-owner" may not'),
        ("patients_min = 20", "patients_min = 100", "100 are needed"),
        ('    "gm_clip",\n', "", "does not allow the rule gm_clip"),
        ('    "tabular-logistic",\n', "", "does not allow the plan tabular-logistic"),
        ('"patient"', '"record"', "protects one patient"),
    ],
)
def test_policy_decides_before_a_person_can(
    consortium: Path, proposed: str, old: str, new: str, what: str
) -> None:
    home = consortium / "site0"
    policy = home / "policy.toml"
    assert old in policy.read_text()
    policy.write_text(policy.read_text().replace(old, new))
    refused = approve(home, proposed, "--role", "data-owner")
    assert refused.code == EXIT_REFUSED
    assert what in refused.err


def test_delta_of_study_and_dataset_have_to_agree(consortium: Path) -> None:
    home = consortium / "site0"
    draft(home, consortium / "d.toml", "--delta", "1e-5")
    other = done("study", "propose", consortium / "d.toml", "--home", home, "--json").json
    assert "δ = 1e-5, the dataset at δ = 1e-3" in approve(home, other["study"]).err


def test_revoked_data_cannot_be_approved_for(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    done("data", "revoke", "patients", "--home", home)
    refused = approve(home, proposed)
    assert refused.code == EXIT_REFUSED
    assert "is revoked" in refused.err


@pytest.mark.parametrize(
    ("prefix", "code"),
    [("abc", EXIT_USAGE), ("study!", EXIT_USAGE), ("0" * 64, EXIT_NO_INPUT)],
)
def test_study_ids_are_hex_beginnings_of_known_ones(
    consortium: Path, proposed: str, prefix: str, code: int
) -> None:
    assert p2pfl("study", "show", prefix, "--home", consortium / "site0").code == code


def test_a_stored_manifest_that_was_changed_is_refused(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    stored = home / "studies" / f"{proposed}.toml"
    stored.write_text(stored.read_text().replace("rounds = 30", "rounds = 31"))
    refused = approve(home, proposed)
    assert refused.code == EXIT_DATA
    assert "was changed" in refused.err


def test_lists_and_budgets_fit_a_terminal(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    approve(home, proposed)
    for words in (("study", "list"), ("privacy", "status"), ("study", "show", proposed)):
        shown = done(*words, "--home", home).out
        assert max(map(len, shown.splitlines())) <= 80, shown
        assert "\x1b" not in shown


def test_a_study_is_approved_once(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    assert approve(home, proposed).code == 0
    again = approve(home, proposed)
    assert again.code == EXIT_REFUSED
    assert "is already approved here" in again.err


def test_a_sampled_study_takes_the_asked_schedule(consortium: Path) -> None:
    options = ("--sampling-rate", "0.25", "--steps-per-round", "4", "--rounds", "4")
    assert draft(consortium / "site0", consortium / "sampled.toml", *options).code == 0
    manifest = parse_manifest((consortium / "sampled.toml").read_bytes())
    assert manifest.privacy.accounted == "poisson"
    assert manifest.privacy.steps_per_round == 4
    words = ("study", "validate", consortium / "sampled.toml", "--home", consortium / "nowhere")
    assert "a random 25.00% of the patients" in done(*words).out.replace("\n            ", " ")


def test_plan_arguments_and_rule_parameters_are_numbers_and_flags(consortium: Path) -> None:
    options = ("--argument", "momentum_reset=true", "--argument", "learning_rate=0.1")
    more = ("--plan", "tabular-mlp", "--argument", "hidden=8", "--rule-parameter", "steps=4")
    assert draft(consortium / "site0", consortium / "mlp.toml", *options, *more).code == 0
    manifest = parse_manifest((consortium / "mlp.toml").read_bytes())
    assert manifest.plan.arguments["momentum_reset"] is True
    assert manifest.plan.arguments["hidden"] == 8
    assert manifest.plan.ranges["learning_rate"] == pytest.approx((0.002, 0.4))
    assert manifest.averaging.parameters == {"steps": 4}


@pytest.mark.parametrize("what", ["directory", "pipe", "huge"])
def test_things_that_are_no_manifest_are_refused_without_hanging(
    consortium: Path, what: str
) -> None:
    path = consortium / what
    match what:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case _:
            path.write_bytes(bytes(1 << 20))
    refused = p2pfl("study", "validate", path, "--home", consortium / "site0")
    assert refused.code in (EXIT_DATA, EXIT_NO_INPUT)
    assert str(path) in refused.err


@pytest.mark.parametrize("options", [("--privacy", "none"), ("--epsilon", "20")])
def test_a_draft_that_its_own_site_could_not_approve_says_so(
    consortium: Path, options: tuple[str, ...]
) -> None:
    out = consortium / f"unfit{options[0]}.toml"
    words = ("study", "new", "--data", "patients", "-o", out, *options)
    assert "this site could not approve it" in done(*words, "--home", consortium / "site0").out
