"""A Noise session that copies little: libp2p's reads and writes, the same bytes on the wire.

libp2p's own session asks the kernel for two bytes, then for a message, and copies every byte some
ten times on its way to whoever reads it. This one takes as much as the kernel has, decrypts in
place and hands out views. It knows nothing of multiplexers, streams or members.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from libp2p.io.exceptions import IncompleteReadError
from libp2p.security.noise.exceptions import NoiseFailure
from libp2p.security.secure_session import SecureSession

_LENGTH_BYTES: Final = 2
_TAG_BYTES: Final = 16
PLAIN_BYTES_MAX: Final = 0xFFFF - _TAG_BYTES
_QUIET_BYTES: Final = 16 * 1024
_BUSY_BYTES: Final = 256 * 1024
"""A session in which large messages come keeps so much ciphertext at most; others far less."""
_NOTHING: Final = memoryview(b"")
"""In place of an empty rest, which would keep its whole message."""
_QUIET_READS: Final = 64
"""After so many reads in a row that a small buffer would have held, there is a small one again."""


class QuickSession(SecureSession):  # type: ignore[misc] # libp2p is untyped here
    """Takes over from a session whose handshake is done, before anything was read from it."""

    def __init__(self, session: SecureSession) -> None:
        super().__init__(
            local_peer=session.local_peer,
            local_private_key=session.local_private_key,
            remote_peer=session.remote_peer,
            remote_permanent_pubkey=session.remote_permanent_pubkey,
            is_initiator=session.is_initiator,
            conn=session.conn,
        )
        protocol = session.conn.noise_state.noise_protocol
        self._raw: Any = session.conn.read_writer.read_write_closer
        self._sending: Any = protocol.cipher_state_encrypt
        self._receiving: Any = protocol.cipher_state_decrypt
        self._held = bytearray(_QUIET_BYTES)
        self._start = self._end = 0
        self._quiet_reads = 0
        self._plain = _NOTHING
        self.before_read: Callable[[QuickSession], Awaitable[None]] | None = None
        """Called first by every `read`: may take what is not for whoever reads."""

    # -- reading ---------------------------------------------------------------------------------

    async def read(self, n: int | None = None) -> bytes:
        """`n` bytes; None: whatever comes next. Raises IncompleteReadError at the end."""
        if self.before_read is not None:
            await self.before_read(self)
        if n is None:
            return bytes(await self.take(len(self._plain) or await self._next_message()))
        return bytes(await self.take(n))

    async def take(self, n: int) -> memoryview:
        """`n` bytes, without a copy where they came in one message; valid as long as it is held."""
        if len(self._plain) >= n:
            taken, self._plain = self._plain[:n], self._plain[n:] or _NOTHING
            return taken
        parts = bytearray()
        while len(parts) < n:
            if not self._plain:
                try:
                    await self._next_message()
                except IncompleteReadError as error:
                    raise _ended(n, len(parts) + error.received_bytes) from None
            part = self._plain[: n - len(parts)]
            parts += part
            self._plain = self._plain[len(part) :] or _NOTHING
        return memoryview(parts)

    def holds(self, n: int) -> bool:
        """Whether `take` would give so many bytes without waiting."""
        return len(self._plain) >= n

    async def peek(self, n: int) -> memoryview:
        """The next bytes, `n` or as many as came with them; they stay. At least one."""
        if not self._plain:
            await self._next_message()
        return self._plain[:n]

    async def _next_message(self) -> int:
        """Have the next message in `_plain`; empty ones are passed over. Returns its length."""
        while True:
            await self._fill(_LENGTH_BYTES)
            length = int.from_bytes(self._held[self._start : self._start + _LENGTH_BYTES], "big")
            await self._fill(_LENGTH_BYTES + length)
            first = self._start + _LENGTH_BYTES
            self._start = first + length
            with memoryview(self._held) as held:
                message = self._decrypted(held[first : first + length])
            if message:
                self._plain = memoryview(message)
                return len(message)

    def _decrypted(self, message: memoryview) -> bytes:
        try:
            plain: bytes = self._receiving.decrypt_with_ad(None, message)
        except InvalidTag:
            raise NoiseFailure("a message failed authentication") from None
        finally:
            message.release()
        return plain

    async def _fill(self, n: int) -> None:
        """Hold at least `n` bytes of ciphertext; n ≤ 65,537. Raises IncompleteReadError."""
        while self._end - self._start < n:
            present = self._end - self._start
            if n > len(self._held):
                self._held = self._held[self._start : self._end] + bytes(_BUSY_BYTES - present)
                self._start, self._end = 0, present
            elif self._start + n > len(self._held) or not present:
                self._held[:present] = self._held[self._start : self._end]
                self._start, self._end = 0, present
                if not present and self._quiet_reads >= _QUIET_READS:
                    self._held = self._held[:_QUIET_BYTES]
            with memoryview(self._held) as held, held[self._end :] as room:
                got = await self._raw.stream.read_into(room)
            if not got:
                raise _ended(n, present)
            self._end += got
            self._quiet_reads = self._quiet_reads + 1 if present + got <= _QUIET_BYTES else 0

    # -- writing ---------------------------------------------------------------------------------

    async def write(self, data: bytes | memoryview) -> None:
        """One message, or several where there are more than PLAIN_BYTES_MAX bytes."""
        if len(data) <= PLAIN_BYTES_MAX:
            await self._raw.write(self._sealed(data))
            return
        view = memoryview(data)
        for start in range(0, len(view), PLAIN_BYTES_MAX):
            await self._raw.write(self._sealed(view[start : start + PLAIN_BYTES_MAX]))

    async def write_each(self, messages: Iterable[bytes]) -> None:
        """Each as one message of at most PLAIN_BYTES_MAX bytes, all at once for the kernel."""
        sealed = [self._sending.encrypt_with_ad(None, message) for message in messages]
        parts = ((len(one).to_bytes(_LENGTH_BYTES, "big"), one) for one in sealed)
        await self._raw.write(b"".join(part for both in parts for part in both))

    def _sealed(self, plain: bytes | memoryview) -> bytes:
        sealed: bytes = self._sending.encrypt_with_ad(None, plain)
        return len(sealed).to_bytes(_LENGTH_BYTES, "big") + sealed


def _ended(expected: int, received: int) -> IncompleteReadError:
    return IncompleteReadError(
        f"the connection ended after {received} of {expected} bytes",
        expected_bytes=expected,
        received_bytes=received,
    )
