"""The node's log for people, and the node in the background that writes it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from feat_stage import Finished
from ops_sites import done, p2pfl

from p2pfl.cli.log_text import shown
from p2pfl.runtime.errors import EXIT_LOCKED, EXIT_NO_INPUT, EXIT_UNAVAILABLE
from p2pfl.runtime.home import Home
from p2pfl.runtime.node_log import parse_line


def test_the_log_reads_like_a_report(finished: Finished) -> None:
    ran = done("--home", finished.home, "logs", "-n", 100)
    assert "(UTC)" in ran.out
    assert "the node listens on 127.0.0.1:" in ran.out
    assert "round 1/5 loss " in ran.out
    assert re.search(r"training (processes are |runs un)confined", ran.out)
    assert "offered=" not in ran.out
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert len(done("--home", finished.home, "logs", "-n", 2, "--json").out.splitlines()) == 2


def test_one_event_is_picked_and_an_unknown_one_named(finished: Finished) -> None:
    rounds = done("--home", finished.home, "logs", "--event", "round_done", "--json").out
    assert [json.loads(line)["round"] for line in rounds.splitlines()] == [0, 1, 2, 3, 4]
    unknown = done("--home", finished.home, "logs", "--event", "round_dne").out
    assert unknown.startswith('No line about "round_dne"')
    assert all(len(line) <= 80 for line in unknown.splitlines())
    assert "round_done" in unknown


def test_a_home_whose_node_never_ran_says_so(tmp_path: Path) -> None:
    options = ("--name", "new", "--listen", "127.0.0.1:7345", "--consortium", "x")
    done("--home", tmp_path / "new", "init", *options)
    ran = p2pfl("--home", tmp_path / "new", "logs")
    assert ran.code == EXIT_NO_INPUT
    assert "no node ever ran" in ran.err


def test_following_shows_what_comes_until_it_is_interrupted(finished: Finished) -> None:
    following = subprocess.Popen(
        [sys.executable, "-m", "p2pfl.cli.main", "--home", finished.home, "logs", "-n1", "-f"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    try:
        assert "(UTC)" in following.stdout.readline()
        line = {"event": "test_event", "level": "info", "timestamp": "2030-01-02T03:04:05Z"}
        with Home(finished.home).node_log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        came = iter(following.stdout.readline, "")
        assert "2030-01-02 (UTC)\n" in came
        assert next(came) == "03:04:05  test_event\n"
        following.send_signal(signal.SIGINT)
        assert following.wait(10.0) == 0
    finally:
        following.kill()
        following.wait()


def test_what_others_wrote_cannot_command_the_terminal() -> None:
    raw = json.dumps(
        {
            "event": "refused",
            "level": "warning",
            "timestamp": "2030-01-02T03:04:05Z",
            "source": "evil\x1b[2Jhost",
            "reason": "x\u202egnp.exe",
            "count": 3,
        }
    )
    line = parse_line(raw.encode())
    assert line is not None
    assert shown(line) == "03:04:05  turned away evil?[2Jhost: x?gnp.exe (×3)"


def test_the_node_in_the_background_outlives_the_command(finished: Finished) -> None:
    assert "The node runs in the background" in finished.started.out
    pid = int(Home(finished.home).node_pid.read_text())
    assert f"(process {pid})" in finished.started.out
    assert os.getsid(pid) == pid
    console = (finished.home / "logs" / "console.log").read_text()
    assert "listens on" in console


def test_a_second_node_is_refused_in_the_background_too(finished: Finished) -> None:
    ran = p2pfl("--home", finished.home, "node", "start", "--background")
    assert ran.code == EXIT_LOCKED
    assert "runs" in ran.err
    assert "already" in ran.err


def test_the_background_node_that_cannot_start_says_why(finished: Finished, tmp_path: Path) -> None:
    """A copy of a home whose node runs: its address is taken."""
    ran = p2pfl("--home", finished.copy(tmp_path / "home"), "node", "start", "--background")
    assert ran.code == EXIT_UNAVAILABLE
    assert "cannot listen on" in ran.err
    assert "→" in ran.err
    assert "Traceback" not in ran.err


def test_asking_for_a_status_loads_no_node(finished: Finished) -> None:
    """Health checks and monitoring ask again and again."""
    code = (
        "import sys; from p2pfl.cli.main import main; "
        f"code = main(['node', 'status', '--json', '--home', {str(finished.home)!r}]); "
        "sys.exit('numpy' in sys.modules or code)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "ledger_entries" in ended.stdout
