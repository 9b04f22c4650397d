"""A Docker engine (started here if none runs), the image, and five hospitals that start clean."""

import os
import re
import subprocess
from collections.abc import Iterator

import pytest
from docker_containers import ROOT, Containers

BUILD_S = 1500


@pytest.fixture(scope="session")
def engine() -> Iterator[Containers]:
    """An engine that answers: the machine's own, else one that is stopped at the end."""
    started = subprocess.run(
        [str(ROOT / "scripts" / "docker_engine.sh"), "start"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=BUILD_S,
        check=True,
    )
    exported = dict(re.findall(r"([A-Z_]+)=(\S+)", started.stdout))
    containers = Containers({**os.environ, **exported})
    yield containers
    if "DOCKER_HOST" in exported:
        containers.script("docker_engine.sh", "stop", limit_s=60)


@pytest.fixture(scope="session")
def image(engine: Containers) -> Containers:
    """The image of this checkout."""
    assert engine.script("docker_build.sh", limit_s=BUILD_S) == 0
    return engine


@pytest.fixture
def containers(image: Containers) -> Iterator[Containers]:
    """A clean start, and nothing left behind."""
    yield image
    assert image.demo("--down") == 0
