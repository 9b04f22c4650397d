"""Showing an audit: as text for people, as JSON for programs. The JSON is authoritative."""

from ledger.provenance.report_json import SCHEMA, to_json
from ledger.provenance.report_text import to_text

__all__ = ["SCHEMA", "to_json", "to_text"]
