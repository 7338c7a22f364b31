"""Conversations as the text a processor expects: its chat template, or a plain form where it has none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from jinja2 import TemplateError

from equipoise.errors import ModelError, UsageError, first_line
from equipoise.models.unreadable import PROGRAM_ERRORS
from equipoise.types import Message, Prompt

_PROBE = "Xylophone quartz"
"""A text that no template contains, put in to see where a template writes it."""
TEMPLATE_ERRORS: Final = (TemplateError, *PROGRAM_ERRORS)
"""What running a template may raise: it is a program."""
TemplateForm = Literal["parts", "string", "plain"]


class ConversationFormat:
    """How one processor writes conversations.

    Attributes:
        form: `parts` (template over lists of pictures and texts), `string` (template over plain strings) or `plain`
            (no template: pictures, then the text).
        system_role: whether the template knows system texts; otherwise, and in a prompt that no template writes, they
            stand in front of the first text.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        template = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
        # Some tokenizers have several by name: for tools, for retrieval, and the one for conversations.
        self._template = template.get("default") if isinstance(template, dict) else template
        self._picture = _picture_text(processor)
        self.form: TemplateForm = "plain"
        self.system_role = False
        self._writes_bos = False
        if self._template is not None:
            self.form = self._find_form()
            self.system_role = self._supports_system()
            self._writes_bos = self._begins_with_bos()

    def render(self, prompt: Prompt) -> str:
        """The conversation up to where the reply begins, or goes on where it has begun.

        Raises:
            ModelError: the template refuses this order of roles.
        """
        begun = self._beginning(prompt)
        return begun + self._separator(prompt, begun) + prompt.prefill if prompt.prefill else begun

    def _beginning(self, prompt: Prompt) -> str:
        """The conversation up to where the reply begins."""
        prompt = self._fold_system(prompt)
        if not self._uses_template(prompt):
            return self._start(prompt) + "\n".join(self._plain_text(message) for message in prompt.messages)
        try:
            return self._apply_template(self._turns(prompt), begin_reply=True)
        except TEMPLATE_ERRORS as error:
            roles = ", ".join(turn["role"] for turn in self._turns(prompt)[:10])
            raise ModelError(
                f"expected a conversation that the model's chat template takes, got the roles {roles} "
                f"({first_line(error)}); try user and assistant in turns, beginning with user"
            ) from error

    def _start(self, prompt: Prompt) -> str:
        """The token that a text without template begins with, unless the processor writes it as with the template."""
        tokenizer = self._processor.tokenizer
        if prompt.templated or tokenizer.bos_token is None:
            return ""
        if self._writes_bos:
            return str(tokenizer.bos_token)
        # A processor of pictures writes it in front of texts that lack it, as those of such a template do.
        if hasattr(self._processor, "image_processor"):
            return ""
        # Models that were trained with it write noise without it.
        begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        return str(tokenizer.bos_token) if begins else ""

    def reply_separator(self, prompt: Prompt) -> str:
        """White space that the template puts between the prompt and a reply that is given to it."""
        return "" if prompt.prefill else self._separator(prompt, self._beginning(prompt))

    def _separator(self, prompt: Prompt, begun: str) -> str:
        if not self._uses_template(prompt):
            return ""
        turns = [*self._turns(self._fold_system(prompt)), self._turn(Message("assistant", _PROBE))]
        try:
            with_reply = self._apply_template(turns, begin_reply=False)
        except TEMPLATE_ERRORS:
            return ""
        # The template with the reply must begin like the template without it; what lies between is the separator.
        before, match, _ = with_reply.rpartition(_PROBE)
        separator = before[len(begun) :] if match and before.startswith(begun) else ""
        return separator if separator.isspace() else ""

    def end_token(self, stops: Sequence[int]) -> int:
        """The token among `stops` that ends a reply in this template; the first that fits where it writes none."""
        tokenizer = self._processor.tokenizer
        fallback = tokenizer.eos_token_id if tokenizer.eos_token_id in stops else stops[0]
        if self.form == "plain":
            return int(fallback)
        turns = [self._turn(Message("user", "Q")), self._turn(Message("assistant", _PROBE))]
        try:
            rest = self._apply_template(turns, begin_reply=False).rpartition(_PROBE)[2].lstrip()
        except TEMPLATE_ERRORS:
            return int(fallback)
        written = (stop for stop in stops if (text := _token_text(tokenizer, stop)) and rest.startswith(text))
        return int(next(written, fallback))

    def _find_form(self) -> TemplateForm:
        """The form of content that the template writes out, found by rendering a probe."""
        prompt = Prompt((Message("user", _PROBE),))
        # Templates of text models are written for strings; some go through a list letter by letter.
        forms: tuple[TemplateForm, ...] = ("string", "parts")
        if hasattr(self._processor, "image_processor"):
            forms = ("parts", "string")
        problem = "one that drops or refuses them"
        for self.form in forms:
            try:
                text = self._apply_template(self._turns(prompt), begin_reply=True)
            except TEMPLATE_ERRORS as error:
                problem = f"an error ({first_line(error)})"
                continue
            # A template over strings that is given a list may print it as Python does: [{'type': 'text', ...}].
            if _PROBE in text and "'text'" not in text:
                return self.form
        raise ModelError(
            f"expected a chat template that writes user turns, got {problem}; "
            "try the processor of the model's instruction-tuned version, or --chat-template FILE"
        )

    def _supports_system(self) -> bool:
        prompt = Prompt((Message("user", "Q"),), system=_PROBE)
        try:
            return _PROBE in self._apply_template(self._turns(prompt), begin_reply=True)
        except TEMPLATE_ERRORS:
            return False

    def _uses_template(self, prompt: Prompt) -> bool:
        return self.form != "plain" and prompt.templated

    def _begins_with_bos(self) -> bool:
        """Whether the template writes the token that a text begins with."""
        bos = getattr(self._processor.tokenizer, "bos_token", None)
        turns = self._turns(Prompt((Message("user", _PROBE),)))
        return bool(bos) and self._apply_template(turns, begin_reply=True).startswith(str(bos))

    def _fold_system(self, prompt: Prompt) -> Prompt:
        """The prompt with its system text in front of the first user turn, where no template has a role for it.

        Without a template the texts stand one after another, and it goes in front of the first of them.
        """
        templated = self._uses_template(prompt)
        if not prompt.system or (templated and self.system_role):
            return prompt
        messages = list(prompt.messages)
        first = next(i for i, message in enumerate(messages) if message.role == "user" or not templated)
        messages[first] = replace(messages[first], text=f"{prompt.system}\n\n{messages[first].text}")
        return replace(prompt, messages=tuple(messages), system=None)

    def _turns(self, prompt: Prompt) -> list[dict[str, Any]]:
        system = [{"role": "system", "content": self._content(prompt.system, 0)}] if prompt.system else []
        return system + [self._turn(message) for message in prompt.messages]

    def _turn(self, message: Message) -> dict[str, Any]:
        return {"role": message.role, "content": self._content(message.text, len(message.images))}

    def _content(self, text: str, pictures: int) -> Any:
        if self.form == "string":
            return f"{self._picture}\n" * pictures + text
        return [{"type": "image"}] * pictures + [{"type": "text", "text": text}]

    def _plain_text(self, message: Message) -> str:
        return self._picture * len(message.images) + message.text

    def _apply_template(self, turns: list[dict[str, Any]], *, begin_reply: bool) -> str:
        return str(
            self._processor.apply_chat_template(
                turns, chat_template=self._template, add_generation_prompt=begin_reply, tokenize=False
            )
        )


def _token_text(tokenizer: Any, token: int) -> str | None:
    """What a token is called; None for one that the tokenizer does not have, though the model's settings name it."""
    try:
        text = tokenizer.convert_ids_to_tokens(token)
    except (LookupError, OverflowError, TypeError, ValueError):
        return None
    return text if isinstance(text, str) else None


def _picture_text(processor: Any) -> str:
    """What stands for a picture in a plain prompt; empty where the processor or the model adds it by itself."""
    # Processors that count query tokens put the picture in front of the text themselves (BLIP-2, InstructBLIP).
    if hasattr(processor, "num_query_tokens"):
        return ""
    token = getattr(processor, "image_token", None)
    if token is not None:
        return str(getattr(token, "content", token))
    # A text that the tokenizer does not know as one token would be read as words (BLIP, GIT).
    known: dict[str, int] = getattr(processor.tokenizer, "get_vocab", dict)()
    return "<image>" if "<image>" in known else ""


def picture_marks(processor: Any) -> tuple[str, ...]:
    """What stands for a picture in a rendered prompt; none where the processor puts it there by itself."""
    tokens = [getattr(processor, name, None) for name in ("image_token", "boi_token")]
    return tuple(str(getattr(token, "content", token)) for token in tokens if token)


def require_no_picture_marks(processor: Any, texts: Iterable[str]) -> None:
    """Refuse texts that hold what stands for a picture: a processor would look for one more picture.

    Args:
        processor: of a model; None for none.
        texts: what users write.

    Raises:
        UsageError: one holds a mark.
    """
    marks = picture_marks(processor)
    for text in texts:
        mark = next((mark for mark in marks if mark in text), None)
        if mark is not None:
            raise UsageError(
                f"expected a text without {mark}, which stands for a picture with {type(processor).__name__}, got it "
                f"in {text[:60]!r}; try without it"
            )
