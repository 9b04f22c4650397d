"""The doctor finds what is wrong with a home, says what to do, and changes nothing."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from feat_stage import Finished
from ops_sites import done, p2pfl

from p2pfl.runtime.commands import doctoring_machine as machine
from p2pfl.runtime.commands.doctoring import Check, Level, ok
from p2pfl.runtime.home import Home
from p2pfl.runtime.policy import Policy, read_policy, render_policy


@pytest.fixture
def fast_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading torch is tried once, in the test beside the node; here it costs only time."""
    monkeypatch.setattr(machine, "check_torch", lambda: iter((ok("torch", "loads"),)))


def lines(home: Path) -> tuple[int, dict[str, list[Any]]]:
    ran = p2pfl("--home", home, "doctor", "--json")
    found: dict[str, list[Any]] = {}
    for check in ran.json["checks"]:
        found.setdefault(check["name"], []).append(check)
    assert ran.code == ran.json["exit_code"] == int(ran.json["worst"] == "fail")
    return ran.code, found


def levels(checks: list[Any]) -> list[str]:
    return [check["level"] for check in checks]


def test_a_sound_home_beside_its_running_node_is_in_order(finished: Finished) -> None:
    ran = done("--home", finished.home, "doctor")
    assert "checks are in order" in ran.out
    for said in (
        "torch 2.13.0",
        "libp2p 0.8.1",
        "runs and answers on its control socket",
        "our node listens on",
        "hospital-2 answers on",
        "whole; every head signed",
        "1 registered file(s) unchanged",
    ):
        assert said in " ".join(ran.out.split())
    assert all(len(line) <= 80 for line in ran.out.splitlines())


@pytest.mark.usefixtures("fast_torch")
def test_a_place_without_a_home_is_looked_at_as_a_machine(tmp_path: Path) -> None:
    code, found = lines(tmp_path / "none")
    assert code == 0
    assert levels(found["home"]) == ["warn"]
    assert "p2pfl init" in found["home"][0]["fix"]
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("fast_torch")
def test_a_copy_of_a_home_finds_the_port_taken_by_the_node_of_the_original(
    finished: Finished, tmp_path: Path
) -> None:
    code, found = lines(finished.copy(tmp_path / "home"))
    assert code == 1
    assert levels(found["port"]) == ["fail"]
    assert "cannot listen on" in found["port"][0]["sentence"]
    assert levels(found["node"]) == ["ok"]


@pytest.mark.usefixtures("fast_torch")
def test_everything_that_is_broken_gets_its_own_line(finished: Finished, tmp_path: Path) -> None:
    home = finished.copy(tmp_path / "home")
    (home / "config.toml").write_text((home / "config.toml").read_text() + 'lissten = "x"\n')
    (home / "keys" / "log.key").chmod(0o644)
    (home / "policy.toml").write_text("epsilon_cap = -1\n")
    for blob in (home / "blobs").iterdir():
        blob.write_bytes(b"?")
    code, found = lines(home)
    assert code == 1
    assert 'did you mean "listen"' in found["config"][0]["sentence"]
    assert levels(found["policy"]) == ["fail"]
    assert "keys/log.key" in found["permissions"][0]["sentence"]
    assert levels(found["keys"]) == ["fail"]
    assert "stored models are damaged" in found["blobs"][0]["sentence"]
    assert levels(found["ledger"]) == ["ok"]
    assert all(check["fix"] for checks in found.values() for check in checks if is_bad(check))


def is_bad(check: Any) -> bool:
    return bool(check["level"] != "ok")


@pytest.mark.usefixtures("fast_torch")
def test_a_damaged_ledger_and_changed_data_are_found(finished: Finished, tmp_path: Path) -> None:
    home = finished.copy(tmp_path / "home")
    heads = home / "heads.log"
    heads.write_bytes(heads.read_bytes()[: heads.stat().st_size // 2])
    record = home / "data" / finished.dataset / "dataset.toml"
    moved = tmp_path / "moved.csv"
    moved.write_text("patient\nP1\n")
    text = record.read_text()
    record.write_text(text.replace(str(finished.tables[0]), str(moved)))
    _, found = lines(home)
    assert levels(found["ledger"]) == ["fail"]
    assert "ledger verify" in found["ledger"][0]["fix"]
    assert "changed since it was registered" in found["data"][0]["sentence"]


@pytest.mark.usefixtures("fast_torch")
def test_a_new_home_has_no_roster_yet_and_keys_of_another_are_noticed(
    finished: Finished, tmp_path: Path
) -> None:
    home = tmp_path / "new"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ("--name", "new", "--listen", listen, "--consortium", "x")
        done("--home", home, "init", *options)
        code, found = lines(home)
    assert code == 1
    assert levels(found["roster"]) == ["warn"]
    assert levels(found["port"]) == ["fail"]
    assert "neighbour" not in found
    for key in ("identity", "transport", "log", "witness"):
        foreign = (finished.home / "keys" / f"{key}.key").read_bytes()
        (home / "keys" / f"{key}.key").write_bytes(foreign)
    _, found = lines(home)
    assert "not those the ledger was founded with" in found["keys"][0]["sentence"]


def clock(now_us: int, newest_us: int | None) -> Check:
    [check] = machine.check_clock(now_us, newest_us)
    return check


def test_a_clock_behind_the_ledger_says_by_how_much() -> None:
    now = 1_790_000_000_000_000
    assert clock(now, None).level is Level.OK
    assert clock(now, now - 1).level is Level.OK
    assert clock(now, now + 60_000_000).level is Level.WARN
    day_off = clock(now, now + 36 * 3_600_000_000)
    assert day_off.level is Level.FAIL
    assert "1.5 days before the newest ledger entry" in day_off.sentence
    assert "accept-clock" in day_off.fix
    assert clock(0, None).level is Level.FAIL


def test_limits_of_training_are_what_the_policy_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    policy = Policy(training_memory_gib=0.5, training_disk_gib=3.0)
    home.policy.write_bytes(render_policy(policy))
    assert read_policy(home.policy)[0] == policy
    monkeypatch.setattr(machine, "is_memory_seen", lambda: True)
    [check] = machine.check_limits(home)
    assert check.sentence.endswith("may take 0.5 GiB of memory, 3.0 GiB of disk")
    monkeypatch.setattr(machine, "is_memory_seen", lambda: False)
    [check] = machine.check_limits(home)
    assert check.level is Level.WARN
    assert "training_memory_gib in policy.toml limits nothing" in check.fix


def test_scarce_memory_is_worth_a_look(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:     2048 kB\n")
    [check] = machine.check_memory(meminfo)
    assert check.level is Level.WARN
    meminfo.write_text("MemAvailable:  8000000 kB\n")
    [check] = machine.check_memory(meminfo)
    assert check.level is Level.OK
    assert list(machine.check_memory(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("limit", "used", "cache"),
    [
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_memory_is_what_the_container_may_take(
    tmp_path: Path, limit: str, used: str, cache: str
) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemAvailable:  8000000 kB\n")
    (group / "memory").mkdir(parents=True)
    assert [one.level for one in machine.check_memory(meminfo, group)] == [Level.OK]
    (group / limit).write_text(f"{600 << 20}\n")
    (group / used).write_text(f"{500 << 20}\n")
    ((group / used).parent / "memory.stat").write_text(f"anon 7\n{cache} {100 << 20}\n")
    [check] = machine.check_memory(meminfo, group)
    assert check.level is Level.WARN
    assert "0.2 GiB of memory are free" in check.sentence
    assert "container" in check.fix
    (group / limit).write_text("max\n" if limit == "memory.max" else f"{(1 << 63) - 4096}\n")
    assert [one.level for one in machine.check_memory(meminfo, group)] == [Level.OK]
