"""Chat models: an OpenAI-compatible server, local or remote, or a model of the Hub through ``InferenceClient``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hf_posmine.core.check import is_whole
from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.judge.question import COMPARE
from hf_posmine.utils.http import Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.evaluation.judge.forms import Form

MAX_TOKENS = 1024


@dataclass(frozen=True)
class ChatAnswer:
    """An answer and its size.

    Attributes:
        text: of the answer; empty for a refusal.
        tokens_read: of the question, as the service counts them; 0 where it does not.
        tokens_written: of the answer.
    """

    text: str
    tokens_read: int = 0
    tokens_written: int = 0


class Chat(Protocol):
    """Answers one chat."""

    @property
    def name(self) -> str:
        """Identity of the model; cached answers are keyed by it."""

    @property
    def model(self) -> str:
        """The model alone, without its place."""

    def ask(self, messages: list[dict[str, str]], form: Form = COMPARE) -> ChatAnswer:
        """The answer, of that form; an error of :mod:`hf_posmine.core.errors` if there is none."""


@dataclass(frozen=True)
class ChatServer:
    """An OpenAI-compatible server: vLLM, llama.cpp, text-generation-inference, ollama, a commercial one.

    ``InferenceClient`` would send the user's Hub token to whatever server it is given, obey ``HF_HUB_OFFLINE`` on the local
    one, and send the JSON schema in a form that only text-generation-inference reads; so addresses are called directly.

    Attributes:
        url: ends in ``/v1``; ``/chat/completions`` is added.
        model: its name there.
        api_key_env: environment variable that holds the key; the key itself is never stored.
        retries: further attempts after a timeout, a refused connection, or a 429 or 5xx status.
        timeout: seconds per request.
    """

    url: str
    model: str
    api_key_env: str | None = None
    retries: int = 5
    timeout: float = 120.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or not self.url.rstrip("/").endswith("/v1"):
            raise InputError(f"url={self.url!r}; give the base address of the server, such as http://localhost:8000/v1")
        if self.retries < 0:
            raise InputError(f"retries={self.retries}; expected at least 0")

    @property
    def name(self) -> str:
        """Address and model."""
        return f"{self.url.rstrip('/')} {self.model}"

    def ask(self, messages: list[dict[str, str]], form: Form = COMPARE) -> ChatAnswer:
        """The first choice, at temperature 0."""
        body = {
            "model": self.model, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS,
            "response_format": response_format(form),
        }  # fmt: skip
        url = f"{self.url.rstrip('/')}/chat/completions"
        service = Service(url, self.api_key_env, self.retries, self.timeout, self.name)
        return service.ask(body, self._read, "the question")

    def _read(self, answer: Mapping[str, Any]) -> ChatAnswer:
        content = answer["choices"][0]["message"]["content"]
        if content is None:  # a refusal, or a limit reached while reasoning: an answer, but not one that can be read
            content = ""
        if not isinstance(content, str):
            raise TypeError(f"content of type {type(content).__name__}")
        usage = answer.get("usage") or {}
        counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        return ChatAnswer(content, *(count if is_whole(count, 0, 2**40) else 0 for count in counts))


@dataclass(frozen=True)
class HubChat:
    """A model of the Hub, through its inference providers; needs a login.

    Attributes:
        model: Hub id.
        provider: as ``InferenceClient`` takes it; by default the user's order of preference.
        timeout: seconds per request.
    """

    model: str
    provider: str = "auto"
    timeout: float = 120.0

    @property
    def name(self) -> str:
        """Provider and model."""
        return f"hub {self.provider} {self.model}"

    def ask(self, messages: list[dict[str, str]], form: Form = COMPARE) -> ChatAnswer:
        """The first choice, at temperature 0."""
        from huggingface_hub import InferenceClient

        from hf_posmine.hub.retry import with_retry

        client: Any = InferenceClient(model=self.model, provider=self.provider, timeout=self.timeout)  # type: ignore[arg-type]
        answer = with_retry(
            lambda: client.chat_completion(
                messages, temperature=0, max_tokens=MAX_TOKENS, response_format=response_format(form)
            ),
            f"asking {self.model}",
        )
        text, usage = str(answer.choices[0].message.content or ""), answer.usage
        return ChatAnswer(text) if usage is None else ChatAnswer(text, usage.prompt_tokens, usage.completion_tokens)


def response_format(form: Form = COMPARE) -> dict[str, Any]:
    """The schema of an answer, as OpenAI has it."""
    return {"type": "json_schema", "json_schema": {"name": form.name, "strict": True, "schema": form.schema}}
