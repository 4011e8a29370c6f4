"""The public instructions: which sets of the paper have one, and under which names they are found."""

from __future__ import annotations

import itertools

import pytest

from hf_posmine.training.instructions import EVALUATION, TRAINING, instruction_for

WITH_TEXT = (
    "ArguAna FEVER FiQA2018 HotpotQA MS-MARCO NFCorpus NLI SciFact SQuAD TriviaQA Banking77 AmazonCounterfactual AmazonReviews "
    "Emotion Imdb MTOPIntent ToxicConversations TweetSentimentExtraction STS12 STS22 STSBenchmark ArxivClusteringP2P "
    "ArxivClusteringS2S BiorxivClusteringP2P BiorxivClusteringS2S MedrxivClusteringP2P MedrxivClusteringS2S"
).split()
WITHOUT_TEXT = ["BioASQ", "GOOAQ", "PAQ", "StackExchange"]


@pytest.mark.parametrize("name", [*WITH_TEXT, "Natural Questions"])
def test_a_training_set_of_the_paper_has_its_public_text(name):
    assert len(instruction_for(name)) > 20


@pytest.mark.parametrize("name", [*WITHOUT_TEXT, "", "my_documents"])
def test_no_text_is_invented(name):
    assert instruction_for(name) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mteb/banking77", "Given a online banking query, find the corresponding intents"),  # "a online": as published
        ("natural_questions", "Given a question, retrieve Wikipedia passages that answer the question"),
        ("ms_marco", "Given a web search query, retrieve relevant passages that answer the query"),
        ("all-nli", "Given a premise, retrieve a hypothesis that is entailed by the premise"),
        ("trec-covid", "Given a query on COVID-19, retrieve documents that answer the query"),
        ("webis-touche2020", "Given a question, retrieve detailed and persuasive arguments that answer the question"),
        ("sick-r", "Retrieve semantically similar text."),
        ("Imdb", "Classify the sentiment expressed in the given movie review text from the IMDB dataset"),
        ("quora", "Given a question, retrieve questions that are semantically equivalent to the given question"),
        (
            "CQADupstackEnglishRetrieval",
            "Given a question, retrieve detailed question descriptions from Stackexchange that are duplicates to the given "
            "question",
        ),
    ],
)  # fmt: skip
def test_a_text_is_found_by_any_spelling_of_its_name(name, text):
    assert instruction_for(name) == text


def test_every_listed_name_finds_its_own_text():
    """So no two names collapse into one with different texts."""
    for name, text in itertools.chain(EVALUATION.items(), TRAINING.items()):
        assert instruction_for(name) == instruction_for(name.upper()) == text, name


def test_texts_are_clean():
    for text in (EVALUATION | TRAINING).values():
        assert text == text.strip() and "  " not in text and ":" not in text.replace("six emotions:", "")
