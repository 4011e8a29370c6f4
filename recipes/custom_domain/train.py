# /// script
# requires-python = ">=3.10"
# dependencies = ["hf-posmine[train,eval,fast]"]
# ///
"""Fine-tune a strong small model on your own documents, and find out whether it helped.

    hf-posmine split my.csv --by title --output my_data
    python recipes/custom_domain/train.py my_data --output my-retriever

my_data is a folder with corpus, queries and judgements: BEIR's layout, or corpus, queries, qrels_train and qrels_test as
parquet, jsonl, csv or tsv files; the first command makes one from any pairs. A question needs one document that answers
it; a few hundred questions are enough to start.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainingArguments

from hf_posmine import Corpus, MiningSummary, PercPos, PositiveAwareMiner, mine, to_training
from hf_posmine.encoding import model_source
from hf_posmine.evaluation import Collection, RetrievalEvaluator, compare, load_collection, read_table
from hf_posmine.models import InstructSentenceTransformer
from hf_posmine.training import CachedInfoNCELoss, RecipeTrainer


def main() -> None:
    """All steps, in order."""
    args = arguments()

    # 1. Your data: the questions to learn from, and others to measure with.
    documents = Corpus.from_dataset(read_table(args.data, "corpus"))
    pairs = pairs_of(load_collection(args.data, args.train_qrels), documents)
    test = load_collection(args.data, args.test_qrels)

    # 2. Mine: hard negatives that score at most 95 % of the positive. The teacher may be larger than the student, and
    #    the summary tells how many rows came out short and what was left out.
    miner = PositiveAwareMiner.from_dataset(
        pairs, teacher=args.teacher, corpus=documents, filters=[PercPos(0.95)], num_negatives=args.negatives
    )
    mined = mine(pairs, miner)
    print(MiningSummary.from_dataset(mined, args.negatives))
    rows = to_training(mined, "n-tuple", num_negatives=args.negatives)

    # 3. The student. Without an instruction it stays what it was: a plain sentence-transformers model.
    student = InstructSentenceTransformer(model_source(args.student), model_kwargs=varlen(args))
    student[0].query_length, student[0].document_length = 64, args.max_document_length
    evaluator = RetrievalEvaluator(test)
    evaluator(student)
    before = evaluator.result

    # 4. Train: in-batch and mined negatives. A ceiling in the batch by the student's own scores harms a weak student
    #    (docs/benchmarks/in_batch.md), so there is none. GradCache keeps memory flat, so the batch can be large.
    trainer = RecipeTrainer(
        model=student,
        args=SentenceTransformerTrainingArguments(
            output_dir=args.output,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            warmup_steps=0.1,
            router_mapping={name: "query" if name == "query" else "document" for name in rows.column_names},
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            seed=args.seed,
        ),
        train_dataset=rows,
        loss=CachedInfoNCELoss(student, temperature=0.05, mini_batch_num_tokens=4096),
    )
    trainer.train()

    # 5. Did it help? Per question, with an interval.
    evaluator(student)
    print(compare(before.scores["ndcg@10"], evaluator.result.scores["ndcg@10"]).sentence("before", "after"))

    # 6. Save: loads with SentenceTransformer(...), anywhere.
    student.save_pretrained(args.output)
    if args.push_to:
        from hf_posmine import push_dataset, push_model

        push_dataset(mined, f"{args.push_to}-negatives", miner)
        push_model(student, args.push_to)


def pairs_of(judged: Collection, documents: Corpus) -> Dataset:
    """Each judged question with each of its positives."""
    positives = documents.texts(documents.rows_of_ids([document for _, document in judged.positives])).to_pylist()
    return Dataset.from_dict({"query": [judged.queries[query] for query, _ in judged.positives], "positive": positives})


def varlen(args: argparse.Namespace) -> dict[str, str]:
    """Batches without padding."""
    return {} if args.padded else {"attn_implementation": "posmine_varlen"}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with corpus, queries and judgements")
    parser.add_argument("--train-qrels", default="train", help="split of the judgements (default: %(default)s)")
    parser.add_argument("--test-qrels", default="test", help="split of the judgements (default: %(default)s)")
    parser.add_argument("--teacher", default="sentence-transformers/all-MiniLM-L6-v2", help="default: %(default)s")
    parser.add_argument("--student", default="sentence-transformers/all-MiniLM-L6-v2", help="default: %(default)s")
    parser.add_argument("--negatives", type=int, default=4, help="per question (default: %(default)s)")
    parser.add_argument("--epochs", type=float, default=1, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=2e-5, help="default: %(default)s")
    parser.add_argument("--max-document-length", type=int, default=256, help="tokens (default: %(default)s)")
    parser.add_argument("--padded", action="store_true", help="pad batches, for models whose attention is their own")
    parser.add_argument("--seed", type=int, default=42, help="default: %(default)s")
    parser.add_argument("--output", default="my-retriever", help="folder of the model (default: %(default)s)")
    parser.add_argument("--push-to", metavar="ID", help="also push the model, and the mined data as ID-negatives")
    return parser.parse_args()


if __name__ == "__main__":
    main()
