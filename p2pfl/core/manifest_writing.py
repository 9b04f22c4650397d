"""Writing a study manifest: one canonical order of sections and keys, so that the same study
gives the same bytes, and therefore the same id, wherever it is written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import assert_never

import tomli_w

from p2pfl.core.manifest_bundle import BundleTerms
from p2pfl.core.manifest_code import CodeTerms
from p2pfl.core.manifest_terms import (
    AveragingTerms,
    CategoryColumn,
    Column,
    DataTerms,
    ImageTerms,
    Material,
    PlanTerms,
    PrivacyTerms,
    StudyTerms,
    SurvivalTarget,
    Target,
)


def render_manifest(
    *,
    study: StudyTerms,
    plan: PlanTerms,
    data: DataTerms,
    privacy: PrivacyTerms,
    averaging: AveragingTerms,
    materials: tuple[Material, ...] = (),
    code: CodeTerms | None = None,
    bundle: BundleTerms | None = None,
) -> bytes:
    """The canonical TOML of a study. Free keys (arguments, ranges, parameters) are sorted.

    A plan's text comes last, line by line as it was written, so that people can read it."""
    document: dict[str, object] = {
        "study": _study(study),
        "plan": {
            "name": plan.name,
            "arguments": dict(sorted(plan.arguments.items())),
            "ranges": {name: list(pair) for name, pair in sorted(plan.ranges.items())},
        },
        "data": _data(data),
        "privacy": _privacy(privacy),
        "averaging": _averaging(averaging, study),
        **{material.use: _material(material) for material in materials},
        **({} if bundle is None else {"bundle": _bundle(bundle)}),
    }
    written = tomli_w.dumps(document)
    return (written if code is None else f"{written}\n{_code(code)}").encode()


def _code(code: CodeTerms) -> str:
    values: dict[str, object] = {"sha256": code.sha256.hex()}
    if code.gradients:
        values["gradients"] = code.gradients
    # One line each: a table of its own would put the text below a heading that is not its own.
    packages = ", ".join(f'{name} = "{of}"' for name, of in sorted(code.packages.items()))
    ranges = sorted(code.metrics.items())
    metrics = ", ".join(f"{name} = [{low!r}, {high!r}]" for name, (low, high) in ranges)
    lines = ["[code]", tomli_w.dumps(values).rstrip("\n"), f"packages = {{ {packages} }}"]
    if metrics:
        lines.append(f"metrics = {{ {metrics} }}")
    # A literal string: what stands between the quotes is the text, without any escape.
    return "\n".join([*lines, f"text = '''\n{code.text}'''", ""])


def _bundle(bundle: BundleTerms) -> dict[str, object]:
    values: dict[str, object] = {
        "name": bundle.name,
        "sha256": bundle.sha256.hex(),
        "packages": dict(sorted(bundle.packages.items())),
    }
    ranges = {name: list(pair) for name, pair in sorted(bundle.metrics.items())}
    return values | ({"metrics": ranges} if ranges else {})


def _material(material: Material) -> dict[str, object]:
    return {
        "model": material.model.hex(),
        "study": material.study.hex(),
        "site": material.site.hex(),
        "entry": material.entry,
        "parameters": material.parameters,
    }


def render_data(data: DataTerms) -> bytes:
    """The canonical TOML of the [data] section alone."""
    return tomli_w.dumps({"data": _data(data)}).encode()


def _study(study: StudyTerms) -> dict[str, object]:
    values: dict[str, object] = {
        "name": study.name,
        "rounds": study.rounds,
        "consensus_rounds": study.consensus_rounds,
        "sites": [site.hex() for site in study.sites],
        "sites_min": study.sites_min,
        "neighbours_min": study.neighbours_min,
        "round_deadline_s": study.round_deadline_s,
        "expires": datetime.fromtimestamp(study.expires_s, UTC),
        "seed": study.seed,
        "initial_model": study.initial_model.hex(),
        "parameters": study.parameters,
    }
    # Written only where they say something, so that earlier manifests keep their id.
    if study.patience:
        values["patience"] = study.patience
    if study.work_limit_s:
        values["work_limit_s"] = study.work_limit_s
    if study.keep != "last":
        values["keep"] = study.keep
    return values


def _data(data: DataTerms) -> dict[str, object]:
    values: dict[str, object] = {
        "kind": data.kind,
        "patients_min": data.patients_min,
        "holdout": data.holdout,
    }
    if data.target is not None or data.images is None:
        values["target"] = _target(data.target)
    if data.columns:
        values["columns"] = [_column(column) for column in data.columns]
    if data.images is not None:
        values["images"] = _images(data.images)
    return values


def _target(target: Target | SurvivalTarget | None) -> object:
    match target:
        case Target(column=column, positive_above=above):
            return {"column": column, "positive_above": above}
        case SurvivalTarget(time=time, event=event):
            return {"time": time, "event": event}
        case None:
            return "none"
        case _:
            assert_never(target)


def _images(images: ImageTerms) -> dict[str, object]:
    values: dict[str, object] = {
        "modalities": list(images.modalities),
        "modalities_min": images.modalities_min,
        "window": list(images.window),
        "placement": images.placement,
        "intensity": images.intensity,
    }
    if images.spacing:
        values["spacing"] = list(images.spacing)
    if images.intensity == "range":
        values["intensity_range"] = list(images.intensity_range)
    if images.regions:
        values["regions"] = [
            {"name": region.name, "labels": list(region.labels)} for region in images.regions
        ]
    return values


def _column(column: Column) -> dict[str, object]:
    if isinstance(column, CategoryColumn):
        values: dict[str, object] = {
            "name": column.name,
            "type": "category",
            "categories": list(column.categories),
        }
    else:
        values = {
            "name": column.name,
            "type": "number",
            "range": [column.low, column.high],
            "typical": column.typical,
        }
    if column.missing:
        values["missing"] = list(column.missing)
    return values


def _privacy(privacy: PrivacyTerms) -> dict[str, object]:
    if not privacy.is_private:
        return {"mechanism": "none"}
    return {
        "mechanism": privacy.mechanism,
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "clip_norm": privacy.clip_norm,
        "unit": privacy.unit,
        "sampling": privacy.sampling,
        "sampling_rate": privacy.sampling_rate,
        "noise_multiplier": privacy.noise_multiplier,
        "steps_per_round": privacy.steps_per_round,
    }


def _averaging(averaging: AveragingTerms, study: StudyTerms) -> dict[str, object]:
    values: dict[str, object] = {"rule": averaging.rule, "topology": averaging.topology}
    if averaging.degree:
        values["degree"] = averaging.degree
    if averaging.edges:
        place = {site: index for index, site in enumerate(study.sites)}
        values["edges"] = [[place[first], place[second]] for first, second in averaging.edges]
    # Written only where they say something, so that earlier manifests keep their id.
    if averaging.redraw_rounds:
        values["redraw_rounds"] = averaging.redraw_rounds
    if averaging.guard != "none":
        values["guard"] = averaging.guard
    if averaging.encoding != "float32":
        values["encoding"] = averaging.encoding
    if averaging.staleness:
        values["staleness"] = averaging.staleness
    return values | {
        "weighting": averaging.weighting,
        "share_max": averaging.share_max,
        "byzantine": averaging.byzantine,
        "parameters": dict(sorted(averaging.parameters.items())),
    }
