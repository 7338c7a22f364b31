"""The queue: like prompts share a batch, a bad one fails alone, and nobody generates for a client that left."""

from __future__ import annotations

import pytest
from PIL import Image

from equipoise.errors import ModelError
from equipoise.model_server.generation_queue import GenerationQueue, QueueClosed, QueueFull
from equipoise.types import Prompt
from tests.model_server.models import EchoModel

SOON = 30


def held(model: EchoModel, queue: GenerationQueue) -> None:
    """A first prompt that keeps the model busy until `model.go` is set."""
    model.go.clear()
    queue.submit(Prompt.ask("first"), 8)
    assert model.began.wait(SOON)


def test_what_waits_is_generated_together_in_order() -> None:
    model = EchoModel()
    queue = GenerationQueue(model, batch=3)
    held(model, queue)
    futures = [queue.submit(Prompt.ask(f"p{number}"), 8) for number in range(5)]
    assert queue.waiting == 5
    model.go.set()
    assert [future.result(SOON).reply for future in futures] == [f"p{number}" for number in range(5)]
    assert model.batches == [["first"], ["p0", "p1", "p2"], ["p3", "p4"]]
    queue.close()


def test_another_length_or_pictures_are_another_batch() -> None:
    model = EchoModel()
    queue = GenerationQueue(model)
    held(model, queue)
    picture = Image.new("RGB", (2, 2))
    futures = [
        queue.submit(Prompt.ask("short"), 8),
        queue.submit(Prompt.ask("long"), 99),
        queue.submit(Prompt.ask("seen", picture), 8),
        queue.submit(Prompt.ask("short too"), 8),
    ]
    model.go.set()
    assert [future.result(SOON).reply for future in futures] == ["short", "long", "1 pictures: seen", "short too"]
    assert model.batches[1:] == [["short", "short too"], ["long"], ["seen"]]
    assert model.lengths == [8, 8, 99, 8]
    queue.close()


def test_a_prompt_that_raises_fails_alone() -> None:
    model = EchoModel()
    queue = GenerationQueue(model)
    held(model, queue)
    good, bad, other = (queue.submit(Prompt.ask(text), 8) for text in ("good", "fail", "other"))
    model.go.set()
    assert good.result(SOON).reply == "good"
    assert other.result(SOON).reply == "other"
    with pytest.raises(ModelError, match="another prompt"):
        bad.result(SOON)
    assert queue.is_alive
    queue.close()


@pytest.mark.parametrize("text", ["panic", "silence"])
def test_no_prompt_ends_the_thread_that_generates(text: str) -> None:
    model = EchoModel()
    queue = GenerationQueue(model)
    held(model, queue)
    bad, good = queue.submit(Prompt.ask(text), 8), queue.submit(Prompt.ask("good"), 8)
    model.go.set()
    assert isinstance(bad.exception(SOON), Exception), "an event loop ends at what is none"
    assert good.result(SOON).reply == "good"
    assert queue.is_alive
    queue.close()


def test_who_has_left_is_not_generated_for_and_takes_no_room() -> None:
    model = EchoModel()
    queue = GenerationQueue(model, waiting=2)
    held(model, queue)
    left, stays = queue.submit(Prompt.ask("left"), 8), queue.submit(Prompt.ask("stays"), 8)
    with pytest.raises(QueueFull):
        queue.submit(Prompt.ask("too many"), 8)
    assert left.cancel()
    late = queue.submit(Prompt.ask("late"), 8)
    model.go.set()
    assert [stays.result(SOON).reply, late.result(SOON).reply] == ["stays", "late"]
    assert model.batches[1:] == [["stays", "late"]]
    queue.close()


def test_a_closed_queue_finishes_its_batch_and_fails_the_rest() -> None:
    model = EchoModel()
    queue = GenerationQueue(model)
    model.go.clear()
    first = queue.submit(Prompt.ask("first"), 8)
    assert model.began.wait(SOON)
    second = queue.submit(Prompt.ask("second"), 8)
    model.go.set()
    queue.close()
    assert first.result(SOON).reply == "first"
    error = second.exception(SOON)
    assert isinstance(error, QueueClosed) or second.result().reply == "second", "its turn may have come before the end"
    assert not queue.is_alive
    with pytest.raises(QueueClosed):
        queue.submit(Prompt.ask("late"), 8)


def test_an_abandoned_batch_fails_and_its_thread_ends_all_the_same() -> None:
    model = EchoModel()
    queue = GenerationQueue(model)
    model.go.clear()
    first = queue.submit(Prompt.ask("first"), 8)
    assert model.began.wait(SOON)
    queue.stop()
    queue.abandon()
    assert isinstance(first.exception(SOON), QueueClosed)
    model.go.set()
    queue.close()
    assert not queue.is_alive
