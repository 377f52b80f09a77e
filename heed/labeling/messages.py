"""Every JSON message between the labeling page and its server. Those of the owner's pages: `overview.py`.

Pages are shells of HTML; what they show comes as JSON. Every `POST` carries the header `X-Form-Token` (from
`Session.form_token`, which also stands in `<meta name="form-token">`) and a body of the named message.

| method | path | who | body → answer |
|---|---|---|---|
| GET  | `/` | labelers | the shell of the labeling page; which one, says the mode (`Session.mode`) |
| GET  | `/enter?token=…` | anybody | the owner's one-time link → cookie, redirect to `/` |
| GET  | `/invite?token=…` | anybody | `invite.html`: a form with the button that accepts the invitation |
| POST | `/invite` | anybody | the form's `token` and `form_token` → cookie, redirect to `/` |
| GET  | `/quality`, `/models`, `/people` | owner | shells `quality.html`, `models.html`, `people.html` |
| GET  | `/chat` | labelers | shell `chat.html` |
| GET  | `/static/…` | anybody | scripts, styles |
| GET  | `/api/session` | labelers | → `Session` |
| GET  | `/api/progress` | labelers | → `Progress` |
| POST | `/api/next` | labelers | `{}` → `Turnout`: the task in hand again after a reload, else a new one |
| POST | `/api/draft` | labelers | `Draft` → `Kept` |
| POST | `/api/heartbeat` | labelers | `TaskName` → `Lease` (every `Lease.heartbeat_seconds` while a task is open) |
| POST | `/api/rank` | labelers | `Submission` → `Receipt`, in the modes rank, pairwise and likert |
| POST | `/api/write` | labelers | `Written` → `Receipt`, in the mode write |
| POST | `/api/skip` | labelers | `Skip` → `Receipt` |
| POST | `/api/undo` | labelers | `{}` → `Turnout`: the last answer is withdrawn, its task is in hand again, filled in |
| GET  | `/api/quality` | owner | → `QualityPage` |
| GET  | `/api/models?split=…` | owner | → `ModelsPage`; split is all, train or held_out |
| GET  | `/api/people` | owner | → `PeoplePage` |
| POST | `/api/people` | owner | `NewInvitation` → `Invitation` |
| GET  | `/api/export?format=…` | owner | a file to download; formats: rankings, pairs, demonstrations, argilla, csv |
| POST | `/api/chat` | labelers | `ChatPrompt` → `ChatAnswers` |
| POST | `/api/vote` | labelers | `Vote` → `VoteReceipt` |

A refused request answers with `Problem` and its status: 400 what makes no sense, 401 not signed in, 403 foreign origin
or form token, 404, 409 the task is not in hand (`/api/next` gives one), 413 too large, 422 a field, 429 too fast (wait
`Retry-After` seconds). Repeating a submission whose answer was lost on the way is safe: it answers as the first time.

The shells are templates, filled by `routes.py`: `label.html`, `quality.html`, `models.html` and `chat.html` with mode,
labeler, owner and form_token; `invite.html` with token and form_token; `problem.html`, for refusals, with words and
status.

A response is known to the page by its slot: 0 for card A, 1 for card B, … Lists over slots have K entries. Which model
wrote what is told in `Receipt.models`, after the submission.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from heed.labeling.questions import FLAG_KEYS, FLAGS, SKIP_REASONS

Mode = Literal["rank", "pairwise", "likert", "write"]
LETTERS = "ABCDEFGHI"
MOST = len(LETTERS)  # responses of a task (the paper: 4 to 9)
LONGEST_TEXT = 100_000  # characters of a text that a labeler writes
LONGEST_NOTE = 2_000  # characters of a note or a reason


class Message(BaseModel):
    """A frozen message; an unknown field is an error, and so is a number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# ── what the server says ─────────────────────────────────────────────────────────────────────────────────────────────


class Piece(Message):
    """A stretch of text. Where `mark` is not empty it stands for characters that cannot be seen, and names them.

    `Piece(text="U+202E", mark="RIGHT-TO-LEFT OVERRIDE")`. Show `text` as text, never as HTML; show a mark as a small
    label with `mark` as its title. The pieces joined without marks are what a person reads.
    """

    text: str
    mark: str = ""


class ShownTurn(Message):
    """One turn of the prompt's dialogue."""

    role: Literal["system", "user", "assistant"]
    pieces: list[Piece]


class Card(Message):
    """One response: its letter, its text, and whether it ended itself (a cut one shows that it was cut)."""

    letter: str
    pieces: list[Piece]
    text: str = Field(description="the text as it is, to begin an edit from")
    characters: int
    words: int
    finished: bool


class Lease(Message):
    """The task is held for this labeler until `seconds_left` have passed without a heartbeat."""

    task: int
    seconds_left: float
    heartbeat_seconds: float


class Judged(Message):
    """What is said about each response, by slot. A draft may leave `None` and holes anywhere."""

    ranks: list[int | None] | None = Field(None, description="1 is the best, equal ranks are ties; null = not placed")
    likert: list[Annotated[int, Field(ge=1, le=7)] | None] | None = Field(None, description="overall quality, 1 to 7")
    flags: list[list[str]] | None = Field(None, description="names from FLAGS of each response")
    none_acceptable: bool = Field(False, description="no response would do; ranks may be left out then")
    note: str = Field("", max_length=LONGEST_NOTE)

    @model_validator(mode="after")
    def _check(self) -> Judged:
        lists = [part for part in (self.ranks, self.likert, self.flags) if part is not None]
        if len({len(part) for part in lists}) > 1 or any(len(part) > MOST for part in lists):
            raise ValueError("ranks, likert and flags must each have an entry for every response")
        if any(name not in FLAGS for names in self.flags or [] for name in names):
            raise ValueError(f"a flag is one of {', '.join(FLAGS)}")
        if any(rank is not None and not 1 <= rank <= MOST for rank in self.ranks or []):
            raise ValueError(f"a rank is from 1 to {MOST}")
        return self


class DraftText(Message):
    """What was written so far in the mode write."""

    text: str = Field("", max_length=LONGEST_TEXT)
    edited_slot: int | None = Field(None, ge=0, lt=MOST, description="the response that the text was made from")


class Task(Message):
    """A task in hand: what is shown, and the draft of an earlier visit if there is one."""

    task: int
    mode: Mode
    prompt: list[ShownTurn]
    cards: list[Card] = Field(description="in this labeler's order; none or some in the mode write")
    lease: Lease
    draft: Judged | None = None
    written: DraftText | None = None
    seconds: float = Field(0, description="spent on the task already, before a reload")


class Progress(Message):
    """This labeler's share and everybody's, in tasks of the page's mode."""

    done_by_me: int
    skipped_by_me: int
    done: int = Field(description="answers of everybody in this labeler's group")
    wanted: int = Field(description="answers that will have been asked for when all is done")
    can_undo: bool
    minutes_today: float = Field(description="this labeler's time on answers of the last 24 hours")


class Turnout(Message):
    """A task, or why there is none: all is done, the rest is in others' hands, or the screening was not passed."""

    task: Task | None
    reason: Literal["", "all_done", "in_others_hands", "not_admitted"] = ""
    progress: Progress


class Receipt(Message):
    """The answer is saved, on the disk. `models` by slot are told only now."""

    task: int
    models: list[str] = []
    next: Turnout


class Kept(Message):
    """The draft is saved."""

    task: int


class Session(Message):
    """Who is here and how the page behaves."""

    labeler: str
    owner: bool
    mode: Mode
    form_token: str
    guidelines: str = Field(description="plain text; shown as it is")
    flags: dict[str, str] = FLAGS
    flag_keys: dict[str, str] = FLAG_KEYS
    skip_reasons: dict[str, str] = SKIP_REASONS
    likert: bool = Field(description="rank mode also asks for 1 to 7 and flags")
    chat: bool = Field(description="chat and rate is to be had")


class Problem(Message):
    """Why a request was refused, in words for a person."""

    problem: str


# ── what the page says ───────────────────────────────────────────────────────────────────────────────────────────────


class Nothing(Message):
    """`{}`."""


class TaskName(Message):
    """The task that is in hand."""

    task: int


class Timed(TaskName):
    """`seconds`: time that the task was in view, that of earlier visits included."""

    seconds: float = Field(0, ge=0, le=86_400)


class Draft(Timed):
    """What is there so far. Sent a moment after the last change and when the page is left."""

    judged: Judged | None = None
    written: DraftText | None = None


class Submission(Timed):
    """A judgement. rank: ranks. pairwise: ranks [1, 2], [2, 1], [1, 1] for a tie, "both bad" is none_acceptable.

    likert: likert of every response, without ranks.
    """

    judged: Judged


class Written(Timed):
    """A demonstration: the answer that the labeler would have liked to read."""

    text: str = Field(min_length=1, max_length=LONGEST_TEXT)
    edited_slot: int | None = Field(None, ge=0, lt=MOST, description="the response that the text was made from")


class Skip(Timed):
    """The labeler will not see this task again; somebody else will."""

    reason: str = Field(description="a name from SKIP_REASONS")
    note: str = Field("", max_length=LONGEST_NOTE)

    @model_validator(mode="after")
    def _check(self) -> Skip:
        if self.reason not in SKIP_REASONS:
            raise ValueError(f"a reason is one of {', '.join(SKIP_REASONS)}")
        return self


class ChatTurn(Message):
    """A turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str = Field(max_length=LONGEST_TEXT)


class ChatPrompt(Message):
    """A conversation that ends with the user's turn; both models answer it."""

    turns: list[ChatTurn] = Field(min_length=1, max_length=100)


class ChatAnswers(Message):
    """Two answers in blind order, and the name under which they are voted on."""

    exchange: int
    cards: list[Card]


class Vote(Message):
    """A comparison of two answers of `/api/chat`."""

    exchange: int
    preferred: Literal["first", "second", "tie", "both_bad"]
    seconds: float = Field(0, ge=0, le=86_400)


class VoteReceipt(Message):
    """The vote is saved; only now it is told who wrote which."""

    exchange: int
    models: list[str]
