"""The caller's side of the control socket: hand one command to the node that runs on a home."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping

from p2pfl.runtime.control import PATH, reachable_name
from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket that is already connected."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__("control")
        self.sock = connected

    def connect(self) -> None:
        """Nothing to do: the socket came connected."""


def node_is_running(home: Home) -> bool:
    """Whether a node answers on the home's control socket."""
    connected = _connected(home, timeout_s=5.0)
    if connected is None:
        return False
    connected.close()
    return True


def call_node(home: Home, command: str, arguments: Mapping[str, Json], *, timeout_s: float) -> Json:
    """Have the running node perform a command and return its result.

    Raises OperatorError: the node's own, or one that says it did not answer.
    """
    connected = _connected(home, timeout_s)
    if connected is None:
        raise OperatorError(
            f"No node is running on {home.path}.",
            fix="Start it with `p2pfl node start`.",
            exit_code=EXIT_UNAVAILABLE,
        )
    connection = _UnixConnection(connected)
    try:
        connection.request(
            "POST",
            PATH,
            json.dumps({"command": command, "arguments": dict(arguments)}).encode(),
            {"Content-Type": "application/json"},
        )
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OperatorError(
            f"The running node did not answer ({error or type(error).__name__}).",
            fix=f"See its log at {home.node_log}, or stop it and run the command again.",
            exit_code=EXIT_UNAVAILABLE,
        ) from error
    finally:
        connection.close()
    match answer:
        case {"ok": True, "result": result}:
            return result  # type: ignore[no-any-return]  # JSON by construction
        case {"error": {"message": str(message), "fix": str(fix), "exit_code": int(exit_code)}}:
            raise OperatorError(message, fix=fix, exit_code=exit_code)
    raise OperatorError(
        "The running node answered something unknown.",
        fix="Use the p2pfl command of the same version as the node.",
        exit_code=EXIT_UNAVAILABLE,
    )


def _connected(home: Home, timeout_s: float) -> socket.socket | None:
    """A connection to the node, or None where none listens (a dead node's socket included)."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(timeout_s)
    try:
        with reachable_name(home) as name:
            connected.connect(name)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        connected.close()
        return None
    except OSError:
        connected.close()
        raise
    return connected
