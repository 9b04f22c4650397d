"""A MONAI bundle for images, tried as `study new` tries it: confined, on nobody's images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ops_manifests import rendered

from gossip.identifiers import Digest
from p2pfl.core.manifest import NO_PRIVACY, PlanTerms, parse_manifest
from p2pfl.core.manifest_bundle import BundleTerms
from p2pfl.core.manifest_terms import DataTerms, ImageTerms, Region
from p2pfl.runtime.bundles import add_bundle
from p2pfl.runtime.commands.study_bundle import try_bundle
from p2pfl.runtime.home import Home

SLICES: dict[str, Any] = {
    "configs/train.json": {
        "channels": 1,
        "regions": 1,
        "train_data": [],
        "network": {
            "_target_": "UNet",
            "spatial_dims": 2,
            "in_channels": "@channels",
            "out_channels": "@regions",
            "channels": [4, 8],
            "strides": [2],
            "norm": ["instance", {"affine": True}],
        },
        "optimizer": {
            "_target_": "torch.optim.Adam",
            "params": "$@network.parameters()",
            "lr": 0.01,
        },
        "train": {
            "dataset": {"_target_": "Dataset", "data": "@train_data"},
            "dataloader": {"_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": 2},
            "trainer": {
                "_target_": "SupervisedTrainer",
                "max_epochs": 1,
                "device": "cpu",
                "train_data_loader": "@train#dataloader",
                "network": "@network",
                "loss_function": {"_target_": "DiceLoss", "sigmoid": True},
                "optimizer": "@optimizer",
            },
        },
    },
    "configs/evaluate.json": {
        "validate_data": [],
        "validate": {
            "dataset": {"_target_": "Dataset", "data": "@validate_data"},
            "dataloader": {"_target_": "DataLoader", "dataset": "@validate#dataset"},
            "evaluator": {
                "_target_": "SupervisedEvaluator",
                "device": "cpu",
                "val_data_loader": "@validate#dataloader",
                "network": "@network",
                "postprocessing": {
                    "_target_": "Compose",
                    "transforms": [
                        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
                    ],
                },
                "key_val_metric": {
                    "val_mean_dice": {
                        "_target_": "MeanDice",
                        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
                    }
                },
            },
        },
    },
}


@pytest.mark.nodes
def test_a_bundle_for_images_gets_windows_regions_and_channels(tmp_path: Path) -> None:
    home, source = Home(tmp_path / "home"), tmp_path / "slices"
    home.blobs.mkdir(parents=True)
    for path, content in SLICES.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(json.dumps(content))
    bundle = add_bundle(home, source, "slices").bundle
    regions = (Region("whole", (1, 2)), Region("core", (2,)))
    images = ImageTerms(("T1", "FLAIR"), 2, (16, 16), "centre", (), "zscore", (0.0, 0.0), regions)
    terms = BundleTerms("slices", Digest(bundle.digest), {"monai": "1.6.1"})
    manifest = rendered(
        plan=PlanTerms("bundle", {"local_epochs": 2}, {}),
        data=DataTerms("images", 2, 0.3, None, (), images),
        privacy=NO_PRIVACY,
        bundle=terms,
    )
    tried = try_bundle(home, parse_manifest(manifest))
    assert tried.unit == ("val_mean_dice",)
    # Of a UNet for two modalities and two regions; the configuration by itself says one of each.
    assert tried.parameters == 616
