"""Three homes on disk as honest nodes leave them: ledger, models, roster, policy, witness.db.

One study of three rounds with real vectors and averages, a steering, an approval that was
redacted; every head cosigned by the two other sites, leaves and entries mirrored."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from prov_books import DiskBook, SiteSigners
from prov_consortium import Consortium
from prov_site import HOUR_US, MINUTE_US, Site
from prov_stories import DAY_US, MICRO, START_US, digest
from prov_teller import TERMS, Plan, approve, average, finish, train

from gossip.card import sign_card
from gossip.identifiers import site_id_of
from gossip.keys import SiteKeys
from gossip.roster import Roster, draft_roster, encode_roster, sign_roster
from ledger.log import LogReader, VerifierKey, Witness
from ledger.log.notes import KeyType
from ledger.log.witness_store import EntryForm, MirroredEntry, WitnessDatabase
from ledger.provenance.audit import AuditReport
from ledger.provenance.kinds import AggInput, InputRef, RosterChanged, StudyProposed, UpdateReceived
from ledger.provenance.readers import Readers, readers_of
from p2pfl.runtime.averaging_job import averaging_environment, mix
from p2pfl.runtime.blobs import BlobStore, bytes_of_vector
from p2pfl.runtime.commands.ledger_reading import run_audit
from p2pfl.runtime.home import Home
from p2pfl.runtime.policy import Policy, render_policy

NAMES = ("Basel", "Bern", "Chur")
STUDY = digest("study", 0)
PARAMETERS = 17  # makes files of 140 bytes, as the teller says
NOW_US = START_US + 3 * DAY_US
"""When the homes are audited."""


class HomeSite(Site):
    """A site whose models are real vectors in a blob store."""

    def __init__(self, name: str, random: Random, make_book) -> None:
        super().__init__(name, random, make_book)
        self.skew_us = 0
        self.store = BlobStore(self.book.home / "blobs")
        self.rule_params = {"steps": "8"}

    def put(self, *what: object) -> bytes:
        """A model that depends on what it is called alone."""
        seed = int.from_bytes(digest(*what)[:8], "big")
        vector = np.random.Generator(np.random.PCG64(seed)).normal(size=PARAMETERS)
        return bytes(self.store.put_bytes(bytes_of_vector(vector.astype(np.float32))))

    def environment(self) -> bytes:
        return averaging_environment()

    def trained(self, plan: Plan, round_: int) -> bytes:
        return self.put("trained", self.name, plan.study, round_)

    def averaged(
        self, plan: Plan, round_: int, own: InputRef, inputs: tuple[AggInput, ...]
    ) -> bytes:
        used = [(item.hash, item.weight_u) for item in inputs]
        mixed = mix(self.store, "gm_clip", self.rule_params, own.hash, used, PARAMETERS)
        return bytes(self.store.put_bytes(bytes_of_vector(mixed.value)))

    def take(self, study: bytes, round_: int, sender: Site, verdict: str) -> UpdateReceived:
        record = super().take(study, round_, sender, verdict)
        assert isinstance(sender, HomeSite)
        self.store.put_file(sender.store.path(record.hash))
        return record


def build_homes(root: Path) -> None:
    """Write the three homes under `root`, a directory each."""
    paths = {SiteSigners.of(name).nonce: root / name for name in NAMES}
    for path in paths.values():
        for folder in ("blobs", "data", "studies", "roster"):
            (path / folder).mkdir(parents=True)
    world = Consortium(
        1,
        make_book=lambda keys, now_us: DiskBook(keys, now_us, paths[keys.nonce]),
        make_site=HomeSite,
    )
    _tell(world)
    world.close()
    roster = roster_of(root)
    for name in NAMES:
        (root / name / "roster" / "current.roster").write_bytes(encode_roster(roster))
        (root / name / "policy.toml").write_bytes(render_policy(Policy()))
    for time_us in (START_US + DAY_US + 6 * HOUR_US, START_US + 2 * DAY_US):
        witness_all(root, time_us)


def _tell(world: Consortium) -> None:
    for number, site in enumerate(world.sites):
        site.tell(RosterChanged(1, digest("roster"), len(NAMES)))
        site.register(number, 8 * MICRO)
    world.wait(HOUR_US)
    for site in world.sites:
        site.tell(StudyProposed(STUDY, world.sites[0].id))
    world.wait(HOUR_US)
    for number, site in enumerate(world.sites):
        ds = digest("dataset", number)
        approval = approve(site, ds, STUDY, TERMS, 3, START_US + 90 * DAY_US)
        assert approval is not None
        peers = tuple(other.id for other in world.sites if other is not site)
        initial = site.put("initial")
        site.open[STUDY] = Plan(approval, 3, 0, peers, initial)
    world.wait(DAY_US)
    for round_ in range(3):
        world.wait(45 * MINUTE_US)
        own = {site.id: train(site, site.open[STUDY], round_) for site in world.sites}
        world.wait(2 * MINUTE_US)
        for site in world.sites:
            senders = [other for other in world.sites if other is not site]
            taken = [site.take(STUDY, round_, sender, "accepted") for sender in senders]
            average(site, site.open[STUDY], round_, own[site.id], taken)
    for site in world.sites:
        finish(site, site.open[STUDY], 2)


def keys_of(name: str) -> SiteKeys:
    """The seeds of a site's keys: those its ledger signs with, and a transport key."""
    return SiteKeys(*(digest(name, role) for role in ("identity", "transport", "log", "witness")))


def site_id(name: str) -> bytes:
    return bytes(site_id_of(SiteSigners.of(name).identity.public_key))


def roster_of(root: Path) -> Roster:
    """The roster that all three founded."""
    cards = []
    for name in NAMES:
        reader = LogReader.open(root / name)
        cards.append(
            sign_card(
                keys_of(name),
                name=name,
                log_id=reader.log_id,
                addresses=[f"{name.lower()}.test:4001"],
            )
        )
        reader.close()
    roster = draft_roster("test", cards)
    for name in NAMES:
        roster = sign_roster(roster, keys_of(name).identity)
    return roster


def witness_name(name: str) -> str:
    return f"test/witness/{name.lower()}"


def witness_all(root: Path, now_us: int) -> None:
    """Every site asks the two others to cosign its newest head, and is mirrored by them."""
    for writer in NAMES:
        for holder in NAMES:
            if holder != writer:
                witness(root, writer, holder, now_us)


def witness(root: Path, writer: str, holder: str, now_us: int, home: Path | None = None) -> None:
    """`holder` witnesses the log of `writer` (or of another home that says it is the writer's)."""
    reader = LogReader.open(home or root / writer)
    store = opened(root / holder)
    store.set_logs({reader.log_id: reader.identity.verifier_key_at(0)})
    store.set_witnesses(
        VerifierKey(witness_name(x), KeyType.COSIGNATURE_V1, SiteSigners.of(x).witness.public_key)
        for x in NAMES
    )
    try:
        line = _cosigned(reader, store, holder, now_us)
        _mirror(reader, store)
    finally:
        store.close()
    own = opened(root / writer)
    time_s = now_us // MICRO
    own.put_own_cosignature(reader.checkpoint.size, reader.checkpoint.root, line, time_s)
    own.close()
    reader.close()


def opened(home: Path) -> WitnessDatabase:
    return WitnessDatabase.open(home / "witness.db")


def _cosigned(reader: LogReader, store: WitnessDatabase, holder: str, now_us: int) -> bytes:
    old = store.cosigned(reader.origin)
    size = old.size if old else 0
    proof = reader.prove_consistency(size, reader.checkpoint.size) if size else ()
    lines = "".join(b64encode(node).decode() + "\n" for node in proof)
    request = f"old {size}\n{lines}\n".encode() + reader.note
    signer = SiteSigners.of(holder).witness
    answer = Witness(witness_name(holder), signer, store).answer(request, now_us // MICRO)
    assert answer.status == 200, answer
    return answer.body


def _mirror(reader: LogReader, store: WitnessDatabase) -> None:
    start = store.mirrored_size(reader.log_id)
    entries = list(reader.entries(start))
    if entries:
        assert store.mirror(reader.log_id, start, [entry.leaf for entry in entries]) is None
    store.keep_entries(
        reader.log_id,
        [
            MirroredEntry(entry.seq, EntryForm.SEALED, b"sealed to its own site")
            if readers_of(entry.kind) is Readers.SELF
            else MirroredEntry(entry.seq, EntryForm.PLAIN, entry.raw)
            for entry in entries
        ],
    )


def audit_home(
    root: Path, name: str = "Basel", *, peers: Sequence[str] | None = None, now_us: int = NOW_US
) -> AuditReport:
    """What `p2pfl ledger audit` does; peers: names of the sites whose homes are given."""
    paths = None if peers is None else [root / peer for peer in peers]
    return run_audit(Home(root / name), replay=True, now_us=now_us, peers=paths)
