"""From a decoder to the embedder: bidirectional attention, masked mean pooling, two maximum lengths (paper, section 3)."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.encoding.attention import check_bidirectional
from hf_posmine.models.adapters import as_lora_config, to_float32
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.models.items import DEFAULT_TEMPLATE, check_template, prefix_of
from hf_posmine.models.pooling import InstructionPooling
from hf_posmine.models.portable import explain, wrongly_measured
from hf_posmine.models.transformer import InstructionTransformer
from hf_posmine.utils.upstream import check_peft

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from peft import LoraConfig
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}


def bidirectional_encoder(  # noqa: PLR0913 - the model's whole recipe, by keyword
    base: str | Path | PretrainedConfig,
    *,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    pooling: str = "mean",
    lora: LoraConfig | Mapping[str, Any] | None = None,
    instruction_template: str = DEFAULT_TEMPLATE,
    query_instruction: str | None = None,
    document_prompt: str = "",
    max_query_length: int = 192,
    max_document_length: int = 512,
    dtype: str | torch.dtype | None = None,
    attn_implementation: str | None = None,
    normalize: bool = True,
    device: str | None = None,
    **hub: Any,
) -> InstructSentenceTransformer:
    """A decoder as a bidirectional embedding model.

    Any decoder of transformers that obeys ``config.is_causal`` will do: Mistral, Mixtral, Llama, Qwen2, Qwen3, Gemma,
    Gemma 2, Gemma 3 (text), Phi-3 and others; each is tested, and one that stays causal is refused.

    Args:
        base: a Hub id or folder of a decoder; or its configuration, for random weights.
        tokenizer: of the model, if it is not with ``base``.
        pooling: ``"mean"`` over the text (the paper), or ``"lasttoken"``.
        lora: adapters to train: a LoraConfig or its arguments; ``{}`` takes the paper's rank 16 and alpha 32 on all
            linear layers. They are float32 whatever the base is.
        instruction_template: how an instruction and a text are joined.
        query_instruction: of all queries that bring none of their own; stored with the model.
        document_prompt: put before every document as it stands; the paper has none.
        max_query_length: tokens, instruction included (paper, Table 10).
        max_document_length: tokens (paper, Table 10).
        dtype: of the weights; None keeps the checkpoint's.
        attn_implementation: ``"sdpa"``, ``"eager"``, ``"flash_attention_2"``, or ``"posmine_varlen"``, which computes no
            padding; None takes transformers' default.
        normalize: scale vectors to length 1.
        device: where to put it, by default an accelerator if there is one.
        hub: ``revision``, ``token``, ``cache_folder`` ... of a Hub id.

    Raises:
        InputError: a backbone that stays causal, a tokenizer without character offsets, or a prompt that merges with texts.

    Example:
        >>> model = bidirectional_encoder("mistralai/Mistral-7B-v0.1", lora={}, dtype="bfloat16")  # doctest: +SKIP
        >>> model.encode_query([("Given a question, retrieve passages that answer it", "who wrote it?")])  # doctest: +SKIP
    """
    check_template(instruction_template)
    if lora is not None:
        check_lora()
    model_kwargs = {"dtype": dtype, "attn_implementation": attn_implementation}
    module = _transformer(
        base,
        tokenizer,
        model_kwargs={name: value for name, value in model_kwargs.items() if value is not None},
        max_seq_length=max(max_query_length, max_document_length),
        query_length=max_query_length,
        document_length=max_document_length,
        instruction_template=instruction_template,
        **hub,
    )
    prompts = {"query": prefix_of(instruction_template, query_instruction), "document": document_prompt}
    wrong = wrongly_measured(module.tokenizer, prompts)
    if wrong:
        raise InputError(explain(wrong, prompts))
    model = assemble(module, pooling, prompts, normalize, device)
    check_bidirectional(model)
    if lora is not None:
        add_lora(model, lora)
    return model


def _transformer(
    base: str | Path | PretrainedConfig, tokenizer: str | Path | PreTrainedTokenizerBase | None, **options: Any
) -> InstructionTransformer:
    if tokenizer is None:
        if not isinstance(base, str | Path):
            raise InputError(
                "a configuration brings no tokenizer; pass tokenizer= with a folder, a Hub id or a tokenizer"
            )
        return _loaded(str(base), None, **options)
    prepared = prepare_tokenizer(as_tokenizer(tokenizer))
    with tempfile.TemporaryDirectory() as folder:
        prepared.save_pretrained(folder)
        if isinstance(base, str | Path):
            return _loaded(str(base), prepared, tokenizer_name_or_path=folder, **options)
        base.save_pretrained(folder)
        return _loaded(folder, prepared, random_weights=True, **options)


def _loaded(path: str, tokenizer: PreTrainedTokenizerBase | None, **options: Any) -> InstructionTransformer:
    module = InstructionTransformer.load(
        path,
        **{name: options.pop(name) for name in ("revision", "token", "cache_folder") if name in options},
        model_kwargs=options.pop("model_kwargs"),
        init_defaults={
            "bidirectional": True,
            "modality_config": TEXT_ONLY,
            "module_output_name": "token_embeddings",
            **options,
        },
    )
    module.processor = prepare_tokenizer(module.tokenizer) if tokenizer is None else tokenizer
    module.max_seq_length = options["max_seq_length"]
    if module.config.pad_token_id is None:
        module.config.pad_token_id = module.tokenizer.pad_token_id
    return module


def as_tokenizer(tokenizer: str | Path | PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer by Hub id or folder, or as it is."""
    if not isinstance(tokenizer, str | Path):
        return tokenizer
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer)


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer fit for an embedder: pads on the right, has no chat template, and drops spaces at a text's end.

    The last lets sentence-transformers measure a prompt that ends in a space as long as it is within a text.

    Raises:
        InputError: it gives no character offsets, or has no token to pad with.
    """
    from tokenizers import normalizers

    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets, which the instruction's boundary needs; pass "
            "tokenizer= with one from a tokenizer.json (without the package mistral-common, AutoTokenizer gives one)"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise InputError(f"{type(tokenizer).__name__} has no pad, unknown or end token to pad with; set pad_token")
    tokenizer.padding_side, tokenizer.truncation_side, tokenizer.chat_template = "right", "right", None
    backend = tokenizer.backend_tokenizer
    strip = normalizers.Strip(left=False, right=True)
    if "Strip(strip_left=False, strip_right=True)" not in repr(backend.normalizer):
        backend.normalizer = normalizers.Sequence([strip, backend.normalizer] if backend.normalizer else [strip])
    return tokenizer


def assemble(
    module: InstructionTransformer, pooling: str, prompts: dict[str, str], normalize: bool, device: str | None
) -> InstructSentenceTransformer:
    """The three modules of the embedder as one model."""
    from sentence_transformers.sentence_transformer.modules import Normalize

    if pooling not in ("mean", "lasttoken"):
        raise InputError(f"pooling={pooling!r} must be 'mean' (the paper) or 'lasttoken'")
    pool = InstructionPooling(module.get_embedding_dimension(), pooling, include_prompt=False)
    return InstructSentenceTransformer(
        modules=[module, pool, *([Normalize()] if normalize else [])],
        prompts=prompts,
        similarity_fn_name="cosine",
        instruction_template=module.instruction_template,
        device=device,
    )


def check_lora() -> None:
    """Refuse adapters before a base model is loaded.

    Raises:
        MissingExtraError: peft is not installed.
        InputError: a peft that the installed transformers does not work with.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError("LoRA", "train")
    check_peft()


def add_lora(model: InstructSentenceTransformer, lora: LoraConfig | Mapping[str, Any]) -> None:
    """Adapters in float32, whatever the base's dtype: in bfloat16 small steps would be lost."""
    check_lora()
    model.add_adapter(as_lora_config(lora))
    to_float32(model[0].model)
