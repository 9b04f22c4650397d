"""[bundle]: a digest that each site has to have, and privacy that can be kept around it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from ops_manifests import PLAN, PRIVACY, rendered

from gossip.identifiers import Digest
from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import NO_PRIVACY, PrivacyTerms, parse_manifest
from p2pfl.core.manifest_bundle import BundleTerms, bundle_digest

BUNDLE = BundleTerms(
    "risk", Digest(bytes(range(32))), {"monai": "1.6.1"}, {"val_mean_dice": (0.0, 1.0)}
)
BUNDLE_PLAN = replace(PLAN, name="bundle", arguments={"local_epochs": 1}, ranges={})
BY_UPDATE = replace(PRIVACY, unit="site", sampling="full", sampling_rate=1.0, steps_per_round=1)


def bundled(privacy: PrivacyTerms = BY_UPDATE, plan: str = "bundle") -> bytes:
    return rendered(plan=replace(BUNDLE_PLAN, name=plan), bundle=BUNDLE, privacy=privacy)


@pytest.mark.parametrize("privacy", [BY_UPDATE, NO_PRIVACY], ids=["update", "none"])
def test_a_bundle_comes_back_as_it_was_written(privacy: PrivacyTerms) -> None:
    manifest = parse_manifest(bundled(privacy))
    assert manifest.bundle == BUNDLE
    assert manifest.foreign == BUNDLE
    assert manifest.code is None


def test_privacy_for_single_patients_is_refused_with_a_bundle() -> None:
    with pytest.raises(ManifestError, match=r'privacy\.unit has to be "site" with a bundle'):
        parse_manifest(bundled(PRIVACY))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('name = "bundle"', 'name = "tabular-mlp"', 'bundle goes with plan.name = "bundle"'),
        ('rule = "', 'guard = "holdout"\nrule = "', "averaging.guard has to be"),
        ("seed = 7", "seed = 7\nwork_limit_s = 5.0", "study.work_limit_s does not go with"),
        ('name = "risk"', 'name = "../risk"', "bundle.name"),
        ('sha256 = "0001', 'sha256 = "', "bundle.sha256"),
        ('name = "risk"', 'name = "risk"\ntext = "x"', "bundle.text"),
    ],
)
def test_what_does_not_belong_to_a_bundle_is_refused(old: str, new: str, what: str) -> None:
    raw = bundled(NO_PRIVACY)
    assert raw.count(old.encode()) == 1
    with pytest.raises(ManifestError) as caught:
        parse_manifest(raw.replace(old.encode(), new.encode()))
    assert what in str(caught.value)


def test_the_digest_is_that_of_what_sha256sum_prints() -> None:
    files = {"scripts/a.py": b"b", "configs/train.json": b"a"}
    hashes = {path: hashlib.sha256(raw).digest() for path, raw in files.items()}
    printed = "".join(f"{hashes[path].hex()}  {path}\n" for path in sorted(files))
    expected = hashlib.sha256(b"p2pfl bundle 1\n" + printed.encode()).digest()
    assert bundle_digest(hashes) == expected
