"""Evaluation: retrieval per query, classification, clustering and STS, false negatives, and significance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.core.lazy import lazy_names

if TYPE_CHECKING:
    from hf_posmine.evaluation.collection import Collection
    from hf_posmine.evaluation.evaluator import RetrievalEvaluator
    from hf_posmine.evaluation.judge.actions import apply_judgements, judge_negatives
    from hf_posmine.evaluation.judge.asking import Asker
    from hf_posmine.evaluation.judge.cascade import Cascade, cascade_rates
    from hf_posmine.evaluation.judge.chat import ChatServer, HubChat
    from hf_posmine.evaluation.judge.judge import Judge
    from hf_posmine.evaluation.judge.measured import MeasuredJudge
    from hf_posmine.evaluation.judge.oracle import OracleJudge
    from hf_posmine.evaluation.judge.quoting import QuoteJudge
    from hf_posmine.evaluation.judge.top_up import top_up
    from hf_posmine.evaluation.loading import load_collection, read_table
    from hf_posmine.evaluation.measures import Scores, parse_measure
    from hf_posmine.evaluation.negatives.agreement import overlap_matrix, teacher_agreement
    from hf_posmine.evaluation.negatives.calibrate import calibrate
    from hf_posmine.evaluation.negatives.certify import certify, certify_by_judge
    from hf_posmine.evaluation.negatives.choice import choose, mine_config
    from hf_posmine.evaluation.negatives.false_negatives import Judgements, load_judged
    from hf_posmine.evaluation.negatives.hold_out import judgements_of_pairs
    from hf_posmine.evaluation.negatives.sweep import sweep
    from hf_posmine.evaluation.questions.making import QuestionMaker
    from hf_posmine.evaluation.questions.record import question_rows
    from hf_posmine.evaluation.questions.settings import QuestionSettings
    from hf_posmine.evaluation.results import RetrievalResult
    from hf_posmine.evaluation.retrieval import RetrievalSettings, evaluate_retrieval
    from hf_posmine.evaluation.statistics.comparison import Comparison
    from hf_posmine.evaluation.statistics.significance import DRAWS, compare, compare_runs, compare_table, corrected
    from hf_posmine.evaluation.tasks import clustering_v_measure, neighbour_accuracy, sts_spearman

__all__ = [
    "DRAWS",
    "Asker",
    "Cascade",
    "ChatServer",
    "Collection",
    "Comparison",
    "HubChat",
    "Judge",
    "Judgements",
    "MeasuredJudge",
    "OracleJudge",
    "QuestionMaker",
    "QuestionSettings",
    "QuoteJudge",
    "RetrievalEvaluator",
    "RetrievalResult",
    "RetrievalSettings",
    "Scores",
    "apply_judgements",
    "calibrate",
    "cascade_rates",
    "certify",
    "certify_by_judge",
    "choose",
    "clustering_v_measure",
    "compare",
    "compare_runs",
    "compare_table",
    "corrected",
    "evaluate_retrieval",
    "judge_negatives",
    "judgements_of_pairs",
    "load_collection",
    "load_judged",
    "mine_config",
    "neighbour_accuracy",
    "overlap_matrix",
    "parse_measure",
    "question_rows",
    "read_table",
    "sts_spearman",
    "sweep",
    "teacher_agreement",
    "top_up",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "collection": ("Collection",),
        "evaluator": ("RetrievalEvaluator",),
        "judge.actions": ("apply_judgements", "judge_negatives"),
        "judge.asking": ("Asker",),
        "judge.cascade": ("Cascade", "cascade_rates"),
        "judge.chat": ("ChatServer", "HubChat"),
        "judge.judge": ("Judge",),
        "judge.measured": ("MeasuredJudge",),
        "judge.oracle": ("OracleJudge",),
        "judge.quoting": ("QuoteJudge",),
        "judge.top_up": ("top_up",),
        "loading": ("load_collection", "read_table"),
        "measures": ("Scores", "parse_measure"),
        "negatives.agreement": ("overlap_matrix", "teacher_agreement"),
        "negatives.calibrate": ("calibrate",),
        "negatives.certify": ("certify", "certify_by_judge"),
        "negatives.choice": ("choose", "mine_config"),
        "negatives.false_negatives": ("Judgements", "load_judged"),
        "negatives.hold_out": ("judgements_of_pairs",),
        "negatives.sweep": ("sweep",),
        "questions.making": ("QuestionMaker",),
        "questions.record": ("question_rows",),
        "questions.settings": ("QuestionSettings",),
        "results": ("RetrievalResult",),
        "retrieval": ("RetrievalSettings", "evaluate_retrieval"),
        "statistics.comparison": ("Comparison",),
        "statistics.significance": ("DRAWS", "compare", "compare_runs", "compare_table", "corrected"),
        "tasks": ("clustering_v_measure", "neighbour_accuracy", "sts_spearman"),
    },
)
