"""Forms of questions to a chat model: the JSON schema of their answers, and the reader of JSON within an answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Form:
    """A kind of question.

    Attributes:
        name: of the kind.
        properties: of the JSON object that answers it, all required: name -> JSON schema.
    """

    name: str
    properties: Mapping[str, Any]

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of an answer."""
        return {
            "type": "object",
            "properties": dict(self.properties),
            "required": list(self.properties),
            "additionalProperties": False,
        }


def chat_messages(system: str, quoted: Mapping[str, object]) -> list[dict[str, str]]:
    """The chat messages of a question; texts are quoted as JSON, so that none can end its own quotation."""
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": json.dumps(quoted, ensure_ascii=False, indent=1)},
    ]


def last_object(text: str, key: str) -> dict[str, Any] | None:
    """The last JSON object with such a key in an answer, which is its conclusion; reasoning and fences are passed over.

    >>> last_object('First {"a": 1}, but then {"a": 2}.', "a")
    {'a': 2}
    """
    decoder, found = json.JSONDecoder(), None
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found = value if isinstance(value, dict) and key in value else found
        at = text.find("{", end)
    return found
