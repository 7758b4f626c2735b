"""A person's front matter, changed by line: only the lines of a field change, all other bytes stay.

YAML libraries that write back what they read drop comments, reorder and reflow, so here the parser only says
where a value stands. What has been changed is parsed again: every other field must read as before, or nothing
is changed. Knows the form of fields, not their meaning.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from claimbook.errors import PaperError, RecordError
from claimbook.records.schema import split_front_matter

Value = str | int | list[str]

ORDER = ("id", "read_version", "status", "week", "tags")
"""Where a field goes that is not there yet: behind the last of those before it."""
_BOM = "\ufeff"
_PLAIN = re.compile(r"\w(?:[\w ./+-]*\w)?")


def set_fields(text: str, fields: Mapping[str, Value], where: str) -> str:
    """The text of a note with fields of its front matter set; a field that has its value stays as written.

    Raises RecordError when the front matter cannot be read, PaperError with file and line when the form of a
    field is too unusual to be changed safely.
    """
    mark = _BOM if text.startswith(_BOM) else ""
    text = text.removeprefix(_BOM)
    for name, value in fields.items():
        text = _set(text, name, value, where)
    return mark + text


def scalar(value: str | int, style: str | None = None) -> str:
    """A value in YAML on one line; `style` is the kind of quotes, if any, that it should have."""
    if isinstance(value, int):
        return str(value)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if style is None and _PLAIN.fullmatch(value) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def flow_list(values: list[str]) -> str:
    """A list in YAML on one line."""
    return f"[{', '.join(map(scalar, values))}]"


@dataclass(frozen=True)
class _Field:
    """Where one field of a front matter stands: the parser's events for its name and for its value."""

    name: str | None
    key: Any
    value: list[Any]

    @property
    def on_one_line(self) -> bool:
        """Whether it is `name: value` with a value that is no list and has neither anchor nor tag."""
        return (
            len(self.value) == 1
            and _is_simple(self.value[0])
            and self.key.start_mark.line == self.value[0].end_mark.line
        )


def _set(text: str, name: str, value: Value, where: str) -> str:
    before, body, _ = split_front_matter(text, where)
    if name in before and repr(before[name]) == repr(value):
        return text
    fields = _fields(text[: len(text) - len(body)])
    field = next((one for one in fields if one.name == name), None)
    if field is None:
        edited = _inserted(text, fields, name, value)
    elif isinstance(value, list) and not field.on_one_line:
        edited = _with_list(text, field, before[name], value)
    else:
        edited = _with_scalar(text, field, value)
    if edited is None or not _is_only_change(text, edited, name, value, where):
        line = field.key.start_mark.line + 1 if field else 1
        by_hand = flow_list(value) if isinstance(value, list) else scalar(value)
        raise PaperError(
            f"{name} is written in a form that cannot be changed safely; nothing was changed",
            fix=f"write by hand, in one line of the front matter: {name}: {by_hand}",
            where=f"{where}:{line}",
        )
    return edited


def _is_only_change(text: str, edited: str, name: str, value: Value, where: str) -> bool:
    """Whether the edited text reads as the text does, but for one field."""
    before, body, _ = split_front_matter(text, where)
    try:
        after, body_after, _ = split_front_matter(edited, where)
    except RecordError:
        return False
    return body == body_after and _readings({**before, name: value}) == _readings(after)


def _readings(fields: dict[str, Any]) -> dict[str, str]:
    """Values as text, for 1, 1.0 and True are equal to Python, and NaN is not equal to itself."""
    return {name: repr(value) for name, value in fields.items()}


def _fields(front: str) -> list[_Field]:
    """The fields of a front matter, its two `---` included; none where they are not one to a line."""
    events = _events(front)
    root = next(events, None)
    if not isinstance(root, yaml.MappingStartEvent) or root.flow_style:
        return []
    fields = []
    while not isinstance((key := _node(events))[0], yaml.MappingEndEvent):
        name = key[0].value if isinstance(key[0], yaml.ScalarEvent) else None
        fields.append(_Field(name, key[0], _node(events)))
    return fields


def _events(front: str) -> Iterator[Any]:
    for event in yaml.parse(front, Loader=yaml.SafeLoader):
        if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
            yield event


def _node(events: Iterator[Any]) -> list[Any]:
    """The events of the next value, a list's or a mapping's with all that is in it."""
    node = [next(events)]
    depth = int(isinstance(node[0], yaml.CollectionStartEvent))
    while depth:
        event = next(events)
        node.append(event)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
    return node


def _is_simple(event: Any) -> bool:
    """A value on one line without anchor, tag, or block style."""
    start, end = event.start_mark, event.end_mark
    return (
        isinstance(event, yaml.ScalarEvent)
        and event.anchor is None
        and event.tag is None
        and event.style in (None, "'", '"')
        and start.line == end.line
    )


def _with_scalar(text: str, field: _Field, value: Value) -> str | None:
    if not field.on_one_line:
        return None
    event = field.value[0]
    start, end = event.start_mark.index, event.end_mark.index
    written = flow_list(value) if isinstance(value, list) else scalar(value, event.style)
    space = " " if start == end else ""  # an empty value begins right behind the colon
    return text[:start] + space + written + text[end:]


def _with_list(text: str, field: _Field, old: Any, new: list[str]) -> str | None:
    first, *items, _ = field.value if len(field.value) > 1 else (None, None)
    if not isinstance(first, yaml.SequenceStartEvent) or first.anchor or first.tag:
        return None
    if not all(map(_is_simple, items)):
        return None
    kept = [item in new for item in old]
    beginning = [item for item in old if item in new]
    if new[: len(beginning)] != beginning:  # another order: nothing is kept
        kept, beginning = [False] * len(old), []
    change = _with_flow_list if first.flow_style else _with_block_list
    return change(text, field, kept, new[len(beginning) :])


def _with_flow_list(text: str, field: _Field, kept: list[bool], added: list[str]) -> str | None:
    first, *items, last = field.value
    start, end = first.start_mark.index + 1, last.end_mark.index - 1
    edges = [start, *(mark.index for item in items for mark in (item.start_mark, item.end_mark)), end]
    # by turns what stands between the values, brackets aside, and the values themselves
    parts = [text[a:b] for a, b in itertools.pairwise(edges)]
    between, values = parts[::2], parts[1::2]
    if any("#" in part for part in between):  # whose comment it is cannot be told
        return None
    written = [*itertools.compress(values, kept), *map(scalar, added)]
    if not written:
        return text[:start] + text[end:]
    separator = between[1] if len(values) > 1 else ", "
    ending = between[-1] if values else ""
    return text[:start] + between[0] + separator.join(written) + ending + text[end:]


def _with_block_list(text: str, field: _Field, kept: list[bool], added: list[str]) -> str | None:
    _, *items, _ = field.value
    lines = [_line(text, item.start_mark.index) for item in items]
    dashes = [text[start : item.start_mark.index] for (start, _), item in zip(lines, items, strict=True)]
    if any(dash.strip() != "-" for dash in dashes):
        return None
    end = lines[-1][1]
    new_lines = [dashes[0] + scalar(value) + _newline(text, end) for value in added]
    edited = text[:end] + "".join(new_lines) + text[end:]
    for (start, end), keep in reversed(list(zip(lines, kept, strict=True))):
        edited = edited if keep else edited[:start] + edited[end:]
    if not added and not any(kept):
        colon = text.index(":", field.key.end_mark.index) + 1
        edited = f"{edited[:colon]} []{edited[colon:]}"
    return edited


def _inserted(text: str, fields: list[_Field], name: str, value: Value) -> str | None:
    """The text with a new field on a line of its own."""
    before = ORDER[: ORDER.index(name)]
    neighbours = [one for one in fields if one.name in before and one.on_one_line]
    if not neighbours:
        return None
    neighbour = max(neighbours, key=lambda one: before.index(one.name or ""))
    start, end = _line(text, neighbour.key.start_mark.index)
    indent = text[start : neighbour.key.start_mark.index]
    written = flow_list(value) if isinstance(value, list) else scalar(value, '"' if name == "week" else None)
    return f"{text[:end]}{indent}{name}: {written}{_newline(text, end)}{text[end:]}"


def _line(text: str, place: int) -> tuple[int, int]:
    """Where the line of a place begins, and where the next one does."""
    return text.rfind("\n", 0, place) + 1, text.index("\n", place) + 1


def _newline(text: str, end: int) -> str:
    """How the line that ends here is ended."""
    return "\r\n" if text[:end].endswith("\r\n") else "\n"
