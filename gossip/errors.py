"""Everything that can go wrong between sites, one class per violated rule.

`PeerError`: another site broke a rule; drop what it sent, count it, go on.
`TransportError`: the network failed; nobody is to blame, try again later.
`KeyFileError`: this site's own key files are not as they must be; the operator decides.
`UnsendableMessage`: this program tried to send what every peer would refuse; our bug.
"""

from pathlib import Path

from gossip.identifiers import Digest, SiteId


class PeerError(Exception):
    """Something that another site sent breaks a rule."""

    def __init__(self, detail: str, *, expected: object = None, actual: object = None) -> None:
        self.detail = detail
        self.expected = expected
        self.actual = actual
        shown = detail
        if expected is not None:
            shown += f", expected {expected}"
        if actual is not None:
            shown += f", got {actual}"
        super().__init__(shown)

    @property
    def rule(self) -> str:
        """The violated rule's name, for logs, counters and the ledger."""
        return type(self).__name__


class TooLarge(PeerError):
    """More bytes than this kind of thing may have."""


class Garbled(PeerError):
    """The bytes do not decode to what they should be."""


class NotOnRoster(PeerError):
    """The sender is no member of the consortium."""


class BadSignature(PeerError):
    """The signature does not verify under the key that the roster names."""


class UnprovenAuthor(PeerError):
    """Passed on for somebody who is no member here, or has another key: news may not be here yet,
    or not there."""


class UnknownMessage(PeerError):
    """A validly signed message of a kind that this version does not know."""


class InlineSizeMismatch(PeerError):
    """The inline bytes are not as long as the announcement says."""


class InlineHashMismatch(PeerError):
    """The inline bytes do not hash to the announced digest."""


class RelayedUpdate(PeerError):
    """An update's announcement came from another site than its author's."""


class RelayedReconciliation(PeerError):
    """An inventory or a request for items came from another site than its author's."""


class RelayedWitnessing(PeerError):
    """A message about logs came from another site than its author's."""


class RelayedMembership(PeerError):
    """A message about the roster came from another site than its author's."""


class TooFast(PeerError):
    """A site sends more messages or bytes per second than agreed."""


class WeakKey(PeerError):
    """A public key that is no canonical point of the prime-order group, or is used twice."""


class CardInvalid(PeerError):
    """A site's card breaks a rule about names, addresses or keys."""


class RosterInvalid(PeerError):
    """A roster breaks a rule about its members or versions."""


class InvitationInvalid(PeerError):
    """An invitation, or an answer to one, breaks a rule."""


class BadSeal(PeerError):
    """Bytes are not sealed under the invitation's secret, or were changed."""


class DuplicateMember(RosterInvalid):
    """Two members share a site, a key, a log, an address or a name."""


class FounderMissing(RosterInvalid):
    """A founding roster lacks a founder's signature."""


class ChangeInvalid(RosterInvalid):
    """A proposed change does not fit the roster that it is to follow."""


class StatementInvalid(PeerError):
    """A statement of a vote breaks a rule of the vote."""


class NoQuorum(PeerError):
    """Too few members stand behind a roster, or behind what a closing statement claims."""


class ChainBroken(PeerError):
    """Rosters that do not follow each other, or end where another one was expected."""


class UnsendableMessage(ValueError):
    """This program built a message that every peer would refuse."""


class TransportError(Exception):
    """The network did not do what it was asked."""


class Unreachable(TransportError):
    """There is no working connection to a site."""

    def __init__(self, site: SiteId, cause: str) -> None:
        self.site = site
        self.cause = cause
        super().__init__(f"site {site.hex()[:16]} cannot be reached: {cause}")


class TransportStopped(TransportError):
    """The transport is not running."""


class FetchFailed(TransportError):
    """A blob could not be had from a site."""

    def __init__(self, site: SiteId, digest: Digest, detail: str) -> None:
        self.site = site
        self.digest = digest
        self.detail = detail
        super().__init__(
            f"blob {digest.hex()[:16]} from site {site.hex()[:16]}: {type(self).__name__}: {detail}"
        )


class BlobNotServed(FetchFailed):
    """The site does not have the blob or does not give it to us."""


class BlobMismatch(FetchFailed):
    """The site served bytes of another length or digest than announced: its fault."""


class FetchBusy(FetchFailed):
    """Too many transfers with this site are under way."""


class FetchTimedOut(FetchFailed):
    """A chunk or the whole transfer took too long."""


class FetchInterrupted(FetchFailed):
    """The connection was lost on the way; what was verified so far is kept for the next try."""


class KeyFileError(Exception):
    """A key file of this site is not as it must be."""

    def __init__(self, path: Path, detail: str) -> None:
        self.path = path
        self.detail = detail
        super().__init__(f"{path}: {detail}")


class KeyFileExists(KeyFileError):
    """A key would have been overwritten."""


class KeyFileMissing(KeyFileError):
    """There is no such key file."""


class KeyFileExposed(KeyFileError):
    """Others than the owner may read or write the key."""


class KeyFileGarbled(KeyFileError):
    """The file is no key file, or is another role's."""


class PassphraseNeeded(KeyFileError):
    """The key is encrypted and no passphrase was given."""


class PassphraseWrong(KeyFileError):
    """The passphrase does not open the key, or the file was changed."""
