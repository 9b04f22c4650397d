"""Pausing by command: who may, when, and what people see of it."""

from __future__ import annotations

from pathlib import Path

from ops_sites import done, p2pfl

from p2pfl.runtime.errors import EXIT_REFUSED, EXIT_USAGE


def test_the_proposer_pauses_and_resumes_on_record_and_everybody_can_read_it(
    consortium: Path, proposed: str
) -> None:
    home = consortium / "site0"
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    said = done("study", "pause", proposed, "--reason", "scanner-replaced", "--home", home).out
    assert "no site begins round 2 or a later one" in " ".join(said.split())
    assert f"p2pfl study resume {proposed[:12]}" in said
    shown = " ".join(done("study", "show", proposed, "--home", home).out.split())
    assert "paused by site0 since" in shown
    assert ": scanner-replaced; goes on when site0 says" in shown
    assert "paused" in done("study", "list", "--home", home).out
    twice = p2pfl("study", "pause", proposed, "--reason", "again", "--home", home)
    assert (twice.code, "is paused already" in twice.err) == (EXIT_REFUSED, True)
    assert done("study", "resume", proposed, "--home", home, "--json").json["state"] == "resumed"
    assert "paused" not in done("study", "show", proposed, "--home", home).out
    kinds = [e["kind"] for e in done("ledger", "show", "--home", home, "-n", 100, "--json").json]
    assert kinds.count("study.paused") == kinds.count("study.resumed") == 1
    assert done("ledger", "audit", "--home", home).code == 0


def test_a_site_that_left_shows_that_and_its_proposer_can_still_resume(
    consortium: Path, proposed: str
) -> None:
    home = consortium / "site0"
    done("study", "pause", proposed, "--reason", "scanner-replaced", "--home", home)
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    steer = ("study", "steer", proposed, "learning_rate=0.25", "--home", home, "--json")
    assert done(*steer).json["from_round"] == 0, "the pause keeps round 1 from beginning"
    done("study", "revoke", proposed, "--home", home)
    [line] = done("study", "list", "--home", home, "--json").json
    assert (line["standing"], line["is_paused"]) == ("revoked", False)
    assert "paused" not in done("study", "show", proposed, "--home", home).out
    assert done("study", "resume", proposed, "--home", home, "--json").json["state"] == "resumed"
    assert done("ledger", "audit", "--home", home).code == 0


def test_what_is_not_paused_nor_ours_and_sentences_are_refused(
    consortium: Path, proposed: str
) -> None:
    home = consortium / "site0"
    other = p2pfl("study", "pause", proposed, "--reason", "no", "--home", consortium / "site1")
    assert (other.code, "came from site0" in " ".join(other.err.split())) == (EXIT_REFUSED, True)
    idle = p2pfl("study", "resume", proposed, "--home", home)
    assert (idle.code, "is not paused" in idle.err) == (EXIT_REFUSED, True)
    told = p2pfl("study", "pause", proposed, "--reason", "a new scanner", "--home", home)
    assert (told.code, "is not a code" in told.err) == (EXIT_USAGE, True)


def test_a_site_that_is_away_keeps_its_approval_and_comes_back(
    consortium: Path, proposed: str
) -> None:
    home = consortium / "site1"
    words = ("--reason", "maintenance", "--home", home)
    early = p2pfl("study", "away", proposed, *words)
    assert (early.code, "is undecided here" in early.err) == (EXIT_REFUSED, True)
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    said = " ".join(done("study", "away", proposed, *words).out.split())
    assert "the others go on without it" in said
    assert f"p2pfl study back {proposed[:12]}" in said
    [line] = done("study", "list", "--home", home, "--json").json
    assert line["standing"] == "away"
    results = done("study", "results", proposed, "--home", home).out
    assert f"p2pfl study back {proposed[:12]}" in results
    twice = p2pfl("study", "away", proposed, *words)
    assert (twice.code, "p2pfl study back" in twice.err) == (EXIT_REFUSED, True)
    [dataset] = done("privacy", "status", "--home", home, "--json").json
    assert [share["standing"] for share in dataset["studies"]] == ["away"]
    done("study", "back", proposed, "--home", home)
    [line] = done("study", "list", "--home", home, "--json").json
    assert line["standing"] == "approved"
    assert done("ledger", "audit", "--home", home).code == 0


def test_the_proposer_stops_a_study_for_good_and_everybody_can_read_it(
    consortium: Path, proposed: str
) -> None:
    home = consortium / "site0"
    other = p2pfl("study", "stop", proposed, "--reason", "no", "--home", consortium / "site1")
    assert (other.code, "came from site0" in " ".join(other.err.split())) == (EXIT_REFUSED, True)
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    done("study", "pause", proposed, "--reason", "scanner-replaced", "--home", home)
    stop = ("study", "stop", proposed, "--reason", "converged", "--home", home)
    said = " ".join(done(*stop).out.split())
    assert "no site trains round 2 or a later one" in said
    assert "each site releases its model" in said
    shown = " ".join(done("study", "show", proposed, "--home", home).out.split())
    assert "by site0, 20" in shown
    assert "before round 2: converged" in shown
    assert "paused" not in shown
    [line] = done("study", "list", "--home", home, "--json").json
    assert (line["is_stopped"], line["is_paused"]) == (True, False)
    assert "stopped" in done("study", "list", "--home", home).out
    results = done("study", "results", proposed, "--home", home).out
    assert "before round 2: converged" in " ".join(results.split())
    for again in (stop, ("study", "pause", proposed, "--reason", "again", "--home", home)):
        refused = p2pfl(*again)
        assert (refused.code, "was stopped already" in refused.err) == (EXIT_REFUSED, True)
    assert p2pfl("study", "resume", proposed, "--home", home).code == EXIT_REFUSED
    assert done("ledger", "audit", "--home", home).code == 0
