"""The model of ``mine_hard_negatives`` as a teacher: its prompts, unit vectors, and embeddings kept by content."""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.encoding.model_digest import is_native, model_digest
from hf_posmine.encoding.model_parts import ModelParts
from hf_posmine.teachers.dense import DenseTeacher
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import store_root, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sentence_transformers import SentenceTransformer

    from hf_posmine.core.types import Floats
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.drop_in.arguments import Arguments

POOL_SHARD_ROWS = 16_384
"""Texts that a pool of processes encodes at a time, and that a kill can lose."""
FILE_NAMES = {"query": "query_embeddings", "document": "corpus_embeddings"}


@contextlib.contextmanager
def open_teacher(
    arguments: Arguments, corpus: Corpus, queries: Corpus, say: Callable[[str], object]
) -> Iterator[DenseTeacher]:
    """A teacher with all texts encoded, or found in the store."""
    model = arguments.model
    similarity = _similarity(model, say)
    with contextlib.ExitStack() as stack:
        fingerprint: str | None
        if is_native(model) and similarity == "cosine" and not arguments.use_multi_process:
            store, encoder, fingerprint = store_root(arguments.cache_folder), model, None
            query_prompt = _prompt(model, arguments.query_prompt, arguments.query_prompt_name)
            document_prompt = _prompt(model, arguments.corpus_prompt, arguments.corpus_prompt_name)
        else:
            store, fingerprint = _place(arguments, stack, say)
            encoder = stack.enter_context(UnitVectors(arguments))
            query_prompt = document_prompt = None  # it gives them to the model
        teacher = DenseTeacher(
            encoder, corpus, queries=queries, query_prompt=query_prompt, document_prompt=document_prompt, store=store,
            similarity=similarity, fingerprint=fingerprint, device=str(model.device),
            shard_rows=POOL_SHARD_ROWS if arguments.use_multi_process else None,
        )  # fmt: skip
        _encode(teacher, arguments, say)
        yield teacher


class UnitVectors:
    """A model that encodes itself, with the arguments that ``mine_hard_negatives`` gives it, to vectors of length 1.

    For models whose batches are not ours to plan, for pools of processes, and for distances between unit vectors.
    """

    def __init__(self, arguments: Arguments) -> None:
        self.model, self.arguments = arguments.model, arguments
        self._pool: Any = None

    def __enter__(self) -> UnitVectors:
        devices = self.arguments.use_multi_process
        if devices:
            self._pool = self.model.start_multi_process_pool(
                target_devices=None if isinstance(devices, bool) else devices
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self.model.stop_multi_process_pool(self._pool)

    def encode_query(self, texts: list[str], **_: object) -> Floats:
        """Vectors float32 ``[m, d]`` of queries."""
        name, prompt = self.arguments.query_prompt_name, self.arguments.query_prompt
        return self.model.encode_query(texts, prompt_name=name, prompt=prompt, **self._options)

    def encode_document(self, texts: list[str], **_: object) -> Floats:
        """Vectors float32 ``[m, d]`` of documents."""
        name, prompt = self.arguments.corpus_prompt_name, self.arguments.corpus_prompt
        return self.model.encode_document(texts, prompt_name=name, prompt=prompt, **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "pool": self._pool,
            "batch_size": self.arguments.batch_size,
            "normalize_embeddings": True,
            "convert_to_numpy": True,
            "show_progress_bar": False,
        }


def _similarity(model: SentenceTransformer, say: Callable[[str], object]) -> str:
    """The model's similarity of unit vectors, on which a dot product is a cosine."""
    name = ModelParts.of(model).similarity
    if name is None:
        say(f"{type(model).__name__} names no similarity function: its vectors are compared by their cosine.")
        return "cosine"
    value = str(name.value if isinstance(name, Enum) else name)
    return "cosine" if value == "dot" else value


def _prompt(model: SentenceTransformer, prompt: str | None, name: str | None) -> str | None:
    """The prompt, given or by its name in the model; None for the model's own."""
    if prompt is not None or name is None:
        return prompt
    prompts: dict[str, str] = model.prompts
    if name not in prompts:
        raise InputError(
            f"Prompt name '{name}' not found in the configured prompts dictionary with keys {list(prompts)!r}."
        )
    return prompts[name]


def _place(arguments: Arguments, stack: contextlib.ExitStack, say: Callable[[str], object]) -> tuple[Path, str]:
    """The folder of the embeddings, and the digest of the model and its prompts.

    The content of a model that is not a SentenceTransformer is unknown, so its embeddings are not kept.
    """
    if not is_native(arguments.model):
        say(f"The weights of {type(arguments.model).__name__} cannot be digested: its embeddings are not kept.")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="posmine-", ignore_cleanup_errors=True))
        return Path(folder), uuid.uuid4().hex
    given = arguments
    prompts = [given.query_prompt, given.query_prompt_name, given.corpus_prompt, given.corpus_prompt_name]
    digest = json_digest([model_digest(given.model), given.model.prompts, prompts, "unit"])
    return store_root(arguments.cache_folder), digest


def _encode(teacher: DenseTeacher, arguments: Arguments, say: Callable[[str], object]) -> None:
    """Encode what is missing; with a cache folder, leave a file that names the model and the shards of each text set."""
    embeddings, model = teacher.embeddings, teacher.model
    known = [not embeddings.missing(role, part) for role, part in embeddings.parts()]
    teacher.prepare()
    if not arguments.cache_folder:
        return
    root = embeddings.store.root
    for (role, part), found in zip(embeddings.parts(), known, strict=True):
        what, digest = FILE_NAMES[role], json_digest([model.keys[role], part.texts_digest])
        shards = embeddings.store.folder(model.keys[role], part).relative_to(root)
        kept = {
            "model": model.name, "model_digest": model.digest, "prompt": model.prompts[role],
            "texts": len(part), "shards": str(shards),
        }  # fmt: skip
        path = root / f"{what}_{digest}.json"
        write_file(path, lambda file, kept=kept: file.write_text(json.dumps(kept, indent=1)))  # type: ignore[misc]
        say(f"[Cache] {'Loaded' if found else 'Saved'} {what.replace('_', ' ')} {'from' if found else 'to'} {path}")
