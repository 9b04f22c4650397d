"""`p2pfl node start --background`: the node in a session of its own, started and seen to listen."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

from p2pfl.cli.context import say

if TYPE_CHECKING:
    from p2pfl.runtime.errors import OperatorError
    from p2pfl.runtime.home import Home
    from p2pfl.runtime.node_log import Follower

READY_S_MAX: Final = 60.0
LOOK_EVERY_S: Final = 0.1
CONSOLE_BYTES_MAX: Final = 1 << 20
SAID_BYTES_MAX: Final = 1 << 16


def start_in_background(home: Home, *, offline_ok: bool = False) -> None:
    """Start the node and return once it listens. Raises OperatorError with the node's own words.

    It outlives this terminal; what it would print goes to logs/console.log.
    """
    from p2pfl.cli.demo_nodes import program
    from p2pfl.cli.progress import working
    from p2pfl.runtime.node_log import Follower

    _refuse_second(home)
    console = home.logs / "console.log"
    if console.is_file() and console.stat().st_size > CONSOLE_BYTES_MAX:
        console.replace(console.with_name("console.log.1"))
    log = Follower(home.node_log, from_start=False)
    offline = ["--offline-ok"] if offline_ok else []
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    with open(os.open(console, flags, 0o600), "ab") as output:
        said_before = output.tell()
        # Our own program, started as its user would start it.
        process = subprocess.Popen(  # noqa: S603
            [*program(), "--home", str(home.path), "node", "start", *offline],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with working("The node starts …"):
        _wait_until_ready(home, process, log, said_before)
    say(f"The node runs in the background (process {process.pid}).")
    say("It tells more with `p2pfl node status` and `p2pfl logs --follow`.")
    # It is meant to outlive this process: nobody waits for it here.
    process.returncode = 0


def _refuse_second(home: Home) -> None:
    from p2pfl.runtime.control_call import node_is_running
    from p2pfl.runtime.errors import EXIT_LOCKED, OperatorError

    if node_is_running(home):
        raise OperatorError(
            f"A node runs on {home.path} already.",
            fix="See `p2pfl node status`; every home has one node.",
            exit_code=EXIT_LOCKED,
        )


def _wait_until_ready(
    home: Home, process: subprocess.Popen[bytes], log: Follower, said_before: int
) -> None:
    from p2pfl.runtime.control_call import node_is_running
    from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError

    is_ready = False
    end_s = time.monotonic() + READY_S_MAX
    while time.monotonic() < end_s:
        code = process.poll()
        if code is not None:
            raise _early_end(home, code, said_before)
        is_ready = is_ready or any(line.event == "node_ready" for line in log.new_lines())
        if is_ready and node_is_running(home):
            return
        time.sleep(LOOK_EVERY_S)
    process.send_signal(signal.SIGTERM)
    process.wait()
    raise OperatorError(
        f"The node was not ready after {READY_S_MAX:g} s and was stopped.",
        fix=f"Look at {home.node_log} and {home.logs / 'console.log'}.",
        exit_code=EXIT_UNAVAILABLE,
    )


def _early_end(home: Home, code: int, said_before: int) -> OperatorError:
    """What the node said before it ended, as if it had been said here."""
    from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError

    with (home.logs / "console.log").open("rb") as file:
        file.seek(said_before)
        said = file.read(SAID_BYTES_MAX).decode("utf-8", "replace").strip()
    problem, _, fix = said.rpartition("\n→ ")
    last = (problem or said).rpartition("\n")[2]
    return OperatorError(
        last or f"The node ended with status {code} and said nothing.",
        fix=fix or f"Look at {home.node_log}.",
        exit_code=code if code > 0 else EXIT_UNAVAILABLE,
    )
