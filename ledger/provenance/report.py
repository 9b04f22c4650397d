"""Showing an audit: as text and as a page for people, as JSON for programs. The JSON is
authoritative."""

from ledger.provenance.report_html import to_html
from ledger.provenance.report_json import SCHEMA, to_json
from ledger.provenance.report_text import to_text

__all__ = ["SCHEMA", "to_html", "to_json", "to_text"]
