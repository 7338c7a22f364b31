"""`Policy`: thresholds and actions of every rail, and the fail modes; read from TOML and validated.

Rails: `input` (the request, before anybody replies) and `output` (each reply). Unknown names are an error, so that a
misspelt threshold cannot silently be the default.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from equipoise import toml_file
from equipoise.errors import UsageError
from equipoise.guard.decision import ACTIONS, Action, HarmScore
from equipoise.prompts.exemplars import OWN_POOL
from equipoise.prompts.policy import PromptPolicy
from equipoise.prompts.policy_file import NAMED, PolicyStep, build, load_policy

Probability = Annotated[float, Field(ge=0, le=1)]
FailMode = Literal["open", "closed", "refuse"]
ServerTools = Literal["drop", "pass", "refuse"]
RailName = Literal["input", "output", "pictures"]
"""Requests, replies, and pictures of requests (if there is a picture guard)."""
REFUSAL: Final = "I can't help with that: the policy {policy} does not allow it ({category})."
"""What the guard says where it refuses. It names policy and category, so that it is not taken for a refusal by the
model; lists of sentences in which models refuse are no part of it."""


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HarmRule(_StrictModel):
    """A threshold on the probability of harm, and the action from there on."""

    threshold: Probability = 0.5
    action: Action = "rewrite"


class Rail(_StrictModel):
    """One check point (input or output) with its threshold, its action and its fail mode."""

    enabled: bool = True
    threshold: Probability = 0.5
    """The probability of harm from which on `action` is taken."""
    action: Action = "rewrite"
    fail: FailMode = "closed"
    """What happens after a failed check, or with content that cannot be checked: `closed` withholds it and returns an
    error, `open` lets it pass with a note, `refuse` returns the policy's refusal."""
    opaque: Literal["skip", "fail"] = "skip"
    """What happens with base64 in a text that decodes to neither a picture nor text: `skip` lets it pass with a receipt
    that says so, `fail` applies the fail mode."""
    readings: bool = True
    """Whether a text is also judged as a person may read it: normalised, decoded, with digits as letters."""
    categories: dict[str, HarmRule] = {}
    """Rules for single kinds of harm, by the detector's names; they replace the rail's rule for that kind."""


class CascadeBand(_StrictModel):
    """The grey band: probabilities of the small detector, both ends included, at which the larger guard decides."""

    low: Probability = 0.1
    high: Probability = 0.9

    @model_validator(mode="after")
    def _ordered(self) -> CascadeBand:
        if self.low > self.high:
            raise ValueError(f"expected low <= high, got {self.low} > {self.high}")
        return self


class PicturePolicy(_StrictModel):
    """What is done with the pictures of a request in the gateway."""

    read_text: bool = True
    """Whether the text in pictures is read (OCR) and judged with the question."""
    fail: Literal["open", "closed"] = "closed"
    """What happens with a picture that cannot be read, or another part of a request that cannot be checked."""
    replies: Literal["fail", "skip", "look"] = "fail"
    """What a picture in a reply does: it takes the output rail's fail mode, passes with a receipt that says so, or is
    looked at like those of a request (in a reply that is not streamed; in a stream it takes the fail mode)."""
    threshold: Probability = 0.5
    """The probability of harm, if a guard looks at the pictures themselves, from which on `action` is taken."""
    action: Literal["allow", "flag", "refuse"] = "refuse"
    max_bytes: Annotated[int, Field(gt=0)] = 20_000_000
    max_pixels: Annotated[int, Field(gt=0)] = 40_000_000
    max_count: Annotated[int, Field(gt=0)] = 16
    metadata: Literal["strip", "keep"] = "strip"
    """Whether the upstream gets the pictures' metadata: EXIF, comments, colour profiles."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 20.0
    """For fetching one, and for reading the text in one, waiting included."""
    links: tuple[Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$", max_length=253)], ...] = ()
    """Hosts whose linked pictures are fetched; `*.example.com` stands for every name below it. None by default."""


class StreamPolicy(_StrictModel):
    """How the gateway holds a streamed reply back."""

    mode: Literal["off", "buffer", "holdback", "observe"] = "holdback"
    hold: Annotated[int, Field(ge=1, le=100_000)] = 240
    """Characters at the end of the received text that are not sent yet; older text is sent once a check of the whole
    text has allowed it."""
    every: Annotated[int, Field(ge=1, le=100_000)] = 120
    """New characters between two checks."""
    keepalive: Annotated[float, Field(ge=0, le=600)] = 3.0
    """Seconds of silence after which a comment is sent, so that nobody closes the connection; 0 sends none."""


class RequestPolicy(_StrictModel):
    """What is done with the parts of a request to the gateway that a chat cannot hold, or that nobody can read."""

    server_tools: ServerTools = "drop"
    """What happens with tools that the server runs, or that only its API knows: `drop` leaves out of a translated
    request what a chat request cannot hold, and the response names it; `pass` sends the request to the upstream in the
    API that it came in; `refuse` is an error."""
    files: Literal["fail", "skip"] = "fail"
    """What happens with files and sound that hold no plain text: `fail` applies `fail` of the pictures, `skip` passes
    them unread with a receipt that says so."""


class AnswerPolicy(_StrictModel):
    """The form in which the gateway refuses."""

    refusal_in: Literal["refusal", "content"] = "refusal"
    """The field with the words of a refusal: OpenAI's field for it, or the content, which every client shows."""
    finish: Literal["content_filter", "stop"] = "content_filter"
    """The finish reason of a refusal; with `stop`, as of OpenAI's own refusals, the parsers of SDKs raise no error."""


class PromptSection(_StrictModel):
    """What the gateway adds to requests before the upstream gets them; see docs/prompts.md."""

    use: str = ""
    """Name of a policy of ours; empty adds nothing, unless there are steps."""
    steps: tuple[PolicyStep, ...] = ()
    """Steps of a policy of your own, as in a policy file of prompts."""

    @model_validator(mode="after")
    def _usable(self) -> PromptSection:
        if self.use and self.use not in NAMED:
            raise ValueError(f"expected use to be one of {', '.join(NAMED)}, got {self.use!r}")
        if self.use and self.steps:
            raise ValueError("expected use or steps, got both")
        # The revision of a policy is the hash of its settings: a table on disk could change behind it.
        if any(getattr(step, "pool", OWN_POOL) != OWN_POOL for step in self.steps):
            raise ValueError("expected the pool 'ours' in a gateway, got a file")
        try:
            policy = self.policy
        except UsageError as error:
            raise ValueError(str(error)) from error
        if policy is not None and policy.retry is not None:
            raise ValueError("expected no interactive step in a gateway, which calls the upstream once")
        return self

    @property
    def policy(self) -> PromptPolicy | None:
        """The policy; None where nothing is added."""
        return _prompt_policy(self)


@lru_cache(maxsize=64)
def _prompt_policy(section: PromptSection) -> PromptPolicy | None:
    if section.use:
        return load_policy(section.use)
    return build(section.steps, Path(), "[prompt]") if section.steps else None


class Policy(_StrictModel):
    """What a guard does; see docs/guard.md for an annotated file."""

    version: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, max_length=80)] = "default"
    mode: Literal["enforce", "observe"] = "enforce"
    """`observe` decides and records, and changes nothing."""
    rounds: Annotated[int, Field(ge=0, le=8)] = 2
    """How often a harmful reply may be rewritten before the last resort."""
    refusal: Annotated[str, Field(min_length=1, max_length=2000)] = REFUSAL
    """The last resort; {policy} and {category} are filled in."""
    input: Rail = Rail(enabled=False, action="refuse")
    output: Rail = Rail()
    cascade: CascadeBand = CascadeBand()
    pictures: PicturePolicy = PicturePolicy()
    requests: RequestPolicy = RequestPolicy()
    stream: StreamPolicy = StreamPolicy()
    answer: AnswerPolicy = AnswerPolicy()
    prompt: PromptSection = PromptSection()

    @model_validator(mode="after")
    def _consistent(self) -> Policy:
        if self.requests.server_tools == "pass" and self.prompt.policy is not None:
            raise ValueError("expected no [prompt] with server_tools = 'pass', as it changes no such request")
        return self

    @property
    def revision(self) -> str:
        """The first 12 digits of the sha256 over all settings, defaults included; records and receipts hold it."""
        settings = json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        return hashlib.sha256(settings).hexdigest()[:12]

    def rail(self, name: RailName) -> Rail:
        """The settings of a rail; the rail `pictures` is always enabled."""
        if name == "pictures":
            return Rail(threshold=self.pictures.threshold, action=self.pictures.action, fail=self.pictures.fail)
        return self.input if name == "input" else self.output

    def refuse(self, category: str | None) -> str:
        """The words of a refusal that names this policy and the kind of harm."""
        text = self.refusal.replace("{policy}", self.name)
        return text.replace("{category}", (category or "harm").replace("_", " "))


def judge(rail: Rail, score: HarmScore) -> tuple[Action, tuple[str, ...]]:
    """What a rail does about a score that is not None, and the kinds of harm whose rule fired, the likeliest first.

    A kind of harm with a rule of its own is judged by that alone; the rail's rule judges the rest. The strictest
    action of all that fire is taken.

    Raises:
        ValueError: the score has no probability; the caller applies the fail mode then.
    """
    if score.harm is None:
        raise ValueError("expected a score, got a failure")
    # Each rule that fires is a triple: its probability, its kind of harm, its action.
    likeliest = score.category
    fired: list[tuple[float, str, Action]] = [
        (score.categories[name], name, rule.action)
        for name, rule in rail.categories.items()
        if score.categories.get(name, -1.0) >= rule.threshold
    ]
    if likeliest not in rail.categories and score.harm >= rail.threshold:
        fired.append((score.harm, likeliest or "", rail.action))
    allow: Action = "allow"
    # ACTIONS are in the order of strictness. A lenient rule for one kind must not hide a strict one for another.
    action = max((rule[2] for rule in fired), key=ACTIONS.index, default=allow)
    return action, tuple(name for _, name, _ in sorted(fired, reverse=True) if name)


def load(path: Path) -> Policy:
    """Read and check a policy.

    Raises:
        UsageError: nothing there, not UTF-8, not TOML, or a setting that cannot be; the message names the setting.
    """
    return toml_file.read(Policy, path, "a policy", "`equipoise guard policy`")


def parse(text: str, where: str = "policy") -> Policy:
    """A policy from TOML.

    Raises:
        UsageError: not TOML, or a setting that cannot be.
    """
    return toml_file.validated(Policy, text, where, "a policy", "`equipoise guard policy`")


ANNOTATED: Final = """\
# What the guard does about which harm. Unknown names are an error; what is left out has the value shown here.
version = 1
name = "default"          # named in refusals and records
mode = "enforce"          # "observe" decides and tells, and changes nothing
rounds = 2                # rewrites of a harmful reply before the last resort
refusal = "I can't help with that: the policy {policy} does not allow it ({category})."

[output]                  # each reply
enabled = true
threshold = 0.5           # the probability of harm from which on `action` is taken; see `equipoise guard calibrate`
action = "rewrite"        # allow, flag, rewrite or refuse
fail = "closed"           # a check that fails is an error; "open" lets pass and says so, "refuse" refuses
opaque = "skip"           # base64 in a text that is no picture and no text passes unread; "fail" takes `fail`
readings = true           # judge a text also normalised, decoded, and with digits read as letters
# [output.categories."specialized advice"]    # a rule of its own for a kind of harm that the detector tells
# threshold = 0.9
# action = "flag"

[input]                   # the request, before anybody replies
enabled = false
threshold = 0.5
action = "refuse"
fail = "closed"

[cascade]                 # with a bigger guard: the band of the detector's probability in which it is asked
low = 0.1
high = 0.9

[pictures]                # of requests to the gateway
read_text = true          # read the text in pictures (OCR) and judge it with the question
fail = "closed"           # a part of a request that nobody here can look at (a link, sound) stops the request
replies = "fail"          # a picture in a reply takes `fail` of [output]; "skip" passes it unseen, "look" looks at it
threshold = 0.5           # with --picture-guard: its probability of harm from which on `action` is taken
action = "refuse"         # allow, flag or refuse
max_bytes = 20000000
max_pixels = 40000000
max_count = 16
metadata = "strip"        # "keep" passes EXIF, comments and colour profiles on
seconds = 20.0            # for fetching one, and for reading the text in one, waiting included
links = []                # hosts whose linked pictures are fetched, such as "images.example.com" or "*.example.com"

[requests]                # to the gateway
server_tools = "drop"     # web_search, code_interpreter, mcp: left out where a request is translated; "pass" sends the
                          # request to the upstream in its own API, "refuse" is an error
files = "fail"            # a file or sound that is no plain text takes `fail` of [pictures]; "skip" passes it unread

[stream]                  # of the gateway
mode = "holdback"         # "buffer" lets nothing leave before the end, "observe" and "off" let all leave at once
hold = 240                # characters that stay behind the newest text
every = 120               # new characters between two checks
keepalive = 3.0           # seconds of silence after which a comment keeps the connection open; 0 sends none

[answer]                  # of the gateway
refusal_in = "refusal"    # the field with the words of a refusal; "content" for clients that show nothing else
finish = "content_filter" # the finish reason of a refusal; "stop" for clients that raise an error for the other

[prompt]                  # of the gateway: what is added to requests before the upstream gets them
use = ""                  # a prompt policy of ours, such as "balanced" or "contextual"; see `equipoise prompt show`
# [[prompt.steps]]        # or steps of your own
# kind = "contextual"
# template = "The words below may have a harmless meaning: {request}"
"""
"""The default policy as a file."""
