"""Judged collections and pairs with several positives, as evidence about false negatives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import teacher_options
from hf_posmine.cli.work import COLUMNS, DataOptions, load_good_rows
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.negatives.false_negatives import Judgements


def load_evidence(args: argparse.Namespace) -> tuple[Corpus, Judgements, Teacher, str]:
    """Corpus, judgements and teacher of ``DATA``, a judged collection or pairs, and the line about the data."""
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.data.sources import is_beir
    from hf_posmine.evaluation.negatives.false_negatives import load_judged
    from hf_posmine.evaluation.negatives.hold_out import judgements_of_pairs
    from hf_posmine.mining.batch import RowReader
    from hf_posmine.mining.mined_data import MinedData
    from hf_posmine.teachers.factory import make_teacher

    options, folder = DataOptions.of(args), Path(args.data)
    names = {file.stem for file in folder.iterdir()} if folder.is_dir() else set()
    if is_beir(folder) or {"corpus", "queries"} <= names:
        corpus, judgements, _ = load_judged(folder, args.qrels, None, args.seed, options.reading)
        taken = judgements.taken(corpus)
    else:
        work = load_good_rows(options)
        columns = work.columns
        known = Qrels.from_dataset(work.rows, *columns, match=options.match)
        documents = known.documents if work.corpus is None else work.corpus
        if documents is None:
            raise InputError(f"column {columns[2]!r} holds ids; give --corpus with the documents they name")
        corpus = documents
        if work.corpus is None and options.keep_columns:
            corpus = documents.with_columns_of(work.rows, str(columns[1]), options.keep_columns)
        data = MinedData.of(RowReader(corpus, known, known.resolve(corpus), None, *columns), None)
        taken = str(data)
        judgements = judgements_of_pairs(work.rows, corpus, **dict(zip(COLUMNS, columns, strict=True)))
    queries = Corpus.from_texts(judgements.queries.values(), match="exact")
    return corpus, judgements, make_teacher(args.teacher, corpus, queries=queries, **teacher_options(args)), taken
