"""The control socket: how a command reaches the node that runs on the same home.

`<home>/control.sock`, mode 0600: whoever may open it owns the home. One HTTP request per command:
POST /v1/command {"command": …, "arguments": {…}} → {"ok": true, "result": {…}} or
{"ok": false, "error": {"message": …, "fix": …, "exit_code": …}}.

Knows neither commands nor studies: the node hands in a dispatcher.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from p2pfl.runtime.errors import EXIT_BUG, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json

if TYPE_CHECKING:
    from aiohttp import web

REQUEST_BYTES_MAX: Final = 1 << 20
PATH: Final = "/v1/command"
SOCKET_PATH_BYTES_MAX: Final = 107
"""What the kernel takes as a unix socket's name."""

Dispatcher = Callable[[str, Mapping[str, Json]], Awaitable[Json]]
"""(command, arguments) → result. May raise OperatorError; anything else is our bug."""
BugReport = Callable[[BaseException], None]
"""Told about a dispatcher's bug, so that it reaches the node's log."""


class ControlServer:
    """Answers commands while the node runs. Used from the node's asyncio loop only."""

    def __init__(self, home: Home, dispatch: Dispatcher, report_bug: BugReport) -> None:
        self._home = home
        self._dispatch = dispatch
        self._report_bug = report_bug
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. The caller holds the home's lock, so a socket that is there is a dead one's."""
        from aiohttp import web

        app = web.Application(client_max_size=REQUEST_BYTES_MAX)
        app.router.add_post(PATH, self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        self._remove()
        with reachable_name(self._home) as name:
            # Created under a closed umask: never, not even for a moment, open to others.
            before = os.umask(0o177)
            try:
                await web.UnixSite(self._runner, name).start()
            finally:
                os.umask(before)

    async def stop(self) -> None:
        """Stop listening; requests under way are given a moment to end."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._home.control_socket.unlink()

    async def _answer(self, request: web.Request) -> web.Response:
        from aiohttp import web

        try:
            command, arguments = _parse(await request.read())
            result = await self._dispatch(command, arguments)
            answer: Json = {"ok": True, "result": result}
        except OperatorError as error:
            answer = _refusal(error.message, error.fix, error.exit_code)
        except Exception as error:  # the node goes on; the person learns that it is our bug
            self._report_bug(error)
            answer = _refusal(
                f"The node met an error of its own ({type(error).__name__}).",
                f"This is our bug; the log is at {self._home.node_log}.",
                EXIT_BUG,
            )
        return web.json_response(answer)


@contextlib.contextmanager
def reachable_name(home: Home) -> Iterator[str]:
    """A name of the control socket that is short enough for the kernel."""
    path = home.control_socket.absolute()
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield str(path)
        return
    # Deep directories: reach the socket through an open descriptor of its directory.
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def _parse(body: bytes) -> tuple[str, Mapping[str, Json]]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        request = None
    match request:
        case {"command": str(command), "arguments": dict(arguments)} if len(request) == 2:
            return command, arguments
    raise OperatorError(
        "The control request is not {command, arguments}.",
        fix="Use the p2pfl command of the same version as the node.",
        exit_code=EXIT_USAGE,
    )


def _refusal(message: str, fix: str, exit_code: int) -> Json:
    return {"ok": False, "error": {"message": message, "fix": fix, "exit_code": exit_code}}
