"""A site's log without a disk: the real entries, signatures, chain and heads, kept in memory."""

from collections.abc import Sequence
from dataclasses import replace

from ledger.log import Checkpoint, Draft, Entry, LogIdentity, Signer, note_sign, parse_entry
from ledger.log.entries import sign_entry
from ledger.log.genesis import genesis_draft, identity_from_body
from ledger.log.tree import Frontier
from p2pfl.core.effects import SeqLink

NO_PREVIOUS = bytes(32)


class MemoryLedger:
    """What survives a crash of a simulated node: every commit is durable at once."""

    def __init__(
        self, *, deployment: str, identity: Signer, log: Signer, witness_pk: bytes, nonce: bytes
    ) -> None:
        draft = genesis_draft(
            deployment=deployment,
            identity=identity,
            log_pk=log.public_key,
            witness_pk=witness_pk,
            nonce=nonce,
        )
        self.identity: LogIdentity = identity_from_body(draft.body)
        self.entries: list[Entry] = []
        self._log = log
        self._frontier = Frontier()
        self.append((draft,), (), 0)

    @property
    def note(self) -> bytes:
        """The signed head over everything appended."""
        checkpoint = Checkpoint(self.identity.origin, self._frontier.size, self._frontier.root())
        return note_sign(checkpoint.text, self.identity.origin, self._log)

    def append(
        self, drafts: Sequence[Draft], links: Sequence[SeqLink], now_us: int
    ) -> tuple[Entry, ...]:
        """One commit. Returns the new entries."""
        made, first = list(drafts), len(self.entries)
        for link in links:
            body = {**made[link.draft].body, link.field: first + link.names}
            made[link.draft] = replace(made[link.draft], body=body)
        for draft in made:
            prev = self.entries[-1].leaf if self.entries else NO_PREVIOUS
            raw = sign_entry(
                draft,
                identity=self.identity,
                seq=len(self.entries),
                prev=prev,
                time_us=now_us,
                log=self._log,
            )
            entry = parse_entry(raw)
            self._frontier.append(entry.leaf)
            self.entries.append(entry)
        return tuple(self.entries[first:])
