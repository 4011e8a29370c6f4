"""The parts of a model that we read, at one place: models of sentence-transformers have them all, others have some or none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@runtime_checkable
class NativeModel(Protocol):
    """A model of sentence-transformers (SentenceTransformer, SparseEncoder, CrossEncoder, ...), whose batches are ours to plan."""

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Features of a batch."""

    def state_dict(self) -> Mapping[str, Any]:
        """Weights by name."""


@runtime_checkable
class OnBackend(Protocol):
    """A model that names the backend of its forward passes."""

    def get_backend(self) -> str:
        """Such as torch, onnx or openvino."""


@dataclass(frozen=True)
class ModelParts:
    """What a model has besides its methods, read anew at each use, since users may change it.

    Attributes:
        prompts: text by prompt name.
        default_prompt_name: the prompt of texts without a role.
        device: where it computes; the CPU for a model without one.
        truncate_dim: dimensions that are kept, None for all.
        tokenizer: a fast tokenizer that counts tokens; None without one.
        similarity: its similarity function, None if it has none.
        first: the module that reads the texts; None for an object without modules.
        names: what its model card calls it and its base, the best first.
        modalities: what it reads, as sentence-transformers calls it; None where a model does not say.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    device: str = "cpu"
    truncate_dim: int | None = None
    tokenizer: Callable[..., Any] | None = None
    similarity: str | None = None
    first: Any = None
    names: tuple[str, ...] = ()
    modalities: tuple[str, ...] | None = None

    @classmethod
    def of(cls, model: object) -> ModelParts:
        """The parts of a model: of sentence-transformers, or any object with ``encode_query`` and ``encode_document``."""

        def read(name: str, of: object = model) -> Any:
            return _part(of, name)

        tokenizer, card = read("tokenizer"), read("model_card_data")
        return cls(
            prompts=read("prompts") or {},
            default_prompt_name=read("default_prompt_name"),
            device=str(read("device") or "cpu"),
            truncate_dim=read("truncate_dim"),
            tokenizer=tokenizer if callable(tokenizer) and getattr(tokenizer, "is_fast", False) else None,
            similarity=read("similarity_fn_name"),
            first=model[0] if isinstance(model, Indexed) else None,
            names=tuple(str(name) for name in (read("model_id", card), read("base_model", card)) if name),
            modalities=None if read("modalities") is None else tuple(map(str, read("modalities"))),
        )

    @property
    def image_processor(self) -> Any:
        """How it crops and scales images; None for a model of texts."""
        return _part(_part(self.first, "processor"), "image_processor")

    @property
    def reads_images(self) -> bool:
        """Whether it reads images, by what it says."""
        return self.modalities is not None and "image" in self.modalities

    def as_texts(self, items: Sequence[Any]) -> list[Any]:
        """Items in which texts are marked as such, for a model that would open one that is the path or address of an image.

        >>> ModelParts(modalities=("text", "image")).as_texts(["cat.jpg"]), ModelParts().as_texts(["cat.jpg"])
        ([{'text': 'cat.jpg'}], ['cat.jpg'])
        """
        if not self.reads_images:
            return list(items)
        return [{"text": item} if isinstance(item, str) else item for item in items]

    def require_images(self) -> None:
        """Refuse a model that reads texts alone.

        Raises:
            InputError: it does, with its name.
        """
        if self.modalities is not None and not self.reads_images:
            name = next(iter(self.names), "the model")
            raise InputError(
                f"{name} reads {', '.join(self.modalities)} and no images; take a model that reads both, such as a CLIP model, "
                "or give vectors of your own"
            )

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU."""
        return self.device.startswith("cpu")


@runtime_checkable
class Indexed(Protocol):
    """A model that is a list of modules."""

    def __getitem__(self, index: int) -> Any:
        """The module at a position."""


@runtime_checkable
class TakesInstructions(Protocol):
    """A first module that may read (instruction, text) rows; see :mod:`hf_posmine.models`."""

    accepts_instructions: bool


@runtime_checkable
class LengthsByRole(Protocol):
    """A first module with a maximum length for each role."""

    query_length: int | None
    document_length: int | None


def _part(of: object, name: str) -> Any:
    """The one place where a part of somebody's model is optional."""
    return getattr(of, name, None)
