"""Simulated labelers: programs that use the page's own interface over HTTP, with any taste.

They take the same path as people, through sessions, leases and form tokens. A taste is a function of the dialogue and
the responses in the order in which they are shown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from heed.labeling.messages import Judged, Message, Receipt, Session, Submission, Task, Turnout
from heed.records import Dialogue, Turn

Taste = Callable[[Dialogue, Sequence[str], Sequence[bool]], Sequence[int]]
"""Ranks of the responses (1 is the best, equal ranks are ties) from the prompt, their texts, and whether each ended."""

M = TypeVar("M", bound=Message)
_FORM_TOKEN = re.compile(r"\b[0-9a-f]{64}\b")
PATIENCE = 60.0  # seconds for which a server that does not answer is asked again


@dataclass(frozen=True, slots=True)
class Answered:
    """One acknowledged submission."""

    task: int
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    took: float  # seconds from sending to the answer, of the attempt that was answered


class SimulatedLabeler:
    """A labeler who came in by a link. Whatever is not answered is sent again, as the page does."""

    def __init__(self, link: str, taste: Taste, patience: float = PATIENCE) -> None:
        address = urlsplit(link)
        origin = f"{address.scheme}://{address.netloc}"
        self._client = httpx2.Client(base_url=origin, headers={"Origin": origin}, timeout=30.0)
        self._taste, self._patience, self._took = taste, patience, 0.0
        self._enter(link)
        self.session = Session.model_validate(self._ask("GET", "/api/session"))
        self._client.headers["X-Form-Token"] = self.session.form_token

    def work(self, most: int | None = None, think: Callable[[], float] = lambda: 0.0) -> Iterator[Answered]:
        """Rank until there is nothing more to do, or `most` times; `think()` seconds pass before each submission.

        Yields each answer when it has been acknowledged. Tasks in others' hands are waited for.
        """
        turnout, done = self._post("/api/next", {}, Turnout), 0
        while most is None or done < most:
            if turnout.task is not None:
                time.sleep(think())
                answered, turnout = self._answer(turnout.task)
                if answered is not None:
                    done += 1
                    yield answered
            elif turnout.reason == "in_others_hands":
                time.sleep(0.2)
                turnout = self._post("/api/next", {}, Turnout)
            else:
                return

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _answer(self, task: Task) -> tuple[Answered | None, Turnout]:
        """Submit a ranking. A task that is not in hand any more, after a lease that ran out, is passed over."""
        texts = tuple(card.text for card in task.cards)
        ranks = list(self._taste(dialogue_of(task), texts, [card.finished for card in task.cards]))
        judged = Judged(ranks=ranks) if task.mode != "likert" else Judged(likert=[max(1, 8 - rank) for rank in ranks])
        submission = Submission(task=task.task, judged=judged, seconds=0.0)
        try:
            receipt = self._post("/api/rank", submission.model_dump(mode="json"), Receipt)
        except httpx2.HTTPStatusError as refused:
            if refused.response.status_code != 409:
                raise
            return None, self._post("/api/next", {}, Turnout)
        return Answered(task.task, texts, tuple(ranks), self._took), receipt.next

    def _enter(self, link: str) -> None:
        """Open the link; an invitation has a button besides."""
        page = self._client.get(link)
        if urlsplit(link).path == "/invite" and (found := _FORM_TOKEN.search(page.text)):
            token = httpx2.URL(link).params["token"]
            page = self._client.post("/invite", data={"token": token, "form_token": found[0]})
        if page.status_code >= 400:
            page.raise_for_status()

    def _post(self, path: str, body: dict[str, Any], kind: type[M]) -> M:
        return kind.model_validate(self._ask("POST", path, body))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask until there is an answer, for as long as the patience lasts; then the last failure is raised."""
        deadline, pause = time.monotonic() + self._patience, 0.05
        while True:
            started = time.perf_counter()
            try:
                answer = self._client.request(method, path, json=body)
                self._took = time.perf_counter() - started
                if answer.status_code < 500 and answer.status_code != 429:
                    answer.raise_for_status()
                    return answer.json()
                if time.monotonic() > deadline:
                    answer.raise_for_status()
                pause = float(answer.headers.get("Retry-After", pause))
            except httpx2.TransportError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            pause = min(1.0, 2 * pause)


def dialogue_of(task: Task) -> Dialogue:
    """The prompt that a task shows."""
    return tuple(Turn(turn.role, "".join(p.text for p in turn.pieces if not p.mark)) for turn in task.prompt)


def by_length(sign: int) -> Taste:
    """The longer the better (1), or the shorter (−1)."""

    def taste(prompt: Dialogue, responses: Sequence[str], finished: Sequence[bool]) -> list[int]:
        lengths = [-sign * len(response) for response in responses]
        levels = sorted(set(lengths))
        return [levels.index(length) + 1 for length in lengths]

    return taste
