"""Hospitals that each hold a skewed part of the handwritten digits, and train one small network.

All sites' networks are trained at once, stacked along a first axis: 64 inputs, one hidden layer,
10 classes, local SGD with worker momentum. Everything follows from a seed. Source of the data:
scikit-learn's digits (UCI, 1,797 images of 8×8). Must not know rules, graphs or attackers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

PIXELS, HIDDEN, CLASSES = 64, 32, 10
PARAMETERS = PIXELS * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES
_TEST_SHARE = 0.3
_HOLDOUT_SHARE = 0.2
_SITE_IMAGES_MIN = 12
_SHARE_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class Images:
    """pixels: float32[n, 64] in 0…1. labels: int64[n]."""

    pixels: Matrix
    labels: Labels

    def some(self, places: npt.NDArray[np.int64]) -> "Images":
        """Those at these places."""
        return Images(self.pixels[places], self.labels[places])


@dataclass(frozen=True, slots=True)
class Shares:
    """train, holdout: one part per site. pooled: all training parts together. test: of nobody."""

    train: tuple[Images, ...]
    holdout: tuple[Images, ...]
    pooled: Images
    test: Images


@dataclass(frozen=True, slots=True)
class Local:
    """How a site trains. adjustment: how much of the log of a class's local share is added to its
    logit while training (0: nothing; 1: skewed labels no longer pull the network their way)."""

    steps: int
    rate: float = 0.1
    momentum: float = 0.9
    batch: int = 32
    adjustment: float = 0.0


def divided(sites: int, alpha: float, seed: int) -> Shares:
    """The digits dealt to sites by class with Dirichlet(alpha) shares; none gets under a dozen."""
    from sklearn.datasets import load_digits  # heavy: only who trains loads it

    loaded = load_digits()
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(loaded.target))
    images = Images(
        (loaded.data[order] / 16.0).astype(np.float32), loaded.target[order].astype(np.int64)
    )
    cut = int(_TEST_SHARE * len(order))
    rest = np.arange(cut, len(order))
    dealt = _dealt(images.labels[rest], sites, alpha, rng)
    train, holdout = [], []
    for places in dealt:
        mixed = rest[rng.permutation(places)]
        kept = max(2, int(_HOLDOUT_SHARE * len(mixed)))
        holdout.append(images.some(mixed[:kept]))
        train.append(images.some(mixed[kept:]))
    pooled = Images(
        np.concatenate([part.pixels for part in train]),
        np.concatenate([part.labels for part in train]),
    )
    return Shares(tuple(train), tuple(holdout), pooled, images.some(np.arange(cut)))


def _dealt(
    labels: Labels, sites: int, alpha: float, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    while True:
        parts: list[list[int]] = [[] for _ in range(sites)]
        for label in range(CLASSES):
            places = np.flatnonzero(labels == label)
            bounds = (np.cumsum(rng.dirichlet([alpha] * sites))[:-1] * len(places)).astype(int)
            for part, piece in zip(parts, np.split(places, bounds), strict=True):
                part.extend(piece.tolist())
        if min(len(part) for part in parts) >= _SITE_IMAGES_MIN:
            return [np.array(part, dtype=np.int64) for part in parts]


def initial_model(seed: int) -> Matrix:
    """float32[d]: the model every site starts from."""
    rng = np.random.default_rng([seed, 2])
    first = rng.standard_normal((PIXELS, HIDDEN)) * np.sqrt(2.0 / PIXELS)
    second = rng.standard_normal((HIDDEN, CLASSES)) * np.sqrt(1.0 / HIDDEN)
    parts = (first.ravel(), np.zeros(HIDDEN), second.ravel(), np.zeros(CLASSES))
    return np.concatenate(parts).astype(np.float32)


@dataclass(slots=True)
class Training:
    """All sites' training, stacked. models, velocity: float32[sites, d], changed in place."""

    parts: Sequence[Images]
    local: Local
    models: Matrix
    velocity: Matrix
    rng: np.random.Generator

    def run(self) -> None:
        """Every site trains `local.steps` batches from its model."""
        offsets = np.stack([self._offset(part.labels) for part in self.parts])
        pixels, labels = self._drawn()
        for step in range(self.local.steps):
            gradient = stacked_gradient(self.models, pixels[:, step], labels[:, step], offsets)
            self.velocity *= np.float32(self.local.momentum)
            self.velocity += gradient
            self.models -= np.float32(self.local.rate) * self.velocity

    def _offset(self, labels: Labels) -> Matrix:
        share = np.bincount(labels, minlength=CLASSES) / len(labels)
        # The floor keeps classes that a site has never seen from being left out altogether.
        floored = (share + _SHARE_FLOOR) / (1.0 + CLASSES * _SHARE_FLOOR)
        return (self.local.adjustment * np.log(floored)).astype(np.float32)

    def _drawn(self) -> tuple[Matrix, Labels]:
        """All batches of all sites: float32[s, steps, b, 64] and int64[s, steps, b]."""
        size = (self.local.steps, self.local.batch)
        chosen = [self.rng.integers(0, len(part.labels), size) for part in self.parts]
        pairs = list(zip(self.parts, chosen, strict=True))
        pixels = np.stack([part.pixels[at] for part, at in pairs])
        return pixels, np.stack([part.labels[at] for part, at in pairs])


def _unpacked(models: Matrix) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    s, at = len(models), PIXELS * HIDDEN
    first, bias = models[:, :at].reshape(s, PIXELS, HIDDEN), models[:, at : at + HIDDEN]
    rest = models[:, at + HIDDEN :]
    second = rest[:, : HIDDEN * CLASSES].reshape(s, HIDDEN, CLASSES)
    return first, bias[:, np.newaxis], second, rest[:, np.newaxis, HIDDEN * CLASSES :]


def stacked_gradient(models: Matrix, pixels: Matrix, labels: Labels, offsets: Matrix) -> Matrix:
    """Gradient of the mean cross-entropy. pixels: [s, b, 64], labels: [s, b], offsets: [s, 10]."""
    first, bias, second, last = _unpacked(models)
    hidden = np.maximum(pixels @ first + bias, np.float32(0.0))
    error = _softmax(hidden @ second + last + offsets[:, np.newaxis])
    s, b = labels.shape
    error[np.arange(s)[:, np.newaxis], np.arange(b), labels] -= np.float32(1.0)
    error /= np.float32(b)
    back = (error @ second.swapaxes(1, 2)) * (hidden > 0.0)
    parts = (pixels.swapaxes(1, 2) @ back, back.sum(axis=1))
    ends = (hidden.swapaxes(1, 2) @ error, error.sum(axis=1))
    return np.concatenate([part.reshape(s, -1) for part in (*parts, *ends)], axis=1)


def gradient_of(model: npt.NDArray[np.float64], images: Images) -> npt.NDArray[np.float64]:
    """float64[d]: gradient of the mean loss of one model on all of these images."""
    offsets = np.zeros((1, CLASSES), dtype=np.float32)
    stacked = model.astype(np.float32)[np.newaxis]
    found = stacked_gradient(stacked, images.pixels[np.newaxis], images.labels[np.newaxis], offsets)
    gradient: npt.NDArray[np.float64] = found[0].astype(np.float64)
    return gradient


def _logits(models: Matrix, pixels: Matrix) -> Matrix:
    first, bias, second, last = _unpacked(models)
    found: Matrix = np.maximum(pixels @ first + bias, np.float32(0.0)) @ second + last
    return found


def _softmax(logits: Matrix) -> Matrix:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Matrix = raised / raised.sum(axis=-1, keepdims=True)
    return found


def losses(model: Matrix, images: Images) -> Matrix:
    """float32[n]: cross-entropy of one model on each image."""
    shares = _softmax(_logits(model[np.newaxis], images.pixels[np.newaxis])[0])
    right = shares[np.arange(len(images.labels)), images.labels]
    found: Matrix = -np.log(np.maximum(right, np.float32(1e-12)))
    return found


def accuracies(models: Matrix, images: Images) -> npt.NDArray[np.float64]:
    """Share of images that each of the stacked models names rightly. float64[sites]."""
    named = _logits(models, np.broadcast_to(images.pixels, (len(models), *images.pixels.shape)))
    share: npt.NDArray[np.float64] = np.mean(named.argmax(axis=2) == images.labels, axis=1)
    return share
