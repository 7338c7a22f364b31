"""`RequestGate`: the judges of requests as the harm gate of a policy that asks refused requests again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from equipoise.generation.request_judges import HarmlessnessGate, default_judges
from equipoise.judges.run_judge import digest
from equipoise.prompts.policy import Retry
from equipoise.types import Prompt

if TYPE_CHECKING:
    from equipoise.guard.guard_input import PictureReader


class RequestGate:
    """Benign is a conversation whose every user turn the judges call harmless.

    Args:
        judges: two or more; each reads one turn at a time.
        reader: reads the text in pictures; without one a request with pictures is undecided, because the words beside a
            harmful picture may be harmless.
    """

    def __init__(self, judges: HarmlessnessGate, reader: PictureReader | None = None) -> None:
        self.judges = judges
        self.reader = reader

    @property
    def identity(self) -> str:
        """sha256 over everything that decides what its judges say."""
        return digest(self.judges.recipe)

    def __call__(self, prompts: Sequence[Prompt]) -> list[bool | None]:
        """Benign, not benign or undecided, for each prompt."""
        results: list[bool | None] = []
        for prompt in prompts:
            if prompt.pictures and self.reader is None:
                results.append(None)
                continue
            labels = set(self.judges.labels(self._texts(prompt)))
            # One harmful turn is enough. A doubt is not: what two judges differ about is not asked again.
            undecided = "abstain" in labels and not labels & {"harmful", "controversial"}
            results.append(None if undecided or not labels else labels == {"harmless"})
        return results

    def _texts(self, prompt: Prompt) -> list[str]:
        texts = [message.text for message in prompt.messages if message.role == "user"]
        if self.reader is not None:
            texts += [self.reader(picture) for picture in prompt.pictures]
        return [text for text in texts if text.strip()]


def request_gate(retry: Retry) -> RequestGate:
    """The gate `requests` of an interactive policy, with the judges that ship with the package."""
    reader = None
    if retry.read_pictures:
        from equipoise.guard.ocr import OCR

        reader = OCR()
    return RequestGate(HarmlessnessGate(default_judges()), reader)
