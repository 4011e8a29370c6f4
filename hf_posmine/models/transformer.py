"""The first module of the embedder: instruction and text in, token embeddings and the instruction's mask out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentence_transformers.base.modules.transformer import Transformer

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.model_parts import ModelParts
from hf_posmine.models.adapters import restore_adapters
from hf_posmine.models.items import DEFAULT_TEMPLATE, Row, RowError, instruction_mask, read_rows
from hf_posmine.models.varlen import VARLEN, check_kernel, register_varlen, without_padding
from hf_posmine.utils.upstream import overrides_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from transformers import PretrainedConfig

MASK = "instruction_mask"
"""Feature int64 ``[B, T]``, 1 where a token is not to be pooled; absent where no row has an instruction."""

HUB_OPTIONS = ("revision", "token", "cache_dir", "subfolder", "local_files_only")

register_varlen()


def attends_both_ways(config: PretrainedConfig) -> bool:
    """Whether a stock model of this configuration is bidirectional already: an encoder, or a decoder saved as one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    fields = config.to_dict()
    if "is_causal" in fields:
        return fields["is_causal"] is False
    if fields.get("use_bidirectional_attention"):  # EmbeddingGemma
        return True
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not fields.get("is_decoder")


def make_bidirectional(config: PretrainedConfig) -> PretrainedConfig:
    """Make transformers (5.2 and later) attend in both directions; a model that does so already is left as it is.

    Local layers stay local, as ``layer_types`` has them (Gemma 2 and 3): their window now reaches to both sides. ``sdpa``,
    ``eager`` and ``posmine_varlen`` count its edge as transformers' mask does, ``flash_attention_2`` one token less. A
    window of all layers (Mistral 7B v0.1: 4,096) is opened, since an embedder's texts are shorter.
    """
    if attends_both_ways(config):
        return config
    config.is_causal = False
    fields = config.to_dict()
    if fields.get("sliding_window") is not None and "sliding_attention" not in (fields.get("layer_types") or ()):
        config.sliding_window = None
    return config


@overrides_private(
    "_load_config", "_load_model", "_can_flatten_inputs", "_should_flatten_inputs", "_DEFAULT_CONFIG_VALUES"
)
class InstructionTransformer(Transformer):
    """A transformer that takes an instruction for each row.

    Rows are strings, ``(instruction, text)`` pairs or ``{"instruction": ..., "text": ...}``, in any mixture. Instruction
    tokens attend and are attended to; :class:`~hf_posmine.models.pooling.InstructionPooling` leaves them out.

    Args:
        model_name_or_path: a Hub id or a folder.
        bidirectional: attend in both directions; None leaves the backbone as configured.
        instruction_template: how instruction and text are joined; ends in ``{text}``.
        random_weights: draw new weights instead of loading them (tests, benchmarks).
        options: as :class:`sentence_transformers.models.Transformer` has them.
    """

    config_keys = [*Transformer.config_keys, "bidirectional"]  # noqa: RUF012 - as the parent has it
    _DEFAULT_CONFIG_VALUES = {**Transformer._DEFAULT_CONFIG_VALUES, "bidirectional": None}  # noqa: RUF012
    accepts_instructions = True

    def __init__(
        self,
        model_name_or_path: str,
        *,
        bidirectional: bool | None = None,
        instruction_template: str = DEFAULT_TEMPLATE,
        random_weights: bool = False,
        **options: Any,
    ) -> None:
        # before the parent, which loads the backbone through the two methods below
        self.__dict__.update(
            bidirectional=bidirectional, instruction_template=instruction_template, _random_weights=random_weights
        )
        template, drawn = instruction_template, random_weights
        super().__init__(model_name_or_path, **options)
        self.bidirectional, self.instruction_template, self._random_weights = bidirectional, template, drawn

    def _load_config(self, *args: Any, **kwargs: Any) -> tuple[PretrainedConfig, bool]:
        config, is_peft = super()._load_config(*args, **kwargs)
        return (make_bidirectional(config) if self.bidirectional else config), is_peft

    def _load_model(
        self, name: str, task: str, config: PretrainedConfig, backend: str, is_peft: bool, **kwargs: Any
    ) -> Any:
        if not self._random_weights:
            model = super()._load_model(name, task, config, backend, is_peft, **kwargs)
            if is_peft:
                restore_adapters(model, name, **{key: kwargs[key] for key in HUB_OPTIONS if kwargs.get(key)})
            return model
        from transformers import AutoModel

        wanted = {key: kwargs[key] for key in ("dtype", "attn_implementation") if kwargs.get(key) is not None}
        return AutoModel.from_config(config, **wanted)

    def _can_flatten_inputs(self) -> bool:
        """Unpadded batches: with flash attention as the parent has it, and with our own variable-length attention."""
        if self.config._attn_implementation != VARLEN:
            return super()._can_flatten_inputs()
        if not self.model.is_backend_compatible():
            raise InputError(
                f"{type(self.model).__name__} computes its attention by itself, so attn_implementation={VARLEN!r} would not "
                "be used; choose 'sdpa' or 'eager'"
            )
        check_kernel()
        self._flatten_position_offset = self._infer_flatten_position_offset()
        return True

    def _should_flatten_inputs(self, *_: Any, **__: Any) -> bool:
        return False  # the parent would drop the character offsets; preprocess below takes the padding out itself

    def rows(self, inputs: Sequence[Any], prompt: str | None = None) -> list[Row] | None:
        """The row of each input; None where inputs are not texts."""
        return read_rows(inputs, prompt, self.instruction_template)

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Token ids, attention mask and, where a row has an instruction, its mask.

        Args:
            inputs: B rows, see the class.
            prompt: put before every row that has no instruction of its own; not pooled.
            processing_kwargs: for the tokenizer, as in sentence-transformers.
            kwargs: among them ``task``, query or document, which chooses the maximum length.

        Raises:
            RowError: a row without text, or whose instruction leaves no room for it.
        """
        rows = self.rows(inputs, prompt)
        if not rows:
            return super().preprocess(inputs, prompt=prompt, processing_kwargs=processing_kwargs, **kwargs)
        texts = [row.prefix + row.text for row in rows]
        instructed = any(row.prefix for row in rows)
        if instructed:
            processing_kwargs = _with_offsets(processing_kwargs)
        items = ModelParts.of(self).as_texts(texts)
        features = super().preprocess(items, processing_kwargs=processing_kwargs, **kwargs)
        if instructed:
            features[MASK] = self._mask(inputs, rows, features.pop("offset_mapping"), features["attention_mask"])
        _check_tokens(inputs, features["attention_mask"])
        return self._flattened(features) if self.can_flatten_inputs else features

    @staticmethod
    def _mask(inputs: Sequence[Any], rows: list[Row], offsets: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        try:
            return instruction_mask(rows, offsets[..., 1], attention)
        except RowError as error:
            raise RowError(error.why, error.position, inputs[error.position]) from None

    def _flattened(self, features: dict[str, Any]) -> dict[str, Any]:
        flat = without_padding(features)
        flat["position_ids"] = flat["position_ids"] + self._flatten_position_offset
        return flat

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Token embeddings; the instruction's mask is not passed to the backbone, which has no such argument."""
        mask = features.pop(MASK, None)
        features = super().forward(features, **kwargs)
        if mask is not None:
            features[MASK] = mask
        return features


def _with_offsets(processing_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    given = processing_kwargs or {}
    return {**given, "text": {**given.get("text", {}), "return_offsets_mapping": True}}


def _check_tokens(inputs: Sequence[Any], attention: torch.Tensor) -> None:
    empty = (attention.sum(dim=1) == 0).nonzero()
    if len(empty):
        position = int(empty[0])
        raise RowError(
            f"the tokenizer finds no token in {inputs[position]!r}; drop the row", position, inputs[position]
        )
