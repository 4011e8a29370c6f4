"""Retrieval during training: an evaluator for SentenceTransformerTrainer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator, SequentialEvaluator

from hf_posmine.evaluation.retrieval import RetrievalSettings, evaluate_retrieval
from hf_posmine.utils.progress import quiet_bars

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from hf_posmine.evaluation.collection import Collection
    from hf_posmine.evaluation.results import RetrievalResult


class RetrievalEvaluator(SentenceEvaluator):
    """Evaluates the model in training on a judged collection; ``evaluator=`` of SentenceTransformerTrainer.

    ``metric_for_best_model="eval_<name>_ndcg@10"`` then keeps the best checkpoint. Unlike sentence-transformers' own
    evaluator it knows grades, instructions, and queries that are documents, and keeps every query's values.

    Args:
        collection: what to search.
        name: of the metrics; by default the collection's.
        settings: fields of :class:`~hf_posmine.evaluation.retrieval.RetrievalSettings`, such as ``query_instruction``.

    Attributes:
        result: of the last call, per query.
    """

    def __init__(self, collection: Collection, *, name: str | None = None, **settings: Any) -> None:
        super().__init__()
        self.collection = collection
        self.name = name or collection.name
        self.settings = settings
        self.primary_metric = f"{self.name}_{RetrievalSettings(**settings).measures[0]}"
        self.result: RetrievalResult | None = None

    def __call__(
        self, model: SentenceTransformer, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """The mean of each measure; per-query results go to ``output_path`` where there is one."""
        with quiet_bars():
            self.result = evaluate_retrieval(model, self.collection, **self.settings)
        if output_path is not None:
            self.result.save(
                Path(output_path) / f"{self.name.replace('/', '_')}-{steps if steps >= 0 else 'final'}.json"
            )
        metrics = self.prefix_name_to_metrics(self.result.means, self.name)
        self.store_metrics_in_model_card_data(model, metrics, epoch, steps)
        return metrics

    def get_config_dict(self) -> dict[str, Any]:
        """The configuration of the evaluation for the model card."""
        return {name: value for name, value in self.settings.items() if value is not None}


def retrieval_evaluators(evaluator: SentenceEvaluator | None) -> list[RetrievalEvaluator]:
    """The evaluators of this kind: one by itself, or those among several that run one after the other."""
    several = evaluator.evaluators if isinstance(evaluator, SequentialEvaluator) else [evaluator]
    return [one for one in several if isinstance(one, RetrievalEvaluator)]
