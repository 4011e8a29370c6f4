"""Judging many candidates: each question once, side by side, and never twice across runs."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.judge.question import VERSION, Question, Verdict, read_answer
from hf_posmine.utils.files import answers_folder, cache_root
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.evaluation.judge.chat import Chat


class Judge:
    """Verdicts of a chat model on candidates; answers are cached on disk as they arrive.

    An answer that cannot be parsed is requested again ``tries - 1`` times, and then kept as ``unreadable``: it was paid for,
    and would come again. Delete the file ``answers`` to ask anew.

    Args:
        chat: who answers.
        cache_dir: where answers are kept, by default below :func:`~hf_posmine.utils.files.cache_root`.
        concurrency: questions at a time.
        tries: questions for one readable answer.

    Attributes:
        asked: questions sent in this process.
    """

    def __init__(
        self, chat: Chat, *, cache_dir: str | Path | None = None, concurrency: int = 8, tries: int = 2
    ) -> None:
        if concurrency < 1 or tries < 1:
            raise InputError(f"concurrency={concurrency}, tries={tries}; both must be at least 1")
        self.chat, self.concurrency, self.tries, self.asked = chat, concurrency, tries, 0
        digest = hashlib.sha256(f"{VERSION} {chat.name}".encode()).hexdigest()[:32]
        self.answers = (Path(cache_dir) if cache_dir else cache_root()) / "judge" / f"{digest}.jsonl"
        self._lock = threading.Lock()

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """The verdict on each question.

        Raises:
            StoreError: the chat gave no answer; what it answered before is kept.
        """
        keys = [_key(question) for question in questions]
        known = self._stored()
        open_ = {key: question for key, question in zip(keys, questions, strict=True) if key not in known}
        with (
            progress_bar(len(open_), f"Asking {self.chat.name}", "question") as bar,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            futures = {pool.submit(self._ask, question): key for key, question in open_.items()}
            try:
                for future in as_completed(futures):
                    known[futures[future]] = self._store(futures[future], future.result())
                    bar.update()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)  # requests that were not sent cost nothing
                for future, key in futures.items():
                    if key not in known and future.done() and not future.cancelled() and future.exception() is None:
                        self._store(key, future.result())
                raise
        return [known[key] for key in keys]

    def _ask(self, question: Question) -> str:
        answer = ""
        for _ in range(self.tries):
            with self._lock:
                self.asked += 1
            answer = self.chat.ask(question.messages())
            if read_answer(answer) != "unreadable":
                break
        return answer

    def _store(self, key: str, answer: str) -> Verdict:
        verdict = read_answer(answer)
        answers_folder(self.answers.parent)
        with self.answers.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"key": key, "verdict": verdict, "answer": answer}))
        return verdict

    def _stored(self) -> dict[str, Verdict]:
        """Verdicts by key; a line that a killed process left incomplete is ignored."""
        found: dict[str, Verdict] = {}
        if self.answers.is_file():
            for line in self.answers.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    found[entry["key"]] = read_answer(entry["answer"])
                except (ValueError, KeyError, TypeError):
                    continue
        return found


def _key(question: Question) -> str:
    return hashlib.sha256(json.dumps(astuple(question)).encode()).hexdigest()
