"""The image and five hospitals on a real engine: `make test-docker`."""

import json

import pytest
from docker_containers import HOSPITALS, NETWORK, Containers, now

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2400)]

A_ROUND = r"round +\d+/"


def test_image_runs_as_an_ordinary_user_and_holds_no_build_tools(image: Containers) -> None:
    seen = image.docker(
        *("run", "--rm", "--network", "none", "p2pfl-node", "sh", "-c"),
        "id -u; command -v gcc cc pip || echo none; p2pfl version",
    ).splitlines()

    assert seen[:2] == ["1000", "none"]
    assert len(seen) > 2
    history = image.docker("history", "--no-trunc", "p2pfl-node")
    assert "://" not in history, "an address of some index or mirror is in the image"


def test_hospital_waits_to_be_founded_and_stops_when_told(image: Containers) -> None:
    started = now()
    name = "unfounded-hospital"
    image.docker("run", "--detach", "--rm", "--name", name, "--network", "none", "p2pfl-node")
    try:
        assert "p2pfl init" in image.told(name, "waiting", since=started)
    finally:
        image.docker("stop", "--time", "20", name)


def test_demonstration_goes_from_founding_to_clean_audits_by_itself(containers: Containers) -> None:
    assert containers.demo("--no-build", "--rounds", "4") == 0

    for hospital in HOSPITALS:
        status = json.loads(containers.p2pfl(hospital, "node", "status", "--json"))
        assert len(status["connected"]) == len(HOSPITALS) - 1
        looked = json.loads(containers.p2pfl(hospital, "doctor", "--json"))
        levels = {check["name"]: check["level"] for check in looked["checks"]}
        assert levels["confinement"] == "ok", "training is not confined in a container"
        verified = json.loads(containers.p2pfl(hospital, "ledger", "verify", "--json"))
        assert verified["exit_code"] == 0
        probed = containers.docker("exec", hospital, "sh", "-c", healthcheck(containers, hospital))
        assert probed == ""
        first = containers.docker("exec", hospital, "cat", "/proc/1/comm")
        assert "init" in first, "nobody buries the processes of health checks"


def test_compose_alone_goes_from_founding_to_clean_audits(containers: Containers) -> None:
    up = ("--profile", "demo", "up", "--exit-code-from", "founder")

    assert containers.compose(*up) == 0
    assert "at all five hospitals, and every audit is clean." in containers.said("founder")

    assert containers.compose(*up) == 1, "it must not found anything a second time"
    assert "founded before" in containers.said("founder")


def test_study_survives_a_cut_network_and_a_killed_container(containers: Containers) -> None:
    assert containers.demo("--no-build", "found") == 0
    begun = now()
    assert containers.demo("--rounds", "250", "--round-deadline", "2", "study") == 0
    containers.told("hospital-a", r"round +[5-9]/", since=begun)

    cut = now()
    containers.docker("network", "disconnect", NETWORK, "hospital-e")
    containers.told("hospital-e", r"… heard \d neighbours, needs", since=cut)
    containers.told("hospital-a", r"round +[2-9]\d/.* heard 3/4", since=cut)

    healed = now()
    # Connecting by hand does not restore the name by itself.
    containers.docker("network", "connect", "--alias", "hospital-e", NETWORK, "hospital-e")
    containers.told("hospital-e", "caught up", since=healed)
    containers.told("hospital-e", r"round +([2-9]\d|\d{3})/.* heard [2-4]/4", since=healed)

    killed = now()
    containers.docker("kill", "hospital-b")
    containers.told("hospital-c", A_ROUND, since=killed)
    containers.docker("start", "hospital-b")
    containers.told("hospital-b", "listens on", since=killed)
    containers.told("hospital-b", A_ROUND, since=killed)

    assert containers.demo("watch") == 0
    assert containers.demo("audit") == 0


def healthcheck(containers: Containers, hospital: str) -> str:
    """The command behind the container's health."""
    told = containers.docker("inspect", "--format", "{{json .Config.Healthcheck.Test}}", hospital)
    kind, command = json.loads(told)
    assert kind == "CMD-SHELL"
    return str(command)
