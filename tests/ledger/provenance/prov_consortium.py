"""Honest sites that work together: real signed logs, whose receipts name real entries.

A `Consortium` lives one random history that depends on its seed alone: studies, crashes, late
updates, catch-ups, revocations, steering, key rotations, redactions, data withdrawn and registered
again, starts without peers, clocks that were set. Every site can be audited with all that the
others hold."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

from prov_books import MemoryBook
from prov_site import APPROVER, HOUR_US, MINUTE_US, TOWNS, Book, Site
from prov_stories import DAY_US, MICRO, START_US, digest, epsilon_of
from prov_teller import TERMS, Plan, approve, average, finish, train

from ledger.log import Verification, cosign
from ledger.provenance.audit import AuditReport, audit
from ledger.provenance.findings import AuditContext, EpsilonOf
from ledger.provenance.kinds import (
    ClockAnomaly,
    DatasetRevoked,
    InputRef,
    NodeOfflineStart,
    PeerMisbehaved,
    Redacted,
    RosterChanged,
    RoundSkipped,
    StudyClosed,
    StudyProposed,
    StudyRefused,
    StudyRevoked,
    StudySteered,
    UpdatePublished,
    UpdateReceived,
)
from ledger.provenance.peers import (
    CardSeen,
    HeldHead,
    PeerEvidence,
    PeerLog,
    Voucher,
    held_head,
    note_digest,
)
from ledger.provenance.readers import Readers, readers_of
from ledger.provenance.timeline import Timeline


class Consortium:
    """Sites with one clock (each a little off), one roster, and studies they share."""

    def __init__(
        self,
        seed: int,
        *,
        sites: int = 3,
        make_book: Callable[..., Book] = MemoryBook,
        make_site: type[Site] = Site,
    ) -> None:
        self.random = Random(seed)  # noqa: S311 -- a seed that repeats, not a secret
        self.sites = [make_site(name, self.random, make_book) for name in TOWNS[:sites]]
        for site in self.sites:
            site.others = {other.id: other for other in self.sites}
        self.names = {site.id: site.name for site in self.sites}
        self.now_us = START_US

    def wait(self, us: int) -> None:
        """Time passes for everyone; witnesses sign what they see from time to time."""
        self.now_us += us
        for site in self.sites:
            site.now_us = self.now_us

    def witness(self, *writers: Site) -> None:
        """Everyone but the writers themselves cosigns their newest heads."""
        for writer in writers or self.sites:
            for holder in self.sites:
                if holder is not writer:
                    head = self.cosigned(writer, holder, writer.book.note)
                    holder.held[writer.id] = head

    def cosigned(self, writer: Site, holder: Site, note: bytes) -> HeldHead:
        """A head as a witness holds it, with its own cosignature."""
        text = note.decode().rpartition("\n\n")[0] + "\n"
        time_s = holder.clock_us() // MICRO
        line = cosign(text, f"{holder.name}/witness", holder.keys.witness, time_s)
        head = held_head(
            note,
            writer.book.identity,
            self.witnesses(),
            holder=holder.id,
            lines=[line],
            seen_us=holder.clock_us(),
        )
        assert head is not None
        return head

    def witnesses(self) -> dict[bytes, Voucher]:
        return {site.keys.witness.public_key: Voucher(site.id) for site in self.sites}

    def close(self) -> None:
        for site in self.sites:
            site.book.close()

    # -- a history -------------------------------------------------------------------------------

    def live(self) -> "Consortium":
        """A random honest history."""
        random = self.random
        for number, site in enumerate(self.sites):
            site.tell(RosterChanged(1, digest("roster"), len(self.sites)))
            site.register(number, random.choice((5, 50)) * MICRO)
        lives = [self._study(number) for number in range(random.randint(1, 2))]
        while lives:
            life = random.choice(lives)
            self.wait(random.randint(0, 20) * MINUTE_US)
            if random.random() < 0.15:
                self._happen(random.choice(self.sites))
            if random.random() < 0.7:
                self.witness()
            if next(life, "over") == "over":
                lives.remove(life)
        self.wait(DAY_US)
        self.witness()
        self.wait(HOUR_US)
        return self

    def _happen(self, site: Site) -> None:
        match self.random.randint(0, 8):
            case 0:
                site.rotate_log_key()
            case 1:
                site.rotate_transport()
            case 2 if site.approvals:
                site.tell(Redacted(site.approvals.pop(), APPROVER, "art-17"))
            case 3:
                site.tell(PeerMisbehaved(self.random.choice(self.sites).id, "BadSignature", 1))
            case 4:
                self._set_clock(site)
            case 5:
                site.tell(RosterChanged(2, digest("roster", 2), len(self.sites)))
            case 6 if len(site.caps) < 3:
                site.register(len(site.caps) + 10, 50 * MICRO)
            case 7 if self.random.random() < 0.4:
                self._withdraw(site)
            case _:
                pass

    def _set_clock(self, site: Site) -> None:
        """The clock ran ahead and is set right: time in this log goes back, and says so."""
        back_us = self.random.randint(10, 300) * MINUTE_US
        site.skew_us += back_us
        site.tell(PeerMisbehaved(self.random.choice(self.sites).id, "Garbled", 1))
        site.skew_us -= back_us
        site.tell(ClockAnomaly(-back_us))

    def _withdraw(self, site: Site) -> None:
        ds = self.random.choice(sorted(site.caps))
        if ds in site.withdrawn:
            return
        site.withdrawn.add(ds)
        site.tell(DatasetRevoked(ds, "owner-withdrew"))
        for plan in [x for x in site.open.values() if x.approval.ds == ds]:
            site.tell(StudyRevoked(plan.study, "dataset-revoked"))
            del site.open[plan.study]

    def _study(self, number: int) -> Iterator[str]:
        """A study at all its sites, from the proposal to whatever end."""
        random = self.random
        study, proposer = digest("study", number), self.sites[0]
        rounds, consensus = random.randint(1, 4), random.randint(0, 1)
        for site in self.sites:
            site.tell(StudyProposed(study, proposer.id))
        yield "proposed"
        for site in self.sites:
            self._decide(site, study, rounds, consensus)
        yield "decided"
        behind: dict[bytes, int] = {}
        for round_ in range(rounds + consensus):
            yield from self._round(study, round_, rounds + consensus, behind)
        for site in self.sites:
            plan = site.open.get(study)
            if plan is None:
                continue
            if site.id in behind:
                site.tell(StudyClosed(study, "left-behind", 0))
                site.open.pop(study)
            else:
                finish(site, plan, rounds + consensus - 1)

    def _decide(self, site: Site, study: bytes, rounds: int, consensus: int) -> None:
        random = self.random
        usable = sorted(set(site.caps) - site.withdrawn)
        if not usable or random.random() < 0.1:
            site.tell(StudyRefused(study, "owner-refused"))
            return
        expires_us = self.now_us + 90 * DAY_US
        ds = random.choice(usable)
        approval = approve(site, ds, study, TERMS, rounds, expires_us)
        if approval is not None:
            peers = tuple(other.id for other in self.sites if other is not site)
            plan = Plan(approval, rounds, consensus, peers, digest("initial", study))
            site.open[study] = site.plans[study] = plan

    def _round(
        self, study: bytes, round_: int, total: int, behind: dict[bytes, int]
    ) -> Iterator[str]:
        """behind: sites that lost a round, and the first round that they miss."""
        random = self.random
        own: dict[bytes, InputRef] = {}
        self._steer(study, round_)
        for site in self._taking_part(study):
            if site.id in behind:
                continue
            if random.random() < 0.06 and round_ + 1 < total:
                behind[site.id] = round_
                site.tell(NodeOfflineStart(len(self.sites) - 1))
                continue
            ref = self._publish(site, study, round_)
            if ref is None:
                behind[site.id] = round_
            else:
                own[site.id] = ref
        yield "published"
        for site in self._taking_part(study):
            if site.id in own:
                self._gather(site, study, round_, own)
            elif site.id in behind and behind[site.id] < round_:
                self._catch_up(site, study, round_, own, behind)
        yield "averaged"

    def _taking_part(self, study: bytes) -> list[Site]:
        return [site for site in self.sites if study in site.open]

    def _publish(self, site: Site, study: bytes, round_: int) -> InputRef | None:
        plan = site.open[study]
        self.wait(self.random.randint(0, 90) * 1_000_000)
        if round_ >= plan.rounds:
            seq = site.tell(UpdatePublished(study, round_, plan.model, 140, -1))
            return InputRef(seq, plan.model)
        return train(site, plan, round_, crash=self.random.random() < 0.04)

    def _gather(self, site: Site, study: bytes, round_: int, own: dict[bytes, InputRef]) -> None:
        taken: list[UpdateReceived] = []
        late: list[Site] = []
        for sender in self.sites:
            if sender is site or sender.id not in own:
                continue
            verdict = self.random.choices(("accepted", "rejected", "late"), (8, 1, 1))[0]
            if verdict == "late":
                late.append(sender)
            else:
                record = site.take(study, round_, sender, verdict)
                taken += [record] if verdict == "accepted" else []
        if taken:
            average(site, site.open[study], round_, own[site.id], taken)
        else:
            site.tell(RoundSkipped(study, round_, "too-few-neighbours"))
        for sender in late:
            site.take(study, round_, sender, "late")

    def _catch_up(
        self,
        site: Site,
        study: bytes,
        round_: int,
        own: dict[bytes, InputRef],
        behind: dict[bytes, int],
    ) -> None:
        """Adopt the average of what the neighbours published in this round."""
        senders = [self_ for self_ in self.sites if self_.id in own]
        if not senders or self.random.random() < 0.3:
            return
        for skipped in range(behind.pop(site.id), round_):
            site.tell(RoundSkipped(study, skipped, "catch-up"))
        received = [site.take(study, round_, sender, "accepted") for sender in senders]
        plan = site.open[study]
        average(site, plan, round_, InputRef(-1, plan.model), received)

    def _steer(self, study: bytes, round_: int) -> None:
        """The proposer steers; everybody records it right before the training it changes."""
        proposer = self.sites[0]
        if study in proposer.steered_in or self.random.random() > 0.15:
            return
        proposer.steered_in.add(study)
        changes, message = {"learning_rate": "0.25"}, digest("message", study)
        seq = proposer.tell(StudySteered(study, round_, message, changes, -1))
        for site in self._taking_part(study):
            if round_ < site.open[study].rounds:
                site.tell(StudySteered(study, round_, message, changes, seq))

    # -- auditing it -----------------------------------------------------------------------------

    def evidence(self, site: Site, logs: Sequence[PeerLog] | None = None) -> PeerEvidence:
        """Everything the other sites hold."""
        others = [other for other in self.sites if other is not site]
        return PeerEvidence(
            identity=site.book.identity,
            logs=tuple(self.log_of(other) for other in others) if logs is None else tuple(logs),
            heads=tuple(head for holder in self.sites for head in holder.held.values()),
            cards=tuple(
                CardSeen(other.id, site.book.identity.log_id, site.book.identity.log_pk)
                for other in others
            ),
            members=frozenset(other.id for other in others),
        )

    def log_of(self, site: Site) -> PeerLog:
        """The whole log of a site."""
        entries = site.book.entries
        return PeerLog(
            site=site.id,
            log_id=site.book.identity.log_id,
            leaves=tuple(entry.leaf for entry in entries),
            timeline=Timeline(entries),
            sealed=0,
            notes=frozenset(map(note_digest, site.book.notes)),
            verification=Verification((), len(entries), None),
        )

    def mirror_of(self, site: Site) -> PeerLog:
        """What a member of all its studies mirrors: the site's own matters are sealed."""
        entries = site.book.entries
        shown = [entry for entry in entries if readers_of(entry.kind) is not Readers.SELF]
        return replace(
            self.log_of(site),
            timeline=Timeline(shown),
            sealed=len(entries) - len(shown),
            notes=frozenset(),
            verification=None,
        )

    def audit(
        self,
        site: Site,
        peers: PeerEvidence | None = None,
        accountant: EpsilonOf = epsilon_of,
    ) -> AuditReport:
        """Audit one site with everything that the others hold."""
        entries = site.book.entries
        context = AuditContext(
            site=site.id,
            verification=Verification((), len(entries), None),
            now_us=self.now_us,
            names=self.names,
            peers=self.evidence(site) if peers is None else peers,
        )
        return audit(entries, context, epsilon_of=accountant)
