"""The escape suite where the node is an ordinary user, run by a root who becomes one.

Python may lie in a folder that only root may enter, so it is run where that folder is another: in
a mount namespace that bubblewrap makes."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.runtime.confinement.bubblewrap import found_here, ways_to
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.terms import terms_here

ROOT = Path(__file__).parents[2]
NOBODY = "65534"
QUICK = (
    "level_of_what_works or every_escape or keeper_of_cells or training_needs or ends_with_its_node"
)


def as_nobody(*selected: str) -> str:
    """What pytest says of the escape suite, run as an ordinary user. Skips where it cannot be."""
    if os.geteuid() != 0:
        pytest.skip("this user is an ordinary one: the suite itself is this test")
    try:
        best = terms_here()
    except ConfinementError as error:
        pytest.skip(f"this machine cannot confine: {error}")
    if best.bubblewrap is None:
        reason = found_here(best.user, best.read).reason
        pytest.skip(f"an ordinary user could not enter Python's folder: {reason}")
    tests = [f"tests/runtime/test_confinement_{what}.py" for what in ("escapes", "probing")]
    done = subprocess.run(
        [
            *(best.bubblewrap, "--die-with-parent", "--dev-bind", "/", "/", *opened(), "--"),
            *("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"),
            *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *tests, *selected),
        ],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "USER": "nobody"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def opened() -> Iterator[str]:
    """Each folder on the way to Python and to us that nobody may enter, replaced by an open one."""
    wanted = {Path(sys.prefix), Path(sys.base_prefix), ROOT}
    closed = {found for path in wanted if (found := outermost_closed(path)) is not None}
    for folder in sorted(closed):
        yield from ("--tmpfs", str(folder))
    for path in sorted(wanted):
        if any(folder in path.parents for folder in closed):
            yield from (*ways_to(path), "--ro-bind", str(path), str(path))


def outermost_closed(path: Path) -> Path | None:
    above = [*reversed(path.parents), path]
    return next((one for one in above if not one.stat().st_mode & 0o001), None)


def summary(said: str) -> tuple[int, str]:
    """How many passed, and why any were skipped."""
    found = re.search(r"(\d+) passed", said)
    return int(found[1]) if found else 0, "\n".join(re.findall(r"^SKIPPED.*", said, re.MULTILINE))


def test_an_ordinary_user_s_training_escapes_nowhere() -> None:
    passed, skipped = summary(as_nobody("-v", "-k", QUICK))
    assert passed >= 5, "at level C, and at B where an ordinary user may have namespaces"
    assert "cannot confine" not in skipped


@pytest.mark.long
def test_an_ordinary_user_s_training_escapes_nowhere_each_escape_alone() -> None:
    passed, _ = summary(as_nobody("-v"))
    assert passed > 75
