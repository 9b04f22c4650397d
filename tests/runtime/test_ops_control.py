"""The control socket: who may use it, what comes back, and what happens when nobody answers."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from p2pfl.runtime.control import ControlServer, reachable_name
from p2pfl.runtime.control_call import call_node, node_is_running
from p2pfl.runtime.errors import EXIT_BUG, EXIT_UNAVAILABLE, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def echo(command: str, arguments: Mapping[str, Json]) -> Json:
    match command:
        case "echo":
            return {"command": command, "arguments": dict(arguments)}
        case "refuse":
            raise OperatorError("No.", fix="Ask again.", exit_code=13)
        case _:
            raise ZeroDivisionError("a bug")


def exchange(home: Home, command: str, arguments: Mapping[str, Json]) -> tuple[Json, list[str]]:
    """One command through a real socket; returns the result and the bugs reported."""
    bugs: list[str] = []

    async def serve_once() -> Json:
        node = ControlServer(home, echo, lambda error: bugs.append(str(error)))
        await node.start()
        try:
            return await asyncio.to_thread(call_node, home, command, arguments, timeout_s=10.0)
        finally:
            await node.stop()

    return asyncio.run(serve_once()), bugs


def test_a_command_reaches_the_dispatcher_and_its_result_comes_back(home: Home) -> None:
    arguments: dict[str, Json] = {"name": "ε", "numbers": [1, 2.5, None], "deep": {"a": True}}
    result, bugs = exchange(home, "echo", arguments)
    assert result == {"command": "echo", "arguments": arguments}
    assert bugs == []


def test_a_refusal_comes_back_as_it_was_raised(home: Home) -> None:
    with pytest.raises(OperatorError) as caught:
        exchange(home, "refuse", {})
    assert (caught.value.message, caught.value.fix) == ("No.", "Ask again.")
    assert caught.value.exit_code == 13


def test_a_bug_in_the_node_is_called_one_and_reported_to_its_log(home: Home) -> None:
    bugs: list[str] = []

    async def serve_once() -> None:
        node = ControlServer(home, echo, lambda error: bugs.append(str(error)))
        await node.start()
        try:
            with pytest.raises(OperatorError, match="ZeroDivisionError") as caught:
                await asyncio.to_thread(call_node, home, "broken", {}, timeout_s=10.0)
            assert caught.value.exit_code == EXIT_BUG
            # The node goes on.
            assert await asyncio.to_thread(call_node, home, "echo", {}, timeout_s=10.0)
        finally:
            await node.stop()

    asyncio.run(serve_once())
    assert bugs == ["a bug"]


def test_only_the_owner_may_open_the_socket_and_it_goes_with_the_node(home: Home) -> None:
    async def serve_once() -> None:
        node = ControlServer(home, echo, lambda error: None)
        await node.start()
        assert stat.S_IMODE(home.control_socket.stat().st_mode) == 0o600
        assert await asyncio.to_thread(node_is_running, home)
        await node.stop()
        await node.stop()

    asyncio.run(serve_once())
    assert not home.control_socket.exists()
    assert not node_is_running(home)


def test_a_dead_nodes_socket_counts_as_no_node_and_is_replaced(home: Home) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(home.control_socket))
    dead.close()
    assert home.control_socket.exists()
    assert not node_is_running(home)
    result, _ = exchange(home, "echo", {})
    assert result


def test_calling_without_a_node_says_so(home: Home) -> None:
    with pytest.raises(OperatorError, match="No node is running") as caught:
        call_node(home, "echo", {}, timeout_s=1.0)
    assert caught.value.exit_code == EXIT_UNAVAILABLE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"[" * 5000,
        b"[]",
        b'{"command": "echo"}',
        b'{"command": 1, "arguments": {}}',
        b'{"command": "echo", "arguments": {}, "more": 1}',
    ],
)
def test_requests_of_another_form_are_refused(home: Home, body: bytes) -> None:
    async def serve_once() -> dict[str, Json]:
        import aiohttp

        node = ControlServer(home, echo, lambda error: None)
        await node.start()
        try:
            connector = aiohttp.UnixConnector(str(home.control_socket))
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.post("http://control/v1/command", data=body) as response,
            ):
                answer: dict[str, Json] = json.loads(await response.read())
                return answer
        finally:
            await node.stop()

    answer = asyncio.run(serve_once())
    assert answer["ok"] is False
    assert isinstance(answer["error"], dict)
    assert answer["error"]["exit_code"] == EXIT_USAGE


def test_a_node_that_hangs_up_is_said(home: Home) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(home.control_socket))
    listening.listen(1)

    async def hang_up() -> None:
        calling = asyncio.create_task(
            asyncio.to_thread(call_node, home, "echo", {}, timeout_s=10.0)
        )
        taken, _ = await asyncio.to_thread(listening.accept)
        taken.close()
        with pytest.raises(OperatorError, match="did not answer"):
            await calling

    asyncio.run(hang_up())
    listening.close()


def test_homes_in_deep_directories_still_have_a_socket(tmp_path: Path) -> None:
    deep = Home(tmp_path / ("d" * 60) / ("e" * 60))
    deep.path.mkdir(parents=True)
    with reachable_name(deep) as name:
        assert len(name) < 108
    result, _ = exchange(deep, "echo", {})
    assert result
