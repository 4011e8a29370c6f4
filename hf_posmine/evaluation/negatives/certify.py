"""Mining at a guaranteed false-negative rate: the hardest setting of a declared ladder, by evidence of a given confidence.

**What is bounded**: the mean over queries of the share of false ones among a query's negatives (over all ways to hide its
positives), among queries that get a negative. Negatives of one query are dependent; the queries are the sample.

**Why it holds over the choice** ("Learn then Test", Angelopoulos et al., arXiv 2110.01052): each setting has the null hypothesis
that its rate is above the wanted one, tested by :mod:`~hf_posmine.evaluation.negatives.betting`, which errs with a probability of
at most ``e`` for every number of queries. The settings of a family are tested in the order that was declared, the safest first,
until one does not pass. To certify a wrong one, the first wrong one has to pass, which it does with a probability of at most
``e``. With ``e`` the wanted error divided by the number of families, some family certifies a wrong setting with at most the
wanted error; so whichever certified setting is taken afterwards, by its hardness or anything else, is right. The numbers of
the ladder (margins, the score of unrelated pairs) come from queries that are set aside, and count as none of it.

**Evidence** is judged or pretended relevance: known positives that are hidden, or verdicts of a judge with counted errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.evaluation.judge.candidates import JudgedList
from hf_posmine.evaluation.negatives.calibrate import Trial, count_hidden
from hf_posmine.evaluation.negatives.calibration import Doubles, Sums
from hf_posmine.evaluation.negatives.certified import Certified, Evidence
from hf_posmine.evaluation.negatives.hold_out import HiddenRows, Hide
from hf_posmine.evaluation.negatives.ladder import Families, declared, joined, only
from hf_posmine.evaluation.negatives.promise import Promise

if TYPE_CHECKING:
    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.core.types import Rows, Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.judge.measured import MeasuredJudge
    from hf_posmine.evaluation.negatives.false_negatives import Judgements

SAME = "the queries, documents and labels that are mined are like those of the evidence: no shift between them"
UNIT = "the rate is a mean over queries, each of the same weight; a row that is left out later may change it"
RANDOM = "labels are missing at random: the known positives of a query are a random choice of its relevant documents"
COMPLETE = "the judgements are complete: a relevant document that they lack is not counted"
ONE = "at most one relevant document of a query has no label"
ERRORS = (
    "the errors of the judge depend on nothing but relevance, and on these passages are as often as on the counted ones"
)


def certify(
    corpus: Corpus,
    judgements: Judgements,
    teacher: Teacher,
    settings: MiningSettings,
    *,
    families: Families | None = None,
    hide: Hide = "rest",
) -> Certified:
    """The hardest setting of a ladder whose false-negative rate is at most the wanted one, from positives that are hidden.

    Queries with one positive are left out.

    Args:
        corpus: the documents.
        judgements: complete ones, or the known positives of a training set.
        teacher: who scores; over the same corpus.
        settings: to mine with. Among the filters is :class:`~hf_posmine.core.filters.MaxFNRate`, whose place the chosen one takes;
            the others are part of every setting.
        families: see :func:`~hf_posmine.evaluation.negatives.ladder.declared`.
        hide: ``"rest"`` of the positives of a query but one, each in turn; or ``"one"``, each in turn.

    Raises:
        InputError: no setting is certified, with the number of queries that would suffice.
    """
    promise = Promise.required(settings)
    used, ladder = declared(corpus, judgements, teacher, families, settings.seed, several=True)
    trial = Trial.of(corpus, HiddenRows.of(corpus, used, hide), teacher, joined(ladder, promise.more), promise.options)
    sums = count_hidden(trial)
    evidence = Evidence(trial, sums, promise.wanted, "complete" if hide == "rest" else "held out")
    return evidence.choose(
        lambda at: sums.shares[at],
        promise.wanted.rate,
        1 - promise.wanted.confidence,
        (SAME, UNIT, RANDOM, COMPLETE if hide == "rest" else ONE),
    )


def certify_by_judge(
    corpus: Corpus,
    judgements: Judgements,
    teacher: Teacher,
    settings: MiningSettings,
    judge: MeasuredJudge,
    *,
    families: Families | None = None,
) -> Certified:
    """As :func:`certify`, with the verdicts of a judge on the negatives of some queries, drawn at random.

    It is asked setting by setting, and not beyond the first of a family that does not pass. The error is divided between the
    counts of the judge and the tests (see :class:`~hf_posmine.evaluation.judge.measured.MeasuredJudge`).

    Args:
        corpus: the documents.
        judgements: the known positives of the queries.
        teacher: who scores; over the same corpus.
        settings: as of :func:`certify`; the confidence is over the evidence and the counts.
        judge: with its counts.
        families: as of :func:`certify`.

    Raises:
        InputError: no setting is certified, or the judge is not good enough.
    """
    promise = Promise.required(settings)
    error = 1 - promise.wanted.confidence
    threshold = judge.threshold(promise.wanted.rate, error)
    others, ladder = declared(corpus, judgements, teacher, families, settings.seed, several=False)
    drawn = np.random.default_rng(settings.seed).permutation(sorted(others.relevant))[: judge.queries].tolist()
    rows = HiddenRows.whole(corpus, only(others, drawn))
    trial = Trial.of(corpus, rows, teacher, joined(ladder, promise.more), promise.options)
    sums = Sums.zeros(len(trial.settings), len(rows.queries))
    found = np.full((len(trial.settings), len(rows.queries), trial.reader.settings.num_negatives), -1)
    for at, start, mined in trial.mined():
        numbers = start + np.arange(len(mined.rows))
        sums.add(at, numbers, np.ones(len(rows.queries)), mined, np.zeros(mined.rows.shape, bool))
        found[at, numbers] = mined.rows
    evidence = Evidence(trial, sums, promise.wanted, "judge", judge.to_dict(error))
    left = error - judge.spent(error)
    return evidence.choose(lambda at: _verdicts(corpus, rows, found[at], judge), threshold, left, (SAME, UNIT, ERRORS))


def _verdicts(corpus: Corpus, rows: HiddenRows, found: Rows, judge: MeasuredJudge) -> Doubles:
    """Share of relevant verdicts among the negatives ``[Q, n]`` of each query, float64 ``[Q]``."""
    first = corpus.texts(corpus.rows_of_ids([ids[0] for ids in rows.positive_ids])).to_pylist()
    texts = [tuple(corpus.texts(row[row >= 0]).to_pylist()) for row in found]
    lists = [JudgedList(*one) for one in zip(rows.queries, first, texts, strict=True)]
    return np.array([np.mean(row) if row else np.nan for row in judge.are_relevant(lists)])
