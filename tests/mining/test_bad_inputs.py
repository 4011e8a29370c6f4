"""Bad input gets one clear line that names the column and row or the value, and the cure (semantics 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, load_dataset

from hf_posmine import (
    Corpus,
    DenseTeacher,
    MarginPos,
    MaxScore,
    MiningSummary,
    MinScore,
    PercPos,
    PositiveAwareMiner,
    Qrels,
    RankWindow,
    SampledTopK,
    SkipTop,
    Top,
    Top1Sampled,
    Uniform,
    to_training,
)
from hf_posmine import mine as mine_in_shards
from hf_posmine.core import MiningSettings
from hf_posmine.core import errors as e
from hf_posmine.data.sources import beir_pairs, load_files, load_source
from hf_posmine.encoding.encode import load_model
from hf_posmine.search import ExactIndex
from tests.conftest import SAMPLE, ToyModel

if TYPE_CHECKING:
    from pathlib import Path

GOOD = {"query": ["red fox", "blue cat", "old dog"], "positive": ["a red fox", "a blue cat", "an old dog"]}
MINED = Dataset.from_dict(GOOD | {"negatives": [["x", "y"], ["x"], ["y", "z"]]})
CORPUS = ["first text", "second text", "third text"]


def with_value(column, row, value):
    """Good pairs but for one value; objects, because Arrow would refuse some of them."""
    return {name: [value if (name, i) == (column, row) else v for i, v in enumerate(GOOD[name])] for name in GOOD}


def toy(corpus, **options):
    return DenseTeacher(ToyModel(), corpus, fingerprint="toy", **options)


def miner(dataset=None, teacher=None, teacher_options=None, **options):
    """A miner for good pairs (or ``dataset``) with the toy model."""
    if dataset is None or type(dataset) is dict:
        dataset = Dataset.from_dict(dataset or GOOD)
    given = {"fingerprint": "toy", **(teacher_options or {})} if teacher is None else teacher_options
    return PositiveAwareMiner.from_dataset(
        dataset, teacher or ToyModel(), teacher_options=given, **{"filters": (), **options}
    )


def bare_miner(texts=CORPUS, teachers=None, **options):
    corpus = Corpus.from_texts(texts)
    return PositiveAwareMiner(corpus=corpus, teachers=teachers or toy(corpus), **{"filters": (), **options})


def mine(batch, **options):
    return bare_miner(positive_column="positive", **options)(batch)


def mine_pairs(pairs, **options):
    return miner(**options)(pairs)


def spoil(tmp: Path, change):
    """Encode, change the bytes of the corpus's shard, and read it again."""
    corpus = Corpus.from_texts(CORPUS)
    toy(corpus, store=tmp).prepare()
    shard = next(tmp.rglob("*.safetensors"))
    shard.write_bytes(change(shard.read_bytes()))
    toy(corpus, store=tmp).prepare()


class Broken(ToyModel):
    """Gives NaN for one text."""

    def _vector(self, text):
        return np.full(16, np.nan, np.float32) if text == "second text" else super()._vector(text)


class Growing(ToyModel):
    """Queries have more dimensions than documents."""

    def encode_query(self, texts, **options):
        return np.ones((len(texts), 17), np.float32)


def touch(path: Path, text: str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


ROWS = {  # columns and rows
    "missing query column": (
        lambda t: miner(query_column="question"),
        e.ColumnError,
        r"query column 'question' .*\['query', 'positive'\]",
    ),
    "missing positive column": (
        lambda t: miner(positive_column="answer"),
        e.ColumnError,
        r"'answer' is not in the dataset; its columns are",
    ),
    "missing id column": (lambda t: miner(positive_id_column="doc"), e.ColumnError, "positive id column 'doc'"),
    "two query columns": (
        lambda t: miner(GOOD | {"anchor": GOOD["query"]}),
        e.ColumnError,
        r"\['query', 'anchor'\]; name one with query_column=",
    ),
    "two positive columns": (
        lambda t: miner(GOOD | {"positives": GOOD["query"]}),
        e.ColumnError,
        r"\['positive', 'positives'\]; name one with positive_column=",
    ),
    "no positive column": (
        lambda t: miner({"query": ["q"]}),
        e.ColumnError,
        r"no positive column found among \['query'\]; .* positive_column=",
    ),
    "no query column": (
        lambda t: miner({"positive": ["q"]}),
        e.ColumnError,
        r"no query column found among \['positive'\]; .* query_column=",
    ),
    "no text column at all": (
        lambda t: miner({"n": [1], "m": [2]}),
        e.ColumnError,
        r"no query column found among \['n', 'm'\]",
    ),
    "None as a query": (
        lambda t: miner(with_value("query", 1, None)),
        e.ColumnError,
        r"1 with an empty query \(row 1\)",
    ),
    "None as a positive": (
        lambda t: miner(with_value("positive", 2, None)),
        e.ColumnError,
        r"1 with no positive \(row 2\); repair them, or leave them out",
    ),
    "None in a later batch": (
        lambda t: miner({"query": ["q"] * 1500 + [None], "positive": ["p"] * 1501}),
        e.ColumnError,
        "row 1500",
    ),
    "NaN as a query": (
        lambda t: mine(with_value("query", 1, float("nan"))),
        e.ColumnError,
        r"column 'query', row 1: .* nan \(float\)",
    ),
    "NaN as a positive": (
        lambda t: mine(with_value("positive", 0, float("nan"))),
        e.ColumnError,
        r"'positive', row 0: .* nan \(float\)",
    ),
    "numbers as queries": (
        lambda t: miner({"query": [1, 2], "positive": ["a", "b"]}, query_column="query"),
        e.ColumnError,
        r"'query', row 0: .* 1 \(int\)",
    ),
    "bytes as a query": (lambda t: mine({"query": [b"q"], "positive": ["p"]}), e.ColumnError, r"row 0: .* \(bytes\)"),
    "an empty list of positives": (
        lambda t: mine(with_value("positive", 1, [])),
        e.ColumnError,
        "column 'positive', row 1: an empty list; every row needs a positive",
    ),
    "a list with None": (
        lambda t: mine(with_value("positive", 1, ["a", None])),
        e.ColumnError,
        "'positive', row 1: expected texts, found None",
    ),
    "an empty list of ids": (
        lambda t: bare_miner(positive_id_column="id")({"query": ["q"], "id": [[]]}),
        e.ColumnError,
        "'id', row 0: an empty list",
    ),
    "a float as an id": (
        lambda t: bare_miner(positive_id_column="id")({"query": ["q"], "id": [1.5]}),
        e.ColumnError,
        r"'id', row 0: expected an id, got 1.5 \(float\)",
    ),
    "an id the corpus lacks": (
        lambda t: bare_miner(positive_id_column="id")({"query": ["q"], "id": ["d9"]}),
        e.InputError,
        "'id': the corpus has no document with id 'd9'",
    ),
    "an empty dataset": (lambda t: miner(Dataset.from_dict(GOOD).select([])), e.InputError, "no rows"),
    "a dict without splits": (lambda t: miner(DatasetDict()), e.InputError, "no splits"),
    "a column gone from the batch": (
        lambda t: miner()({"query": ["q"]}),
        e.ColumnError,
        r"the batch has no column 'positive'; its columns are \['query'\]",
    ),
    "input_columns in map": (
        lambda t: Dataset.from_dict(GOOD).map(miner(), batched=True, input_columns=["query", "positive"]),
        e.ColumnError,
        "got a list .*without input_columns=",
    ),
    "a query without known positive": (
        lambda t: bare_miner(known_positives=Qrels.from_columns(["q"], ["p"]))({"query": ["r"]}),
        e.ColumnError,
        "row 0: no known positive for the query 'r'",
    ),
    "a stream without features": (lambda t: miner().features(None), e.InputError, r"datasets\.Features"),
    "dropping one row": (
        lambda t: Dataset.from_dict(GOOD).map(miner(on_short="drop", num_negatives=9)),
        e.InputError,
        "batched=True",
    ),
    "a short row": (
        lambda t: mine_pairs(GOOD, on_short="raise"),
        e.ShortRowError,
        r"row 0 \('red fox'\) has 2 of 4 negatives: .* relax the filters",
    ),
}

SETTINGS = {
    "PercPos in percent": (lambda t: PercPos(95), e.SpecError, r"PercPos\(95\) .* did you mean 0\.95\?"),
    "PercPos in percent, spelled": (lambda t: miner(filters="PercPos(95)"), e.SpecError, r"did you mean 0\.95\?"),
    "negative PercPos": (
        lambda t: PercPos(-0.1),
        e.SpecError,
        r"PercPos\(-0\.1\) is out of range: .* between 0 and 1\.5",
    ),
    "PercPos of a letter": (lambda t: PercPos("a"), e.SpecError, r"PercPos\('a'\): share must be a finite number"),
    "PercPos of NaN": (lambda t: PercPos(float("nan")), e.SpecError, r"PercPos\(nan\): share must be a finite number"),
    "PercPos of True": (lambda t: PercPos(True), e.SpecError, r"PercPos\(True\): share must be a finite number"),
    "negative MarginPos": (lambda t: MarginPos(-1), e.SpecError, r"MarginPos\(-1\) lets negatives .* 0 or more"),
    "a margin for percent": (
        lambda t: miner(filters=MarginPos(5)),
        e.SpecError,
        r"MarginPos\(5\) is wider than all cosine scores; did you mean 0\.05\?",
    ),
    "an absolute score in percent": (
        lambda t: miner(filters=MaxScore(70)),
        e.SpecError,
        r"MaxScore\(70\) lies outside cosine scores \[-1, 1\]; did you mean 0\.7\?",
    ),
    "a floor out of range": (
        lambda t: miner(filters=MinScore(-3)),
        e.SpecError,
        r"MinScore\(-3\) lies outside cosine scores",
    ),
    "an infinite MaxScore": (
        lambda t: MaxScore(float("inf")),
        e.SpecError,
        r"MaxScore\(inf\): score must be a finite number",
    ),
    "negative SkipTop": (
        lambda t: SkipTop(-1),
        e.SpecError,
        "SkipTop: count must be a whole number of at least 0, got -1",
    ),
    "half a SkipTop": (lambda t: SkipTop(1.5), e.SpecError, r"SkipTop: count must be a whole number .*, got 1\.5"),
    "an empty window": (
        lambda t: RankWindow(5, 5),
        e.SpecError,
        r"RankWindow\(5, 5\) is empty; last must be greater than first",
    ),
    "a window smaller than n": (
        lambda t: miner(filters="RankWindow(5, 12)", num_negatives=8),
        e.InputError,
        r"leave 7 ranks, and num_negatives=8, so no row can get all; widen the window",
    ),
    "a window beyond the corpus": (
        lambda t: miner(filters="SkipTop(4000)"),
        e.InputError,
        r"begin at rank 4,000, and the corpus has \d documents; skip fewer",
    ),
    "more negatives than anybody wants": (
        lambda t: miner(num_negatives=20_000_000),
        e.InputError,
        r"num_negatives=20000000; expected at most 10,000",
    ),
    "a draw from too many": (
        lambda t: miner(sampler="SampledTopK(k=70000000000)"),
        e.SpecError,
        r"SampledTopK: k must be a whole number from 1 to 1,000,000, got 70000000000",
    ),
    "windows without a rank": (
        lambda t: miner(filters=[SkipTop(50), RankWindow(0, 50)]),
        e.SpecError,
        r"leave no rank: the first allowed is 50, the last before 50",
    ),
    "a misspelled filter": (
        lambda t: miner(filters="PerPos(0.95)"),
        e.SpecError,
        r"unknown filter 'PerPos' in 'PerPos\(0\.95\)'; did you mean PercPos\?",
    ),
    "an unreadable filter": (
        lambda t: miner(filters="PercPos(0.95"),
        e.SpecError,
        r"cannot read filter 'PercPos\(0\.95'; write it as a call",
    ),
    "a filter with an argument too many": (
        lambda t: miner(filters="PercPos(0.95, 2)"),
        e.SpecError,
        r"wrong arguments; PercPos takes \(share, zero\)",
    ),
    "a number as a filter": (lambda t: miner(filters=[0.95]), e.SpecError, "0.95 is not a filter; known: Consistency"),
    "a number as the filters": (lambda t: miner(filters=0.95), e.SpecError, "0.95 is not a filter"),
    "a filter class": (lambda t: miner(filters=[PercPos]), e.SpecError, "PercPos.* is not a filter"),
    "a sampler class": (lambda t: miner(sampler=Top), e.SpecError, "Top.* is not a sampler"),
    "a misspelled sampler": (
        lambda t: miner(sampler="Uniforn(k=3)"),
        e.SpecError,
        r"unknown sampler 'Uniforn' .*did you mean Uniform\?",
    ),
    "a number as a sampler": (lambda t: miner(sampler=10), e.SpecError, "10 is not a sampler; known: SampledTopK"),
    "k below n": (
        lambda t: miner(sampler=Uniform(k=3)),
        e.SpecError,
        r"Uniform\(k=3\) draws from 3 candidates and cannot give 4 negatives; raise k",
    ),
    "k of zero": (
        lambda t: SampledTopK(k=0),
        e.SpecError,
        "SampledTopK: k must be a whole number from 1 to 1,000,000, got 0",
    ),
    "temperature of zero": (
        lambda t: Top1Sampled(temperature=0),
        e.SpecError,
        "Top1Sampled: temperature must be a number above 0, got 0",
    ),
    "no negatives": (
        lambda t: miner(num_negatives=0),
        e.InputError,
        "num_negatives=0; expected a whole number of at least 1",
    ),
    "half a negative": (
        lambda t: miner(num_negatives=2.5),
        e.InputError,
        r"num_negatives=2\.5; expected a whole number",
    ),
    "a negative seed": (lambda t: miner(seed=-1), e.InputError, "seed=-1; expected a whole number of at least 0"),
    "a seed of more than 64 bits": (
        lambda t: mine_pairs(GOOD, seed=2**64, sampler="Uniform(k=4)"),
        e.InputError,
        "seed=18446744073709551616",
    ),
    "a weak rank of zero": (
        lambda t: miner(weak_rank=0),
        e.InputError,
        "weak_rank=0; expected a whole number of at least 1",
    ),
    "a column to keep that is none": (
        lambda t: miner(keep="score"),
        e.InputError,
        r"keep='score'; choose one of \['scores', 'ids'",
    ),
    "a number to keep": (lambda t: miner(keep=5), e.InputError, "keep=5"),
    "bad on_short": (
        lambda t: miner(on_short="fill"),
        e.InputError,
        r"on_short='fill'; choose one of \['keep', 'drop', 'raise', 'random'\]",
    ),
    "bad ceiling_from": (
        lambda t: miner(ceiling_from="median"),
        e.InputError,
        r"ceiling_from='median'; choose one of \['min', 'own', 'mean', 'max'\]",
    ),
    "bad weak_positive": (lambda t: miner(weak_positive="raise"), e.InputError, "weak_positive='raise'; choose one of"),
    "an unknown option": (
        lambda t: miner(num_negative=3),
        e.InputError,
        "unknown option 'num_negative'; mining has: filters, sampler, num_negatives",
    ),
    "an unknown option of the settings": (
        lambda t: MiningSettings.from_options({"n": 3}),
        e.InputError,
        "unknown option 'n'",
    ),
    "near_duplicates above 1": (
        lambda t: miner(near_duplicates=95),
        e.InputError,
        "near_duplicates=95; expected a cosine above 0 and at most 1",
    ),
    "near_duplicates of 0": (lambda t: miner(near_duplicates=0), e.InputError, "near_duplicates=0; expected a cosine"),
    "weak_positive without a ceiling": (
        lambda t: miner(weak_positive="drop", filters=SkipTop(3)),
        e.InputError,
        r"weak_positive='drop' .* no filter sets one; add a filter such as PercPos\(0\.95\)",
    ),
    "exclude_other_positives of nothing": (
        lambda t: bare_miner(positive_column="p", exclude_other_positives=True),
        e.InputError,
        "needs known_positives=",
    ),
    "no positives": (
        lambda t: bare_miner(),
        e.InputError,
        "no positives: give positive_column=, positive_id_column= or known_positives=",
    ),
    "both positive columns": (
        lambda t: bare_miner(positive_column="p", positive_id_column="i"),
        e.ColumnError,
        "give positive_column='p' or positive_id_column='i', not both",
    ),
    "both positive columns of a dataset": (
        lambda t: miner(positive_column="positive", positive_id_column="query"),
        e.ColumnError,
        "not both",
    ),
    "both kinds of known positives": (
        lambda t: Qrels.from_dataset(Dataset.from_dict(GOOD), "query", "positive", "id"),
        e.InputError,
        "one of the two",
    ),
}

TEACHERS = {
    "a number as the teacher": (
        lambda t: miner(teacher=42),
        e.InputError,
        "teacher=int is not a retrieval model; pass a Hub id",
    ),
    "a number as the teachers": (lambda t: bare_miner(teachers=42, positive_column="p"), e.InputError, "teacher"),
    "a name as the teachers": (
        lambda t: bare_miner(teachers="embedded", positive_column="p", filters=PercPos(0.9)),
        e.InputError,
        "teacher",
    ),
    "a list as the corpus": (
        lambda t: PositiveAwareMiner(
            corpus=CORPUS, teachers=toy(Corpus.from_texts(CORPUS)), positive_column="p", filters=()
        )({"query": ["q"], "p": ["p"]}),
        e.InputError,
        "corpus",
    ),
    "no teacher": (
        lambda t: PositiveAwareMiner(corpus=Corpus.from_texts(CORPUS), teachers=[], positive_column="p", filters=()),
        e.InputError,
        "0 teachers",
    ),
    "two teachers": (
        lambda t: bare_miner(teachers=[toy(Corpus.from_texts(CORPUS))] * 2, positive_column="p"),
        e.InputError,
        "2 teachers and the sampler Top()",
    ),
    "a teacher of another corpus": (
        lambda t: bare_miner(teachers=toy(Corpus.from_texts(["x", "y"])), positive_column="p"),
        e.PosmineError,
        "corpus",
    ),
    "a model without a fingerprint": (
        lambda t: DenseTeacher(ToyModel(), Corpus.from_texts(CORPUS)),
        e.InputError,
        "ToyModel is not a SentenceTransformer.*pass fingerprint=",
    ),
    "a model that is not there": (
        lambda t: load_model("nobody/nothing"),
        e.InputError,
        "HF_POSMINE_OFFLINE is set, so 'nobody/nothing' must be a local folder",
    ),
    "an unknown similarity": (
        lambda t: toy(Corpus.from_texts(CORPUS), similarity="jaccard"),
        e.InputError,
        r"similarity='jaccard'; choose one of \['cosine'",
    ),
    "options for a ready teacher": (
        lambda t: miner(teacher=toy(Corpus.from_texts(CORPUS)), teacher_options={"device": "cpu"}),
        e.InputError,
        r"teacher_options \['device'\] have no effect on a ready teacher; set them there",
    ),
    "PercPos on distances": (
        lambda t: miner(filters=PercPos(0.9), teacher_options={"similarity": "euclidean"}),
        e.SpecError,
        r"PercPos\(0\.9\) takes a share .* distance has no meaningful zero; use MarginPos",
    ),
    "PercPos on logits": (
        lambda t: PercPos(0.9).check("logit"),
        e.SpecError,
        "logit has no meaningful zero; use MarginPos, give the score of unrelated pairs as zero=, or take a teacher that maps",
    ),
    "vectors that are not finite": (
        lambda t: DenseTeacher(Broken(), Corpus.from_texts(CORPUS), fingerprint="nan").prepare(),
        e.StoreError,
        "non-finite vectors for 1 texts, first number 1: 'second text'",
    ),
    "queries of other dimensions": (
        lambda t: miner(teacher=Growing(), teacher_options={"fingerprint": "grow"})(GOOD),
        e.PosmineError,
        r"query vectors have shape \(3, 17\), the documents have 16 dimensions",
    ),
    "an index of NaN": (
        lambda t: ExactIndex(np.array([[0, 1], [0, np.nan]])),
        e.InputError,
        "1 document vectors are not finite, first row 1",
    ),
    "an index of one vector": (
        lambda t: ExactIndex(np.ones(4)),
        e.InputError,
        r"shape \(4,\); expected \[documents, dimensions\]",
    ),
    "an unknown engine": (
        lambda t: ExactIndex(np.eye(2), engine="gpu"),
        e.InputError,
        "engine='gpu'; choose one of 'auto', 'int8', 'bfloat16', 'int16'",
    ),
    "a depth of zero": (
        lambda t: ExactIndex(np.eye(2)).search(np.eye(2), 0),
        e.InputError,
        "k=0; ask for at least one document",
    ),
    "a store of another dtype": (
        lambda t: toy(Corpus.from_texts(CORPUS), store=t, dtype="int8"),
        e.StoreError,
        "dtype='int8'; choose 'float32' or 'float16'",
    ),
    "a store of no rows": (
        lambda t: toy(Corpus.from_texts(CORPUS), store=t, shard_rows=0),
        e.StoreError,
        "shard_rows=0; a shard holds at least one row",
    ),
    "a flipped byte in a shard": (
        lambda t: spoil(t, lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        e.CorruptShardError,
        "shard .*000000.* has checksum .*, written was .*; delete the file and run again",
    ),
    "a shard cut short": (
        lambda t: spoil(t, lambda data: data[:-9]),
        e.CorruptShardError,
        "cannot be read .*it ends after .*; delete the file",
    ),
    "a shard of noise": (
        lambda t: spoil(t, lambda data: b"noise"),
        e.CorruptShardError,
        "cannot be read .*; delete the file",
    ),
}

SOURCES = {
    "one id for two documents": (
        lambda t: Corpus.from_texts(CORPUS, ids=["a", "b", "a"]),
        e.InputError,
        "the id 'a' names two .*, 'first text'... and 'third text'...; make the ids unique",
    ),
    "ids of another number": (lambda t: Corpus.from_texts(CORPUS, ids=["a"]), e.InputError, "3 .*1"),
    "a string for a list": (
        lambda t: Corpus.from_texts("first text"),
        e.InputError,
        "got one string 'first text'; put it in a list",
    ),
    "no documents": (
        lambda t: Corpus.from_texts([]),
        e.InputError,
        "the corpus has no documents; pass at least one text",
    ),
    "None as a document": (
        lambda t: Corpus.from_texts(["a", None]),
        e.ColumnError,
        "'texts', row 1: expected a text, got None",
    ),
    "no text column": (
        lambda t: Corpus.from_dataset(Dataset.from_dict(GOOD)),
        e.ColumnError,
        r"several columns could be the text of the corpus: \['query', 'positive'\]; name one with text=",
    ),
    "an unknown match": (
        lambda t: Corpus.from_texts(CORPUS, match="fuzzy"),
        e.InputError,
        r"match='fuzzy'; choose one of \['exact', 'normalized', 'loose'\]",
    ),
    "candidates after known documents": (
        lambda t: Corpus.from_texts(["a"]).union(["b"], candidates=False).union(["c"]),
        e.InputError,
        "swap the two unions",
    ),
    "ids without a corpus": (
        lambda t: miner({"query": ["q"], "doc_id": ["d"]}),
        e.InputError,
        "column 'doc_id' holds ids; pass corpus=",
    ),
    "queries and positives of other numbers": (
        lambda t: Qrels.from_columns(["q"], ["p", "r"]),
        e.InputError,
        "1 queries and 2 positives",
    ),
    "no known positives": (lambda t: Qrels.from_columns([], []), e.InputError, "no rows|no positives"),
    "judgements of unknown queries": (
        lambda t: Qrels.from_judgements(["1"], ["d"], [1], {"2": "q"}),
        e.InputError,
        "1 judgements name queries that are not there, such as '1'",
    ),
    "judgements of unknown documents": (
        lambda t: bare_miner(known_positives=Qrels.from_judgements(["1"], ["d9"], [1], {"1": "q"}))({"query": ["q"]}),
        e.InputError,
        "1 of 1 judgements name document ids that the corpus lacks",
    ),
    "a missing file": (lambda t: load_files(t / "no.jsonl"), e.InputError, r"no such file: .*no\.jsonl"),
    "a missing source": (
        lambda t: load_source(t / "no"),
        e.InputError,
        "does not exist; pass a file, a folder or a Hub id",
    ),
    "files of two kinds": (
        lambda t: load_files([touch(t / "a.jsonl"), touch(t / "b.csv")]),
        e.InputError,
        r"\['\.csv', '\.jsonl'\] together",
    ),
    "a file of no known kind": (lambda t: load_source(touch(t / "a.xlsx")), e.InputError, r"\['\.xlsx'\]"),
    "a folder of nothing": (load_source, e.InputError, "holds no saved dataset and no .parquet"),
    "no BEIR folder": (
        Corpus.from_beir,
        e.InputError,
        r"is not a folder|has no 'corpus' file",
    ),
    "a missing split of judgements": (
        lambda t: beir_pairs(SAMPLE, "dev"),
        e.InputError,
        r"no judgements for split 'dev' .*; there are: \['complete', 'train'\]",
    ),
    "a missing split of a saved dict": (
        lambda t: DatasetDict(train=MINED).save_to_disk(t) or load_source(t, "dev"),
        e.InputError,
        r"has no split 'dev'; it has \['train'\]",
    ),
}

OUTPUTS = {
    "an unknown format": (
        lambda t: to_training(MINED, "pair"),
        e.InputError,
        r"format='pair'; choose one of \['triplet', 'n-tuple'",
    ),
    "an unknown cure for short rows": (
        lambda t: to_training(MINED, on_short="keep"),
        e.InputError,
        r"on_short='keep'; choose one of \['raise', 'drop', 'repeat'\]",
    ),
    "rows that are not mined": (
        lambda t: to_training(Dataset.from_dict(GOOD)),
        e.ColumnError,
        "mined column 'negatives' is not in the dataset",
    ),
    "scores that were not kept": (
        lambda t: to_training(MINED, scores=True),
        e.ColumnError,
        r"needs the column 'positive_score'; mine with keep=\('scores',\)",
    ),
    "a short row for an n-tuple": (
        lambda t: to_training(MINED),
        e.ShortRowError,
        r"row 1 of the batch \('blue cat'\) has 1 of 2 negatives",
    ),
    "zero negatives": (lambda t: to_training(MINED, num_negatives=0), e.InputError, "num_negatives=0"),
    "lazy triplets": (lambda t: to_training(MINED, "triplet", lazy=True), e.InputError, "lazy=True needs a Dataset"),
    "lazy dropping": (
        lambda t: to_training(MINED, lazy=True, on_short="drop"),
        e.InputError,
        "lazy=True needs a Dataset",
    ),
    "a lazy stream": (
        lambda t: to_training(MINED.to_iterable_dataset(), "triplet", lazy=True),
        e.InputError,
        "lazy=True needs a Dataset",
    ),
    "nothing to summarize": (
        lambda t: MiningSummary.from_dataset(Dataset.from_dict(GOOD)),
        e.ColumnError,
        r"no column 'negatives' among \['query', 'positive'\]",
    ),
    "a stream to mine in shards": (
        lambda t: mine_in_shards(MINED.to_iterable_dataset(), miner(), work_dir=t),
        e.InputError,
        r"not IterableDataset; give a stream a folder for its shards, .* or map it with stream\.map",
    ),
    "an empty dataset to mine in shards": (
        lambda t: mine_in_shards(MINED.select([]), miner(), work_dir=t),
        e.InputError,
        "no rows; there is nothing to mine",
    ),
    "shards of no rows": (
        lambda t: mine_in_shards(MINED, miner(), work_dir=t, shard_rows=0),
        e.InputError,
        "shard_rows=0",
    ),
}

CASES = {**ROWS, **SETTINGS, **TEACHERS, **SOURCES, **OUTPUTS}


@pytest.mark.parametrize(("act", "error", "message"), CASES.values(), ids=CASES)
def test_bad_input_gets_one_line_that_names_it_and_the_cure(act, error, message, tmp_path):
    with pytest.raises(error, match=message) as caught:
        act(tmp_path)
    line = str(caught.value)
    assert "\n" not in line and 20 < len(line) < 400


def test_no_case_is_listed_twice():
    assert len(CASES) == sum(map(len, (ROWS, SETTINGS, TEACHERS, SOURCES, OUTPUTS))) >= 45


@pytest.mark.parametrize("value", ["", None], ids=repr)
def test_a_csv_with_an_empty_cell_names_column_and_row(value, tmp_path):
    """What pandas calls NaN: the likeliest way to a missing text."""
    touch(tmp_path / "pairs.csv", "query,positive\nred,a red fox\nblue,\n")
    pairs = load_dataset("csv", data_files=str(tmp_path / "pairs.csv"), split="train")
    with pytest.raises(e.ColumnError, match=r"columns 'query' and 'positive': .* no positive \(row 1\)"):
        miner(pairs)
