"""Merge models of one architecture into one: the mean of their weights, or an interpolation on the sphere.

Merging checkpoints of several runs, or of a fine-tuned model and the one it started from, keeps what each learnt without
another step of training: model soups (arXiv 2203.05482), and LM-Cocktail for retrievers (arXiv 2311.13534).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from hf_posmine.core.check import is_number
from hf_posmine.core.errors import InputError
from hf_posmine.encoding.encode import load_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

Method = Literal["mean", "slerp"]
Weights: TypeAlias = dict[str, "Tensor"]
Score: TypeAlias = Callable[["SentenceTransformer"], float]
TWO = 2
STEPS = 10
"""Parts in which slerp's way from one model to the other is tried."""


@dataclass(frozen=True)
class Merge:
    """A merged model and how it came about.

    Attributes:
        model: with the merged weights, and everything else of the first model.
        method: ``mean`` or ``slerp``.
        shares: of each model, in the order they were given; they sum to 1, and 0 is a model that validation left out.
        tried: shares and the score of every merge that was validated.
    """

    model: SentenceTransformer
    method: Method
    shares: tuple[float, ...]
    tried: tuple[tuple[tuple[float, ...], float], ...] = ()


def merge_models(names: Sequence[str], method: Method = "mean", shares: Sequence[float] | None = None) -> Merge:
    """Merge by given shares.

    Args:
        names: Hub ids or folders of at least two sentence-transformers models.
        method: ``mean``, or ``slerp`` of two models.
        shares: of each model, by default equal; they are divided by their sum.

    Raises:
        InputError: models of different architectures or tokenizers, or shares that do not fit.
    """
    model, weights = _load(names, method)
    chosen = _normalised([1.0] * len(names) if shares is None else shares, len(names))
    _put(model, weights, method, chosen)
    return Merge(model, method, chosen)


def merge_by_validation(names: Sequence[str], score: Score, method: Method = "mean") -> Merge:
    """Merge by what validation finds best.

    ``mean`` is the greedy soup of arXiv 2203.05482: models are taken in the order of their scores, and each stays that does
    not make the mean worse. ``slerp`` tries shares in steps of a tenth.

    Args:
        names: as :func:`merge_models` takes them.
        score: of a model; higher is better. It must not be of the test data.
        method: as in :func:`merge_models`.

    Raises:
        InputError: as :func:`merge_models`.
    """
    model, weights = _load(names, method)
    tried: list[tuple[tuple[float, ...], float]] = []

    def score_of(shares: tuple[float, ...]) -> float:
        _put(model, weights, method, shares)
        tried.append((shares, score(model)))
        return tried[-1][1]

    if method == "slerp":
        for part in range(STEPS + 1):
            score_of((1 - part / STEPS, part / STEPS))
        best = max(tried, key=lambda entry: entry[1])[0]
    else:
        best = _greedy(len(names), score_of)
    _put(model, weights, method, best)
    return Merge(model, method, best, tuple(tried))


def _greedy(models: int, score_of: Callable[[tuple[float, ...]], float]) -> tuple[float, ...]:
    def equal(chosen: Sequence[int]) -> tuple[float, ...]:
        return tuple((number in chosen) / len(chosen) for number in range(models))

    alone = [score_of(equal([number])) for number in range(models)]
    order = sorted(range(models), key=lambda number: -alone[number])
    chosen, best = order[:1], alone[order[0]]
    for number in order[1:]:
        found = score_of(equal([*chosen, number]))
        if found >= best:
            chosen, best = [*chosen, number], found
    return equal(chosen)


def _load(names: Sequence[str], method: Method) -> tuple[SentenceTransformer, list[Weights]]:
    """The first model, and the weights of all in float32."""
    if method not in get_args(Method):
        raise InputError(f"method={method!r}; choose one of {list(get_args(Method))}")
    if len(names) < TWO or (method == "slerp" and len(names) > TWO):
        raise InputError(f"{method} merges {'two' if method == 'slerp' else 'at least two'} models, got {len(names)}")
    first: Any = load_model(names[0], device="cpu")
    weights = [_weights(first)]
    for name in names[1:]:
        other: Any = load_model(name, device="cpu")
        _check_alike(names[0], first, weights[0], name, other)
        weights.append(_weights(other))
    return first, weights


def _weights(model: SentenceTransformer) -> Weights:
    """Copies, since the first model's own tensors are overwritten by each merge."""
    return {
        name: tensor.detach().clone().float() if tensor.is_floating_point() else tensor.detach().clone()
        for name, tensor in model.state_dict().items()
    }


def _check_alike(
    name: str, model: SentenceTransformer, weights: Weights, other_name: str, other: SentenceTransformer
) -> None:
    """Refuse models whose weights do not mean the same."""
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    others = {key: tuple(tensor.shape) for key, tensor in other.state_dict().items()}
    if shapes != others:
        key = next(k for k in {**shapes, **others} if shapes.get(k) != others.get(k))
        raise InputError(
            f"{name!r} and {other_name!r} are of different architectures: {key!r} is {shapes.get(key)} and {others.get(key)}; "
            "merge models that began as the same one"
        )
    if model.tokenizer.get_vocab() != other.tokenizer.get_vocab():
        raise InputError(
            f"{name!r} and {other_name!r} have different tokenizers, so their word embeddings do not agree"
        )
    if dict(model.prompts) != dict(other.prompts):
        raise InputError(
            f"{name!r} and {other_name!r} store different prompts ({dict(model.prompts)} and {dict(other.prompts)}); save both "
            "with the prompts that the merged model is to have"
        )


def _normalised(shares: Sequence[float], models: int) -> tuple[float, ...]:
    if len(shares) != models or not all(is_number(share) and share >= 0 for share in shares) or not sum(shares):
        raise InputError(f"shares={list(shares)!r}; expected {models} numbers of at least 0, not all of them 0")
    return tuple(float(share) / float(sum(shares)) for share in shares)


def _put(model: SentenceTransformer, weights: Sequence[Weights], method: Method, shares: Sequence[float]) -> None:
    """Load the merged weights, in the dtype of each."""
    live = model.state_dict()
    merged: Weights = {}
    for name, tensor in weights[0].items():
        if not tensor.is_floating_point():
            merged[name] = tensor
        elif method == "mean":
            merged[name] = sum(share * w[name] for share, w in zip(shares, weights, strict=True) if share)  # type: ignore[assignment]
        else:
            merged[name] = slerp(weights[0][name], weights[1][name], shares[1])
        merged[name] = merged[name].to(live[name].dtype)
    model.load_state_dict(merged)


def slerp(one: Tensor, other: Tensor, share: float) -> Tensor:
    """From one tensor to another along the arc between their directions; linear where they have one direction or none.

    Args:
        one: float32, of any shape.
        other: of the same shape.
        share: of ``other``, 0 to 1.
    """
    import torch

    a, b = one.flatten().double(), other.flatten().double()
    norms = a.norm() * b.norm()
    angle = torch.arccos((a @ b / norms).clamp(-1, 1)) if norms > 0 else torch.zeros((), dtype=torch.float64)
    if torch.sin(angle).abs() < 1e-6:  # noqa: PLR2004
        mixed = (1 - share) * a + share * b
    else:
        mixed = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    return mixed.reshape(one.shape).to(one.dtype)
