"""The overlap of the top 4 negatives of four kinds of teachers on SQuAD: a table and a heat map (paper, Tables 6 to 8).

    python -m benchmarks.agreement [--rows 2000] [--split dev] --output overlap.png

Dense and late interaction are the embedded all-MiniLM-L6-v2 (its pooled and its token vectors), static is the mean of that
model's input embeddings. No late-interaction model can be downloaded here, so that row shows the path, not a good teacher.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

DATA = Path(__file__).parents[2] / "shared" / "data" / "squad_v1.1"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    from datasets import disable_progress_bars
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    from hf_posmine import Corpus, DenseTeacher, PercPos
    from hf_posmine.data import load_files
    from hf_posmine.encoding import load_model, model_source
    from hf_posmine.evaluation import teacher_agreement
    from hf_posmine.evaluation.plots import plot_overlap
    from hf_posmine.teachers import BM25Teacher, LateInteractionTeacher

    disable_progress_bars()
    pairs = load_files(DATA / f"{args.split}_pairs.parquet").shuffle(seed=0).select(range(args.rows))
    corpus = Corpus.from_dataset(load_files(DATA / f"{args.split}_corpus.parquet"), "text", "id")
    mini = load_model("embedded")
    words = mini[0].auto_model.embeddings.word_embeddings.weight.detach().numpy()
    static = SentenceTransformer(
        modules=[StaticEmbedding(mini.tokenizer.backend_tokenizer, embedding_weights=words)], device="cpu"
    )
    modules = [Transformer(model_source("embedded")), MultiVectorMask(), Normalize()]
    made = {
        "MiniLM": DenseTeacher(mini, corpus),
        "static": DenseTeacher(static, corpus),
        "BM25": BM25Teacher(corpus),
        "late interaction": LateInteractionTeacher(MultiVectorEncoder(modules=modules, device="cpu"), corpus),
    }
    for name, teacher in made.items():
        teacher.name = name
    start = time.perf_counter()
    columns = {"query_column": "query", "positive_id_column": "positive_id"}
    table = teacher_agreement(pairs, list(made.values()), filters=PercPos(0.95), **columns)
    print(table.to_pandas().round(3).to_string(), f"\n{time.perf_counter() - start:.0f} s")
    plot_overlap(table["teacher"][:], [table[name][:] for name in table["teacher"]], args.output)


if __name__ == "__main__":
    main()
