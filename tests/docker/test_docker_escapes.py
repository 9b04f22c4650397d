"""The escape suite in a container of the node's image, under Docker's own confinement."""

import json
import subprocess

import pytest
from docker_containers import ROOT, Containers

pytestmark = pytest.mark.docker

TRIES = ROOT / "tests" / "runtime" / "confinement_tries.py"
AS_IN_A_NODE = """
import json, os, socket, subprocess, sys, tempfile
from dataclasses import replace
from pathlib import Path
from p2pfl.runtime.confinement.probing import standing_here
from p2pfl.runtime.confinement.starting import confined_command
from p2pfl.runtime.confinement.terms import Limits
outside = Path(tempfile.mkdtemp())
scratch, data = outside / "scratch", outside / "data.csv"
scratch.mkdir()
outside.chmod(0o755)
(outside / "identity.key").write_text("the node's key")
data.write_text("age,sick\\n50,1\\n")
standing = standing_here()
if standing.terms is None:
    sys.exit(json.dumps([os.getuid(), standing.level.value, standing.reason]))
limits = Limits(address_space_bytes=2 << 30, file_bytes=8 << 20, open_files=256)
terms = replace(standing.terms, limits=limits).with_paths((data,), (scratch,))
(scratch / "plan.py").write_text(trying_all(ESCAPES) + "print(os.getuid())")
listening = socket.create_server(("127.0.0.1", 0))
(scratch / "port").write_text(str(listening.getsockname()[1]))
variables = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
done = subprocess.run(
    confined_command(terms, [str(scratch / "plan.py"), str(outside)], variables),
    env=variables, cwd=scratch, capture_output=True, text=True, start_new_session=True,
)
assert data.read_text() == "age,sick\\n50,1\\n" and not (outside / "left").exists()
print(json.dumps([os.getuid(), standing.level.value, standing.reason, done.stdout, done.stderr]))
"""


def tried(image: Containers, *options: str) -> list[object]:
    """What a node with these options of `docker run` finds when its training tries to escape."""
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "-i", "--network", "none", *options),
            *("--entrypoint", "/opt/p2pfl/bin/python", "p2pfl-node", "-"),
        ],
        input=TRIES.read_text() + AS_IN_A_NODE,
        env=dict(image.environment),
        capture_output=True,
        text=True,
        timeout=120,
    )
    found: list[object] = json.loads((done.stdout or done.stderr).splitlines()[-1])
    return found


def test_training_in_a_container_escapes_nowhere(image: Containers) -> None:
    user, level, reason, said, complained = tried(image)
    assert (user != 0, level) == (True, "C")
    assert "bubblewrap" in str(reason)
    assert said == f"tried\n{user}\n", complained


ADVISED = (
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--read-only", "--tmpfs", "/tmp"),  # noqa: S108 - in the container
)
"""As docs/docker.md runs a hospital, and docker/compose.yml five."""


def test_training_in_a_container_as_advised_escapes_nowhere(image: Containers) -> None:
    user, level, _, said, complained = tried(image, *ADVISED)
    assert (user != 0, level) == (True, "C")
    assert said == f"tried\n{user}\n", complained


def test_training_of_a_root_s_container_runs_as_another_user(image: Containers) -> None:
    user, level, _, said, complained = tried(image, "--user", "0")
    assert (user, level) == (0, "C")
    first, whom = str(said).split()
    assert (first, int(whom) >= 61_184) == ("tried", True), complained


def test_a_root_who_may_not_change_users_trains_nothing(image: Containers) -> None:
    user, level, reason = tried(image, "--user", "0", "--cap-drop", "ALL")
    assert (user, level) == (0, "D")
    assert "CAP_SETUID" in str(reason)
    assert "Run the node as an ordinary user" in str(reason)
