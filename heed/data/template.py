"""The exact text that a model sees for a prompt. One template object serves SFT, reward model, PPO and evaluation.

The text of a whole example is `render(prompt) + answer_text(response)`, then the tokenizer's end-of-text token.
`chat_template` says the same to stock `tokenizer.apply_chat_template`: same tokens, and the loss mask through
`return_assistant_tokens_mask=True`. A speaker's marker that somebody typed inside a turn is broken up by a space, so
that it never opens one. A checkpoint carries both the template's name and its `hash`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from jinja2 import TemplateError, TemplateSyntaxError

from heed.data.special import broken_up, special_tokens, start_of_text
from heed.data.transcripts import ASSISTANT, HUMAN, parse_dialogue
from heed.errors import ConfigError, DataError
from heed.records import Dialogue, Turn
from heed.words import reason

if TYPE_CHECKING:  # the labeling page reads data without transformers
    from transformers import PreTrainedTokenizerBase

_ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)  # fmt: skip
_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)

# A dialogue that goes through every branch of every template.
_EXAMPLE = (Turn("system", "s "), Turn("user", "one\n\ntwo"), Turn("assistant", "three "), Turn("user", "four"))

# Only the last answer is the one to learn, so only it is in the mask and followed by the end-of-text token.
_ANSWER = (
    "{%- if loop.last -%}{%- generation -%}{{ answer }}{{ eos_token }}{%- endgeneration -%}"
    "{%- else -%}{{ answer }}{%- endif -%}"
)


def _defusing(markers: tuple[str, ...]) -> str:
    """Jinja filters that break up each marker, as `Template.defused` does."""
    quoted = [(marker.replace("\n", "\\n"), _broken(marker).replace("\n", "\\n")) for marker in markers]
    return "".join(f" | replace('{marker}', '{broken}')" for marker, broken in quoted)


def _broken(marker: str) -> str:
    return f"{marker[:-1]} {marker[-1]}"


_DIALOGUE_MARKERS = (HUMAN, ASSISTANT)
_ALPACA_MARKERS = ("### Instruction:", "### Input:", "### Response:")
_DIALOGUE_JINJA = (
    "{%- for message in messages -%}"
    "{%- set content = message['content'] | trim" + _defusing(_DIALOGUE_MARKERS) + " -%}"
    "{%- if message['role'] == 'system' -%}{{ ('\\n\\n' + content)" + _defusing(_DIALOGUE_MARKERS) + " | trim }}"
    "{%- elif message['role'] == 'user' -%}{{ '\\n\\nHuman: ' + content }}"
    "{%- else -%}{{ '\\n\\nAssistant:' }}{%- set answer = ' ' + content if content else '' -%}"
    + _ANSWER
    + "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '\\n\\nAssistant:' }}{%- endif -%}"
)
_ALPACA_JINJA = (
    "{%- set seen = namespace(user=false) -%}"
    "{%- for message in messages -%}"
    "{%- set content = message['content'] | trim" + _defusing(_ALPACA_MARKERS) + " -%}"
    "{%- if message['role'] == 'system' -%}{{ content + '\\n\\n' }}"
    "{%- elif message['role'] == 'user' -%}"
    "{%- set parts = content.split('\\n\\n', 1) -%}"
    "{%- if not seen.user -%}{%- set seen.user = true -%}"
    "{{ '" + _ALPACA_WITH_INPUT + "' if parts | length > 1 else '" + _ALPACA + "' }}{%- endif -%}"
    "{{ '\\n\\n### Instruction:\\n' + parts[0] }}"
    "{%- if parts | length > 1 -%}{{ '\\n\\n### Input:\\n' + parts[1] }}{%- endif -%}"
    "{%- else -%}{{ '\\n\\n### Response:' }}{%- set answer = ' ' + content if content else '' -%}"
    + _ANSWER
    + "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '\\n\\n### Response:' }}{%- endif -%}"
)


class Template(ABC):
    """How a prompt and its response become text."""

    name: ClassVar[str]
    chat_template: str | None = None  # jinja for stock `apply_chat_template`; None where there is no equal one
    special_tokens: bool = False  # the rendered text spells special tokens, and its own start of text
    markers: tuple[str, ...] = ()  # what opens a turn
    lead: str = ""  # the last character before every response, where it is always the same

    @abstractmethod
    def render(self, dialogue: Dialogue) -> str:
        """The text that stands before the response."""

    @abstractmethod
    def response_text(self, response: str) -> str:
        """The text of the response as it follows `render(prompt)`, without the end-of-text token."""

    def answer_text(self, response: str) -> str:
        """`response_text` of an answer to imitate: it speaks for nobody else.

        What a model has sampled is scored as it stands instead, for it will be so in PPO.
        """
        return self.response_text(self.defused(response.strip()) if self.markers else response)

    def defused(self, text: str) -> str:
        """The words of one turn, in which no marker opens another."""
        for marker in self.markers:
            text = text.replace(marker, _broken(marker))
        return text

    @property
    def content(self) -> str:
        """What decides the text, as one string; `hash` is taken of it. Here the text itself, of an example."""
        return self.render(_EXAMPLE) + self.render(_EXAMPLE[-1:]) + self.response_text(" said ")

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change when the text of any prompt can change."""
        return hashlib.sha256(f"{self.name}\n{self.content}".encode()).hexdigest()[:12]

    @staticmethod
    def named(name: str, tokenizer: PreTrainedTokenizerBase | None = None) -> Template:
        """The template of a recipe's `template` setting; `chat` is the tokenizer's own."""
        if name == "chat":
            return ChatTemplate(tokenizer)
        kinds: dict[str, type[DialogueTemplate | AlpacaTemplate | PlainTemplate]] = {
            kind.name: kind for kind in (DialogueTemplate, AlpacaTemplate, PlainTemplate)
        }
        return kinds[name](tokenizer)


class DialogueTemplate(Template):
    r"""`\n\nHuman: …\n\nAssistant:` as in HH and rm-static; a system turn is plain text in front."""

    name = "dialogue"
    markers, lead = _DIALOGUE_MARKERS, ":"

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        self.chat_template = start_of_text(tokenizer, self.render(_EXAMPLE[-1:])) + _DIALOGUE_JINJA

    def render(self, dialogue: Dialogue) -> str:
        return "".join(self._turn(turn) for turn in dialogue) + ASSISTANT

    def response_text(self, response: str) -> str:
        return _after_space(response)

    def parse(self, text: str) -> Dialogue:
        """The dialogue that renders to `text`, provided that no turn contains a speaker's marker."""
        return parse_dialogue(text)

    def _turn(self, turn: Turn) -> str:
        if turn.role == "system":
            return self.defused(f"\n\n{turn.content.strip()}").strip()  # a marker may stand at the text's very start
        words = self.defused(turn.content.strip())
        return f"{HUMAN} {words}" if turn.role == "user" else ASSISTANT + _after_space(words)


class AlpacaTemplate(Template):
    """Stanford Alpaca's two prompts: with `### Input:` where the user's turn has a blank line, without it elsewhere.

    A row's instruction and input are one user turn, `instruction + blank line + input`; the template parts them again
    at the first blank line. An instruction that has a blank line of its own continues under `### Input:`.
    """

    name = "alpaca"
    markers, lead = _ALPACA_MARKERS, ":"

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        self.chat_template = start_of_text(tokenizer, self.render(_EXAMPLE[-1:])) + _ALPACA_JINJA

    def render(self, dialogue: Dialogue) -> str:
        text, first = "", True
        for turn in dialogue:
            content = self.defused(turn.content.strip())
            if turn.role == "system":
                text += content + "\n\n"
            elif turn.role == "assistant":
                text += "\n\n### Response:" + _after_space(content)
            else:
                instruction, blank, given = content.partition("\n\n")
                text += (_ALPACA_WITH_INPUT if blank else _ALPACA) if first else ""
                text += f"\n\n### Instruction:\n{instruction}" + (f"\n\n### Input:\n{given}" if blank else "")
                first = False
        return text + "\n\n### Response:"

    def response_text(self, response: str) -> str:
        return _after_space(response)


class PlainTemplate(Template):
    """The words as they are: turns joined by a blank line, the response glued on. For completion and closed worlds."""

    name = "plain"

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        self.chat_template = None

    def render(self, dialogue: Dialogue) -> str:
        return "\n\n".join(turn.content for turn in dialogue)

    def response_text(self, response: str) -> str:
        return response


class ChatTemplate(Template):
    """The chat template that the model's tokenizer brings along.

    Its text spells special tokens, so those that a user wrote are broken up by a space first: `<|im_end|>` in a prompt
    must not end the turn.
    """

    name = "chat"
    special_tokens = True

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        if tokenizer is None or not tokenizer.chat_template:
            raise ConfigError("template: chat", "the model's tokenizer has no chat template", "use dialogue or alpaca")
        self._tokenizer = tokenizer
        self.chat_template = tokenizer.get_chat_template()
        self._special = special_tokens(tokenizer)
        try:
            self.render((Turn("user", "Hi"),))
        except Refused as refused:
            if isinstance(refused.__cause__, TemplateSyntaxError):
                told = f"the model's chat template is damaged: {refused.why}"
                raise ConfigError("template: chat", told, "mend it, or use dialogue or alpaca") from None

    @property
    def content(self) -> str:
        return self.chat_template or ""

    def render(self, dialogue: Dialogue) -> str:
        messages = [{"role": turn.role, "content": self._defused(turn.content)} for turn in dialogue]
        try:
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except (TemplateError, TypeError) as error:
            raise Refused(reason(error)) from error
        assert isinstance(text, str)
        return text

    def response_text(self, response: str) -> str:
        return self._defused(response.strip())

    def _defused(self, text: str) -> str:
        return broken_up(text, self._special)


class Refused(DataError):
    """A prompt that the model's own chat template does not take, such as two user's turns in a row."""

    def __init__(self, why: str) -> None:
        told = f"the model's chat template refuses a prompt: {why}"
        super().__init__("template: chat", told, "leave such rows out, or train with `template: dialogue`")
        self.why = why
        self.reason = f"prompts that the model's chat template refuses ({why})"


def _after_space(text: str) -> str:
    stripped = text.strip()
    return f" {stripped}" if stripped else ""
