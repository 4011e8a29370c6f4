"""Secrets are found by their form, their place or their value, and texts that only speak of them stay as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.utils.redact import redact, redacted

SECRET = "q7ZkP2mW9xRt4LbN"


@pytest.mark.parametrize(
    "text",
    [
        "hf-posmine mine a --hub-token {} --rows 3",
        "hf-posmine mine a --token={}",
        "x --openai-api-key {}",
        "JUDGE_TOKEN={} hf-posmine judge",
        "MY_SERVICE_KEY={}",
        "https://me:{}@host/v1",
        "https://{}@host/v1",
        "https://me:a@b{}@host/v1",
        "postgres://me:{}@host:5432/db?x=1",
        "GET https://host/v1?api_key={}&n=3",
        "https://host/x?n=1&access_token={}",
        "https://s3/x?X-Amz-Signature={}&X-Amz-Date=1",
        "https://s3/x?X-Amz-Credential={}",
        "https://host/x?sig={}#part",
        "Authorization: Bearer {}",
        "{{'authorization': 'Bearer {}'}}",
        "Proxy-Authorization: Basic {}",
        "refused with 401: invalid bearer {} given",
        '{{"error": "bad", "api_key": "{}"}}',
        "x-api-key: {}",
        "password={}",
        "client_secret: {}",
        "Incorrect API key provided: sk-{}abc.",
        "key sk-proj-{}abcdef",
        "token hf_{}abc",
        "ghp_{}abcdef",
        "github_pat_{}abcdef",
    ],
)
def test_a_secret_is_taken_out_by_its_form_or_place(text):
    clean = redact(text.format(SECRET))
    assert SECRET not in clean and "***" in clean
    assert redact(clean) == clean


def test_a_secret_of_the_environment_is_taken_out_wherever_a_server_repeats_it(monkeypatch):
    for name in ("OPENAI_API_KEY", "JUDGE_KEY", "MY_SECRET", "DB_PASSWORD", "hf_token"):
        monkeypatch.setenv(name, SECRET)
        assert redact(f"the server answered: <{SECRET}> is wrong") == "the server answered: <***> is wrong"
        monkeypatch.delenv(name)
    assert SECRET in redact(f"nobody holds <{SECRET}>")
    monkeypatch.setenv("API_KEY", "short")
    assert redact("a short text") == "a short text"  # no word of a message


@pytest.mark.parametrize(
    "text",
    [
        "load user/hf_dataset_small",
        "pad_token=5, max_tokens: 512, unk_token [UNK]",
        "a token limit of 512 tokens",
        "the token may not do this; use one that may write to this repository",
        "log in with: hf auth login (or set HF_TOKEN)",
        "the environment variable OPENAI_API_KEY holds no key; set it",
        "hub_token has no place in a recipe",
        "MarginPos(0.05) at me/pairs@main, 12:30",
        "mail me@example.org",
        "sk-learn and risk-averse",
        "https://huggingface.co/datasets/me/pairs?library=datasets",
    ],
)
def test_a_text_without_a_secret_stays(text):
    assert redact(text) == text


def test_nested_values_lose_what_their_keys_name():
    value = {"a": [f"--token {SECRET}"], "api_key": SECRET, "hub_token": SECRET, "pad_tokens": 3, "password": SECRET}
    assert redacted(value) == {"a": ["--token ***"], "pad_tokens": 3}


@given(st.text(max_size=60))
def test_redacting_again_changes_nothing(text):
    assert redact(redact(text)) == redact(text)
