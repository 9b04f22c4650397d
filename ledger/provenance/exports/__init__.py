"""A ledger in the forms of others: proofs, tlog-tiles, CSV, W3C PROV and RO-Crate.

Responsible for what an exported file holds. Every writer takes an open log, the head to export
and an empty folder, and says which files it wrote."""

from ledger.provenance.exports.csv_table import export_csv
from ledger.provenance.exports.heads import Exported, ExportError, ExportHead, head_of
from ledger.provenance.exports.proofs import export_proofs
from ledger.provenance.exports.prov_graph import export_prov
from ledger.provenance.exports.research_object import CrateAbout, export_crate
from ledger.provenance.exports.tiles import export_tiles

__all__ = [
    "CrateAbout",
    "ExportError",
    "ExportHead",
    "Exported",
    "export_crate",
    "export_csv",
    "export_proofs",
    "export_prov",
    "export_tiles",
    "head_of",
]
