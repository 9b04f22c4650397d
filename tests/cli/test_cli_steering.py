"""Steering by command: who may, what may be steered, and what people see of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ops_sites import done, p2pfl

from ledger.log import Draft, Entry, Log
from ledger.provenance import kinds
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_writing import render_manifest
from p2pfl.runtime.commands.opening import HeldLedger, open_site
from p2pfl.runtime.commands.steering import StudySteer, study_steer
from p2pfl.runtime.errors import EXIT_REFUSED, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.ledger_writer import Unless

NOW_US = 1_790_000_000_000_000


def bodies(home: Path) -> list[dict[str, object]]:
    shown = done("ledger", "show", "--home", home, "-n", 100, "--json").json
    return [entry["body"] for entry in shown if entry["kind"] == "study.steered"]


def test_the_proposer_steers_on_record_and_everybody_can_read_it(
    consortium: Path, proposed: str
) -> None:
    home = consortium / "site0"
    words = ("study", "steer", proposed[:8], "learning_rate=.25", "--home", home)
    said = done(*words).out
    assert "from round 1 on learning_rate = 0.25" in said
    [body] = bodies(home)
    assert body["changes"] == {"learning_rate": "0.25"}
    assert (body["round"], body["from_seq"]) == (0, -1)
    assert "steered to 0.25" in " ".join(
        done("study", "show", proposed, "--home", home).out.split()
    )
    results = done("study", "results", proposed, "--home", home)
    assert "learning_rate = 0.25 from round 1 on" in " ".join(results.out.split())
    assert done("ledger", "audit", "--home", home).code == 0


def test_after_the_approval_the_round_under_way_is_left_alone(
    consortium: Path, proposed: str
) -> None:
    home = consortium / "site0"
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    words = ("study", "steer", proposed, "learning_rate=0.25", "--home", home, "--json")
    assert done(*words).json["from_round"] == 1


def test_another_site_cannot_steer(consortium: Path, proposed: str) -> None:
    home = consortium / "site1"
    refused = p2pfl("study", "steer", proposed, "learning_rate=0.25", "--home", home)
    assert refused.code == EXIT_REFUSED
    assert "came from site0" in " ".join(refused.err.split())
    assert bodies(home) == []


@pytest.mark.parametrize(
    ("changes", "code", "what"),
    [
        (("learning_rate=1000",), EXIT_REFUSED, "learning_rate {low:g} to {high:g}"),
        (
            ("learning_rate=-1",),
            EXIT_REFUSED,
            'The argument "learning_rate" is outside its approved range',
        ),
        (("learning_rate=nan",), EXIT_REFUSED, "is outside its approved range"),
        (("momentum=0.5",), EXIT_REFUSED, '"momentum" cannot be steered'),
        (("learning_rat=0.5",), EXIT_REFUSED, 'Did you mean "learning_rate"?'),
        (("learning_rate",), EXIT_USAGE, "is not NAME=VALUE"),
        (("learning_rate=0.5", "learning_rate=0.6"), EXIT_USAGE, "names an argument twice"),
        (("learning_rate=fast",), EXIT_USAGE, '"fast" is not a number'),
        (("learning_rate=0." + "1" * 40,), EXIT_USAGE, "of up to 32 signs"),
    ],
)
def test_what_nobody_approved_is_refused_with_the_range(
    consortium: Path, proposed: str, changes: tuple[str, ...], code: int, what: str
) -> None:
    home = consortium / "site0"
    manifest = parse_manifest((consortium / "study.toml").read_bytes())
    low, high = manifest.plan.ranges["learning_rate"]
    refused = p2pfl("study", "steer", proposed, "--home", home, "--", *changes)
    assert refused.code == code, refused.err
    assert what.format(low=low, high=high) in " ".join(refused.err.split())
    assert bodies(home) == []


def test_a_study_without_ranges_says_that_nothing_can_be_steered(consortium: Path) -> None:
    home = consortium / "site0"
    plain = consortium / "fixed.toml"
    manifest = parse_manifest((consortium / "study.toml").read_bytes())
    raw = render_manifest(
        study=manifest.study,
        plan=replace(manifest.plan, ranges={}),
        data=manifest.data,
        privacy=manifest.privacy,
        averaging=manifest.averaging,
    )
    plain.write_bytes(raw)
    study = done("study", "propose", plain, "--home", home, "--json").json["study"]
    refused = p2pfl("study", "steer", study, "learning_rate=0.25", "--home", home)
    assert refused.code == EXIT_REFUSED
    assert "names no ranges" in " ".join(refused.err.split())


@dataclass
class RunningNode:
    """The ledger of a node whose rounds go by while a person's command is being prepared."""

    log: Log
    study: bytes
    rounds_meanwhile: int
    round: int = 0

    def append(self, drafts: Sequence[Draft]) -> tuple[Entry, ...]:
        return self.log.append(drafts, NOW_US).entries

    def append_unless(self, drafts: Sequence[Draft], unless: Unless) -> tuple[Entry, ...] | None:
        for _ in range(self.rounds_meanwhile):
            self.append([kinds.RoundSkipped(self.study, self.round, "alone").draft("node")])
            self.round += 1
        came = self.log.entries(unless.since)
        return None if any(unless.spoils(e.kind, e.body) for e in came) else self.append(drafts)

    def entries(self) -> Iterator[Entry]:
        return self.log.entries()

    def put_secret(self, seq: int, name: str, salt: bytes, value: bytes) -> None:
        self.log.put_secret(seq, name, salt, value)


def steer_beside(home: Path, proposed: str, rounds_meanwhile: int) -> tuple[int, int]:
    """Steer while rounds go by. Returns the first round steered, and the last one that ended."""
    with open_site(Home(home), purpose="steer", now_us=lambda: NOW_US) as site:
        assert isinstance(site.ledger, HeldLedger)
        busy = RunningNode(site.ledger.log, bytes.fromhex(proposed), rounds_meanwhile)
        steered = study_steer(
            replace(site, ledger=busy), StudySteer(proposed, ("learning_rate=0.25",))
        )
        return steered.from_round, busy.round - 1


def test_a_round_that_begins_while_the_command_is_prepared_is_not_claimed(
    consortium: Path, proposed: str
) -> None:
    home = consortium / "site0"
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    from_round, ended = steer_beside(home, proposed, 1)
    assert from_round > ended + 1
    assert [body["round"] for body in bodies(home)] == [from_round]


def test_rounds_faster_than_any_command_leave_the_study_as_it_was(
    consortium: Path, proposed: str
) -> None:
    home = consortium / "site0"
    done("study", "approve", proposed, "--data", "patients", "--home", home)
    with pytest.raises(OperatorError, match="cannot be steered any more: no training round"):
        steer_beside(home, proposed, 200)
    assert bodies(home) == []
