"""`PlainTorchModel`: an `OpenModel` that has nothing to do with transformers.

It is the example of `docs/models.md` (how to bring MiniGPT-4, Qwen-VL-Chat or any model of your own) and a toy
target for other tests: characters are its tokens, its weights are random but seeded, and each character of its
reply depends on the picture, on the question and on the character before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2.functional import pil_to_tensor

from equipoise.errors import UsageError
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.types import Exchange, Prompt

CHARACTERS = "\n !\"'(),-./0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
END = len(CHARACTERS)
SIDE = 32


class PlainNetwork(nn.Module):
    """Logits of the t-th character from picture, question and the character before."""

    def __init__(self, length: int = 64, width: int = 256, seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=random) * scale)

        tokens = len(CHARACTERS) + 1
        self.see = normal(3 * SIDE * SIDE, width, scale=4.0)
        self.embed = normal(tokens, width, scale=1.0)
        self.speak = normal(length, width, tokens, scale=width**-0.5)

    def forward(self, picture: Tensor, question: Tensor, before: Tensor) -> Tensor:
        """`3 x 32 x 32` in [0, 1], `N x width`, `N x T` tokens: `N x T x tokens`."""
        # Fine detail only: a smooth picture says little, so a small perturbation can change the whole reply.
        detail = picture - functional.avg_pool2d(picture[None], 3, stride=1, padding=1, count_include_pad=False)[0]
        features = detail.flatten() @ self.see
        state = features + question[:, None] + self.embed[before]
        return torch.einsum("ntw,twv->ntv", state, self.speak[: before.shape[1]])


class PlainTorchModel(OpenModel):
    """What a user writes to bring a model of their own: tokens, the look at the picture, two methods."""

    def __init__(self, seed: int = 0) -> None:
        self.name = "plain"
        self.revision = f"seed-{seed}"
        self.device = torch.device("cpu")
        self.network = PlainNetwork(seed=seed).requires_grad_(False)
        self.embedding_width = self.network.embed.shape[1]

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        return [self._reply(prompt, max_new_tokens) for prompt in prompts]

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        targets = [_tokens(reply) + [END] * end for reply in replies]
        if len(replies) != len(prompts) or not all(replies):
            raise UsageError(f"expected a reply for each of {len(prompts)} prompts, got {len(replies)}; try one each")
        length = max(map(len, targets))
        tokens = torch.tensor([row + [END] * (length - len(row)) for row in targets])
        mask = torch.arange(length) < torch.tensor([[len(row)] for row in targets])
        before = torch.cat([torch.full_like(tokens[:, :1], END), tokens[:, :-1]], dim=1)
        questions = torch.stack(
            [
                self._question(prompt.text, None if question_shift is None else question_shift[i])
                for i, prompt in enumerate(prompts)
            ]
        )
        logits = self.network(_look(pixels), questions, before)
        chosen = logits.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)
        return ReplyLogProbs(torch.where(mask, chosen, 0.0), mask)

    def _question(self, text: str, shift: Tensor | None) -> Tensor:
        letters = self.network.embed[torch.tensor(_tokens(text))]
        if shift is not None:
            count = min(len(letters), len(shift))
            letters = torch.cat([letters[:count] + shift[:count], letters[count:]])
        return letters.mean(0)

    @torch.no_grad()
    def _reply(self, prompt: Prompt, limit: int) -> Exchange:
        images = [image for message in prompt.messages for image in message.images]
        features = _look(pil_to_tensor(images[0].convert("RGB")) / 255 if images else torch.full((3, SIDE, SIDE), 0.5))
        question, reply = self._question(prompt.text, None)[None], [END]
        for _ in range(min(limit, len(self.network.speak))):
            token = int(self.network(features, question, torch.tensor([reply]))[0, -1].argmax())
            if token == END:
                return self._exchange(prompt, reply[1:], "stop")
            reply.append(token)
        return self._exchange(prompt, reply[1:], "length")

    def _exchange(self, prompt: Prompt, tokens: list[int], finish: str) -> Exchange:
        text = "".join(CHARACTERS[token] for token in tokens)
        return Exchange(prompt, text, "stop" if finish == "stop" else "length", f"{self.name}@{self.revision}")


def _tokens(text: str) -> list[int]:
    return [max(CHARACTERS.find(character), 0) for character in text]


def _look(pixels: Tensor) -> Tensor:
    """Preprocessing: the value is that of the 8-bit picture, the gradient that of the float one."""
    eight_bit = (pixels * 255).round() / 255
    pixels = pixels + (eight_bit - pixels).detach()
    return functional.interpolate(pixels[None], (SIDE, SIDE), mode="bilinear", antialias=True)[0]
