"""Having the own log's heads cosigned: whom to ask when, and what an answer is worth.

Whether the own log may be shown at all is decided elsewhere (`witnessing`)."""

from base64 import b64encode
from collections.abc import Mapping

from gossip.identifiers import SiteId
from gossip.witness_messages import CosignAnswered, CosignRequested
from ledger.log import Checkpoint, LedgerError, Status, VerifierKey, note_verify
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.pace import head_pace_s
from p2pfl.core.witnessing_own import checkpoint_of
from p2pfl.core.witnessing_serving import OwnShelf
from p2pfl.core.witnessing_terms import BadCosignature, Peer, Tell


class Asking:
    """Requests for cosignatures of the own log's newest head."""

    def __init__(self, book: terms.WitnessBook, own: terms.OwnLogView, shelf: OwnShelf) -> None:
        self._book = book
        self._own = own
        self._shelf = shelf

    def push(self, now_s: float, peers: Mapping[SiteId, Peer], members: int) -> list[Tell]:
        """Ask whoever has not cosigned the newest own head, and everybody from time to time."""
        size, pace_s = self._own.checkpoint.size, head_pace_s(members)
        return [
            self._request(now_s, site, peer)
            for site, peer in peers.items()
            if not 0.0 <= now_s - peer.pushed_s < peer.pause_s(size, pace_s)
        ]

    def _request(self, now_s: float, site: SiteId, peer: Peer) -> Tell:
        note = self._own.note
        size = checkpoint_of(note).size  # of this note: the log may have grown since
        old = min(peer.cosigned, size)
        proof = self._own.prove_consistency(old, size) if 0 < old < size else ()
        lines = [b"old %d" % old, *(b64encode(node) for node in proof)]
        leaves = self._shelf.leaves(old, size)
        peer.asked(size, now_s)
        return Tell(site, CosignRequested(b"\n".join(lines) + b"\n\n" + note, old, leaves))

    def answered(
        self, now_s: float, sender: SiteId, peer: Peer, message: CosignAnswered, key: VerifierKey
    ) -> list[Tell] | None:
        """An answer, to be verified with `key`; None if it is a cosignature, which now is kept.

        Raises BadCosignature."""
        own_size = self._own.checkpoint.size
        is_ours = message.origin == self._own.origin and message.size <= own_size
        if not is_ours or self._own.root_at(message.size) != message.root:
            raise BadCosignature("an answer about a head that this log does not have")
        peer.answered(message.size)
        peer.refusal = "" if message.status == Status.COSIGNED else str(message.status)
        if message.status == Status.OTHER_SIZE:
            return self._other_size(now_s, sender, peer, message.body)
        if message.status != Status.COSIGNED:
            return []
        head = Checkpoint(message.origin, message.size, message.root)
        try:
            verified = note_verify(head.text.encode() + b"\n" + message.body, key)
        except LedgerError as error:
            raise BadCosignature(str(error)) from error
        time_s = verified.signatures[0].time_s or 0
        self._book.put_own_cosignature(head.size, head.root, message.body, time_s)
        peer.cosigned = max(peer.cosigned, head.size)
        return None

    def _other_size(self, now_s: float, sender: SiteId, peer: Peer, body: bytes) -> list[Tell]:
        """The witness says what it holds: ask once more from there, within the agreed rate."""
        said = body.strip()
        if not said.isdigit() or len(said) > 19:
            raise BadCosignature("409 without a size")
        held = int(said)
        if held > self._own.checkpoint.size or held == peer.cosigned or peer.is_asked:
            return []  # a larger own head proves itself by its note; a late answer proves nothing
        peer.cosigned = held
        return [self._request(now_s, sender, peer)]
