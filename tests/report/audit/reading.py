"""A page as a test reads it: its tags, what they refer to, and the text that a person sees."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "hr", "input", "link", "base", "source"}


@dataclass(frozen=True)
class Tag:
    name: str
    attributes: dict[str, str]


@dataclass
class Node:
    tag: Tag
    text: list[str] = field(default_factory=list)
    inside: tuple[Tag, ...] = ()

    @property
    def words(self) -> str:
        return squeezed("".join(self.text))


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.nodes: list[Node] = []
        self.open: list[Node] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(Tag(tag, {name: value or "" for name, value in attrs}), inside=tuple(n.tag for n in self.open))
        self.nodes.append(node)
        for outer in self.open:
            outer.text.append(" ")
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open[-1].tag.name == tag, (tag, self.open[-1].tag)
        self.open.pop()
        for outer in self.open:
            outer.text.append(" ")

    def handle_data(self, data: str) -> None:
        for outer in self.open:
            outer.text.append(data)


def read(html: str) -> list[Node]:
    """Every element, in order; fails where tags are not nested."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader.nodes


def named(nodes: list[Node], name: str) -> list[Node]:
    return [node for node in nodes if node.tag.name == name]


def by_id(nodes: list[Node], name: str) -> Node:
    (matching,) = [node for node in nodes if node.tag.attributes.get("id") == name]
    return matching


def squeezed(text: str) -> str:
    return re.sub(r"[ \t\n\u00a0]+", " ", text).strip()
