"""The SentenceTransformer of the embedder: instructions for each row in memory, stock modules on disk."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardData

from hf_posmine.core.errors import InputError
from hf_posmine.data.images import NamedImage
from hf_posmine.encoding.attention import MARK, check_loaded
from hf_posmine.encoding.encode import Encoder, Role
from hf_posmine.models.adapters import has_adapters, merge_adapters
from hf_posmine.models.items import DEFAULT_TEMPLATE, RowError, check_template
from hf_posmine.models.pooling import InstructionPooling
from hf_posmine.models.portable import (
    REQUIREMENTS,
    STOCK_POOLING,
    STOCK_TRANSFORMER,
    make_portable,
    warn_of_later_writer,
    writer_versions,
)
from hf_posmine.models.transformer import InstructionTransformer, attends_both_ways
from hf_posmine.utils.progress import progress_bar
from hf_posmine.utils.upstream import overrides_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from datasets import Dataset, DatasetDict
    from torch import nn
    from transformers import PreTrainedModel

    from hf_posmine.core.types import Floats


PLACEHOLDER = re.compile(r"<!--\s*(?:#|- \*\*)(?:(?!-->).)*-->\n*", re.DOTALL)
"""Comments of sentence-transformers' template: headings without text, and lines whose value is unknown."""


@overrides_private("_compute_column_stats")
class _CardData(SentenceTransformerModelCardData):
    """Says nothing of columns that cannot be embedded, such as instructions, which may be empty; its parent would fail.

    Attributes:
        images: texts -> the same with images in the place of their names, which rows hold; None where rows hold none.
    """

    images: Callable[[list[str]], list[str]] | None = None

    def extract_dataset_metadata(
        self, dataset: Dataset | DatasetDict, *args: object, **how: object
    ) -> list[dict[str, Any]]:
        """As its parent, of the images themselves."""
        return super().extract_dataset_metadata(self._shown(dataset), *args, **how)

    def _shown(self, dataset: Dataset | DatasetDict) -> Any:
        if self.images is None or not dataset:
            return dataset
        if isinstance(dataset, dict):
            return type(dataset)({name: self._shown(part) for name, part in dataset.items()})
        return dataset.with_transform(self._open)

    def _open(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """A few rows with their images."""
        columns = {name: values for name, values in batch.items() if values and isinstance(values[0], str)}
        named = {name: self.images(values) for name, values in columns.items()} if self.images else {}
        opened = {n: [t.open() if isinstance(t, NamedImage) else t for t in texts] for n, texts in named.items()}
        return {**batch, **opened}

    def _compute_column_stats(self, dataset: Dataset, column: str, task: str | None = None) -> dict[str, Any]:
        try:
            return super()._compute_column_stats(dataset, column, task=task)
        except RowError:
            return {"dtype": "string", "modality": "text", "data": {}}

    def set_widget_examples(self, dataset: Dataset | DatasetDict) -> None:
        """Examples of the widget from the texts; an instruction is not a sentence to compare."""
        parts = dataset.values() if isinstance(dataset, dict) else [dataset]
        names = {name for part in parts for name in part.column_names or () if name.endswith("_instruction")}
        for name in names:
            dataset = _without(dataset, name)
        super().set_widget_examples(self._shown(dataset))


def _without(dataset: Dataset | DatasetDict, column: str) -> Any:
    if isinstance(dataset, dict):
        return type(dataset)({name: _without(part, column) for name, part in dataset.items()})
    return dataset.remove_columns(column) if column in dataset.column_names else dataset


def drop_placeholders(card: Path) -> None:
    """Take the sections that nobody filled in, which are comments, out of a model card."""
    if card.is_file():
        card.write_text(PLACEHOLDER.sub("", card.read_text("utf8")), "utf8")


@overrides_private(
    "_load_with_module_classes",
    "_load_default_modules",
    "_parse_model_config",
    "_post_init",
    "_get_model_config",
    "_inference",
    "_module_classes",
)
class InstructSentenceTransformer(SentenceTransformer):
    """A SentenceTransformer whose rows may bring their own instruction.

    It is one in every respect, and loads any saved text model: ``encode``, ``encode_query``, ``encode_document``, the
    trainer, several processes. Besides strings, rows may be ``(instruction, text)`` or
    ``{"instruction": ..., "text": ...}``; a row without one takes the call's prompt. Instructions attend and are attended
    to, but are left out of the mean where the pooling has ``include_prompt=False``.

    What it saves is loaded by plain ``SentenceTransformer(path)``, without this package, with the same vectors
    (:mod:`hf_posmine.models.portable`).
    """

    model_card_data_class = _CardData
    _module_classes: ClassVar[dict[str, type[nn.Module]]] = {
        reference: cls
        for cls, stock in ((InstructionTransformer, STOCK_TRANSFORMER), (InstructionPooling, STOCK_POOLING))
        for reference in (
            stock,
            f"{cls.__module__}.{cls.__qualname__}",
            f"sentence_transformers.models.{stock.rsplit('.', 1)[1]}",
        )
    }

    def __init__(self, *args: Any, instruction_template: str | None = None, **kwargs: Any) -> None:
        self._template = instruction_template
        self._written_by: dict[str, str] = {}
        super().__init__(*args, **kwargs)
        source = args[0] if args else kwargs.get("model_name_or_path")
        if source is not None:
            warn_of_later_writer(self._written_by, str(source))
            check_loaded(self, str(source))

    @classmethod
    def _load_with_module_classes(cls, name: str, module_classes: Any, **kwargs: Any) -> InstructSentenceTransformer:
        return super()._load_with_module_classes(name, {**cls._module_classes, **module_classes}, **kwargs)

    def _load_default_modules(self, model_name_or_path: str, *_: Any, **__: Any) -> Any:
        raise InputError(
            f"{model_name_or_path!r} is not a saved sentence-transformers model (no modules.json); a decoder becomes one by "
            "bidirectional_encoder(...)"
        )

    def _parse_model_config(self, model_config: dict[str, Any]) -> None:
        super()._parse_model_config(model_config)
        self._template = self._template or model_config.get("instruction_template")
        self._written_by = dict(model_config.get("__version__") or {})

    def _post_init(self) -> None:
        super()._post_init()
        if isinstance(self[0], InstructionTransformer) and self._template is not None:
            self[0].instruction_template = check_template(self._template)

    def _get_model_config(self) -> dict[str, Any]:
        config = super()._get_model_config()
        extra: dict[str, Any] = {"requirements": REQUIREMENTS}
        extra["__version__"] = config["__version__"] | writer_versions()
        if self.instruction_template != DEFAULT_TEMPLATE:
            extra["instruction_template"] = self.instruction_template
        if isinstance(self[0], InstructionTransformer) and self[0].config.to_dict().get("is_causal") is False:
            extra[MARK] = True
        return config | extra

    @property
    def backbone(self) -> PreTrainedModel:
        """The transformer below the pooling."""
        return self[0].model

    base_model_prefix = "backbone"
    """Where accelerate looks for the last norm when it shards; it would take ``Normalize`` for it."""

    @property
    def _no_split_modules(self) -> list[str]:
        """The layers of the backbone, each of which FSDP gathers as a whole."""
        return sorted(self.backbone._no_split_modules or []) if isinstance(self[0], Transformer) else []

    @property
    def instruction_template(self) -> str:
        """How an instruction and a text are joined."""
        first = self[0]
        return first.instruction_template if isinstance(first, InstructionTransformer) else DEFAULT_TEMPLATE

    @property
    def bidirectional(self) -> bool:
        """Whether the backbone attends in both directions."""
        return isinstance(self[0], Transformer) and attends_both_ways(self[0].config)

    def save(self, path: str, *args: Any, **kwargs: Any) -> None:
        """Save it for plain sentence-transformers; with adapters still loaded, for this package alone."""
        super().save(path, *args, **kwargs)
        drop_placeholders(Path(path) / "README.md")
        if isinstance(self[0], InstructionTransformer) and not has_adapters(self[0].model):
            masked = any(isinstance(module, InstructionPooling) and not module.include_prompt for module in self)
            make_portable(Path(path), self.prompts if masked else {})

    def merge_adapters(self) -> InstructSentenceTransformer:
        """Add the LoRA adapters into the weights, so that the model can be saved for everybody; returns itself."""
        merge_adapters(self[0].model)
        return self

    def _inference(self, inputs: list[Any], **kwargs: Any) -> Any:
        with _rows_numbered_as_in(inputs):
            return super()._inference(inputs, **kwargs)

    def encode_by_tokens(self, inputs: Sequence[Any], role: Role = "document", *, tokens: int | None = None) -> Floats:
        """Vectors float32 ``[m, d]`` in batches of at most ``tokens`` tokens, so that memory does not follow the lengths.

        Args:
            inputs: rows, as :meth:`encode` takes them.
            role: query or document, which chooses the stored prompt and the maximum length.
            tokens: tokens of a batch; by default 1,024 on a CPU and 16,384 elsewhere.
        """
        with progress_bar(len(inputs), f"Encoding {role} texts", "text") as bar, _rows_numbered_as_in(inputs):
            return Encoder(self, tokens=tokens).encode(inputs, role, bar.update)


@contextmanager
def _rows_numbered_as_in(inputs: Sequence[Any]) -> Iterator[None]:
    """Batches are sorted by length: an error names the row by the caller's order."""
    try:
        yield
    except RowError as error:
        raise RowError(error.why, list(inputs).index(error.item), error.item) from None
