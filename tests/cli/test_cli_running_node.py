"""Commands while a node holds the home: they go through its control socket and end the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from ops_sites import done, p2pfl

from p2pfl.cli.context import now_us
from p2pfl.runtime.commands.catalogue import perform_request
from p2pfl.runtime.commands.opening import Site, open_site
from p2pfl.runtime.control import ControlServer
from p2pfl.runtime.control_call import call_node
from p2pfl.runtime.errors import EXIT_LOCKED, EXIT_REFUSED, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json


@contextmanager
def node_on(path: Path) -> Iterator[list[str]]:
    """Something that holds the home and answers commands, as a node does; yields their names."""
    home, served = Home(path), []
    ready, ended = threading.Event(), threading.Event()

    async def serve(site: Site) -> None:
        async def dispatch(command: str, arguments: Mapping[str, Json]) -> Json:
            served.append(command)
            return await asyncio.to_thread(perform_request, site, command, arguments)

        node = ControlServer(home, dispatch, lambda error: served.append(repr(error)))
        await node.start()
        ready.set()
        await asyncio.to_thread(ended.wait)
        await node.stop()

    def run() -> None:
        with open_site(home, purpose="node start", now_us=now_us) as site:
            asyncio.run(serve(site))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(10.0)
        yield served
    finally:
        ended.set()
        thread.join(10.0)


def test_a_whole_decision_runs_through_the_node(consortium: Path) -> None:
    home = consortium / "site0"
    with node_on(home) as served:
        kept = done("study", "propose", consortium / "study.toml", "--home", home, "--json").json
        words = ("study", "approve", kept["study"][:8], "--data", "patients", "--home", home)
        assert done(*words, "--json").json["decision"] == "approved"
        assert done("study", "list", "--home", home, "--json").json[0]["standing"] == "approved"
        done("study", "revoke", kept["study"], "--home", home)
        done("data", "revoke", "patients", "--home", home)
        assert done("ledger", "verify", "--home", home).code == 0
    assert served == ["study propose", "study approve", "study revoke", "data revoke"]
    assert done("ledger", "audit", "--home", home).code == 0


def test_a_refusal_reads_the_same_through_the_node(consortium: Path, proposed: str) -> None:
    home = consortium / "site0"
    words = ("study", "approve", proposed, "--data", "patients", "--role", "boss", "--home", home)
    alone = p2pfl(*words)
    with node_on(home):
        through_node = p2pfl(*words)
    assert through_node == alone
    assert alone.code == EXIT_REFUSED


def test_an_unknown_command_is_refused_by_the_node(consortium: Path) -> None:
    home = consortium / "site0"
    unknown = 'knows no command "study explode"'
    with node_on(home), pytest.raises(OperatorError, match=unknown) as caught:
        call_node(Home(home), "study explode", {}, timeout_s=10.0)
    assert caught.value.exit_code == EXIT_USAGE


def test_arguments_of_another_version_are_refused_by_the_node(consortium: Path) -> None:
    home = consortium / "site0"
    with node_on(home) as served, pytest.raises(OperatorError, match="different versions"):
        call_node(Home(home), "study approve", {"study": "abcdef"}, timeout_s=10.0)
    assert served == ["study approve"]


def test_a_second_holder_is_refused_while_the_node_starts(consortium: Path) -> None:
    """Between taking the lock and listening, a node cannot answer: the lock speaks for it."""
    home = consortium / "site0"
    with open_site(Home(home), purpose="node start", now_us=now_us):
        refused = p2pfl("data", "revoke", "patients", "--home", home)
    assert refused.code == EXIT_LOCKED
    assert "`p2pfl node start`" in refused.err
