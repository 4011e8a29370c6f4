"""The public task instructions of E5-Mistral (arXiv 2401.00368), by data set.

``EVALUATION`` is its Table 15, as spelled in microsoft/unilm ``e5/utils.py`` at 9c0f1ff (``get_task_def_by_task_name_and_type``).
``TRAINING`` is its Table 14; of a data set with two texts, the first printed one. Together they cover the training sets
of NV-Retriever (its Table 9) but BioASQ, GOOAQ, PAQ and StackExchange, for which no text is public.
"""

from __future__ import annotations

SOURCE = "E5-Mistral, arXiv 2401.00368, Tables 14 and 15; microsoft/unilm e5/utils.py @ 9c0f1ff"

_WIKIPEDIA = "Given a question, retrieve Wikipedia passages that answer the question"
_CHINESE_WEB = "Given a Chinese search query, retrieve web passages that answer the question"
_CHINESE_MEDICAL = "Given a Chinese community medical question, retrieve replies that best answer the question"
_SIMILAR_TWEETS = "Retrieve tweets that are semantically similar to the given tweet"
_ENTAILED = "Given a premise, retrieve a hypothesis that is entailed by the premise"
_STS = "Retrieve semantically similar text."

EVALUATION: dict[str, str] = {
    # classification
    "AmazonCounterfactualClassification": "Classify a given Amazon customer review text as either counterfactual or "
    "not-counterfactual",
    "AmazonPolarityClassification": "Classify Amazon reviews into positive or negative sentiment",
    "AmazonReviewsClassification": "Classify the given Amazon review into its appropriate rating category",
    "Banking77Classification": "Given a online banking query, find the corresponding intents",
    "EmotionClassification": "Classify the emotion expressed in the given Twitter message into one of the six emotions: anger, "
    "fear, joy, love, sadness, and surprise",
    "ImdbClassification": "Classify the sentiment expressed in the given movie review text from the IMDB dataset",
    "MassiveIntentClassification": "Given a user utterance as query, find the user intents",
    "MassiveScenarioClassification": "Given a user utterance as query, find the user scenarios",
    "MTOPDomainClassification": "Classify the intent domain of the given utterance in task-oriented conversation",
    "MTOPIntentClassification": "Classify the intent of the given utterance in task-oriented conversation",
    "ToxicConversationsClassification": "Classify the given comments as either toxic or not toxic",
    "TweetSentimentExtractionClassification": "Classify the sentiment of a given tweet as either positive, negative, or neutral",
    "TNews": "Classify the fine-grained category of the given news title",
    "IFlyTek": "Given an App description text, find the appropriate fine-grained category",
    "MultilingualSentiment": "Classify sentiment of the customer review into positive, neutral, or negative",
    "JDReview": "Classify the customer review for iPhone on e-commerce platform into positive or negative",
    "OnlineShopping": "Classify the customer review for online shopping into positive or negative",
    "Waimai": "Classify the customer review from a food takeaway platform into positive or negative",
    # clustering
    "ArxivClusteringP2P": "Identify the main and secondary category of Arxiv papers based on the titles and abstracts",
    "ArxivClusteringS2S": "Identify the main and secondary category of Arxiv papers based on the titles",
    "BiorxivClusteringP2P": "Identify the main category of Biorxiv papers based on the titles and abstracts",
    "BiorxivClusteringS2S": "Identify the main category of Biorxiv papers based on the titles",
    "MedrxivClusteringP2P": "Identify the main category of Medrxiv papers based on the titles and abstracts",
    "MedrxivClusteringS2S": "Identify the main category of Medrxiv papers based on the titles",
    "RedditClustering": "Identify the topic or theme of Reddit posts based on the titles",
    "RedditClusteringP2P": "Identify the topic or theme of Reddit posts based on the titles and posts",
    "StackExchangeClustering": "Identify the topic or theme of StackExchange posts based on the titles",
    "StackExchangeClusteringP2P": "Identify the topic or theme of StackExchange posts based on the given paragraphs",
    "TwentyNewsgroupsClustering": "Identify the topic or theme of the given news articles",
    "CLSClusteringS2S": "Identify the main category of scholar papers based on the titles",
    "CLSClusteringP2P": "Identify the main category of scholar papers based on the titles and abstracts",
    "ThuNewsClusteringS2S": "Identify the topic or theme of the given news articles based on the titles",
    "ThuNewsClusteringP2P": "Identify the topic or theme of the given news articles based on the titles and contents",
    # reranking and pair classification
    "AskUbuntuDupQuestions": "Retrieve duplicate questions from AskUbuntu forum",
    "MindSmallReranking": "Retrieve relevant news articles based on user browsing history",
    "SciDocsRR": "Given a title of a scientific paper, retrieve the titles of other relevant papers",
    "StackOverflowDupQuestions": "Retrieve duplicate questions from StackOverflow forum",
    "SprintDuplicateQuestions": "Retrieve duplicate questions from Sprint forum",
    "TwitterSemEval2015": _SIMILAR_TWEETS,
    "TwitterURLCorpus": _SIMILAR_TWEETS,
    "T2Reranking": _CHINESE_WEB,
    "MMarcoReranking": _CHINESE_WEB,
    "CMedQAv1": _CHINESE_MEDICAL,
    "CMedQAv2": _CHINESE_MEDICAL,
    "Ocnli": _STS,
    "Cmnli": _STS,
    # retrieval
    "ArguAna": "Given a claim, find documents that refute the claim",
    "ClimateFEVER": "Given a claim about climate change, retrieve documents that support or refute the claim",
    "CQADupstack": "Given a question, retrieve detailed question descriptions from Stackexchange that are duplicates to the "
    "given question",
    "DBPedia": "Given a query, retrieve relevant entity descriptions from DBPedia",
    "FEVER": "Given a claim, retrieve documents that support or refute the claim",
    "FiQA2018": "Given a financial question, retrieve user replies that best answer the question",
    "HotpotQA": "Given a multi-hop question, retrieve documents that can help answer the question",
    "MSMARCO": "Given a web search query, retrieve relevant passages that answer the query",
    "NFCorpus": "Given a question, retrieve relevant documents that best answer the question",
    "NQ": _WIKIPEDIA,
    "QuoraRetrieval": "Given a question, retrieve questions that are semantically equivalent to the given question",
    "SCIDOCS": "Given a scientific paper title, retrieve paper abstracts that are cited by the given paper",
    "SciFact": "Given a scientific claim, retrieve documents that support or refute the claim",
    "Touche2020": "Given a question, retrieve detailed and persuasive arguments that answer the question",
    "TRECCOVID": "Given a query on COVID-19, retrieve documents that answer the query",
    "T2Retrieval": _CHINESE_WEB,
    "MMarcoRetrieval": "Given a web search query, retrieve relevant passages that answer the query",
    "DuRetrieval": _CHINESE_WEB,
    "CovidRetrieval": "Given a question on COVID-19, retrieve news articles that answer the question",
    "CmedqaRetrieval": _CHINESE_MEDICAL,
    "EcomRetrieval": "Given a user query from an e-commerce website, retrieve description sentences of relevant products",
    "MedicalRetrieval": "Given a medical question, retrieve user replies that best answer the question",
    "VideoRetrieval": "Given a video search query, retrieve the titles of relevant videos",
    "MIRACL": _WIKIPEDIA,
    # semantic textual similarity: one text for all
    **dict.fromkeys(["STS12", "STS13", "STS14", "STS15", "STS16", "STS17", "STS22", "STSBenchmark"], _STS),
    **dict.fromkeys(["BIOSSES", "SICK-R"], _STS),
}

TRAINING: dict[str, str] = {
    "ELI5": "Provided a user question, retrieve the highest voted answers on Reddit ELI5 forum",
    "HotpotQA": EVALUATION["HotpotQA"],
    "FEVER": EVALUATION["FEVER"],
    **dict.fromkeys(["MIRACL", "MrTyDi", "NQ", "SQuAD", "TriviaQA"], _WIKIPEDIA),
    "NLI": _ENTAILED,
    "MS-MARCO": EVALUATION["MSMARCO"],
    "Quora Duplicates": EVALUATION["QuoraRetrieval"],
    **dict.fromkeys(["DuReader", "T2Ranking"], _CHINESE_WEB),
}

_OTHER_NAMES = {
    "NaturalQuestions": "NQ",
    "FiQA": "FiQA2018",
    "Quora": "QuoraRetrieval",
    "DBPedia-entity": "DBPedia",
    "Webis-Touche2020": "Touche2020",
    "STSb": "STSBenchmark",
    "AllNLI": "NLI",
    "SNLI": "NLI",
    "MNLI": "NLI",
    "MultiNLI": "NLI",
}


def _key(name: str) -> str:
    """The form in which two names are the same: no owner, case, hyphens, underscores or spaces."""
    return "".join(letter for letter in name.rsplit("/", 1)[-1].casefold() if letter not in "-_ ")


def _by_key() -> dict[str, str]:
    texts = {_key(name): text for name, text in (EVALUATION | TRAINING).items()}
    texts |= {_key(name): texts[_key(public)] for name, public in _OTHER_NAMES.items()}
    # "Banking77" for "Banking77Classification"; clusterings keep their full name, since "StackExchange" is also a retrieval set
    return texts | {key.removesuffix("classification"): text for key, text in texts.items()}


_BY_KEY = _by_key()


def instruction_for(name: str) -> str | None:
    """The public instruction of a data set, None where there is none.

    Args:
        name: the name that the field uses, in any case, with or without hyphens, underscores, spaces and owner.

    >>> instruction_for("mteb/sci-fact")
    'Given a scientific claim, retrieve documents that support or refute the claim'
    >>> instruction_for("PAQ") is None
    True
    """
    key = _key(name)
    return _BY_KEY["cqadupstack"] if key.startswith("cqadupstack") else _BY_KEY.get(key)
