"""What a study calls a site's own modalities, columns and labels: `mapping.toml`, kept at the site.

A data manager may edit it: `[modalities]` and `[columns]` say `study's name = "own name"`,
`[labels]` says `own number = study's number`. What is not written is called alike at both, blanks,
case and hyphens aside, or by one of a few names that everybody knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import tomli_w

from p2pfl.core.errors import OutOfRange, WrongType
from p2pfl.core.manifest_table import Table, parse_toml

MAPPING_FILE: Final = "mapping.toml"
MAPPING_BYTES_MAX: Final = 64 << 10
_SECTIONS: Final = ("modalities", "columns", "labels")
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,64}")

ALIASES: Final = (
    ("t1", "t1w", "t1n", "t1weighted", "t1pre"),
    ("t1ce", "t1c", "t1gd", "t1contrast", "t1post", "t1wce", "ce", "gdt1w", "t1cew"),
    ("t2", "t2w", "t2weighted"),
    ("flair", "t2flair", "t2f", "t2wflair", "flairw"),
    ("adc", "adcmap"),
    ("ct", "cect"),
    ("pet", "fdgpet", "fdg"),
)
"""Names of one and the same modality, as BraTS, FeTS, BIDS and the Decathlon write them."""


@dataclass(frozen=True, slots=True)
class ImageMapping:
    """The study's name → the site's own; labels: the site's number → the study's."""

    modalities: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[int, int] = field(default_factory=dict)

    def own_modality(self, wanted: str, available: Iterable[str]) -> str | None:
        """What the site calls a study's modality, None if it has none such."""
        names = sorted(available)
        written = self.modalities.get(wanted)
        if written is not None:
            return written if written in names else None
        return next((name for name in names if is_same_modality(wanted, name)), None)

    def own_column(self, wanted: str) -> str:
        """What the site calls a study's column."""
        return self.columns.get(wanted, wanted)


def is_same_modality(first: str, second: str) -> bool:
    """Whether two names mean one modality.

    >>> is_same_modality("T1ce", "t1-Gd"), is_same_modality("T1", "T1ce")
    (True, False)
    """
    one, other = _plain(first), _plain(second)
    return one == other or any(one in names and other in names for names in ALIASES)


def encode_mapping(mapping: ImageMapping) -> bytes:
    """The mapping as TOML, its three sections always there so that people see what to edit."""
    labels = {str(own): study for own, study in sorted(mapping.labels.items())}
    document = {
        "modalities": dict(mapping.modalities),
        "columns": dict(mapping.columns),
        "labels": labels,
    }
    return tomli_w.dumps(document).encode()


def read_mapping(path: Path) -> ImageMapping:
    """Read a mapping; one that is not there maps nothing. Raises ManifestError, OSError."""
    if not path.is_file():
        return ImageMapping()
    with path.open("rb") as file:
        raw = file.read(MAPPING_BYTES_MAX + 1)
    table = Table(parse_toml(raw, bytes_max=MAPPING_BYTES_MAX), "", _SECTIONS)
    labels: dict[int, int] = {}
    for own, study in _section(table, "labels").items():
        if not own.isdecimal() or isinstance(study, bool) or not isinstance(study, int):
            raise WrongType(f"labels.{own}", expected="a whole number = a whole number", actual=own)
        if not (0 <= int(own) <= 65535 and 0 <= study <= 255):
            raise OutOfRange(f"labels.{own}", expected="0 to 255", actual=study)
        labels[int(own)] = study
    return ImageMapping(_names(table, "modalities"), _names(table, "columns"), labels)


def _names(table: Table, key: str) -> dict[str, str]:
    found = {}
    for study, own in _section(table, key).items():
        if not isinstance(own, str) or _NAME.fullmatch(own) is None:
            raise WrongType(f"{key}.{study}", expected="the site's own name", actual=own)
        found[study] = own
    return found


def _section(table: Table, key: str) -> Mapping[str, object]:
    if not table.has(key):
        return {}
    value = table.value(key)
    if not isinstance(value, dict):
        raise WrongType(key, expected=f"a table [{key}]", actual=value)
    return value


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
