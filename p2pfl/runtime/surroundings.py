"""What a node's driver is given from outside: everything that is not logic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gossip.identifiers import SiteId
from gossip.transport import Transport
from ledger.log import Log, Signer
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.membership import Membership
from p2pfl.core.names import DatasetId, StudyId
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.confinement.terms import Terms
from p2pfl.runtime.home import Home
from p2pfl.runtime.keeping import EVERYTHING, Keep
from p2pfl.runtime.study_jobs import DatasetFile
from p2pfl.runtime.training_process import WORKER
from p2pfl.runtime.training_usage import Allowance


class Observer(Protocol):
    """Where the node tells people and logs what happens. Nothing of it ever raises."""

    def show(self, study: StudyId | None, notice: fx.Notice) -> None:
        """Something worth a line."""

    def refused(self, address_or_site: str, reason: str) -> None:
        """A stranger or a broken peer was turned away below the core."""

    def bug(self, error: BaseException) -> None:
        """Something of ours failed; the node goes on where it can."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Which site the node is, and its stores, network, clock, keys and limits."""

    home: Home
    site: SiteId
    transport_seed: bytes
    membership: Membership
    log: Log
    blobs: BlobStore
    transport: Transport
    dataset_file: Callable[[DatasetId], DatasetFile]
    clock_s: Callable[[], float]
    random: Callable[[], float]
    observer: Observer
    witness: Signer
    """Cosigns other sites' heads."""
    own_log: ev.OwnLog = ev.OwnLog.CONFIRMED
    """Unconfirmed: nothing is released before another site's word on the own log."""
    offline_ok: bool = False
    """Whether to go on if no other site can be asked."""
    faulty_witnesses: int | None = None
    """How many witnesses may lie, if the policy says so: see `witnessing_terms.quorum`."""
    training_program: Sequence[str] = WORKER
    keep: Keep = EVERYTHING
    confinement: Terms | None = None
    """What training processes may reach; None where this machine cannot confine them."""
    allowance: Allowance | None = None
    """What those of one study may use up; None: the default."""
