"""The making of models as W3C PROV: which site's training made what from what.

Models and datasets are entities, trainings and averages are activities, sites are agents. Only
what members of a study may read is told. Source: W3C PROV-DM and PROV-JSON."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.log import LogView
from ledger.provenance.exports.csv_table import iso_time
from ledger.provenance.exports.heads import Exported, ExportHead, shared_entries, write_text
from ledger.provenance.kinds import (
    AggDone,
    KindError,
    ModelReleased,
    Record,
    StudyApproved,
    TrainDone,
    UpdateReceived,
    parse,
)

if TYPE_CHECKING:
    from prov.model import ProvDocument

NAMESPACE = "urn:p2pfl:"


def export_prov(
    log: LogView, head: ExportHead, folder: Path, site: bytes, names: Mapping[bytes, str]
) -> Exported:
    """Write `prov.json`. site: whose log it is; names: of sites, for people."""
    document = prov_document(log, head, site, names)
    text: str = document.serialize(format="json", indent=1)
    path = write_text(folder / "prov.json", text)
    sentence = (
        f"{len(document.get_records())} statements under the head of {head.size} entries. Data "
        "registrations and policies, which only this site may read, are left out."
    )
    return Exported((path,), (sentence,))


def prov_document(
    log: LogView, head: ExportHead, site: bytes, names: Mapping[bytes, str]
) -> "ProvDocument":
    """The graph as the `prov` package holds it."""
    graph = _Graph(site, names)
    for entry in shared_entries(log, head.size):
        try:
            graph.add(entry.seq, entry.time_us, parse(entry))
        except KindError:
            continue  # the genesis entry, or a kind that a newer version writes
    return graph.document


class _Graph:
    """A document under construction; each thing is declared once."""

    def __init__(self, site: bytes, names: Mapping[bytes, str]) -> None:
        from prov.model import ProvDocument  # a second of imports: only those who export pay

        self.document = ProvDocument()
        self.document.add_namespace("p2pfl", NAMESPACE)
        self.names = names
        self.site = self.agent(site)

    def add(self, seq: int, time_us: int, record: Record) -> None:
        """Say what one entry says of the making of models."""
        match record:
            case StudyApproved(study=study, ds=ds, role=role):
                plan = self.thing("study", study)
                approval = self.activity("approval", seq, time_us, role=role)
                self.document.used(approval, plan)
                self.document.used(approval, self.thing("dataset", ds))
            case TrainDone(base_model=base, ds=ds, out_hash=out):
                work = self.activity("training", seq, time_us, round=record.round)
                work.add_attributes({"p2pfl:epsilon_micro": record.eps_u})
                self.document.used(work, self.thing("study", record.study))
                self.document.used(work, self.thing("model", base))
                self.document.used(work, self.thing("dataset", ds))
                self.document.wasGeneratedBy(self.thing("model", out), work)
            case UpdateReceived(sender=sender, hash=digest, verdict=verdict):
                update = self.thing("model", digest)
                self.document.wasAttributedTo(update, self.agent(sender))
                told = {"p2pfl:verdict": verdict, "p2pfl:round": record.round}
                self.thing("receipt", seq.to_bytes(8, "big"), told)
            case AggDone(own=own, inputs=inputs, out_hash=out, rule=rule):
                work = self.activity("averaging", seq, time_us, round=record.round, rule=rule)
                used = [(own.hash, -1), *((one.hash, one.weight_u) for one in inputs)]
                for digest, weight_u in used:
                    weight = {"p2pfl:weight_micro": weight_u} if weight_u >= 0 else None
                    self.document.usage(work, self.thing("model", digest), other_attributes=weight)
                self.document.wasGeneratedBy(self.thing("model", out), work)
            case ModelReleased(hash=digest):
                work = self.activity("release", seq, time_us, round=record.round)
                self.document.used(work, self.thing("model", digest))
            case _:
                pass  # the other kinds say nothing of how a model was made

    def thing(self, sort: str, digest: bytes, told: Mapping[str, object] | None = None) -> str:
        """An entity, by its digest."""
        name = f"p2pfl:{sort}-{digest.hex()}"
        if not self.document.get_record(name):
            self.document.entity(name, {"prov:type": f"p2pfl:{sort}", **(told or {})})
        return name

    def agent(self, site: bytes) -> str:
        """A site."""
        name = f"p2pfl:site-{site.hex()}"
        if not self.document.get_record(name):
            label = self.names.get(site, site.hex()[:12])
            about = {"prov:type": "prov:Organization", "prov:label": label}
            self.document.agent(name, about)
        return name

    def activity(self, sort: str, seq: int, time_us: int, **told: object):  # type: ignore[no-untyped-def]  # a class of an untyped package
        """Something this site did, told by one entry of its log."""
        when = datetime.fromtimestamp(time_us // 1_000_000, UTC) if iso_time(time_us) else None
        about = {f"p2pfl:{key}": value for key, value in told.items()}
        about |= {"prov:type": f"p2pfl:{sort}", "p2pfl:entry": seq}
        done = self.document.activity(f"p2pfl:entry-{seq}", when, when, about)
        self.document.wasAssociatedWith(done, self.site)
        return done
