"""The escape suite: what a confined process tries, the kernel refuses; what training needs, works.

Each attempt is a script that prints ESCAPED when it got through."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from confinement_tries import ESCAPES, PRELUDE, trying_all

from p2pfl.runtime.confinement.bubblewrap import found_here
from p2pfl.runtime.confinement.errors import EXIT_NOT_CONFINED, ConfinementError
from p2pfl.runtime.confinement.starting import confined_command
from p2pfl.runtime.confinement.terms import Level, Limits, Terms, keeper_terms, terms_here

SECRET = "the node's key"
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.fixture(scope="module")
def best() -> Terms:
    """Of the best level of this machine."""
    try:
        return terms_here()
    except ConfinementError as error:
        pytest.skip(f"this machine cannot confine: {error}")


@pytest.fixture(params=[Level.B, Level.C], ids=lambda level: level.value)
def terms(request: pytest.FixtureRequest, best: Terms) -> Terms:
    """Of each level of this machine."""
    if request.param is Level.B and best.bubblewrap is None:
        pytest.skip(f"no level B here: {found_here(best.user, best.read).reason}")
    return best if request.param is Level.B else replace(best, bubblewrap=None)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    (tmp_path / "identity.key").write_text(SECRET)
    (tmp_path / "data.csv").write_text("age,sick\n50,1\n")
    return folder


def confined(scratch: Path, code: str, terms: Terms) -> subprocess.CompletedProcess[str]:
    script = scratch / "plan.py"
    script.write_text(code)
    outside = scratch.parent
    given = terms.with_paths((outside / "data.csv",), (scratch,))
    return run(given, script, outside, scratch)


def run(terms: Terms, *program: Path) -> subprocess.CompletedProcess[str]:
    """A script with its arguments; the last is where it runs, too."""
    scratch = program[-1]
    environment = ENVIRONMENT | {"HOME": str(scratch)}
    return subprocess.run(
        confined_command(terms, [str(word) for word in program], environment),
        env=environment,
        cwd=scratch,
        capture_output=True,
        text=True,
        timeout=240,
        start_new_session=True,
        check=False,
    )


def test_what_training_needs_works(scratch: Path, terms: Terms) -> None:
    code = """
import math, sys, threading
from pathlib import Path
outside = Path(sys.argv[1])
assert (outside / "data.csv").read_text().startswith("age")
thread = threading.Thread(target=lambda: Path("out.bin").write_bytes(b"x" * 100_000))
thread.start(); thread.join()
Path("out.bin").rename("model.bin")
Path("model.bin").unlink()
Path("folder").mkdir()
import numpy
assert math.isclose((numpy.ones((300, 300)) @ numpy.ones(300)).sum(), 90_000)
print("trained")
"""
    done = confined(scratch, code, terms)
    assert done.stdout == "trained\n", done.stderr
    assert done.returncode == 0


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
WHO = """
import os, sys
from pathlib import Path
said = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
held = [int(said[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
print({*os.getresuid(), *os.getresgid(), *os.getgroups()}, *held)
assert os.stat(".").st_uid == os.getuid()
"""


@AS_ROOT
def test_a_root_node_s_process_is_another_user_whose_only_power_is_to_read(
    scratch: Path, terms: Terms
) -> None:
    (scratch.parent / "data.csv").chmod(0)
    done = confined(
        scratch, WHO + "assert Path(sys.argv[1], 'data.csv').read_text()[0] == 'a'", terms
    )
    assert terms.user not in (None, 0)
    assert done.stdout == f"{{{terms.user}}} 0 4 4 0 0\n", done.stderr


@AS_ROOT
def test_nothing_runs_as_root_even_where_the_terms_forget_to_say_as_whom(
    scratch: Path, terms: Terms
) -> None:
    done = confined(scratch, "print('ran')", replace(terms, user=None))
    assert (done.returncode, done.stdout) == (EXIT_NOT_CONFINED, "")
    assert "run the node as an ordinary user" in done.stderr


SMALL = Limits(address_space_bytes=2 << 30, file_bytes=8 << 20, open_files=256)


@pytest.mark.parametrize("what", ESCAPES)
def test_an_escape_is_refused(scratch: Path, best: Terms, what: str) -> None:
    with listening(scratch):
        code = f'{PRELUDE}\n{ESCAPES[what]}\nprint("ESCAPED")\n'
        done = confined(scratch, code, replace(best, limits=SMALL))
    assert "ESCAPED" not in done.stdout
    assert done.returncode != 0
    assert SECRET not in done.stdout + done.stderr
    check_nothing_happened(scratch)


def test_a_process_that_tries_every_escape_gets_nowhere(scratch: Path, terms: Terms) -> None:
    """All of them in one process, at each level."""
    with listening(scratch):
        done = confined(scratch, trying_all(ESCAPES), replace(terms, limits=SMALL))
    assert done.stdout == "tried\n", done.stderr
    assert SECRET not in done.stderr
    check_nothing_happened(scratch)


@contextmanager
def listening(scratch: Path) -> Iterator[None]:
    """Somebody to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        (scratch / "port").write_text(str(found.getsockname()[1]))
        yield


def check_nothing_happened(scratch: Path) -> None:
    assert (scratch.parent / "data.csv").read_text() == "age,sick\n50,1\n"
    assert not (scratch.parent / "left").exists()


def test_the_keeper_of_cells_gets_no_further_and_may_only_fork(scratch: Path, terms: Terms) -> None:
    """Every escape in one process of the keeper's terms, each in a child of its own."""
    given = keeper_terms(terms).with_paths((scratch,), ())
    tried = {what: code for what, code in ESCAPES.items() if what not in FOR_OTHER_LIMITS}
    code = f"""{PRELUDE}
for what, code in {tried!r}.items():
    child = os.fork()
    if child == 0:
        try:
            exec(code)
        except BaseException:
            os._exit(0)
        os._exit(9)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9:
        print("ESCAPED:", what)
print("tried")
"""
    script = scratch / "plan.py"
    with listening(scratch):
        script.write_text(code)
        done = run(given, script, scratch.parent, scratch)
    assert done.stdout == "tried\n", done.stderr
    check_nothing_happened(scratch)


FOR_OTHER_LIMITS = {"starts a child", "takes all memory", "signals a thread of its parent"}
"""The keeper forks by design, its memory is limited to more than this one test's, and here the
parent is the keeper itself: whoever shares its confinement may signal it, unless it is a cell."""


def test_a_process_that_cannot_be_confined_runs_nothing(scratch: Path, terms: Terms) -> None:
    done = confined(scratch, "print('ran')", terms.with_paths((scratch / "missing",), ()))
    assert done.returncode == (EXIT_NOT_CONFINED if terms.bubblewrap is None else 1)
    assert "ran" not in done.stdout
    assert f"{scratch}/missing" in done.stderr


def test_terms_survive_the_command_line(terms: Terms) -> None:
    assert Terms.from_text(terms.to_text()) == terms


def test_a_confined_process_ends_with_its_node(scratch: Path, terms: Terms) -> None:
    given = terms.with_paths((), (scratch,))
    script = scratch / "plan.py"
    forget = "import ctypes; ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)"
    script.write_text(f"{forget}\nprint('ready', flush=True)\nwhile True: pass\n")
    command = confined_command(given, [str(script)], ENVIRONMENT)
    starter = f"""
import os, subprocess, sys
child = subprocess.Popen({command!r}, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
os.kill(os.getpid(), {signal.SIGKILL.value})
"""
    done = subprocess.run(
        [sys.executable, "-c", starter], capture_output=True, text=True, timeout=240, check=False
    )
    pid = int(done.stdout)
    pidfd = None
    try:
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, 0)
        import select

        ended, _, _ = select.select([pidfd], [], [], 30)
        assert ended, "the child outlived its node"
    except ProcessLookupError:
        pass  # it has ended already
    finally:
        if pidfd is not None:
            os.close(pidfd)
