"""Similarity of two texts by their words, and answers in texts: cheap enough for every negative of a large dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hf_posmine.data.words import has_whole, words_of

COMPARED = 500
"""Characters of a text that are compared: a near duplicate shows in its beginning, and long documents stay cheap."""
LONG_WORD = 12
"""Characters per word above which a text is taken to be written without spaces."""
LEAST_ANSWER = 3
"""Shorter answers ("4", "no") are in too many texts to mean anything."""


def pieces(text: str) -> frozenset[str]:
    """The set of words of a text's beginning, case-folded; of pairs of letters where the script has no spaces.

    >>> sorted(pieces("The bee, the BEE!"))
    ['bee', 'the']
    >>> sorted(pieces("蜜蜂如何酿造蜂蜜以及蜜蜂住在哪里"))[:2]
    ['以及', '住在']
    """
    start = text[:COMPARED].casefold()
    words = words_of(start)
    if not _without_spaces(start, words):
        return frozenset(words)
    joined = "".join(words)
    return frozenset(joined[i : i + 2] for i in range(len(joined) - 1)) or frozenset(words)


def jaccard(one: frozenset[str], two: frozenset[str]) -> float:
    """Jaccard similarity of two sets, 0 to 1; 0 for two empty sets.

    >>> jaccard(frozenset("abc"), frozenset("bcd"))
    0.5
    """
    shared = len(one & two)
    return shared / (len(one) + len(two) - shared) if shared else 0.0


def answers_of(value: object) -> list[str]:
    """The answers that a cell holds: a text, a list of texts, or the ``{"text": [...]}`` of SQuAD; short ones left out.

    >>> answers_of({"text": ["Saint Bernadette", "no"], "answer_start": [515, 1]})
    ['Saint Bernadette']
    """
    if isinstance(value, Mapping):
        held = [value.get(name) for name in ("text", "value", "aliases")]
        return [answer for member in held if member is not None for answer in answers_of(member)]
    members = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else []
    texts = (" ".join(member.split()) for member in members if isinstance(member, str))
    return [text for text in texts if len(text) >= LEAST_ANSWER]


def holds_answer(text: str, answers: list[str]) -> bool:
    """Whether one of the answers stands in the text as whole words, whatever its case.

    >>> holds_answer("She saw Saint  Bernadette.", ["saint bernadette"]), holds_answer("unpaired", ["pair"])
    (True, False)
    """
    folded = " ".join(text.casefold().split())
    found = [answer for answer in map(str.casefold, answers) if answer in folded]
    if any(has_whole(folded, answer) for answer in found):
        return True
    return bool(found) and _without_spaces(folded, words_of(folded))  # then there are no boundaries to go by


def _without_spaces(text: str, words: list[str]) -> bool:
    return len(text) > LONG_WORD * max(1, len(words))
