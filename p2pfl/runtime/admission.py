"""Where invited sites ask to be let in: open only while an invitation waits, deaf to all others.

Whoever connects speaks first, in one frame sealed under an invitation's secret. To anything else
nothing is answered: the connection is closed. What it changes is one file, the applicant's card;
people do the rest. Frames: four bytes of length, then a box of `gossip.invitation`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gossip.addresses import split_address
from gossip.card import Card
from gossip.errors import PeerError
from gossip.invitation import (
    ANSWER_BYTES_MAX,
    ASK_BYTES_MAX,
    AdmissionState,
    Answer,
    Invitation,
    RandomBytes,
    is_receipt,
    open_answer,
    open_ask,
    seal_answer,
    seal_ask,
    seal_receipt,
)
from gossip.roster_chain import encode_chain
from p2pfl.core import effects as fx
from p2pfl.core.membership import Membership
from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.invitations import (
    Pending,
    forget_pending,
    keep_pending,
    read_pending,
    remove_expired,
)

CONNECTIONS_MAX: Final = 16
"""At once; a further one takes the place of the oldest, so that nobody can hold all of them."""
ASK_S: Final = 10.0
"""For connecting, and for the first frame to arrive."""
ANSWER_S: Final = 180.0
"""For a chain of rosters to be sent and acknowledged."""
_LENGTH_BYTES = 4
_BOX_BYTES = 64
"""More than a nonce and an authenticator take."""


class Admission:
    """The listener of a running node. Used from the node's loop.

    host: where the node itself listens. show: tells people."""

    def __init__(
        self,
        home: Home,
        host: str,
        membership: Callable[[], Membership],
        *,
        clock_s: Callable[[], float],
        random_bytes: RandomBytes,
        show: Callable[[fx.Happened], None],
    ) -> None:
        self._home = home
        self._host = host
        self._membership = membership
        self._clock_s = clock_s
        self._random_bytes = random_bytes
        self._show = show
        self._pending: list[Pending] = []
        self._servers: dict[int, asyncio.Server] = {}
        self._busy: list[asyncio.Task[None]] = []
        self._expiring: asyncio.TimerHandle | None = None
        self._refreshing: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    @property
    def ports(self) -> frozenset[int]:
        """Where it listens now."""
        return frozenset(self._servers)

    async def refresh(self) -> None:
        """Listen where invitations say, and nowhere else. Raises OperatorError if that fails."""
        async with self._one_at_a_time:
            remove_expired(self._home, self._clock_s())
            pending = self._pending = list(read_pending(self._home, self._clock_s()))
            wanted = {
                split_address(each.invitation.admission)[1]
                for each in pending
                if each.invitation.admission
            }
            for port in self._servers.keys() - wanted:
                self._close(port)
            if self._expiring is not None:
                self._expiring.cancel()
            if pending:
                left_s = pending[0].invitation.expires_s - self._clock_s()
                loop = asyncio.get_running_loop()
                self._expiring = loop.call_later(max(1.0, left_s), self._refresh_soon)
            for port in sorted(wanted - self._servers.keys()):
                await self._open(port)

    async def stop(self) -> None:
        """Listen nowhere, and cut off whoever is there."""
        if self._expiring is not None:
            self._expiring.cancel()
        for port in list(self._servers):
            self._close(port)
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, *self._refreshing, return_exceptions=True)

    async def _open(self, port: int) -> None:
        try:
            self._servers[port] = await asyncio.start_server(
                self._met, self._host, port, limit=2 * ASK_BYTES_MAX
            )
        except OSError as error:
            raise OperatorError(
                f"Nobody can answer invited sites on port {port}: {error.strerror}.",
                fix="Name a free port with --admission; it may not be the node's own.",
                exit_code=EXIT_UNAVAILABLE,
            ) from error
        where = f"{self._host}:{port}"
        sentence = f"{where} answers invited sites, until the invitation is used or expires"
        self._show(fx.Happened("admission_open", sentence, (("listen", where),)))

    def _close(self, port: int) -> None:
        self._servers.pop(port).close()
        sentence = f"{self._host}:{port} answers invited sites no more"
        self._show(fx.Happened("admission_closed", sentence, ()))

    def _refresh_soon(self) -> None:
        async def refresh() -> None:
            with contextlib.suppress(OperatorError):  # it was told when the port was opened
                await self.refresh()

        task = asyncio.get_running_loop().create_task(refresh())
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "streams call this in a task"
        if len(self._busy) >= CONNECTIONS_MAX:
            self._busy.pop(0).cancel()
        self._busy.append(task)
        # Whatever is wrong with a caller, and being evicted, ends here: without a word.
        silent = (OSError, EOFError, PeerError, TimeoutError, OperatorError, asyncio.CancelledError)
        try:
            with contextlib.suppress(*silent):
                await self._exchange(reader, writer)
        finally:
            if task in self._busy:
                self._busy.remove(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(ASK_S):
            box = await read_frame(reader, ASK_BYTES_MAX)
        found = self._asked(box)
        if found is None:
            return
        pending, asked, card = found
        answer = self._answer(pending, card)
        secret = pending.invitation.secret
        async with asyncio.timeout(ANSWER_S):
            writer.write(frame(seal_answer(secret, asked, answer, self._random_bytes)))
            await writer.drain()
            # The joiner closes when it has read; an abort before could take the answer back.
            receipt = await read_frame(reader, ASK_BYTES_MAX)
        is_done = answer.state is AdmissionState.IN_FORCE
        if is_done and is_receipt(secret, asked, receipt):
            forget_pending(self._home, pending.invitation.id)
            self._refresh_soon()

    def _asked(self, box: bytes) -> tuple[Pending, bytes, Card] | None:
        for pending in self._pending:
            terms = pending.invitation
            is_alive = self._clock_s() < terms.expires_s and self._membership().is_member
            if is_alive and terms.admission:
                with contextlib.suppress(PeerError):
                    return pending, *open_ask(terms.secret, box)
        return None

    def _answer(self, pending: Pending, card: Card) -> Answer:
        known, machine = pending.applicant, self._membership()
        if known is not None and known.digest != card.digest:
            return Answer(AdmissionState.TAKEN)
        if known is None:
            kept = replace(pending, applicant=card)
            keep_pending(self._home, kept)
            self._pending[self._pending.index(pending)] = kept
            sentence = (
                f"{card.name} answered the invitation: `p2pfl consortium accept` shows its words "
                "to compare by telephone, and proposes it"
            )
            fields = (("site", card.site.hex()), ("name", card.name))
            self._show(fx.Happened("applicant", sentence, fields))
        if card.site not in machine.roster:
            return Answer(AdmissionState.WAITING)
        chain = replace(machine.chain, cards=tuple(machine.cards))
        return Answer(AdmissionState.IN_FORCE, encode_chain(chain))


async def ask_admission(
    invitation: Invitation,
    card: Card,
    install: Callable[[bytes], None],
    *,
    random_bytes: RandomBytes,
) -> Answer:
    """Ask the inviter's node. install: verify the chain and put it into force; may raise.

    Raises OSError, EOFError or TimeoutError where nobody answers, PeerError for a wrong answer."""
    host, port = split_address(invitation.admission)
    secret, asked = invitation.secret, random_bytes(16)
    async with asyncio.timeout(ASK_S):
        reader, writer = await asyncio.open_connection(host, port)
    try:
        async with asyncio.timeout(ANSWER_S):
            writer.write(frame(seal_ask(secret, asked, card, random_bytes)))
            await writer.drain()
            box = await read_frame(reader, ANSWER_BYTES_MAX)
            answer = open_answer(secret, asked, box)
            if answer.state is AdmissionState.IN_FORCE:
                install(answer.chain)
                writer.write(frame(seal_receipt(secret, asked, random_bytes)))
                await writer.drain()
            return answer
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), ASK_S)


def frame(box: bytes) -> bytes:
    """A box with its length before it."""
    return len(box).to_bytes(_LENGTH_BYTES, "big") + box


async def read_frame(reader: asyncio.StreamReader, content_bytes_max: int) -> bytes:
    """One box. Raises EOFError, and ConnectionError for one that is too long."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > content_bytes_max + _BOX_BYTES:
        raise ConnectionError("a frame is too long")
    return await reader.readexactly(length)
