"""The demonstration's containers, as a test speaks to them."""

import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HOSPITALS = ("hospital-a", "hospital-b", "hospital-c", "hospital-d", "hospital-e")
PROJECT = "p2pfl-demo"
NETWORK = f"{PROJECT}_consortium"
DEMO_S = 1200


@dataclass(frozen=True, slots=True)
class Containers:
    """The demonstration's containers, spoken to as a person would: docker and our scripts."""

    environment: Mapping[str, str]

    def script(self, name: str, *words: str, limit_s: float) -> int:
        """Run one of scripts/docker_*.sh, its output where ours goes; returns its exit code."""
        command = [str(ROOT / "scripts" / name), *words]
        finished = subprocess.run(command, env=self.environment, timeout=limit_s, check=False)
        return finished.returncode

    def demo(self, *words: str) -> int:
        """Some steps of scripts/docker_demo.sh."""
        return self.script("docker_demo.sh", *words, limit_s=DEMO_S)

    def compose(self, *words: str) -> int:
        """A compose command on docker/compose.yml, v2 or v1; returns its exit code."""
        has_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
        program = ["docker", "compose"] if has_plugin.returncode == 0 else ["docker-compose"]
        command = [*program, "-p", PROJECT, "-f", str(ROOT / "docker" / "compose.yml"), *words]
        return subprocess.run(command, env=self.environment, timeout=DEMO_S).returncode

    def docker(self, *words: str) -> str:
        """A docker command that has to succeed; returns what it printed."""
        finished = subprocess.run(
            ["docker", *words], env=self.environment, timeout=60, capture_output=True, text=True
        )
        assert finished.returncode == 0, f"docker {' '.join(words)}: {finished.stderr}"
        return finished.stdout

    def said(self, container: str) -> str:
        """Everything a container has said so far, complaints included."""
        finished = subprocess.run(
            ["docker", "logs", container],
            env=self.environment,
            timeout=60,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert finished.returncode == 0, finished.stdout
        return finished.stdout

    def p2pfl(self, hospital: str, *words: str) -> str:
        """A p2pfl command inside a hospital's container."""
        return self.docker("exec", hospital, "p2pfl", *words)

    def told(self, hospital: str, pattern: str, *, since: str, limit_s: float = 120.0) -> str:
        """Wait until the node's console says something that matches, after `since` (RFC 3339)."""
        following = subprocess.Popen(
            ["docker", "logs", "--follow", "--since", since, hospital],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        timer = threading.Timer(limit_s, following.kill)
        timer.start()
        heard: list[str] = []
        try:
            assert following.stdout is not None
            for line in following.stdout:
                heard.append(line)
                if re.search(pattern, line):
                    return line
        finally:
            timer.cancel()
            following.kill()
            following.wait()
        said = "".join(heard[-20:])
        pytest.fail(f"{hospital} did not say {pattern!r} within {limit_s} s, but:\n{said}")


def now() -> str:
    """This moment, as docker reads it."""
    return datetime.now(UTC).isoformat()
