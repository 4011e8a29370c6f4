"""The kinds of findings of an audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Mend: TypeAlias = Literal["negative", "row", "none"]
ROW = -1
"""The index of a finding that concerns the row, not one of its negatives."""


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding.

    Attributes:
        name: for ``--fail-on`` and JSON.
        title: for people.
        mend: what a repair removes: the negative, the row, or nothing.
    """

    name: str
    title: str
    mend: Mend = "none"


KINDS = {
    kind.name: kind
    for kind in (
        FindingKind("same_text", "A positive of the row is a negative, letter by letter", "negative"),
        FindingKind(
            "same_normalized", "The same but for case, white space, punctuation marks and Unicode form", "negative"
        ),
        FindingKind("near_copy", "A negative shares nearly all words with a positive of the row", "negative"),
        FindingKind("contained", "A negative contains a positive of the row, or is contained in it", "negative"),
        FindingKind("query_text", "A negative is the query itself", "negative"),
        FindingKind("labelled_elsewhere", "A positive of the same query in another row is a negative", "negative"),
        FindingKind("contradicting_labels", "Two rows label one query and document differently", "negative"),
        FindingKind("duplicate_negative", "A negative is in its row twice", "negative"),
        FindingKind("empty_text", "An empty query, positive or negative", "row"),
        FindingKind("truncated_text", "A text is cut: at the length where many end, or with dots"),
        FindingKind("above_positive", "By the data's scores, a negative is at least as good as a positive", "negative"),
        FindingKind(
            "teacher_above", "By the teacher's scores, a negative is at least as good as a positive", "negative"
        ),
        FindingKind("above_ceiling", "By the teacher's scores, a negative is at or above the ceiling", "negative"),
        FindingKind("bad_scores", "Scores are missing, not finite, or of another number than the texts"),
        FindingKind("stale_scores", "A score of the data is not the teacher's"),
        FindingKind("few_negatives", "Fewer negatives than asked for, or than most rows have"),
        FindingKind("no_negatives", "No negative"),
        FindingKind("no_positive", "No positive", "row"),
        FindingKind("shared_negative", "A negative that a great share of the rows has"),
        FindingKind("leaked_query", "The query is a test query of the judged collection", "row"),
        FindingKind("leaked_positive", "A positive is a relevant document of the judged collection's test queries"),
        FindingKind("other_script", "A negative in another script than the positives"),
        FindingKind("other_language", "A negative in another language than the positives"),
    )
}
