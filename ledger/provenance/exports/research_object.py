"""A ledger's evidence as a research object that repositories understand.

The crate holds the signed head, proofs, the PROV graph and a description of every released model;
no model file and no entry that only the site may read. Source: RO-Crate 1.1."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ledger.log import LogView
from ledger.provenance.exports.heads import Exported, ExportHead, shared_entries
from ledger.provenance.exports.proofs import export_proofs
from ledger.provenance.exports.prov_graph import export_prov
from ledger.provenance.kinds import ModelReleased, parse


@dataclass(frozen=True, slots=True)
class CrateAbout:
    """Whose crate it is and when it was made."""

    site: bytes
    names: Mapping[bytes, str]
    study_names: Mapping[bytes, str]
    now_us: int


def export_crate(log: LogView, head: ExportHead, folder: Path, about: CrateAbout) -> Exported:
    """Write the crate: `ro-crate-metadata.json` beside the files that it describes."""
    from rocrate.model.contextentity import ContextEntity  # half a second: only exports pay
    from rocrate.rocrate import ROCrate

    site = about.names.get(about.site, about.site.hex()[:12])
    proofs = export_proofs(log, head, folder)
    graph = export_prov(log, head, folder, about.site, about.names)
    (folder / "checkpoint").write_bytes(head.note)
    crate = ROCrate()
    crate.name = f"Ledger evidence of {site}"
    crate.description = (
        f"Provenance of models trained with p2pfl, under the signed head of {head.size} entries "
        f"of the log {head.checkpoint.origin}."
    )
    made = datetime.fromtimestamp(about.now_us // 1_000_000, UTC)
    crate.datePublished = made
    crate.license = "not stated: ask the site"
    owner = ContextEntity(crate, f"#site-{about.site.hex()}", {"@type": "Organization"})
    owner["name"] = site
    crate.add(owner)
    crate.root_dataset["author"] = owner
    files = (*proofs.files, *graph.files, folder / "checkpoint")
    for path in files:
        form = "application/json" if path.suffix == ".json" else "text/plain"
        told = {"name": _TITLES.get(path.name, "Inclusion proof"), "encodingFormat": form}
        crate.add_file(path, dest_path=path.name, properties=told)
    for entry in shared_entries(log, head.size):
        if entry.kind == ModelReleased.KIND:
            record = parse(entry)
            assert isinstance(record, ModelReleased)
            _describe(crate, record, about)
    crate.metadata.write(folder)
    sentence = "The crate describes released models by their SHA-256; it holds none of them."
    written = (*files, folder / "ro-crate-metadata.json")
    return Exported(written, (*proofs.sentences, sentence))


_TITLES = {
    "proofs.json": "Signed head, inclusion and consistency proofs",
    "prov.json": "Provenance of models (W3C PROV-JSON)",
    "checkpoint": "Signed head of the log (C2SP checkpoint)",
}


def _describe(crate, record: ModelReleased, about: CrateAbout) -> None:  # type: ignore[no-untyped-def]  # a class of an untyped package
    """Mention a released model."""
    from rocrate.model.contextentity import ContextEntity

    study = about.study_names.get(record.study, record.study.hex()[:12])
    told = {
        "@type": "CreativeWork",
        "name": f"Released model of {study}, round {record.round}",
        "identifier": f"sha256:{record.hash.hex()}",
        "isPartOf": f"study {record.study.hex()}",
    }
    model = crate.add(ContextEntity(crate, f"#model-{record.hash.hex()}", told))
    crate.root_dataset.append_to("mentions", model)
