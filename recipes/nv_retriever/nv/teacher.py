"""The teacher of mine.yaml: its tokenizer, which must read the end token that the model pools, and its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from hf_posmine.core import InputError
from hf_posmine.encoding import load_model

ENDS = {"add_bos_token": True, "add_eos_token": True}
"""transformers 5 follows tokenizer.json, which adds no end token, so both ends are asked for."""


def load_teacher(options: Mapping[str, Any]) -> SentenceTransformer:
    """The model at its length.

    Raises:
        InputError: its tokenizer gives no first or last token.
    """
    dtype = {"dtype": options["dtype"]}
    model = load_model(options["model"], revision=options.get("revision"), model_kwargs=dtype, processor_kwargs=ENDS)
    model.max_seq_length = options["max_length"]
    check_ends(model.tokenizer, options["model"])
    return model


def load_tokenizer(options: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer alone, for a plan."""
    tokenizer = AutoTokenizer.from_pretrained(options["model"], revision=options.get("revision"), **ENDS)
    check_ends(tokenizer, options["model"])
    return tokenizer


def check_ends(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a tokenizer that leaves out the first or the last token.

    Raises:
        InputError: it does.
    """
    ids = tokenizer("a")["input_ids"]
    if (ids[0], ids[-1]) != (tokenizer.bos_token_id, tokenizer.eos_token_id):
        raise InputError(f"{name}: the tokenizer gives {ids} for 'a', without its first or last token")
