"""The student of a stage: a saved model or a decoder, made ready to be trained with instructions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError, PosmineError
from hf_posmine.encoding.encode import model_source
from hf_posmine.models.bidirectional import add_lora, bidirectional_encoder
from hf_posmine.models.instruct import InstructSentenceTransformer
from hf_posmine.models.pooling import InstructionPooling
from hf_posmine.models.transformer import InstructionTransformer
from hf_posmine.training.run_folder import NOTE, RunFolder

if TYPE_CHECKING:
    from hf_posmine.training.recipe import Student


def load_student(student: Student) -> InstructSentenceTransformer:
    """The model of a recipe, with its layers, lengths and adapters.

    Raises:
        InputError: a model that cannot be loaded, layers it does not have, or a tokenizer that is not its own.
    """
    path = model_source(student.model)
    check_finished(Path(path))
    try:
        model = _saved(path, student) if _is_saved(path) else _without_pooling(path, student)
    except PosmineError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"cannot load the student {student.model!r}: {str(error).splitlines()[0]}") from error
    if student.num_layers is not None:
        keep_layers(model, student.num_layers)
    _check_tokenizer(model)
    _check_lengths(student, model)
    if student.lora is not None:
        try:
            add_lora(model, student.lora)
        except (ValueError, TypeError) as error:
            raise InputError(f"lora={dict(student.lora)!r}: {str(error).splitlines()[0]}") from error
    return model


def check_finished(folder: Path) -> None:
    """Refuse the folder of a stage that was interrupted: its model would be missing, or be that of a checkpoint.

    Raises:
        InputError: the stage has not ended.
    """
    run = RunFolder(folder)
    if (folder / NOTE).is_file() and not run.finished:
        last = "" if run.last_checkpoint is None else f" (its last checkpoint is {run.last_checkpoint.name})"
        raise InputError(f"{folder} holds a stage that has not ended{last}; run its recipe again, which resumes it")


def _is_saved(path: str) -> bool:
    from sentence_transformers.util import load_file_path

    return load_file_path(path, "modules.json") is not None


def _options(student: Student) -> dict[str, Any]:
    options = {"dtype": student.dtype, "attn_implementation": student.attn_implementation}
    return {name: value for name, value in options.items() if value}


def _saved(path: str, student: Student) -> InstructSentenceTransformer:
    model = InstructSentenceTransformer(
        path, model_kwargs=_options(student), instruction_template=student.instruction_template
    )
    first, whole = model[0], model.max_seq_length
    if student.max_query_length or student.max_document_length:
        first.query_length = student.max_query_length or first.query_length or whole
        first.document_length = student.max_document_length or first.document_length or whole
        model.max_seq_length = max(first.query_length, first.document_length)
    set_pooling(model, student.pool_instructions)
    return model


def set_pooling(model: InstructSentenceTransformer, pool_instructions: bool | None) -> None:
    """Leave instructions out of the mean (paper, section 3), unless the model pools prompts that it stores, as E5 does."""
    for module in model:
        if isinstance(module, InstructionPooling) and module.pooling_mode == "mean":
            stores_prompts = any(model.prompts.values())
            kept = stores_prompts and module.include_prompt if pool_instructions is None else pool_instructions
            module.include_prompt = kept


def _without_pooling(path: str, student: Student) -> InstructSentenceTransformer:
    """A decoder, which is made an embedder; or a model such as CLIP's, which gives one vector for a text or an image.

    Raises:
        InputError: a vision-language decoder, whose pooling nobody chose.
    """
    from transformers import AutoConfig

    if "vision_config" not in AutoConfig.from_pretrained(path).to_dict():
        return _decoder(path, student)
    model = InstructSentenceTransformer(modules=[InstructionTransformer(path, model_kwargs=_options(student))])
    if model[0].module_output_name != "sentence_embedding":
        raise InputError(
            f"the student {student.model!r} gives a vector for each token; choose how they are pooled: "
            "SentenceTransformer(...).save(folder), and name the folder"
        )
    return model


def _decoder(path: str, student: Student) -> InstructSentenceTransformer:
    options: dict[str, Any] = {
        "max_query_length": student.max_query_length,
        "max_document_length": student.max_document_length,
        "instruction_template": student.instruction_template,
    }
    return bidirectional_encoder(path, **_options(student), **{name: value for name, value in options.items() if value})


def keep_layers(model: InstructSentenceTransformer, layers: int) -> None:
    """Cut the backbone to its first layers.

    Raises:
        InputError: it has fewer, or keeps them elsewhere.
    """
    backbone = model[0].model
    holder = getattr(backbone, "encoder", backbone)
    name = next((name for name in ("layers", "layer") if hasattr(holder, name)), None)
    if name is None:
        raise InputError(f"num_layers: the layers of {type(backbone).__name__} are not where they are known to be")
    there = getattr(holder, name)
    if not 0 < layers <= len(there):
        raise InputError(f"num_layers={layers}, but {type(backbone).__name__} has {len(there)} layers")
    setattr(holder, name, there[:layers])
    backbone.config.num_hidden_layers = layers


def _check_tokenizer(model: InstructSentenceTransformer) -> None:
    try:
        rows = model[0].model.get_input_embeddings().weight.shape[0]
    except NotImplementedError:  # of two towers, such as CLIP
        return
    if len(model.tokenizer) > rows:
        raise InputError(
            f"the tokenizer knows {len(model.tokenizer)} tokens, but the model embeds {rows}; this is another model's "
            "tokenizer, or tokens were added without model.resize_token_embeddings"
        )


def _check_lengths(student: Student, model: InstructSentenceTransformer) -> None:
    positions = getattr(model[0].config, "max_position_embeddings", None)
    lengths = {"max_query_length": student.max_query_length, "max_document_length": student.max_document_length}
    for name, length in lengths.items():
        if length is not None and positions is not None and length > positions:
            raise InputError(f"{name}={length}, but {student.model!r} has {positions} positions")
