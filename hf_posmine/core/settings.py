"""The settings of a mining: one frozen value, which the provenance records."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from hf_posmine.core.check import is_number, whole
from hf_posmine.core.ensembles import ENSEMBLES
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import PercPos, as_filters, by_position, common_window, of_rows
from hf_posmine.core.quotas import quotas_of
from hf_posmine.core.samplers import Choice, Top, as_sampler
from hf_posmine.core.types import CeilingFrom, Filter, Match, ScoreKind

if TYPE_CHECKING:
    from collections.abc import Sequence

TOP = Top()
DEFAULT_FILTER = PercPos(0.95)
KINDS_WITH_ZERO: tuple[ScoreKind, ...] = ("cosine", "dot", "probability", "bm25")
"""Kinds of scores of which a share has a meaning."""
MOST_NEGATIVES = 10_000
OnShort: TypeAlias = Literal["keep", "drop", "raise", "random"]
WeakPositive: TypeAlias = Literal["keep", "flag", "drop"]
NegativesAs: TypeAlias = Literal["texts", "images", "ids"]
Keep: TypeAlias = Literal["scores", "ids", "ranks", "positive_score", "stats"]
CHOICES = {
    "on_short": OnShort, "ceiling_from": CeilingFrom, "weak_positive": WeakPositive, "match": Match, "negatives_as": NegativesAs,
}  # fmt: skip
FROM_CORPUS = ("match", "negatives_as")
"""Choices that None leaves to the corpus."""


@dataclass(frozen=True)
class MiningSettings:
    """Everything that decides which negatives a row gets, besides the corpus, the teacher and the known positives.

    Attributes:
        filters: ceilings, floors and rank windows, as objects or spellings; ``()`` is Naive Top-K. By default (None)
            ``PercPos(0.95)``, the paper's best (Table 3), where the teacher's scores have a zero; see :meth:`for_scores`.
        sampler: which of the kept candidates to take; with several teachers an ensemble.
        num_negatives: n.
        keep: columns to add besides ``negatives``: ``scores``, ``ids``, ``ranks``, ``positive_score``, ``stats``.
        on_short: what becomes of a row with fewer than n: ``keep`` it, ``drop`` it, ``raise``, or fill it at ``random``
            from documents below its ceiling, which ``num_random`` counts.
        ceiling_from: the positive's score that sets the ceiling where a query has several: the lowest (``min``), the row's
            ``own``, the ``mean`` or the ``max``.
        weak_positive: what becomes of a row whose positive is outranked by at least ``weak_rank`` documents:
            ``keep``, ``flag`` (a column ``weak_positive``) or ``drop``.
        weak_rank: that number of documents at or above the ceiling.
        near_duplicates: also exclude documents whose cosine with a positive is at least this.
        exclude_lookalikes: where the corpus lacks a known positive that is given as a text, exclude the documents that hold
            it: those that differ from it by a title or invisible characters, contain it, or have a cosine of at least
            0.95 with it (by a dense teacher).
        match: which texts are one document, and no negatives of each other: ``exact`` equal ones, ``normalized`` those that
            differ in case, white space or compatible forms, ``loose`` also in invisible characters. None takes that of the
            corpus, else ``normalized``.
        exclude_same: columns of the corpus (of the rows, where their positives are the corpus): documents that share a value
            with a known positive of the query are excluded, such as further chunks of its document. None takes the column of
            source documents that the corpus evidently has; ``()`` none.
        language_column: column of the languages of documents in the corpus and, where they have it, of queries in the rows. The
            columns ``query_language`` and ``negatives_languages`` are then written, and the summary counts pairs.
        exclude_other_positives: also exclude every document that is a known positive of any query.
        skip_bad_rows: leave out rows with an empty query, without a positive or with an image that cannot be opened, and count
            them; else they are an error.
        negatives_as: ``texts`` or ``images`` in the column ``negatives``, or ``ids`` in the column ``negatives_ids`` alone, which
            copies no document. By default (None) texts of a corpus of texts, and ids of one with images.
        seed: of the samplers; every row draws from its own generator, seeded by (seed, query, positive).
    """

    filters: Sequence[Filter | str] | Filter | str | None = None
    sampler: Choice | str = TOP
    num_negatives: int = 4
    keep: Sequence[Keep] = ()
    on_short: OnShort = "keep"
    ceiling_from: CeilingFrom = "min"
    weak_positive: WeakPositive = "keep"
    weak_rank: int = 1000
    near_duplicates: float | None = None
    exclude_lookalikes: bool = True
    match: Match | None = None
    exclude_same: Sequence[str] | str | None = None
    language_column: str | None = None
    exclude_other_positives: bool = False
    skip_bad_rows: bool = False
    negatives_as: NegativesAs | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        if self.filters is not None:
            set_(self, "filters", as_filters(self.filters))
        set_(self, "sampler", as_sampler(self.sampler))
        keep = [self.keep] if isinstance(self.keep, str) else self.keep
        if not isinstance(keep, (list, tuple)):
            raise InputError(f"keep={keep!r}; expected names of columns, such as ('scores', 'ids')")
        set_(self, "keep", tuple(keep))
        if self.exclude_same is not None:
            set_(self, "exclude_same", _names("exclude_same", self.exclude_same))
        for name, least in (("num_negatives", 1), ("weak_rank", 1), ("seed", 0)):
            set_(self, name, whole(name, vars(self)[name], least))
        if self.num_negatives > MOST_NEGATIVES:
            raise InputError(f"num_negatives={self.num_negatives}; expected at most {MOST_NEGATIVES:,} for each row")
        if self.seed >= 1 << 64:
            raise InputError(f"seed={self.seed}; expected a whole number below 2**64")
        self._check_choices()
        if self.language_column is not None:
            _names("language_column", self.language_column)
        near = self.near_duplicates
        if near is not None:
            if not is_number(near) or not 0 < near <= 1:
                raise InputError(f"near_duplicates={near!r}; expected a cosine above 0 and at most 1, such as 0.95")
            set_(self, "near_duplicates", float(near))
        if self.filters is not None:
            self._check_window(*common_window(self.all_filters))
            barring = [*by_position(self.all_filters), *quotas_of(self.all_filters)]
            if self.on_short == "random" and barring:
                raise InputError(
                    f"on_short='random' fills rows wherever the documents lie, and {barring[0]!r} does not allow that; use "
                    "'keep', 'drop' or 'raise'"
                )
            if self.ensemble and quotas_of(self.all_filters):
                raise InputError(
                    f"{quotas_of(self.all_filters)[0]!r} counts the candidates of one teacher, and {self.sampler!r} merges several"
                )
        self.one_sampler.pool(self.num_negatives)

    def _check_choices(self) -> None:
        for name, choices in CHOICES.items():
            if vars(self)[name] is not None or name not in FROM_CORPUS:
                _one_of(name, vars(self)[name], choices)
        for column in self.keep:
            _one_of("keep", column, Keep)

    def _check_window(self, first: int, last: int | None) -> None:
        """Refuse a window of ranks that no row can fill."""
        if last is not None and last - first < self.num_negatives and self.on_short != "random":
            raise InputError(
                f"the filters {list(self.all_filters)} leave {last - first} ranks, and num_negatives={self.num_negatives}, so no "
                "row can get all; widen the window or ask for fewer"
            )

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> MiningSettings:
        """Settings from keyword options.

        Raises:
            InputError: an option that does not exist, with those that do.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in options if name not in names]
        if unknown:
            raise InputError(f"unknown option {unknown[0]!r}; mining has: {', '.join(names)}")
        return cls(**options)

    def for_scores(self, score_kinds: Sequence[ScoreKind]) -> MiningSettings:
        """These settings with the default filter of teachers whose scores are of such kinds, where none is given.

        Raises:
            InputError: logits or distances, a share of which has no meaning: the filter must be chosen.
        """
        if self.filters is not None:
            return self
        unfit = [kind for kind in score_kinds if kind not in KINDS_WITH_ZERO]
        if unfit:
            raise InputError(
                f"the teacher gives {unfit[0]} scores, for which {DEFAULT_FILTER!r}, the default filter, has no meaning; choose "
                "one, such as filters='MarginPos(1.0)', or filters=() for Naive Top-K"
            )
        return dataclasses.replace(self, filters=(DEFAULT_FILTER,))

    def for_documents(self, documents: int, images: int) -> MiningSettings:
        """These settings with the form of the negatives that a corpus has, where none is given.

        Raises:
            InputError: texts of images, or images of texts.
        """
        form = self.negatives_as or ("ids" if images else "texts")
        if (form == "texts" and images) or (form == "images" and images < documents):
            raise InputError(
                f"negatives_as={form!r}, and {images:,} of {documents:,} documents are images; use "
                f"{'ids or images' if images == documents else 'ids' if images else 'texts or ids'}"
            )
        return dataclasses.replace(self, negatives_as=form)

    @property
    def all_filters(self) -> tuple[Filter, ...]:
        """The filters, as objects.

        Raises:
            InputError: they follow from the teacher's scores, which :meth:`for_scores` takes.
        """
        if self.filters is None:
            raise InputError("filters=None: the default depends on the teacher's scores; use the settings of a miner")
        return self.filters  # type: ignore[return-value]

    @property
    def kept_columns(self) -> list[str]:
        """The columns of the corpus that decide about negatives."""
        quotas = quotas_of(() if self.filters is None else self.all_filters)
        languages = [] if self.language_column is None else [self.language_column]
        return list(dict.fromkeys([*(self.exclude_same or ()), *(quota.column for quota in quotas), *languages]))

    @property
    def dropping(self) -> list[str]:
        """What drops rows, as spelled."""
        given = [f"{name}={vars(self)[name]}" for name in ("on_short", "weak_positive") if vars(self)[name] == "drop"]
        return [*map(repr, of_rows(self.all_filters)), *given]

    @property
    def one_sampler(self) -> Choice:
        """The sampler, as an object."""
        return self.sampler  # type: ignore[return-value]

    @property
    def ensemble(self) -> bool:
        """Whether negatives come from several teachers."""
        return type(self.sampler) in ENSEMBLES.values()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with filters and sampler in their spelling; :meth:`from_options` reads them back."""
        plain = dict(self.__dict__)
        if self.negatives_as in (None, "texts"):  # as of records that had no other form
            del plain["negatives_as"]
        return plain | {
            "filters": None if self.filters is None else [repr(f) for f in self.all_filters],
            "sampler": repr(self.sampler),
            "keep": list(self.keep),
            "exclude_same": None if self.exclude_same is None else list(self.exclude_same),
        }


def _names(option: str, value: object) -> tuple[str, ...]:
    """Names of columns, given as such or as one."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{option}={value!r}; expected names of columns of the corpus, such as 'doc_id'")
    return tuple(dict.fromkeys(names))


def _one_of(name: str, value: object, choices: object) -> None:
    if not isinstance(value, str) or value not in get_args(choices):
        raise InputError(f"{name}={value!r}; choose one of {list(get_args(choices))}")
