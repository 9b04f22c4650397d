"""Images: a thousand volumes registered, memory of training on 64³, and what a round costs besides.

    python -m simulations.benchmarks.images_bench [--only register|memory|rounds] [--json FILE]

register: 500 patients with image and mask, 1,000 volumes, looked at as `p2pfl data add` does,
beside a tenth of them in the same run: time, and how much more memory ten times as many take.
memory: one site's training process on 64³ volumes of four modalities, UNet of width 8, with and
without privacy: its peak memory.
rounds: three hospitals as real nodes, 25 local updates of a 3D UNet in each round, volumes of 64³:
how much of the rounds' wall-clock is not training. Sites train side by side; on fewer cores than
sites, waiting for a slower one is part of it, so it is told with and without that wait.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from gossip.identifiers import Digest, SiteId
from p2pfl.core.manifest_terms import (
    NO_PRIVACY,
    AveragingTerms,
    DataTerms,
    PlanTerms,
    PrivacyTerms,
    StudyTerms,
)
from p2pfl.core.manifest_writing import render_data, render_manifest
from p2pfl.learning.demo_tumours import Scanner, tumour_terms, write_site
from p2pfl.learning.plans import plan_named
from simulations.benchmarks.processes import program
from simulations.benchmarks.report import (
    Measured,
    at_most,
    exit_status,
    machine,
    print_section,
    write_json,
)

VOLUMES: Final = 1000
SECONDS_MAX: Final = 60.0
GROWTH_MAX_MIB: Final = 60.0
MEMORY_MAX_MIB: Final = 2500.0
OUTSIDE_MAX: Final = 0.05
SIDE: Final = 64
MIB: Final = 1 << 20
KEY: Final = bytes(32).hex()
SECTIONS: Final = ("register", "memory", "rounds")


@dataclass(frozen=True, slots=True)
class Ran:
    """A child's answer and what it took."""

    lines: tuple[str, ...]
    wall_s: float
    cpu_s: float
    peak_mib: float


def run(module: str, request: dict[str, Any], scratch: Path) -> Ran:
    """Run one of our modules to its end and ask the kernel what it used."""
    given, told = scratch / "request.json", scratch / "answer"
    given.write_text(json.dumps(request))
    started_s = time.monotonic()
    with given.open("rb") as stdin, told.open("wb") as stdout:
        # Our own interpreter and modules.
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", module], stdin=stdin, stdout=stdout
        )
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"{module} ended with {child.returncode}")
    kib = used.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Ran(
        tuple(told.read_text().splitlines()),
        time.monotonic() - started_s,
        used.ru_utime + used.ru_stime,
        kib / 1024,
    )


def write_volumes(root: Path, patients: int) -> None:
    """An image and a mask for each patient: small files, no two alike."""
    import nibabel

    generator = np.random.Generator(np.random.PCG64(1))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for number in range(patients):
        name = f"sub-{number:04d}"
        image = np.zeros((48, 48, 48), dtype=np.int16)
        image[8:40, 8:40, 20:24] = generator.integers(1, 999, (32, 32, 4))
        for part, voxels in (("T1", image), ("seg", (image > 500).astype(np.uint8))):
            folder = root / name / part
            folder.mkdir(parents=True)
            nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")


def register(scratch: Path) -> list[Measured]:
    """A tenth of the volumes, then all of them."""
    found: dict[int, Ran] = {}
    for volumes in (VOLUMES // 10, VOLUMES):
        place = scratch / str(volumes)
        (place / "out").mkdir(parents=True)
        write_volumes(place / "images", volumes // 2)
        request = {"given": str(place / "images"), "key": KEY, "out": str(place / "out")}
        request |= {"schema": "", "mapping": "", "table": "", "patient_column": ""}
        found[volumes] = run("p2pfl.learning.datasets.registration", request, place)
    few, all_ = found[VOLUMES // 10], found[VOLUMES]
    told = sum('"done"' in line for line in all_.lines)
    return [
        Measured(f"{VOLUMES // 10} volumes, wall", few.wall_s, "s"),
        at_most(f"{VOLUMES} volumes, wall", all_.wall_s, "s", SECONDS_MAX),
        Measured(f"{VOLUMES} volumes, processor time", all_.cpu_s, "s"),
        Measured(f"{VOLUMES} volumes, peak memory", all_.peak_mib, "MiB"),
        at_most(
            "more memory than for a tenth", all_.peak_mib - few.peak_mib, "MiB", GROWTH_MAX_MIB
        ),
        Measured("times progress was told", told, ""),
    ]


def memory(scratch: Path) -> list[Measured]:
    """One round at one site, plain and private."""
    scanner = Scanner(gain=1.0, noise=0.03, blur=0.0, bias=0.1, contrast=1.0)
    generator = np.random.Generator(np.random.PCG64(1))
    write_site(scratch / "images", 20, SIDE, scanner, generator)
    terms = tumour_terms(SIDE)
    (scratch / "out").mkdir()
    (scratch / "schema.toml").write_bytes(render_data(terms))
    request: dict[str, Any] = {"given": str(scratch / "images"), "key": KEY}
    request |= {"out": str(scratch / "out"), "schema": str(scratch / "schema.toml")}
    request |= {"mapping": "", "table": "", "patient_column": ""}
    run("p2pfl.learning.datasets.registration", request, scratch)
    lines = []
    private = PrivacyTerms("gaussian", 8.0, "1e-3", 1.0, "patient", "full", 1.0, 2.0, 1)
    for name, privacy in (("without privacy", NO_PRIVACY), ("with privacy", private)):
        manifest = scratch / "study.toml"
        manifest.write_bytes(study(terms, privacy))
        request = {"manifest": str(manifest), "dataset": str(scratch / "out" / "images.json")}
        request |= {"patient_column": "", "denominator": 20, "rounds": 1, "materials": {}}
        done = run("p2pfl.learning.rehearsal", request, scratch)
        answer = json.loads(done.lines[-1])
        lines += [
            at_most(f"{name}, peak memory", done.peak_mib, "MiB", MEMORY_MAX_MIB),
            Measured(f"{name}, steps", answer["rounds"][0]["steps"], ""),
            Measured(f"{name}, processor time of all", done.cpu_s, "s"),
        ]
    return lines


def study(terms: DataTerms, privacy: PrivacyTerms) -> bytes:
    """A manifest of two sites, of which one is tried out."""
    arguments = {"width": 8, "levels": 3, "batch_size": 2, "local_steps": 10}
    if privacy.is_private:
        del arguments["local_steps"]
    plan = plan_named("segmentation")
    parameters = plan.schema(terms, plan.arguments(arguments)).parameters
    sites = (SiteId(bytes([1]) * 32), SiteId(bytes([2]) * 32))
    year_2090_s = 3_786_912_000
    return render_manifest(
        study=StudyTerms(
            "memory", 1, 0, sites, 2, 1, 60.0, year_2090_s, 1, Digest(bytes(32)), parameters
        ),
        plan=PlanTerms("segmentation", arguments, {}),
        data=replace(terms, patients_min=10),
        privacy=privacy,
        averaging=AveragingTerms("gossip", "complete", 0, (), "uniform", 1.0, 0.0, {}),
    )


def rounds(scratch: Path) -> list[Measured]:
    """Real nodes; see the module for what is counted."""
    told = scratch / "result.json"
    words = ["--sites", "3", "--patients", "60", "--side", str(SIDE), "--rounds", "4"]
    words += ["--private-rounds", "0", "--no-compare", "--json", str(told)]
    # Our own program, as a person would start it.
    subprocess.run([*program(), "demo-tumour", *words], check=True)  # noqa: S603
    (done,) = json.loads(told.read_text())["studies"]
    return [
        Measured("a round, median", done["round_s"], "s"),
        at_most("not training, slowest site", done["beyond_slowest"], "share", OUTSIDE_MAX),
        Measured("the same, waiting for slower sites counted", done["outside_training"], "share"),
    ]


def main(arguments: Sequence[str]) -> int:
    """Run the sections and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    measured: dict[str, list[Measured]] = {}
    print(machine())
    for name, section in zip(SECTIONS, (register, memory, rounds), strict=True):
        if given.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="p2pfl-images-") as folder:
                measured[name] = section(Path(folder))
            print_section(name, measured[name])
    write_json(given.json, measured)
    return exit_status(measured)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
