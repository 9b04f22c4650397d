"""Demonstration tables on disk."""

from __future__ import annotations

from pathlib import Path

from p2pfl.learning.demo_data import DemoSite


def write_csv(site: DemoSite, path: Path) -> Path:
    """Put a demonstration site's table on disk."""
    path.write_text("\n".join(",".join(row) for row in (site.header, *site.rows)) + "\n")
    return path
