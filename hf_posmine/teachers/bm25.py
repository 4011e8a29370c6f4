"""A lexical teacher: BM25 by the bm25s library."""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, MissingExtraError, NoSharedWordWarning
from hf_posmine.data.words import rest_of_word
from hf_posmine.teachers.dense_model import commit_of
from hf_posmine.teachers.exhaustive import FullScores
from hf_posmine.teachers.postings import Postings, pair_score
from hf_posmine.teachers.spellings import BM25
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.upstream import bm25_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from hf_posmine.core.types import Floats, ScoreKind
    from hf_posmine.data.corpus import Corpus

BM25_VERSION = 3
"""Part of the key of a stored index: raised when the same texts would get other scores."""


def word_pattern() -> str:
    """Words of two characters or more, and single ones beside a hyphen: ``X-100`` and ``Y-100`` differ."""
    rest = rest_of_word()
    return rf"\w\w+(?:{rest})*|\w(?:{rest})+|\w(?=-\w)|(?<=\w-)\w"


class BM25Teacher(FullScores):
    """Scores by shared words: BM25 as Lucene computes it (the variant ``lucene`` of Kamphuis et al., ECIR 2020).

    The index is built once, below ``store``, and shared by all runs and processes. A document that shares no word with
    the query scores 0, so a share of the positive's score has a meaning and ``PercPos`` is allowed, as in the paper's
    Table 1; documents at 0 are candidates like any other, unless ``MinScore`` excludes them.

    Words are what spaces and punctuation leave. For scripts without spaces, such as Chinese, Japanese or Thai, the tokens of
    a ``tokenizer`` take their place; a query that shares no word with any document is warned of once.

    Args:
        corpus: the documents; all of them count in the statistics.
        language: of stop words and stemmer, such as english, german or french; None for neither.
        stem: whether to stem words (Snowball).
        k1: how soon repeated words stop counting.
        b: how much long documents are discounted.
        tokenizer: Hub id or folder of a fast tokenizer whose subwords are the words; stop words and stemmer are then left
            out.
        revision: of a tokenizer on the Hub.
        store: folder of the index, by default below :func:`~hf_posmine.utils.files.cache_root`.

    Raises:
        MissingExtraError: bm25s is not installed (extra ``bm25``).
        InputError: an unknown language, or a corpus without words.
    """

    score_kind: ScoreKind = "bm25"

    def __init__(
        self,
        corpus: Corpus,
        *,
        language: str | None = "english",
        stem: bool = True,
        k1: float = 1.5,
        b: float = 0.75,
        tokenizer: str | None = None,
        revision: str | None = None,
        store: str | Path | None = None,
    ) -> None:
        if not (math.isfinite(k1) and k1 >= 0 and 0 <= b <= 1):
            raise InputError(f"k1={k1!r}, b={b!r}; k1 must be 0 or more, b between 0 and 1")
        self.corpus, self.k1, self.b = corpus, float(k1), float(b)
        if tokenizer is not None and language not in ("english", None):
            raise InputError(f"language={language!r} has no effect with tokenizer={tokenizer!r}; leave one of them out")
        if revision is not None and tokenizer is None:
            raise InputError(f"revision={revision!r} is that of a tokenizer; give tokenizer=, too")
        self.tokenizer, self.revision = tokenizer, revision
        self.language = None if tokenizer is not None else language
        self.stem = bool(stem and self.language is not None)
        self.name = "bm25" if self.language == "english" else f"bm25 ({tokenizer or language or 'plain'})"
        self._warned = False
        self._store = Path(store) if store else cache_root() / "bm25"
        self._check_language()

    def _check_language(self) -> None:
        _, stemmer = _libraries()
        known = sorted({*stemmer.algorithms(), *_stop_words()})
        if self.language is not None and self.language not in known:
            raise InputError(f"language={self.language!r}; choose None or one of {known}")

    @property
    def fingerprint(self) -> str:
        """Content digest: statistics come from the corpus, so it is part of it."""
        return json_digest({**self._recipe(), "corpus": self.corpus.fingerprint, "version": BM25_VERSION})

    def _recipe(self) -> dict[str, Any]:
        recipe = {"kind": "bm25", "language": self.language, "stem": self.stem, "k1": self.k1, "b": self.b}
        return (
            recipe if self._subwords is None else {**recipe, "tokenizer_digest": json_digest(self._subwords.to_str())}
        )

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        words: dict[str, Any] = {"language": self.language, "stem": self.stem}
        recipe = self._recipe()
        if self.tokenizer is not None:
            commit = commit_of(self.tokenizer, self.revision)
            words = {"tokenizer": self.tokenizer, "revision": commit or self.revision}
            recipe |= {"commit": commit}
        return {**recipe, "spelling": repr(BM25(**words, k1=self.k1, b=self.b))}

    def prepare(self) -> None:
        """Build the index, unless it is stored."""
        _ = self._index

    def all_scores(self, queries: Sequence[str]) -> Floats:
        """Scores float32 ``[B, N]`` of every document."""
        terms = self._query_terms(queries)
        self._warn_of_none(sum(not found for found in terms), len(queries))
        return self._index[0].scores(terms)

    def warn_of_unmatched(self, queries: Corpus) -> None:
        """Warn of the queries of a run that share no word with any document, with their count; batches then do not."""
        if self._warned:
            return
        texts = (block for part in queries.parts for block in part.iter_texts())
        self._warn_of_none(sum(not found for block in texts for found in self._query_terms(block)), len(queries))
        self._warned = True

    def _warn_of_none(self, without: int, queries: int) -> None:
        """Once, since every batch of a script without spaces would repeat it."""
        if without and not self._warned:
            self._warned = True
            warnings.warn(
                f"{without:,} of {queries:,} queries share no word with any document: all their scores are 0, so no ceiling "
                "keeps false negatives out; for scripts without spaces take BM25(tokenizer='<Hub id or folder>')",
                NoSharedWordWarning,
                stacklevel=2,
            )

    def score_texts(self, queries: Sequence[str], documents: Sequence[str]) -> Floats:
        """Scores float32 ``[B]`` of query i with text i, by the corpus's statistics; words it lacks do not count."""
        pairs = zip(self._query_terms(queries), self._tokens(documents), strict=True)
        return np.array([pair_score(query, self._weights(tokens)) for query, tokens in pairs], np.float32)

    def _query_terms(self, queries: Sequence[str]) -> list[dict[int, float]]:
        vocabulary = self._index[1]
        counts = (sorted(Counter(tokens).items()) for tokens in self._tokens(queries))
        return [{vocabulary[t]: float(c) for t, c in found if t in vocabulary} for found in counts]

    def _weights(self, tokens: list[str]) -> dict[int, float]:
        """Term weights of a text, as bm25s gives them to a document of the corpus."""
        postings, vocabulary, average = self._index
        long = self.k1 * ((1 - self.b) + self.b * len(tokens) / average)
        weights = {}
        for token, count in Counter(tokens).items():
            if token in vocabulary:
                term = vocabulary[token]
                having = int(postings.starts[term + 1] - postings.starts[term])
                rarity = np.float32(math.log(1 + (postings.num_documents - having + 0.5) / (having + 0.5)))
                weights[term] = float(rarity) * (count / (long + count))
        return weights

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        if not texts:
            return []
        bm25s, stemmer = _libraries()
        if self._subwords is not None:
            return [_known(text.tokens) for text in self._subwords.encode_batch(list(texts), add_special_tokens=False)]
        stems = stemmer.Stemmer(self.language) if self.stem and self.language in stemmer.algorithms() else None
        stop_words = _stop_words().get(self.language or "", ())
        return bm25s.tokenize(
            list(texts),
            token_pattern=word_pattern(),
            stopwords=list(stop_words),
            stemmer=stems,
            return_ids=False,
            show_progress=False,
        )

    @cached_property
    def _subwords(self) -> Tokenizer | None:
        return None if self.tokenizer is None else _load_tokenizer(self.tokenizer, self.revision)

    @cached_property
    def _index(self) -> tuple[Postings, dict[str, int], float]:
        """Postings, the vocabulary, and the average length of a document."""
        folder = build_once(self._store / self.fingerprint, self._build)
        stored = json.loads((folder / "vocabulary.json").read_text())
        return Postings.load(folder), {t: i for i, t in enumerate(stored["terms"])}, stored["average_length"]

    def _build(self, folder: Path) -> None:
        bm25s, _ = _libraries()
        tokens: list[list[str]] = []
        for part in self.corpus.parts:
            for texts in part.iter_texts():
                tokens += self._tokens(texts)
        average = sum(map(len, tokens)) / len(tokens)
        if not average:
            raise InputError(
                "no document has a word that BM25 could count; check the corpus and the language, as in BM25('german')"
            )
        model = bm25s.BM25(method="lucene", k1=self.k1, b=self.b, backend="numpy")
        scores, vocabulary = bm25_weights(model, tokens)
        terms = sorted(vocabulary, key=vocabulary.__getitem__)
        starts, documents = scores["indptr"].astype(np.int64), scores["indices"].astype(np.int32)
        Postings(scores["data"].astype(np.float32), documents, starts, len(tokens)).save(folder)
        (folder / "vocabulary.json").write_text(json.dumps({"terms": terms, "average_length": average}))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_index", "_subwords")}


def _load_tokenizer(name: str, revision: str | None) -> Tokenizer:
    """The fast tokenizer of a Hub id or folder, without truncation."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise InputError(f"tokenizer={name!r} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    if not tokenizer.is_fast:
        raise InputError(f"tokenizer={name!r} has no fast tokenizer (tokenizer.json); choose one that has")
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend


def _known(tokens: list[str]) -> list[str]:
    """Without unknown tokens, which different texts would share."""
    return [token for token in tokens if token not in ("[UNK]", "<unk>")]


def _libraries() -> tuple[Any, Any]:
    try:
        import bm25s
        import Stemmer
    except ImportError:
        raise MissingExtraError("BM25", "bm25") from None
    return bm25s, Stemmer


def _stop_words() -> dict[str, tuple[str, ...]]:
    """Stop words by the name of their language."""
    from bm25s import stopwords

    named = {name[10:].lower(): words for name, words in vars(stopwords).items() if name.startswith("STOPWORDS_")}
    return {"english": named.pop("en"), **{n: words for n, words in named.items() if n.isalpha()}}
