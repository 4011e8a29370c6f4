"""Calibration of thresholds: hide known positives, mine, and count those that come back, for all thresholds at once.

The paper chose its thresholds by training with each (section 4, Figure 1). A dataset whose queries have several known
positives answers a part of the question without training: how many false negatives a threshold lets through, and how
hard the negatives are that it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.filters import MarginPos, MaxScore, PercPos, SkipTop, as_filters, refuse_of_rows
from hf_posmine.core.settings import MiningSettings
from hf_posmine.evaluation.negatives.calibration import Calibration, Sums
from hf_posmine.evaluation.negatives.hold_out import DOCUMENT_BITS, HiddenRows, Hide
from hf_posmine.evaluation.negatives.prefetch import CachedTeacher
from hf_posmine.mining.miner import PositiveAwareMiner
from hf_posmine.mining.select import select
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hf_posmine.core.types import Filter, Floats, ScoreKind, Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.negatives.false_negatives import Judgements
    from hf_posmine.mining.select import MinedBatch

BATCH_ROWS = 1024
SHARES = (*np.round(np.arange(0.5, 0.9, 0.05), 2).tolist(), 0.9, 0.925, 0.95, 0.975, 0.99, 1.0, 1.05)
SKIPS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 100)


def calibrate(
    corpus: Corpus,
    judgements: Judgements,
    teacher: Teacher,
    *,
    families: Mapping[str, Sequence[Any]] | None = None,
    hide: Hide = "rest",
    resamples: int = 2000,
    level: float = 0.95,
    **options: Any,
) -> Calibration:
    """False-negative rate and hardness as functions of the threshold, from queries with several known positives.

    A positive is hidden when the miner does not know it; a hidden positive among the negatives is a false negative. Every
    row is mined by the miner's own selection, so a rate is what mining with that setting gives.

    Args:
        corpus: the documents.
        judgements: the known positives, such as :func:`~hf_posmine.evaluation.negatives.hold_out.judgements_of_pairs` gives.
        teacher: who scores; over the same corpus.
        families: per family, its settings, each a filter or a list of filters; by default :func:`default_families`.
        hide: ``"rest"`` imitates a dataset with one labelled positive per query, each in turn; ``"one"`` hides a single
            positive, each in turn, which is the risk of one missing label in a dataset that is otherwise complete.
        resamples: of the queries, for the intervals.
        level: of the intervals.
        options: further :class:`~hf_posmine.core.settings.MiningSettings` for all: ``num_negatives``, ``sampler``, ...

    Raises:
        InputError: no query with two positives, or settings that contradict each other.
    """
    hidden = HiddenRows.of(corpus, judgements, hide)
    tried = families_of(corpus, hidden, teacher) if families is None else families
    trial = Trial.of(corpus, hidden, teacher, tried, options)
    return trial.calibration(count_hidden(trial), resamples, level)


def families_for(corpus: Corpus, judgements: Judgements, teacher: Teacher) -> dict[str, list[list[Filter]]]:
    """:func:`default_families` on the scores that a teacher gives one positive of each query, and one random document."""
    return families_of(corpus, HiddenRows.of(corpus, judgements, "rest"), teacher)


def families_of(corpus: Corpus, hidden: HiddenRows, teacher: Teacher) -> dict[str, list[list[Filter]]]:
    """As :func:`families_for`, on the rows of a trial."""
    first = np.searchsorted(hidden.of_query, np.arange(len(hidden.queries)))
    rows = corpus.rows_of_ids([hidden.positive_ids[at][0] for at in first.tolist()])
    random = np.random.default_rng(0).integers(0, corpus.num_candidates, len(rows))
    scores = teacher.score(hidden.queries, np.stack([rows, random], axis=1))
    unrelated = scores[:, 1][np.isfinite(scores[:, 1])]
    zero = _short(float(np.median(unrelated))) if len(unrelated) else 0.0
    return default_families(scores[:, 0], teacher.score_kind, corpus, zero)


def default_families(
    positive_scores: Floats, score_kind: ScoreKind, corpus: Corpus, zero: float = 0.0
) -> dict[str, list[list[Filter]]]:
    """The paper's four families on grids that suit the scores: 15 shares, as many margins and ceilings, and ranks.

    A fifth one takes shares of what a score has above that of unrelated pairs.

    Args:
        positive_scores: float32 ``[P]``, of known positives. Margins are the same distances as the shares at their median;
            constant ceilings are these shares of their 95th percentile (where they have a sign, a distance below it).
        score_kind: which decides whether shares make sense.
        corpus: ranks end at its size.
        zero: the score of unrelated pairs.
    """
    known = positive_scores[np.isfinite(positive_scores)].astype(np.float64)
    middle, high = abs(float(np.median(known))), float(np.quantile(known, 0.95))
    margins = [_short((1 - share) * middle) for share in SHARES if share <= 1]
    ceilings = [_short(high - (1 - share) * abs(high)) for share in SHARES]
    made: dict[str, list[list[Filter]]] = {
        "PercPos": [[PercPos(share)] for share in SHARES],
        "MarginPos": [[MarginPos(margin)] for margin in margins],
        "MaxScore": [[MaxScore(ceiling)] for ceiling in ceilings if _allowed(MaxScore(ceiling), score_kind)],
        "SkipTop": [[SkipTop(count)] for count in SKIPS if count < corpus.num_candidates // 2],
    }
    if zero:
        made["PercPos, normalised"] = [[PercPos(share, zero=zero)] for share in SHARES]
    return made if _allowed(PercPos(1.0), score_kind) else {name: f for name, f in made.items() if name != "PercPos"}


def _short(value: float) -> float:
    """Three digits: what can be read, and is more than any estimate resolves."""
    return float(f"{value:.3g}")


def _allowed(filter_: Filter, score_kind: ScoreKind) -> bool:
    try:
        filter_.check(score_kind)
    except SpecError:
        return False
    return True


@dataclass(frozen=True)
class _Setting:
    family: str
    filters: tuple[Filter, ...]

    @property
    def spelled(self) -> tuple[str, str]:
        return self.family, " + ".join(map(repr, self.filters)) or "naive"


@dataclass(frozen=True, eq=False)
class Trial:
    """Rows that are mined with many settings, by one search for all of them.

    Attributes:
        reader: of the rows; its filters are not used.
        rows: the rows, and the documents hidden from them.
        settings: S of them, each of a family.
        options: of all settings.
    """

    reader: PositiveAwareMiner
    rows: HiddenRows
    settings: tuple[_Setting, ...]
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        rows: HiddenRows,
        teacher: Teacher,
        families: Mapping[str, Sequence[Any]],
        options: Mapping[str, Any],
    ) -> Trial:
        """Arguments as of :func:`calibrate`, which raises the same."""
        refused = sorted({"filters", "keep", "on_short", "weak_positive"} & options.keys())
        if refused:
            raise InputError(
                f"calibrate takes no {refused[0]}=; give families={{'name': [filters, ...]}} for the filters"
            )
        reader = PositiveAwareMiner(
            corpus=corpus, teachers=[teacher], known_positives=rows.qrels(), positive_id_column="positive_id", filters=(),
            **options,
        )  # fmt: skip
        settings = tuple(_Setting(name, as_filters(f)) for name, members in families.items() for f in members)
        if not settings:
            raise InputError("families hold no setting to try")
        for setting in settings:
            refuse_of_rows(setting.filters, "calibrate")
            for filter_ in setting.filters:
                filter_.check(teacher.score_kind)
        return cls(reader, rows, settings, options)

    def mined(self) -> Iterator[tuple[int, int, MinedBatch]]:
        """The number of a setting, the first of a batch of rows, and what was mined for them."""
        settings = [MiningSettings(filters=setting.filters, **self.options) for setting in self.settings]
        reader, candidates, total = self.reader, self.reader.corpus.num_candidates, len(self.rows.of_query)
        with progress_bar(total, f"Trying {len(settings)} settings", "row") as bar:
            for start in range(0, total, BATCH_ROWS):
                batch, exclude, _ = reader.read(self.rows.columns(start, start + BATCH_ROWS))
                fetched = CachedTeacher(reader.teachers[0], batch, exclude, settings, candidates)
                rngs = batch.generators(reader.corpus, reader.settings.seed)
                for at, setting in enumerate(settings):
                    yield at, start, select(batch, [fetched], setting, candidates, exclude, rngs)
                bar.update(len(batch.queries))

    def calibration(self, sums: Sums, resamples: int = 2000, level: float = 0.95) -> Calibration:
        """The results of what was counted; each query weighs the same."""
        reader = self.reader.settings
        spelled = tuple(setting.spelled for setting in self.settings)
        return Calibration(spelled, sums, reader.num_negatives, resamples, level, reader.seed)


def count_hidden(trial: Trial) -> Sums:
    """Per setting and query, what came of mining; hidden positives among the negatives are false ones."""
    rows = trial.rows
    sums = Sums.zeros(len(trial.settings), len(rows.queries))
    weights = 1 / rows.rows_per_query
    sums.hidden[:] = np.bincount(rows.of_query[rows.hidden >> DOCUMENT_BITS]) * weights
    for at, start, mined in trial.mined():
        numbers = start + np.arange(len(mined.rows))
        false = np.isin(numbers[:, None] << DOCUMENT_BITS | mined.rows, rows.hidden) & (mined.rows >= 0)
        sums.add(at, rows.of_query[numbers], weights, mined, false)
    return sums
