"""The client of a served model: OpenAI's, with the endpoint's headers and parameters in every request.

The judges call it directly; the audit's engine gives it to inspect's provider. It sends a request a second time only to
leave out a parameter that the server refused. All other retries are the caller's: openai's own would hold the
connection through every pause, and would hide from the caller how often a prompt was sent.
"""

from __future__ import annotations

from typing import Any

import httpx
import openai

from equipoise.served_models.chat_messages import content_text, refusal_text, thought_text
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.served_models.error_bodies import parsed
from equipoise.served_models.parameters import GROUPS


class ServedClient(openai.AsyncOpenAI):
    """OpenAI's client for one endpoint.

    Args:
        endpoint: which model, and what is sent beside the messages.
        **options: of OpenAI's client: `timeout`, `http_client`, and what else it takes.
    """

    def __init__(self, endpoint: ServedEndpoint, **options: Any) -> None:
        self._endpoint = endpoint
        super().__init__(
            base_url=endpoint.url,
            api_key=endpoint.api_key or "none",
            default_headers=dict(endpoint.headers) or None,
            **{"max_retries": 0, **options},
        )
        self._client.event_hooks["response"].append(self._mask)

    async def _mask(self, response: httpx.Response) -> None:
        """Take out of a response what the server quotes of our secrets: replies and errors go into reports and logs."""
        secrets = self._endpoint.tokens
        if not secrets or "text/event-stream" in response.headers.get("content-type", ""):
            return
        content = await response.aread()
        for secret in secrets:
            content = content.replace(secret.encode(), b"***")
        response._content = content

    async def post(self, path: str, *, body: Any = None, **options: Any) -> Any:
        """Send a request; every resource of OpenAI's client goes through here.

        Raises:
            openai.OpenAIError: the server could not be asked, or answered with an error.
        """
        if not isinstance(body, dict):
            return await super().post(path, body=body, **options)
        # Each round teaches something new about one parameter, so that there are no more rounds than parameters.
        for _ in GROUPS:
            sent = self._endpoint.body(body)
            try:
                response = await super().post(path, body=sent, **options)
            except openai.APIStatusError as error:
                if not self._endpoint.parameters.learn(error.status_code, parsed(error.response.text), sent):
                    raise
            else:
                self._endpoint.parameters.accept(sent)
                return flatten_contents(response)
        return flatten_contents(await super().post(path, body=self._endpoint.body(body), **options))


def flatten_contents(response: Any) -> Any:
    """The response with text where a message holds a list of parts, as Mistral's and some gateways' messages do.

    OpenAI's type of a response has text there, and inspect's provider fails on anything else. Thoughts among the parts
    move to `reasoning_content`, and a refusal among them to `refusal`. Other responses are left as they are.
    """
    for choice in getattr(response, "choices", None) or ():
        message = getattr(choice, "message", None)
        content = getattr(message, "content", None)
        if message is None or content is None or isinstance(content, str):
            continue
        thoughts = thought_text(content)
        if thoughts and not getattr(message, "reasoning_content", None):
            message.reasoning_content = thoughts
        message.refusal = refusal_text({"refusal": getattr(message, "refusal", None), "content": content})
        message.content = content_text(content)
    return response
