"""``mine_hard_negatives`` from checked arguments to the dataset: the miner over unique queries, batch by batch."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.filters import MarginPos, MaxScore, MinScore, PercPos, RankWindow, SkipTop
from hf_posmine.core.samplers import Top, Uniform
from hf_posmine.data.corpus import Corpus
from hf_posmine.encoding.model_digest import is_native
from hf_posmine.mining.drop_in import messages
from hf_posmine.mining.drop_in.arguments import Window
from hf_posmine.mining.drop_in.embeddings import open_teacher
from hf_posmine.mining.drop_in.formats import MinedPairs, kept_columns, to_dataset
from hf_posmine.mining.drop_in.pairs import Pairs
from hf_posmine.mining.drop_in.rules import AmongSurvivors, ClosedBound, DropInMiner, WithinDepth
from hf_posmine.mining.second_opinion import SecondOpinion
from hf_posmine.teachers.cross_encoder import CrossEncoderTeacher
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

    from hf_posmine.core.samplers import Choice
    from hf_posmine.core.types import Filter, Floats, Rows, Teacher
    from hf_posmine.mining.drop_in.arguments import Arguments
    from hf_posmine.mining.select import MinedBatch

STRICT: dict[str, Callable[[float], Filter]] = {
    "absolute_margin": MarginPos,
    "relative_margin": lambda margin: PercPos(1 - margin),
    "max_score": MaxScore,
    "min_score": MinScore,
}


def mine(given: Arguments) -> Any:
    """The dataset with its negatives; see :func:`hf_posmine.compat.mine_hard_negatives`."""
    arguments = given.checked()
    say = _print if arguments.verbose else _silent
    kept_columns(arguments)  # a clash of names is refused before the work
    pairs = Pairs.of(arguments)
    window = Window.of(arguments, pairs.most)
    for line in messages.before(pairs, window, arguments):
        say(line)
    corpus = Corpus.from_texts(
        [*(arguments.corpus or []), *pairs.positives], match="normalized" if arguments.strict else "exact"
    )
    queries = Corpus.from_texts(pairs.queries, match="exact")
    with open_teacher(arguments, corpus, queries, say) as teacher:
        search = Search(arguments, window, pairs, corpus, teacher)
        mined, counts = search.run()
        say("Negative candidates mined, preparing dataset...")
        dataset = to_dataset(mined, corpus, arguments)
    considered = len(pairs.queries) * min(len(corpus), window.depth if search.limited else len(corpus))
    for line in (
        *messages.table(mined, arguments.output_format),
        *messages.skipped(counts, considered, arguments),
        *messages.missing(len(dataset), mined.possible(arguments.output_format), arguments),
    ):
        say(line)
    return dataset


class Search:
    """The negatives of all queries.

    A derived ``range_max`` does not leave a query short: its search goes on to the end of the corpus. With a cross-encoder
    it ends there, since every further candidate costs a pass of that model.
    """

    def __init__(self, arguments: Arguments, window: Window, pairs: Pairs, corpus: Corpus, teacher: Teacher) -> None:
        self.arguments, self.window, self.pairs = arguments, window, pairs
        self.corpus, self.teacher = corpus, teacher
        self.random = arguments.sampling_strategy == "random"
        self.limited = not arguments.strict and (window.given or arguments.reranks or self.random)
        self.filters = _filters(arguments, window)
        self.opinion = self._opinion() if arguments.reranks else None
        self.miner = self._miner(self.limited, self.random)
        self.fills = self.limited and not window.given and not arguments.reranks

    def run(self) -> tuple[MinedPairs, Counter[str]]:
        """Mine every query, and count what each bound rejected."""
        negatives, scores, own = [], [], []
        counts: Counter[str] = Counter()
        with progress_bar(len(self.pairs.queries), "Mining hard negatives", "row") as bar:
            for start in range(0, len(self.pairs.queries), self.arguments.faiss_batch_size):
                stop = min(start + self.arguments.faiss_batch_size, len(self.pairs.queries))
                rows, values = self._batch(start, stop, counts)
                negatives.append(rows)
                scores.append(values)
                own.append(self._positive_scores(start, stop))
                bar.update(stop - start)
        return MinedPairs(self.pairs, *map(np.concatenate, (negatives, scores, own))), counts  # type: ignore[arg-type]

    def _batch(self, start: int, stop: int, counts: Counter[str]) -> tuple[Rows, Floats]:
        """Negatives int64 ``[B, n]`` and their scores float32 ``[B, n]`` of some queries."""
        queries, positives = self.pairs.queries[start:stop], self.pairs.of_queries(start, stop)
        mined = self.miner.mine(queries, positives)
        self._count(mined, counts)
        rows, scores = mined.rows, mined.scores if mined.second is None else mined.second.scores
        short = np.flatnonzero((rows < 0).any(axis=1)) if self.fills else np.empty(0, np.int64)
        if len(short):
            deeper = self._miner(limited=False, random=False)
            filled = deeper.mine([queries[i] for i in short.tolist()], [positives[i] for i in short.tolist()])
            rows[short], scores[short] = filled.rows, filled.scores
        return rows, scores

    def _count(self, mined: MinedBatch, counts: Counter[str]) -> None:
        if mined.second is not None:
            counts[messages.CROSS_ENCODER] += int(mined.second.rejected.sum())
            return
        for number, name in enumerate(self.filters):
            counts[name] += int(mined.above[mined.ceiling_by == number].sum())
        counts["min_score"] += int(mined.floored.sum())

    def _positive_scores(self, start: int, stop: int) -> Floats:
        """Scores float32 of the pairs of some queries, by whoever decides: the cross-encoder, or the model."""
        pairs = slice(*self.pairs.bounds[[start, stop]].tolist())
        queries = [self.pairs.queries[i] for i in self.pairs.query_of[pairs].tolist()]
        scorer = self.teacher if self.opinion is None else self.opinion.scorer
        rows = self.corpus.rows_of_texts(self.pairs.positives[pairs])
        return scorer.score(queries, rows[:, None])[:, 0]

    def _opinion(self) -> SecondOpinion:
        model = self.arguments.cross_encoder
        fingerprint = None if is_native(model) else uuid.uuid4().hex
        judge = CrossEncoderTeacher(model, self.corpus, fingerprint=fingerprint)
        bounds = [self.filters[name] for name in self.arguments.bounds]
        return SecondOpinion(judge, bounds, rank_by="second", depth=self.window.depth)

    def _miner(self, limited: bool, random: bool) -> DropInMiner:
        arguments = self.arguments
        last = self.window.last if limited else None
        sampler: Choice = AmongSurvivors(self.window.first, last, random)
        if arguments.strict:
            sampler = Uniform(self.window.last) if random else Top()
        bounds = () if self.opinion is None else arguments.bounds
        return DropInMiner(
            include_positives=arguments.include_positives,
            strict=arguments.strict,
            corpus=self.corpus,
            teachers=[WithinDepth(self.teacher, self.window.depth) if limited else self.teacher],
            second_opinion=self.opinion,
            filters=[filter_ for name, filter_ in self.filters.items() if name not in bounds],
            sampler=sampler,
            num_negatives=arguments.num_negatives,
            seed=arguments.seed,
        )


def _filters(arguments: Arguments, window: Window) -> dict[str, Filter]:
    """The filters by the parameter that each stands for."""
    if not arguments.strict:
        return {name: ClosedBound(name, value) for name, value in arguments.bounds.items()}  # type: ignore[arg-type]
    filters: dict[str, Filter] = {name: STRICT[name](value) for name, value in arguments.bounds.items()}
    if window.given:
        filters["range_max"] = RankWindow(0, window.last)
    if window.first:
        filters["range_min"] = SkipTop(window.first)
    return filters


def _print(line: str) -> None:
    print(line)  # noqa: T201 - what verbose= asks for


def _silent(line: str) -> None:
    """What ``verbose=False`` asks for."""
