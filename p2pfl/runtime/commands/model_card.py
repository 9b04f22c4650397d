"""The model card: what a released model is, where it comes from, what it is and is not good for.

Only what the ledger, the manifest and the roster say. Scores are left out on purpose: they are
computed from patients, and nobody paid ε for them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from gossip.identifiers import SiteId
from gossip.roster import Roster
from ledger.provenance import kinds
from p2pfl.core.drafts import DISTANCE_MAX
from p2pfl.core.manifest import CategoryColumn, Column, DataTerms, Manifest, Target
from p2pfl.core.manifest_terms import ImageTerms
from p2pfl.core.planned import Planned, rounds_planned
from p2pfl.runtime.commands.models import Released

WIDTH = 78


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Everything a card states that is not in the manifest."""

    study: bytes
    name: str
    site: str
    """The site that released this copy."""
    sites: tuple[str, ...]
    """Whose updates were averaged into it here, this site's included."""
    rounds: int
    rounds_skipped: int
    planned: Planned
    """Fewer than were approved where the proposer stopped the study early."""
    epsilon: float
    """Spent by this study on this site's patients."""
    delta: str
    vector_sha256: bytes
    """As the ledger names the model."""
    tensors_sha256: bytes
    """Of the exported file."""
    distance: str
    seq: int
    leaf: bytes
    released_us: int
    licence: str


def card_facts(
    model: Released, roster: Roster | None, site: str, tensors_sha256: bytes, licence: str
) -> CardFacts:
    """Collect what the ledger says about a released model."""
    approval = model.past.approval
    return CardFacts(
        study=model.seen.study,
        name=model.seen.name,
        site=site,
        sites=tuple(sorted({site, *_neighbours(model, roster)})),
        rounds=len(model.past.averaged),
        rounds_skipped=len(model.past.skipped),
        planned=rounds_planned(model.manifest, model.past),
        epsilon=model.past.eps_u / 1e6,
        delta=approval.dp.delta if approval is not None else "0",
        vector_sha256=model.seen.hash,
        tensors_sha256=tensors_sha256,
        distance=model.seen.distance,
        seq=model.seen.seq,
        leaf=model.seen.leaf,
        released_us=model.seen.time_us,
        licence=licence,
    )


def _neighbours(model: Released, roster: Roster | None) -> Iterator[str]:
    names = {card.site: card.name for card in roster.members} if roster else {}
    for entry in model.entries:
        if entry.kind != kinds.AggDone.KIND:
            continue
        record = kinds.parse(entry)
        if isinstance(record, kinds.AggDone) and record.study == model.seen.study:
            for item in record.inputs:
                yield names.get(SiteId(item.site), item.site.hex()[:12])


def render_card(facts: CardFacts, manifest: Manifest) -> str:
    """The card in Markdown with the front matter Hugging Face reads."""
    parts = (
        _front_matter(facts, manifest),
        f"# {facts.name}\n",
        _summary(facts, manifest),
        _use(),
        _inputs(manifest),
        _training(facts, manifest),
        _privacy(facts, manifest),
        _provenance(facts),
        _limits(facts, manifest),
    )
    return "\n".join(parts)


def _front_matter(facts: CardFacts, manifest: Manifest) -> str:
    lines = [
        "---",
        "library_name: safetensors",
        f"license: {facts.licence}",
        *_pipeline_tag(manifest.data),
        "tags:",
        "- medical",
        "- federated-learning",
        *(["- differential-privacy"] if manifest.privacy.is_private else []),
        f"- {manifest.plan.name}",
        "---",
        "",
    ]
    return "\n".join(lines)


def _pipeline_tag(data: DataTerms) -> list[str]:
    """Hugging Face's word for the task, where it has one."""
    if data.images is not None:
        return [
            f"pipeline_tag: image-{'segmentation' if data.images.regions else 'classification'}"
        ]
    return ["pipeline_tag: tabular-classification"] if isinstance(data.target, Target) else []


def _summary(facts: CardFacts, manifest: Manifest) -> str:
    return _section(
        "",
        f"{_purpose(manifest.data)} Trained by {len(facts.sites)} "
        f"hospitals together; no patient's record left its hospital. Plan `{manifest.plan.name}`, "
        f"{manifest.study.parameters} parameters, in `model.safetensors` as named tensors.",
    )


def _purpose(data: DataTerms) -> str:
    inputs = [f"{len(data.columns)} columns of a table"] if data.columns else []
    if data.images is not None:
        inputs.insert(0, f"images ({', '.join(data.images.modalities)})")
    if isinstance(data.target, Target):
        predicted = f"whether `{data.target.column}` is above {data.target.positive_above:g}"
    else:
        predicted = data.predicted
    return f"Predicts {predicted} from {' and '.join(inputs)}."


def _use() -> str:
    return _section(
        "Intended use",
        "Research on the question the study asked, at hospitals whose patients resemble those it "
        "was trained on, after it was tried on one's own patients (`p2pfl model evaluate`).",
        "It is not a medical device. It has no clinical validation, and no decision about a "
        "patient may rest on it.",
    )


def _inputs(manifest: Manifest) -> str:
    data = manifest.data
    parts = ["## Inputs\n"]
    if data.images is not None:
        parts.append(_images(data.images))
    if data.columns:
        rows = "\n".join(
            f"| {_cell(column.name)} | {_preparation(column)} |" for column in data.columns
        )
        parts.append(
            "In this order; a category takes one input for each of its codes. The model's\n"
            f"metadata names every input.\n\n| column | preparation |\n|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def _images(images: ImageTerms) -> str:
    """How a scan becomes the network's input, and what its outputs are."""
    spacing = " x ".join(f"{side:g}" for side in images.spacing)
    window = " x ".join(str(side) for side in images.window)
    low, high = images.intensity_range
    scaling = (
        "each volume by the mean and deviation of its own voxels that are not 0"
        if images.intensity == "zscore"
        else f"{low:g} to {high:g} scaled to −1 to 1 and clipped"
    )
    sentences = [
        f"Volumes in this order as channels: {', '.join(images.modalities)}; axes to the right, "
        f"front and top (RAS){f', {spacing} mm per voxel' if spacing else ''}; {scaling}; a window "
        f"of {window} voxels, {'anywhere' if images.placement == 'patches' else 'the middle one'}."
    ]
    if images.channels > len(images.modalities):
        sentences.append(
            "A missing modality is all zeros; one more channel per modality is 1 where it is there."
        )
    if images.regions:
        named = ", ".join(
            f"{region.name} (labels {', '.join(map(str, region.labels))})"
            for region in images.regions
        )
        sentences.append(f"One logit per voxel and region, in this order: {named}.")
    return _wrapped(" ".join(sentences)) + "\n"


def _cell(name: str) -> str:
    """A column's name as Markdown shows it unchanged, whatever is in it."""
    return "`" + name.replace("`", "'").replace("|", "\\|") + "`"


def _preparation(column: Column) -> str:
    if isinstance(column, CategoryColumn):
        codes = ", ".join(f"{code:g}" for code in column.categories)
        return f"one 0/1 input for each of {codes}; anything else is all zeros"
    return (
        f"{column.low:g} to {column.high:g} scaled to −1 to 1 and clipped; "
        f"{column.typical:g} where missing"
    )


def _training(facts: CardFacts, manifest: Manifest) -> str:
    arguments = ", ".join(f"{name} = {value}" for name, value in manifest.plan.arguments.items())
    is_early = facts.planned.trained < manifest.study.rounds
    early = f" ({manifest.study.rounds} were planned: stopped early)" if is_early else ""
    skipped = f" ({facts.rounds_skipped} skipped here)" if facts.rounds_skipped else ""
    return _section(
        "Training",
        f"{facts.planned.trained} rounds with training and "
        f"{facts.planned.total - facts.planned.trained} without{early}, {facts.rounds} of them "
        f"averaged at {facts.site}{skipped}. Each hospital trains "
        f"on its own patients ({arguments}) and averages with its neighbours: rule "
        f"`{manifest.averaging.rule}`, topology `{manifest.averaging.topology}`, weighting "
        f"`{manifest.averaging.weighting}`. There is no central computer.",
        f"Hospitals whose updates are in this copy: {', '.join(facts.sites)}.",
        _distance_words(facts),
    )


def _distance_words(facts: CardFacts) -> str:
    if float(facts.distance) >= DISTANCE_MAX:
        return "How far this copy is from the other hospitals' copies was not measured."
    return (
        f"Every hospital releases its own copy. Consensus distance at the end: {facts.distance} "
        "(of the model's own length, 0 means that the copies are equal)."
    )


def _privacy(facts: CardFacts, manifest: Manifest) -> str:
    terms = manifest.privacy
    if not terms.is_private:
        return _section(
            "Privacy",
            "NONE. The model was trained without differential privacy: it may reveal whether a "
            "certain patient was in the data.",
        )
    return _section(
        "Privacy",
        f"Differential privacy for one {terms.unit}: ε = {facts.epsilon:.3f} at δ = {facts.delta} "
        f"for the patients of {facts.site}, as its ledger records; noise multiplier "
        f"{terms.noise_multiplier:g}, clip {terms.clip_norm:g}, sampling {terms.sampling}. Every "
        "other hospital states its own in its own ledger, under the same terms.",
        "This is the cost of this study alone. What else was computed from the same patients adds "
        "to it.",
    )


def _provenance(facts: CardFacts) -> str:
    rows = (
        ("study", facts.study.hex()),
        ("released by", facts.site),
        ("ledger entry `model.released`, number", str(facts.seq)),
        ("leaf hash", facts.leaf.hex()),
        ("model vector, SHA-256", facts.vector_sha256.hex()),
        ("model.safetensors, SHA-256", facts.tensors_sha256.hex()),
    )
    table = "\n".join(f"| {name} | `{value}` |" for name, value in rows)
    closing = _wrapped(
        "`sha256sum manifest.toml` gives the study's id. `provenance.json` holds the ledger's "
        "entry, its inclusion proof under a signed head and the key that signed it. The tensors, "
        "laid one after the other as float32, are the vector that the entry names."
    )
    return f"## Provenance\n\n| | |\n|---|---|\n{table}\n\n{closing}\n"


def _limits(facts: CardFacts, manifest: Manifest) -> str:
    share = f"{manifest.averaging.byzantine:.0%}"
    return _section(
        "Limits",
        "No scores are given: they are computed from patients, and publishing them would cost "
        "privacy that nobody has paid. Whether the model helps differs from hospital to hospital; "
        "probabilities may need calibration at each.",
        f"The averaging expects that at most {share} of the weight lies. It limits what a lying "
        "hospital can do and does not exclude it.",
        "It knows the patients of the hospitals named above and no others: elsewhere, with other "
        "laboratories, ages or habits of coding, it may be wrong without showing it.",
    )


def _section(title: str, *paragraphs: str) -> str:
    heading = f"## {title}\n\n" if title else ""
    return heading + "\n\n".join(_wrapped(paragraph) for paragraph in paragraphs) + "\n"


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)
