"""Following a study to its end, reading its results, and trying one out before deciding."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from feat_stage import Finished
from ops_sites import done, p2pfl

from ledger.log import LogReader
from p2pfl.runtime.errors import EXIT_NO_INPUT, EXIT_UNAVAILABLE, EXIT_USAGE

WIDTH = 80


def narrow(text: str) -> bool:
    """Every line fits a terminal; a path or digest that cannot be broken may be longer."""
    return all(len(line) <= WIDTH for line in text.splitlines() if "/" not in line)


def test_watch_shows_every_round_and_ends_with_the_study(finished: Finished) -> None:
    assert finished.watched.code == 0, finished.watched.err
    assert "is complete" in finished.watched.out
    assert f"Next: p2pfl study results {finished.study[:12]}" in finished.watched.out
    assert narrow(finished.watched.out)


def test_watch_of_an_ended_study_returns_at_once(finished: Finished) -> None:
    ran = done("--home", finished.home, "study", "watch", finished.study)
    assert "is complete here" in ran.out
    assert "round 5/5" in ran.out


def test_watch_gives_programs_the_lines_of_the_log(finished: Finished) -> None:
    ran = done("--home", finished.home, "study", "watch", finished.study, "--json")
    assert ran.out.splitlines()[-1].startswith('{"study": "')


def test_watch_without_a_node_says_that_nothing_will_happen(
    finished: Finished, tmp_path: Path
) -> None:
    home = finished.copy(tmp_path / "home")
    manifest = tmp_path / "second.toml"
    done("--home", home, "study", "new", "--data", finished.dataset, "-o", manifest)
    proposed = done("--home", home, "study", "propose", manifest, "--json").json["study"]
    ran = p2pfl("--home", home, "study", "watch", proposed)
    assert ran.code == EXIT_UNAVAILABLE
    assert "No node runs" in ran.err
    assert "node start" in ran.err
    done("--home", home, "study", "refuse", proposed, "--reason", "not-now")
    refused = p2pfl("--home", home, "study", "watch", proposed)
    assert refused.code == 1
    assert "does not run here: it is refused" in refused.out


def test_results_tell_every_round_and_what_to_do_next(finished: Finished) -> None:
    ran = done("--home", finished.home, "study", "results", finished.study)
    assert narrow(ran.out)
    assert "is closed; 5 of 5 rounds done" in ran.out
    assert f"p2pfl model export {finished.study[:12]}" in ran.out
    found = done("--home", finished.home, "study", "results", finished.study, "--json").json
    rounds = found["rounds_seen"]
    assert [seen["round"] for seen in rounds] == [0, 1, 2, 3, 4]
    assert [seen["phase"] for seen in rounds] == ["training"] * 2 + ["consensus"] * 3
    assert all(seen["accepted"] == 1 for seen in rounds)
    assert all(sum(seen["verdicts"].values()) == 1 for seen in rounds)
    assert rounds[0]["epsilon"] < rounds[1]["epsilon"] <= 3.0
    assert rounds[1]["epsilon"] == found["epsilon"]
    assert Path(found["folder"], "model.safetensors").is_file()


def test_results_without_the_log_still_tell_what_is_on_record(
    finished: Finished, tmp_path: Path
) -> None:
    home = finished.copy(tmp_path / "home")
    (home / "logs" / "node.jsonl").unlink()
    found = done("--home", home, "study", "results", finished.study, "--json").json
    assert [seen["auc"] for seen in found["rounds_seen"]] == [None] * 5
    assert found["model"]["hash"]


@pytest.mark.parametrize("command", ["watch", "results"])
def test_an_unknown_study_is_named(finished: Finished, command: str) -> None:
    ran = p2pfl("--home", finished.home, "study", command, "abcdef012345")
    assert ran.code == EXIT_NO_INPUT
    assert 'No study begins with "abcdef012345"' in ran.err
    assert p2pfl("--home", finished.home, "study", command, "../x").code == EXIT_USAGE


def test_a_dry_run_shows_time_loss_and_epsilon_and_records_nothing(finished: Finished) -> None:
    before = everything_in(finished.home)
    words = ("study", "dry-run", finished.study[:8], "--data", finished.dataset)
    ran = done("--home", finished.home, *words)
    assert "Nothing was recorded, released or charged" in ran.out
    assert "fits its cap of 8" in ran.out
    assert narrow(ran.out)
    assert everything_in(finished.home) == before


def test_a_dry_run_of_a_file_agrees_with_what_approving_would_spend(
    finished: Finished, tmp_path: Path
) -> None:
    manifest = tmp_path / "study.toml"
    shutil.copy(finished.folder / "study.toml", manifest)
    words = ("study", "dry-run", manifest, "--data", finished.dataset, "--rounds", "9", "--json")
    seen = done("--home", finished.home, *words).json
    assert seen["recorded"] is False
    assert len(seen["tried"]["rounds"]) == 2  # no more than the study has
    assert seen["study"] == finished.study
    assert seen["epsilon_before"] < seen["epsilon_after"] <= seen["epsilon_cap"]
    assert seen["epsilon_rounds"][-1] == seen["epsilon_study"]


def test_a_dry_run_takes_the_one_dataset_that_can_be_meant(finished: Finished) -> None:
    seen = done("--home", finished.home, "study", "dry-run", finished.study[:8], "--json").json
    assert seen["data"] == finished.dataset


def test_a_dry_run_names_what_is_wrong(finished: Finished, tmp_path: Path) -> None:
    missing = p2pfl(
        "--home", finished.home, "study", "dry-run", "no.toml", "--data", finished.dataset
    )
    assert missing.code == EXIT_NO_INPUT
    assert "There is no manifest" in missing.err
    manifest = tmp_path / "study.toml"
    text = (finished.folder / "study.toml").read_text()
    manifest.write_text(re.sub(r"(?m)^parameters = \d+$", "parameters = 5", text))
    wrong = p2pfl("--home", finished.home, "study", "dry-run", manifest, "--data", finished.dataset)
    assert wrong.code != 0
    assert "the plan's model has" in wrong.err
    nobody = p2pfl("--home", finished.home, "study", "dry-run", manifest, "--data", "nobody")
    assert nobody.code == EXIT_NO_INPUT


def everything_in(home: Path) -> tuple[int, list[str]]:
    """How long the ledger is, and every file that a command could have left."""
    reader = LogReader.open(home)
    try:
        size = reader.checkpoint.size
    finally:
        reader.close()
    kept = ("blobs", "studies", "models", "data", "work", "keys", "roster")
    files = [
        path.relative_to(home).as_posix()
        for name in kept
        for path in sorted((home / name).rglob("*"))
    ]
    return size, files
