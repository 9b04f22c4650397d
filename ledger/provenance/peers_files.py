"""Reading what other sites handed over or this one holds about them: ledgers, witness.db, proofs.

Responsible for turning files into evidence. Everything in them is hostile: a log counts under its
own signatures, a head under its log's key, a cosignature under a witness key that the caller
knows from the roster or that this site's own log names, a mirrored entry under its leaf hash. What
cannot be read is a sentence."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ledger.log import (
    Checkpoint,
    KnownWitness,
    KnownWitnesses,
    LedgerError,
    LogIdentity,
    LogReader,
    OnDamage,
    parse_entry,
    verify_log,
)
from ledger.log.entries import GENESIS_KIND, Entry, verify_entry
from ledger.log.fork_proofs import CosignaturesThatDisagree, decode_fork
from ledger.log.forks import check_fork
from ledger.log.genesis import parse_genesis
from ledger.log.heads_file import HEADS_NAME, read_tail_of, scan_records
from ledger.log.identity import LogId
from ledger.log.ordinary import require_ordinary
from ledger.log.own_kinds import follow
from ledger.log.witness_store import EntryForm, WitnessDatabase
from ledger.provenance.peers import (
    HeldHead,
    PeerEvidence,
    PeerLog,
    ProvenFork,
    Voucher,
    cosignatures,
    held_head,
    note_digest,
    roots_at,
)
from ledger.provenance.timeline import Timeline

LEAVES_PER_READ = 4_096
COPIES_MAX = 50
"""How often a `witness.db` is copied while a node writes to it, a millisecond or two each."""

COPY_RESERVE_BYTES = 256 * 1024 * 1024
"""What a copy of it leaves free on the disk."""


def site_of(identity: LogIdentity) -> bytes:
    """The site that a log belongs to, by its identity key."""
    return hashlib.sha256(identity.identity_pk).digest()


@dataclass(slots=True)
class Gathering:
    """Evidence as it comes in.

    identity: the audited log's, None where it cannot be read. witnesses: public witness key →
    site, from the roster."""

    identity: LogIdentity | None
    witnesses: Mapping[bytes, bytes]
    logs: dict[bytes, PeerLog] = field(default_factory=dict)
    identities: dict[bytes, LogIdentity] = field(default_factory=dict)
    heads: list[HeldHead] = field(default_factory=list)
    forks: dict[bytes, ProvenFork] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    vouchers: dict[bytes, Voucher] = field(default_factory=dict)
    """Every witness key that is known, also those that were replaced."""

    def __post_init__(self) -> None:
        self.vouchers = {key: Voucher(site) for key, site in self.witnesses.items()}
        if self.identity is not None:
            self.identities[self.identity.log_id] = self.identity
            self._follow_witness(self.identity)

    def _follow_witness(self, identity: LogIdentity) -> None:
        """The keys under which a member cosigned, as its own log says; no other site's."""
        site = site_of(identity)
        if site not in self.witnesses.values():
            return
        for named in identity.witnesses:
            told = Voucher(site, named.until_us, named.is_disowned)
            held = self.vouchers.setdefault(named.public_key, told)
            if held.site == site:
                self.vouchers[named.public_key] = held.ended(told)

    def evidence(self) -> PeerEvidence:
        """What came together; cards and members are for the caller to add."""
        return PeerEvidence(
            identity=self.identity,
            logs=tuple(self.logs[log_id] for log_id in sorted(self.logs)),
            heads=tuple(self.heads),
            forks=tuple(self.forks[digest] for digest in sorted(self.forks)),
            problems=tuple(self.problems),
        )

    def add_ledger(self, home: Path) -> bytes | None:
        """Another site's ledger, a home or a copy of its `ledger.db` and `heads.log`.

        Returns the site that wrote it."""
        try:
            found = _read_ledger(home)
        except LedgerError as error:
            self.problems.append(f"The ledger in {home} cannot be read: {error}.")
            return None
        identity, log = found
        if self.identity is not None and log.log_id == self.identity.log_id:
            self._add_copy(home, log)
            return log.site
        self._keep(identity, log)
        return log.site

    def _add_copy(self, home: Path, log: PeerLog) -> None:
        """A copy of the audited log itself: its signed heads bind this log, too."""
        assert self.identity is not None
        if not log.is_sound:
            self.problems.append(f"The copy of this very ledger in {home} is damaged.")
            return
        for note in _released_notes(home, self.identity):
            head = held_head(note, self.identity, self.vouchers, holder=log.site)
            self.heads += [head] if head is not None else []

    def _keep(self, identity: LogIdentity, log: PeerLog) -> None:
        """Of two copies the sound one, then the one with more text, then the longer one."""
        self._follow_witness(identity)
        held = self.logs.get(log.log_id)
        worth = (log.is_sound, log.is_whole, log.size)
        if held is None or worth > (held.is_sound, held.is_whole, held.size):
            self.logs[log.log_id] = log
            self.identities[log.log_id] = identity

    def add_witness(self, path: Path, holder: bytes) -> None:
        """What a site holds about others, from its `witness.db`, or what this site holds.

        Ledgers must have been added before: they say which keys a log has."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                database = WitnessDatabase.open(_copied(path, Path(folder)))
            except (LedgerError, OSError) as error:
                self.problems.append(f"{path} cannot be read: {error}.")
                return
            try:
                self._add_mirrors(database)
                self._add_heads(database, holder)
                if self.identity is not None and holder == site_of(self.identity):
                    self._add_own_cosignatures(self.identity, database)
            except (LedgerError, TypeError, ValueError) as error:
                # SQLite keeps any type in any column: a row of another one is damage, too.
                self.problems.append(f"{path} cannot be read on: {error}.")
            finally:
                database.close()

    def _add_mirrors(self, database: WitnessDatabase) -> None:
        for held in database.heads():
            found = _read_mirror(database, held.log_id)
            own = self.identity.log_id if self.identity is not None else b""
            if found is not None and held.log_id != own:
                self._keep(*found)

    def _add_heads(self, database: WitnessDatabase, holder: bytes) -> None:
        for held in database.heads():
            identity = self.identities.get(held.log_id)
            if identity is None:
                continue  # nobody can say whose signature it would be
            head = held_head(
                held.note,
                identity,
                self.vouchers,
                holder=holder,
                lines=held.cosignatures,
                seen_us=held.seen_us,
            )
            self.heads += [head] if head is not None else []
        for proof in database.forks():
            self.add_fork(proof)

    def _add_own_cosignatures(self, identity: LogIdentity, database: WitnessDatabase) -> None:
        """What others vouched for, as the audited site keeps it: their lines over its own heads.

        A witness signs only heads that the log's key had signed, so its line stands alone."""
        for own in database.own_heads():
            text = Checkpoint(identity.origin, own.size, own.root).text
            for cosigned in cosignatures(text, own.lines, self.vouchers, own=True):
                self.heads.append(
                    HeldHead(identity.log_id, own.size, own.root, cosigned.witness, (cosigned,))
                )

    def add_fork(self, proof: bytes) -> bool:
        """A fork proof, which speaks for itself; False if it proves nothing.

        Its keys must be those of a log that this audit knows, or be bound by the file itself."""
        try:
            verdict = check_fork(proof)
        except LedgerError:
            return False
        known = self.identities.get(verdict.log_id)
        keys = {key.public_key for key in known.keys} if known else set[bytes]()
        decoded = decode_fork(proof)
        about = bytes(verdict.log_id)
        if isinstance(decoded, CosignaturesThatDisagree):
            is_ours, about = self._accused(decoded)
        else:
            is_ours = verdict.bound or {key.public_key for key in verdict.keys} <= keys
        if is_ours:
            fork = ProvenFork(verdict.kind.value, about, verdict.sentence)
            self.forks[hashlib.sha256(proof).digest()] = fork
        return is_ours

    def _accused(self, proof: CosignaturesThatDisagree) -> tuple[bool, bytes]:
        """Whether a witness that is known has to answer for both sides, and which site it is."""
        whose = self.vouchers.get(proof.witness.public_key)
        if whose is None:
            return False, b""
        known = KnownWitness(proof.witness, whose.until_us, whose.is_disowned)
        try:
            KnownWitnesses([known]).check_accusation(proof)
        except LedgerError:
            return False, b""
        return True, whose.site


def _read_ledger(home: Path) -> tuple[LogIdentity, PeerLog]:
    """A whole ledger with its verification. Raises LedgerError where nothing can be read."""
    verification = verify_log(home)
    reader = LogReader.open(home, on_damage=OnDamage.SHOW)
    try:
        entries = list(_readable(reader))
        identity = reader.identity
    finally:
        reader.close()
    return identity, PeerLog(
        site=site_of(identity),
        log_id=identity.log_id,
        leaves=tuple(entry.leaf for entry in entries),
        timeline=Timeline(entries),
        sealed=0,
        notes=frozenset(map(note_digest, _released_notes(home, identity))),
        verification=verification,
    )


def _readable(reader: LogReader) -> Iterator[Entry]:
    """Entries up to the first damage, which the verification tells of."""
    try:
        yield from reader.entries()
    except LedgerError:
        return


def _released_notes(home: Path, identity: LogIdentity) -> Iterator[bytes]:
    """Every head in a ledger's heads.log as the note that was told."""
    try:
        tail = read_tail_of(home, identity.origin)
        with (home / HEADS_NAME).open("rb") as file:
            for record in scan_records(file, identity.origin, tail):
                if record is not None:
                    yield record.note(identity)
    except (LedgerError, OSError):
        return  # damage that the verification tells of


def _read_mirror(database: WitnessDatabase, log_id: LogId) -> tuple[LogIdentity, PeerLog] | None:
    """A log as far as it was mirrored; None before its genesis entry is here."""
    size = database.confirmed_size(log_id)
    leaves: list[bytes] = []
    while len(leaves) < size:
        leaves += database.leaves(log_id, len(leaves), min(size, len(leaves) + LEAVES_PER_READ))
    entries: list[Entry] = []
    sealed = 0
    for held in database.entries(log_id):
        if held.form is EntryForm.SEALED:
            sealed += 1
            continue
        entry = parse_entry(held.data)
        if held.seq < size and entry.leaf == leaves[held.seq]:
            entries.append(entry)
    if not entries or entries[0].kind != GENESIS_KIND:
        return None
    identity = parse_genesis(entries[0].raw)
    for entry in entries:
        identity = follow(identity, entry)
    for entry in entries:
        verify_entry(entry, identity)  # whoever kept it may have written it
    newest = database.head_of(log_id)
    if newest is None or roots_at(leaves, [newest.size]).get(newest.size) not in (
        None,
        newest.root,
    ):
        return None
    log = PeerLog(
        site=site_of(identity),
        log_id=identity.log_id,
        leaves=tuple(leaves),
        timeline=Timeline(entries),
        sealed=sealed,
        notes=frozenset(),
        verification=None,
    )
    return identity, log


def _copied(path: Path, folder: Path) -> Path:
    """A copy of a `witness.db`: another site's files are never written to, not even its lock.

    A node may be writing to it: both files must have stood still while they were copied."""
    sources = (path, path.with_name(f"{path.name}-wal"))
    require_ordinary(*sources)
    for _ in range(COPIES_MAX):
        before = _stamps(sources)
        _require_room(folder, sum(stamp[0] for stamp in before if stamp))
        for source in sources:
            (folder / source.name).unlink(missing_ok=True)
            if source.exists():
                shutil.copyfile(source, folder / source.name)
        if _stamps(sources) == before:
            return folder / path.name
    raise OSError("it changes while it is read; try again")


def _require_room(folder: Path, size_bytes: int) -> None:
    """Raises OSError where a copy would fill the disk: a node may need what is left of it."""
    free = shutil.disk_usage(folder).free
    if size_bytes + COPY_RESERVE_BYTES > free:
        raise OSError(
            f"a copy of it takes {size_bytes / 1e9:.3g} GB, and {folder.parent} has "
            f"{free / 1e9:.3g} GB left; set TMPDIR to a folder with more room"
        )


def _stamps(paths: Iterable[Path]) -> list[tuple[int, int] | None]:
    """Size and time of the last change of each file that is there."""
    found = [path.stat() if path.exists() else None for path in paths]
    return [(stat.st_size, stat.st_mtime_ns) if stat else None for stat in found]
