"""The chat models of a command: their options, the models themselves, and their costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def make_chat(url: str | None, model: str, api_key_env: str | None) -> Chat:
    """A model at an address, or of the Hub without one.

    Raises:
        InputError: a key without an address.
    """
    from hf_posmine.evaluation.judge.chat import ChatServer, HubChat

    if url is not None:
        return ChatServer(url, model, api_key_env)
    if api_key_env is not None:
        raise InputError("--api-key-env belongs to --url; the Hub's models use the login of hf auth login")
    return HubChat(model)


def other_chat(args: argparse.Namespace, role: str) -> Chat:
    """A further model of a command, by its options ``--<role>-model``, ``-url`` and ``-api-key-env``.

    The key of ``--url`` goes to ``--url`` only.

    Raises:
        InputError: a key without an address of its own.
    """
    model, url, key = (vars(args)[f"{role}_{what}"] for what in ("model", "url", "api_key_env"))
    if url in (None, args.url):
        if key is not None:
            raise InputError(f"--{role}-api-key-env belongs to --{role}-url; without it the key of --url is used")
        return make_chat(args.url, model, args.api_key_env)
    return make_chat(url, model, key)


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
