"""Reading [bundle]: a MONAI bundle that each site installed for itself, named by its digest.

Responsible for the shape of the section and for what a bundle's digest is. Nothing of the bundle
travels: a site that has no bundle of this digest cannot approve the study, let alone run it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gossip.identifiers import Digest
from p2pfl.core.errors import Inconsistent
from p2pfl.core.manifest_code import METRICS_MAX, Gradients, read_packages
from p2pfl.core.manifest_table import Table

BUNDLE_PLAN: Final = "bundle"
"""[plan] name of a study that runs a bundle."""
TRAIN_CONFIG: Final = "configs/train.json"
EVALUATE_CONFIG: Final = "configs/evaluate.json"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
NAME_WORDS: Final = "1 to 40 of a-z, 0-9, _ and -, not beginning with _ or -"

_KEYS: Final = ("name", "sha256", "packages", "metrics")
_METRIC: Final = re.compile(r"[A-Za-z0-9_]{1,40}")
_DOMAIN: Final = b"p2pfl bundle 1\n"


@dataclass(frozen=True, slots=True)
class BundleTerms:
    """[bundle]: which bundle every site runs, confined, and what it may say of itself."""

    name: str
    """As the proposer calls it; what counts is the digest."""
    sha256: Digest
    packages: Mapping[str, str]
    """Third-party packages it uses, and the version of each that the proposer has."""
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """What its evaluator may report: names and ranges. It stays at the site."""

    @property
    def gradients(self) -> Gradients:
        """Nobody clips single patients' gradients in a bundle."""
        return ""

    @property
    def is_enforced(self) -> bool:
        """Privacy is for whole updates, which the node clips and noises, or there is none."""
        return True


def bundle_digest(files: Mapping[str, bytes]) -> Digest:
    """What names a bundle. files: path below its folder → SHA-256 of the content.

    SHA-256 of "p2pfl bundle 1" and then, sorted by path, the lines that `sha256sum` prints.

    >>> bundle_digest({"a": bytes(32)}).hex()[:8]
    'bfd96eda'
    """
    lines = (f"{digest.hex()}  {path}\n" for path, digest in sorted(files.items()))
    return Digest(hashlib.sha256(_DOMAIN + "".join(lines).encode()).digest())


def read_bundle(
    root: Table, plan: str, *, clips_patients: bool, guard: str, work_limit_s: float
) -> BundleTerms | None:
    """The section, which goes with plan "bundle" and with nothing else. Raises ManifestError.

    clips_patients: whether the study's privacy is for single patients; guard: of [averaging];
    work_limit_s: of [study].
    """
    if plan != BUNDLE_PLAN:
        if root.has("bundle"):
            raise Inconsistent("bundle", f'goes with plan.name = "{BUNDLE_PLAN}", not "{plan}"')
        return None
    if clips_patients:
        raise Inconsistent(
            "privacy.unit",
            'has to be "site" with a bundle: what one patient does in a bundle cannot be clipped, '
            "whole updates can",
        )
    if guard != "none":
        raise Inconsistent("averaging.guard", 'has to be "none": a bundle gives no losses')
    if work_limit_s:
        raise Inconsistent(
            "study.work_limit_s", "does not go with a bundle: it trains whole epochs"
        )
    table = root.table("bundle", _KEYS)
    return BundleTerms(
        name=table.text("name", NAME, NAME_WORDS),
        sha256=Digest(table.digest("sha256")),
        packages=read_packages(table),
        metrics=(
            table.ranges("metrics", _METRIC, count_max=METRICS_MAX) if table.has("metrics") else {}
        ),
    )
