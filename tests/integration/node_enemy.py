"""A member with sound keys and bad intentions, and what it needs to lie convincingly."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from node_homes import Consortium

from gossip import ed25519, envelope
from gossip.card import Card
from gossip.envelope import seal
from gossip.identifiers import Digest, SiteId, digest_of
from gossip.libp2p_transport import Libp2pTransport
from gossip.messages import Decision, HeadAdvertised, Message, StudyDecision, UpdateAnnounced
from gossip.witness_messages import HeadsHeld
from ledger.log import Checkpoint, Log, Signer, note_sign
from ledger.provenance import kinds
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.runtime.blobs import bytes_of_vector


@dataclass(frozen=True, slots=True)
class Target:
    """Whom the raw peers of the network's tests attack."""

    card: Card

    @property
    def address(self) -> str:
        return self.card.addresses[0]


class Enemy:
    """Site `index` of a consortium, run by somebody who keeps none of the rules."""

    def __init__(self, made: Consortium, index: int) -> None:
        self.made, self.keys, self.roster = made, made.keys(index), made.roster
        self.site = self.keys.site
        self.study = bytes.fromhex(made.study)
        self.parameters = made.manifest.study.parameters
        self.log = Log.open(made.home(index).path, log=Signer(self.keys.log))
        self.met: set[SiteId] = set()
        self.heard: list[bytes] = []
        self.shelf: dict[bytes, Path] = {}
        card = self.roster.member(self.site)
        self.transport = Libp2pTransport(self.keys.transport, self.roster, card.addresses[0])

    # -- its inbox: it listens to everything and believes nothing ---------------------------------

    def connected(self, site: SiteId) -> None:
        self.met.add(site)

    def disconnected(self, site: SiteId) -> None:
        self.met.discard(site)

    def received(self, source: SiteId, raw: bytes) -> None:
        self.heard.append(raw)

    def refused(self, address_or_site: str, reason: str) -> None:
        pass

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        return self.shelf.get(digest)

    # -- what it says -----------------------------------------------------------------------------

    async def __aenter__(self) -> "Enemy":
        await self.transport.start(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.transport.stop()
        self.log.close()

    async def meet(self, *sites: SiteId) -> None:
        async with asyncio.timeout(80):
            while not self.met >= set(sites):  # noqa: ASYNC110 - told in another thread
                await asyncio.sleep(0.02)
        for site in sites:  # as if it had never seen their logs: they wait for every site's word
            await self.tell(site, HeadsHeld((b"",)))

    def sealed(self, message: Message) -> bytes:
        return seal(self.keys.transport, self.site, self.roster.consortium, message)

    def signed(self, content: bytes) -> bytes:
        """An envelope that is in order around something that is not."""
        body = envelope._BODY_START + self.site + content
        signed = envelope._signed(self.roster.consortium, body)
        return ed25519.sign(self.keys.transport, signed) + body

    async def tell(self, site: SiteId, *messages: Message | bytes) -> None:
        for message in messages:
            raw = message if isinstance(message, bytes) else self.sealed(message)
            await self.transport.send(site, raw)

    def approval(self) -> StudyDecision:
        """Its approval, as it stands in its log."""
        (entry,) = [e for e in self.log.entries() if e.kind == "study.approved"]
        bucket = 50
        return StudyDecision(
            self.study, Decision.APPROVED, bucket, entry.seq, entry.leaf, entry.time_us
        )

    def update(self, round_: int, data: bytes, *, inline: bool = True) -> UpdateAnnounced:
        """An announcement that is in order in all but what `data` is."""
        published = kinds.UpdatePublished(self.study, round_, digest_of(data), len(data), -1)
        now_us = int(time.time() * 1e6)  # noqa: TID251 - as a node does
        (entry,) = self.log.append([published.draft("node")], now_us).entries
        return UpdateAnnounced(
            study=self.study,
            round=round_,
            hash=digest_of(data),
            size=len(data),
            entry_seq=entry.seq,
            entry_leaf=entry.leaf,
            head=self.log.note,
            inline=data if inline else b"",
            train_seq=-1,
        )

    def model(self, value: float = 1.0) -> bytes:
        return bytes_of_vector(np.full(self.parameters, value, dtype=np.float32))

    def model_with_nan(self) -> bytes:
        return self.model()[:-4] + np.float32("nan").tobytes()

    def not_a_model(self) -> bytes:
        return os.urandom(blob_size_bytes(self.parameters))

    def forked_head(self) -> HeadAdvertised:
        """Another history of the size its log has."""
        held = self.log.checkpoint
        other = Checkpoint(held.origin, held.size, os.urandom(32))
        return HeadAdvertised(note_sign(other.text, held.origin, Signer(self.keys.log)))

    def decisions_about_nothing(self, count: int) -> Sequence[StudyDecision]:
        return [replace(self.approval(), study=os.urandom(32)) for _ in range(count)]
