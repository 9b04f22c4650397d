"""Manifests that are refused, and decisions that cannot be made."""

from __future__ import annotations

import re
from pathlib import Path

from mistakes_stage import Stage
from mistakes_table import Row
from ops_sites import Ran, done, p2pfl


def approve(stage: Stage, row: Row, *options: object) -> Ran:
    words = options or ("--data", "patients")
    return stage.refused(row, "study", "approve", stage.study, *words)


def proposed(stage: Stage, name: str, *options: object) -> str:
    """The id of another study that is on record at the first site."""
    manifest = stage.path / f"{name}.toml"
    words = ("--data", "patients", "--name", name, "-o", manifest, *options)
    done("study", "new", *words, "--home", stage.home)
    kept = done("study", "propose", manifest, "--home", stage.home, "--json").json
    return str(kept["study"])


def test_manifest_out_of_range(row: Row, stage: Stage) -> None:
    stage.edit(stage.manifest, "rounds = 30", "rounds = 0")
    stage.refused(row, "study", "propose", stage.manifest)


def test_unknown_manifest_key(row: Row, stage: Stage) -> None:
    stage.edit(stage.manifest, "sites_min", "site_min")
    stage.refused(row, "study", "validate", stage.manifest)


def test_updates_too_old(row: Row, stage: Stage) -> None:
    stage.edit(stage.manifest, "[averaging]\n", "[averaging]\nstaleness = 9\n")
    stage.refused(row, "study", "validate", stage.manifest)


def test_early_stopping_with_privacy(row: Row, stage: Stage) -> None:
    stage.edit(stage.manifest, "rounds = 30", "patience = 3\nrounds = 30")
    stage.refused(row, "study", "validate", stage.manifest)


def test_manifest_is_no_toml(row: Row, stage: Stage) -> None:
    stage.edit(stage.manifest, "[study]", "[study")
    stage.refused(row, "study", "validate", stage.manifest)


def test_manifest_is_another_file(row: Row, stage: Stage) -> None:
    stage.refused(row, "study", "validate", stage.home / "ledger.db")


def test_unknown_plan(row: Row, stage: Stage) -> None:
    stage.edit(stage.manifest, "tabular-logistic", "tabular-logistics")
    stage.refused(row, "study", "validate", stage.manifest)
    stage.refused(row, "study", "propose", stage.manifest)


def test_unknown_plan_argument(row: Row, stage: Stage) -> None:
    words = ("--data", "patients", "-o", stage.path / "x.toml", "--argument", "learning_rat=1")
    stage.refused(row, "study", "new", *words)
    assert not (stage.path / "x.toml").exists()


def test_manifest_exists(row: Row, stage: Stage) -> None:
    stage.refused(row, "study", "new", "--data", "patients", "-o", stage.manifest)


def test_expired_before_it_was_proposed(row: Row, stage: Stage) -> None:
    text = stage.manifest.read_text()
    stage.manifest.write_text(re.sub(r"expires = \d{4}", "expires = 2020", text))
    stage.refused(row, "study", "propose", stage.manifest)


def test_site_is_not_on_the_roster(row: Row, stage: Stage) -> None:
    text = stage.manifest.read_text()
    stage.manifest.write_text(re.sub(r'"[0-9a-f]{64}",', f'"{"00" * 32}",', text, count=1))
    stage.refused(row, "study", "propose", stage.manifest)


def test_proposal_was_altered(row: Row, stage: Stage) -> None:
    proposal = stage.path / "study.study"
    raw = bytearray(proposal.read_bytes())
    raw[-1] ^= 1
    proposal.write_bytes(raw)
    row.check(p2pfl("study", "import", proposal, "--home", stage.other))


def test_kept_manifest_was_changed(row: Row, stage: Stage) -> None:
    stage.edit(stage.home / "studies" / f"{stage.study}.toml", "rounds = 30", "rounds = 31")
    approve(stage, row)


def test_unknown_study(row: Row, stage: Stage) -> None:
    stage.refused(row, "study", "approve", "abcdef123", "--data", "patients")


def test_study_id_is_too_short(row: Row, stage: Stage) -> None:
    stage.refused(row, "study", "approve", stage.study[:4], "--data", "patients")


def test_approved_twice(row: Row, stage: Stage) -> None:
    done("study", "approve", stage.study, "--data", "patients", "--home", stage.home)
    approve(stage, row)


def test_revoked_before_it_was_approved(row: Row, stage: Stage) -> None:
    stage.refused(row, "study", "revoke", stage.study)


def test_dry_run_with_no_data(row: Row, stage: Stage) -> None:
    done("data", "revoke", "patients", "--home", stage.home)
    stage.refused(row, "study", "dry-run", stage.study)


def test_dry_run_does_not_say_which_data(row: Row, stage: Stage) -> None:
    others = [f"{30.25 + number},{number % 4 + 1},{number % 3}" for number in range(50)]
    visits = stage.path / "visits.csv"
    visits.write_text("\n".join(["age,cp,num", *others]) + "\n")
    schema = ("--schema", stage.path / "schema.toml")
    done("data", "add", visits, "--name", "visits", *schema, "--home", stage.home)
    stage.refused(row, "study", "dry-run", stage.manifest)


def test_approved_with_unknown_data(row: Row, stage: Stage) -> None:
    approve(stage, row, "--data", "patient")


def test_label_is_missing_at_one_site(row: Row, stage: Stage) -> None:
    schema = stage.path / "schema.toml"
    text = schema.read_text()
    schema.write_text(text.replace('"num"', '"sick"'))
    manifest = stage.path / "sick.toml"
    words = ("--data", "patients", "--name", "sick", "--schema", schema, "-o", manifest)
    done("study", "new", *words, "--home", stage.home)
    kept = done("study", "propose", manifest, "--home", stage.home, "--json").json
    stage.refused(row, "study", "approve", kept["study"], "--data", "patients")


def test_approved_with_revoked_data(row: Row, stage: Stage) -> None:
    done("data", "revoke", "patients", "--home", stage.home)
    approve(stage, row)


def test_role_may_not_approve(row: Row, stage: Stage) -> None:
    approve(stage, row, "--data", "patients", "--role", "chief")


def test_reason_in_free_text(row: Row, stage: Stage) -> None:
    words = ("study", "refuse", stage.study, "--reason", "Mr Smith objects")
    stage.refused(row, *words)


def test_file_moved_before_the_approval(row: Row, stage: Stage) -> None:
    stage.table.rename(stage.path / "elsewhere.csv")
    approve(stage, row)
    # What the sentence advises works: a link to where it is now.
    stage.table.symlink_to(Path("elsewhere.csv"))
    done("study", "approve", stage.study, "--data", "patients", "--home", stage.home)


def test_file_changed_before_the_approval(row: Row, stage: Stage) -> None:
    stage.table.write_text(stage.table.read_text() + "50,1,1\n")
    approve(stage, row)


def test_no_privacy_against_the_policy(row: Row, stage: Stage) -> None:
    study = proposed(stage, "open", "--privacy", "none")
    stage.refused(row, "study", "approve", study, "--data", "patients")
    # What the sentence advises works.
    done("study", "refuse", study, "--reason", "no-privacy", "--home", stage.home)


def test_over_the_cap(row: Row, stage: Stage) -> None:
    done("study", "approve", stage.study, "--data", "patients", "--home", stage.home)
    study = proposed(stage, "greedy", "--epsilon", "7")
    stage.refused(row, "study", "approve", study, "--data", "patients")


def test_epsilon_that_is_none(row: Row, stage: Stage) -> None:
    words = ("--data", "patients", "-o", stage.path / "x.toml", "--epsilon", "-1")
    stage.refused(row, "study", "new", *words)
