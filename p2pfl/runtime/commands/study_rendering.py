"""A draft as the manifest that it becomes: written canonically, and read back strictly."""

from __future__ import annotations

from p2pfl.core.manifest import Manifest, parse_manifest, render_manifest


def rendered(draft: Manifest) -> Manifest:
    """The draft as its own bytes say it. Raises ManifestError."""
    return parse_manifest(
        render_manifest(
            study=draft.study,
            plan=draft.plan,
            data=draft.data,
            privacy=draft.privacy,
            averaging=draft.averaging,
            materials=draft.materials,
            code=draft.code,
            bundle=draft.bundle,
        )
    )
