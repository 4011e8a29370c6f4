"""Saved so that ``SentenceTransformer(path)`` gives the same vectors where this package is not installed.

On disk the modules carry the names of sentence-transformers' own classes, which need no ``trust_remote_code``. Three
things must hold for that, and are checked: the backbone's configuration says ``is_causal: false`` itself; transformers
is new enough to obey it; and the saved tokenizer measures every stored prompt as long as it really is, though a trailing
space would become a token of its own. An adapter without its base cannot carry the first, so a model that has adapters
keeps our class names: plain sentence-transformers then refuses to load it instead of loading it causal.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from hf_posmine.models.items import Row, instruction_mask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

REQUIREMENTS = {"transformers": ">=5.9"}
"""Decoders obey ``is_causal: false`` from 5.2 on, and saved Gemma models give the same vectors from 5.9 on; sentence-transformers
refuses to load with an older one."""
WRITERS = ("hf-posmine", "accelerate", "peft")
"""Packages whose versions a saved model records beside those that sentence-transformers records."""

STOCK_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
STOCK_POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
STOCK_NAMES = {"InstructionTransformer": STOCK_TRANSFORMER, "InstructionPooling": STOCK_POOLING}

GENERIC_TOKENIZER = "granite"
"""A model type whose tokenizer is read from tokenizer.json as it stands; others rebuild it and lose the normalizer."""

PROBES = ("who wrote it", "42", "Über (a) naïve façade", "x", "(b)", '"so"', "?")


def make_portable(folder: Path, prompts: Mapping[str, str]) -> None:
    """Rewrite a saved model to stock classes, and make its tokenizer measure the prompts right.

    A prompt that plain sentence-transformers would cut at another token all the same is warned of, and the model keeps
    our class names, so that nobody gets other vectors without knowing.
    """
    settings_file = folder / "sentence_bert_config.json"
    settings = _read_json(settings_file)
    settings.pop("bidirectional", None)
    wrong = wrongly_measured(_load_tokenizer(folder), prompts)
    if wrong:
        settings["processor_kwargs"] = {"tokenizer_type": GENERIC_TOKENIZER}
        wrong = wrongly_measured(_load_tokenizer(folder, **settings["processor_kwargs"]), prompts)
    if wrong:
        warnings.warn(f"{folder} loads with hf_posmine only: {explain(wrong, prompts)}", stacklevel=3)
        return
    _write_json(settings_file, settings)
    modules = _read_json(folder / "modules.json")
    for module in modules:
        module["type"] = STOCK_NAMES.get(module["type"].rsplit(".", 1)[-1], module["type"])
    _write_json(folder / "modules.json", modules)


def writer_versions() -> dict[str, str]:
    """The installed versions of :data:`WRITERS`, as they stand beside the others in the saved configuration."""
    found = {}
    for package in WRITERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package.replace("-", "_")] = metadata.version(package)
    return found


def warn_of_later_writer(written: Mapping[str, str], source: str) -> None:
    """Warn of a model that a later version of this package saved, whose settings this one may not know."""
    theirs, ours = written.get("hf_posmine"), metadata.version("hf-posmine")
    if theirs is not None and Version(theirs) > Version(ours):
        warnings.warn(
            f"{source!r} was saved by hf-posmine {theirs}, and {ours} is installed, which may not know all of its settings; run: "
            f"pip install -U 'hf-posmine>={theirs}'",
            stacklevel=3,
        )


def explain(wrong: Mapping[str, tuple[int, int]], prompts: Mapping[str, str]) -> str:
    """What :func:`wrongly_measured` found, with the cure."""
    name, (stock, exact) = next(iter(wrong.items()))
    return (
        f"the prompt {name!r} ({prompts[name]!r}) has {exact} tokens before a text, but plain sentence-transformers would "
        f"leave {stock} out of the mean; let the prompt, or the template before {{text}}, end in a space"
    )


def wrongly_measured(tokenizer: PreTrainedTokenizerBase, prompts: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Prompts which sentence-transformers would measure otherwise than they are: name -> (its tokens, the real ones)."""
    wrong = {}
    for name, prompt in prompts.items():
        if prompt:
            stock = _stock_length(tokenizer, prompt)
            exact = {_exact_length(tokenizer, Row(prompt, text)) for text in PROBES}
            if exact != {stock}:
                wrong[name] = (stock, min(exact - {stock}))
    return wrong


def _stock_length(tokenizer: PreTrainedTokenizerBase, prompt: str) -> int:
    """As ``Transformer._get_prompt_length`` has it: the prompt alone, less a special token at its end."""
    ids = tokenizer(prompt)["input_ids"]
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)


def _exact_length(tokenizer: PreTrainedTokenizerBase, row: Row) -> int:
    encoded = tokenizer([row.prefix + row.text], return_offsets_mapping=True, return_tensors="pt")
    mask = instruction_mask([row], encoded["offset_mapping"][..., 1], encoded["attention_mask"])
    return int(mask.sum())


def _load_tokenizer(folder: Path, **options: Any) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **options)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf8"))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2), "utf8")
