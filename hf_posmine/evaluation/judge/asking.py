"""Asking a chat model many questions: each once, side by side, and never twice across runs."""

from __future__ import annotations

import hashlib
import json
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hf_posmine.core.errors import InputError, RefusedError
from hf_posmine.evaluation.judge.candidates import Cost
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import answers_folder, cache_root
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hf_posmine.evaluation.judge.chat import Chat
    from hf_posmine.evaluation.judge.forms import Form


class ChatQuestion(Protocol):
    """A question to a chat model."""

    @property
    def form(self) -> Form:
        """What kind of answer is wanted."""

    def messages(self) -> list[dict[str, str]]:
        """The chat messages."""

    def readable(self, answer: str) -> bool:
        """Whether the answer can be used."""


class Asker:
    """Answers of a chat model, kept on disk as they arrive.

    An answer that cannot be parsed is requested again ``tries - 1`` times, and then kept: it was paid for, and would come
    again. Delete the file :meth:`file` to ask anew.

    Args:
        chat: who answers.
        cache_dir: where answers are kept, by default below :func:`~hf_posmine.utils.files.cache_root`.
        concurrency: questions at a time.
        tries: questions for one readable answer.

    Attributes:
        asked: questions sent in this process.
        characters: of these questions and their answers.
        tokens_read: of the questions, where the service counts them.
        tokens_written: of the answers.
    """

    def __init__(
        self, chat: Chat, *, cache_dir: str | Path | None = None, concurrency: int = 8, tries: int = 2
    ) -> None:
        if concurrency < 1 or tries < 1:
            raise InputError(f"concurrency={concurrency}, tries={tries}; both must be at least 1")
        self.chat, self.concurrency, self.tries = chat, concurrency, tries
        self.asked = self.characters = self.tokens_read = self.tokens_written = 0
        self.folder = (Path(cache_dir) if cache_dir else cache_root()) / "judge"
        self._lock = threading.Lock()

    def costs(self) -> list[Cost]:
        """What was spent in this process."""
        return [Cost(self.chat.name, self.asked, self.characters, self.tokens_read, self.tokens_written)]

    def file(self, form: Form) -> Path:
        """Where the answers of a form are kept."""
        return self.folder / f"{json_digest([form.name, form.schema, self.chat.name])[:32]}.jsonl"

    def unanswered(self, form: Form, questions: Iterable[ChatQuestion]) -> list[ChatQuestion]:
        """Those of the questions, all of one form, that :meth:`answers_to` would send; each once."""
        keyed = {_key(question): question for question in questions}
        known = self._stored(form, set(keyed))
        return [question for key, question in keyed.items() if key not in known]

    def answers_to(self, form: Form, questions: Sequence[ChatQuestion]) -> list[str]:
        """The answer to each question, all of one form; empty, with a warning, where the service refuses the question itself.

        Raises:
            StoreError: the chat gave no answer, or refused most questions; what it answered before is kept.
        """
        keys = [_key(question) for question in questions]
        known = self._stored(form, set(keys))
        open_ = {key: question for key, question in zip(keys, questions, strict=True) if key not in known}
        with (
            progress_bar(len(open_), f"Asking {self.chat.name}", "question") as bar,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            futures = {pool.submit(self._ask, question): key for key, question in open_.items()}
            refused: list[RefusedError] = []
            try:
                for future in as_completed(futures):
                    try:
                        known[futures[future]] = self._store(form, futures[future], future.result())
                    except RefusedError as error:
                        refused.append(error)
                        if len(refused) > max(len(known), self.concurrency) or len(refused) == len(keys):
                            raise
                    bar.update()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)  # requests that were not sent cost nothing
                for future, key in futures.items():
                    if key not in known and future.done() and not future.cancelled() and future.exception() is None:
                        self._store(form, key, future.result())
                raise
        if refused:
            count = f"{len(refused):,} question{'s' * (len(refused) > 1)}"
            warnings.warn(
                f"{count} without an answer; they are asked again in the next run ({refused[0]})", stacklevel=2
            )
        return [known.get(key, "") for key in keys]

    def _ask(self, question: ChatQuestion) -> str:
        text, messages = "", question.messages()
        for _ in range(self.tries):
            answer = self.chat.ask(messages, question.form)
            text = answer.text
            with self._lock:
                self.asked += 1
                self.characters += len(text) + sum(len(message["content"]) for message in messages)
                self.tokens_read += answer.tokens_read
                self.tokens_written += answer.tokens_written
            if question.readable(text):
                break
        return text

    def _store(self, form: Form, key: str, answer: str) -> str:
        answers_folder(self.folder)
        with self.file(form).open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"key": key, "answer": answer}))
        return answer

    def _stored(self, form: Form, wanted: set[str]) -> dict[str, str]:
        """Answers by key; a line that a killed process left incomplete is ignored."""
        found: dict[str, str] = {}
        if self.file(form).is_file():
            for line in self.file(form).read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    key, answer = entry["key"], entry["answer"]
                except (ValueError, KeyError, TypeError):
                    continue
                if key in wanted and isinstance(answer, str):
                    found[key] = answer
        return found


def _key(question: ChatQuestion) -> str:
    return hashlib.sha256(json.dumps(question.messages()).encode()).hexdigest()
