"""The chat models of a command: their options, the models themselves, and their costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from hf_posmine.evaluation.judge.candidates import Cost
    from hf_posmine.evaluation.judge.chat import Chat


def add_chat_arguments(group: argparse._ArgumentGroup) -> None:
    """The model, where it is, and how it is asked."""
    group.add_argument("--model", required=True, help="name of the model at --url, or on the Hub")
    group.add_argument("--url", help="OpenAI-compatible server, such as http://localhost:8000/v1 (default: the Hub's)")
    group.add_argument("--api-key-env", help="environment variable with the key of --url")
    group.add_argument("--concurrency", type=int, default=8, help="requests at a time (default: %(default)s)")


def chat_of(args: argparse.Namespace, role: str = "") -> Chat:
    """The model of ``--model``, ``--url`` and ``--api-key-env``, or of these with a role before them; of the Hub without a URL.

    Raises:
        InputError: a key without an address.
    """
    model, url, key = _options(args, role)
    if url is None and key is not None:
        before = f"{role}-" if role else ""
        raise InputError(
            f"--{before}api-key-env belongs to --{before}url; the Hub's models use the login of hf auth login"
        )
    return make_chat(model, url, key)


def other_chat(args: argparse.Namespace, role: str) -> Chat | None:
    """A further model, such as that of ``--judge-model``, by default at ``--url``; None where none is named.

    The key of ``--url`` goes to ``--url`` only.

    Raises:
        InputError: an address without a model, or a key without an address of its own.
    """
    model, url, key = _options(args, role)
    if model is None:
        if url is not None or key is not None:
            raise InputError(f"--{role}-{'api-key-env' if url is None else 'url'} needs --{role}-model")
        return None
    if url not in (None, args.url):
        return make_chat(model, url, key)
    if key is not None:
        raise InputError(f"--{role}-api-key-env belongs to --{role}-url; without it the key of --url is used")
    return make_chat(model, args.url, args.api_key_env)


def _options(args: argparse.Namespace, role: str) -> tuple[Any, Any, Any]:
    before, given = f"{role}_" if role else "", vars(args)
    return given[f"{before}model"], given[f"{before}url"], given[f"{before}api_key_env"]


def make_chat(model: str, url: str | None, key: str | None) -> Chat:
    """A model at an address, with the environment variable of its key, or of the Hub."""
    from hf_posmine.evaluation.judge.chat import ChatServer, HubChat

    return HubChat(model) if url is None else ChatServer(url, model, key)


def show_costs(costs: Sequence[Cost], prices: tuple[float, float] | None = None) -> None:
    """A line for each model: what was asked in this run, and its price.

    Args:
        costs: what was asked.
        prices: of a million tokens read, and written.
    """
    for cost in costs:
        counted = cost.tokens_read + cost.tokens_written
        tokens = f", {cost.tokens_read:,} tokens read and {cost.tokens_written:,} written" if counted else ""
        money = (
            f", which cost {price_of(cost.tokens_read, cost.tokens_written, prices):.4f}" if prices and counted else ""
        )
        show(f"{cost.name}: {cost.questions:,} questions asked now, {cost.characters:,} characters{tokens}{money}")


def price_of(read: int, written: int, prices: tuple[float, float]) -> float:
    """Tokens at the price of a million."""
    return (read * prices[0] + written * prices[1]) / 1e6
