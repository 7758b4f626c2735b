"""Text to records and back: strict decoding with msgspec, complaints that name file, line and field."""

from __future__ import annotations

import json
import math
import re
import tomllib
from functools import cache
from typing import Any, TypeVar

import msgspec
import yaml

from claimbook.errors import RecordError
from claimbook.workspace import nearest

R = TypeVar("R")
_RESTORE = "restore the file (git checkout), it is written by the machine only"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of records that a person writes: an unknown field is an error, most likely a typing slip."""


class MachineRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of records that the machine writes: fields of a later version are read past."""


def decode_toml(text: str, kind: type[R], where: str) -> R:
    """Read a person's TOML as a record. Raises RecordError with file and line."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is a plain ValueError
        raise RecordError(str(error), fix="mend the TOML", where=where) from error
    return convert(raw, kind, where, text)


def decode_json(data: bytes | str, kind: type[R], where: str) -> R:
    """Read a machine's JSON as a record. Raises RecordError with file and field."""
    raw = parse_json(data, where)
    _check_schema(raw, kind, where)
    return convert(raw, kind, where)


def parse_json(data: bytes | str, where: str, fix: str = _RESTORE) -> Any:
    """The value of a machine's JSON in UTF-8. Raises RecordError with the file.

    Stricter than Python's: NaN, a number too large for a float, and a name that comes twice are errors.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"no valid JSON: {error}", fix=fix, where=where) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} comes twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _check_schema(raw: Any, kind: Any, where: str) -> None:
    """Raise RecordError for a file of a later version: reading past what it means would lose it silently."""
    known = _newest_schema(kind)
    found = raw.get("schema") if isinstance(raw, dict) else None
    if known and isinstance(found, int) and not 1 <= found <= known:
        raise RecordError(
            f"schema is {found}, and this claimbook reads up to {known}",
            fix="update claimbook: a later version wrote this file",
            where=where,
        )


@cache
def _newest_schema(kind: Any) -> int | None:
    """The schema that this version writes; found once, for a log has thousands of files of a kind."""
    return next((field.default for field in msgspec.structs.fields(kind) if field.name == "schema"), None)


def encode_json(record: Any) -> dict[str, Any]:
    """A record as plain JSON values, fields in the order of their definition."""
    value = msgspec.to_builtins(record)
    assert isinstance(value, dict)
    return value


class _FrontMatter(yaml.SafeLoader):
    """YAML in which a name that comes twice is an error, most likely a slip.

    libyaml's loader takes a ninth of the time, but brackets nested some thousand deep crash the process.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, its names checked."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"{key.value!r} comes twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def split_front_matter(text: str, where: str) -> tuple[dict[str, Any], str, int]:
    """Front matter, body, and the line where the body begins, of a Markdown file.

    Raises RecordError when the YAML between the two `---` lines is missing or broken.
    """
    match = re.match(r"---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if match is None:
        raise RecordError(
            "the front matter is missing",
            fix="begin the file with a line `---`, YAML fields, and a line `---`",
            where=f"{where}:1",
        )
    try:
        fields = yaml.load(match[1], _FrontMatter)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a 99th month is a plain ValueError
        mark = getattr(error, "problem_mark", None)
        line = 2 + mark.line if mark else 1
        problem = getattr(error, "problem", None) or str(error)
        raise RecordError(
            f"the front matter is no YAML: {problem}", fix="mend the YAML", where=f"{where}:{line}"
        ) from error
    if not isinstance(fields, dict):
        raise RecordError(
            "the front matter has no fields", fix="write `name: value` lines", where=f"{where}:1"
        )
    return fields, text[match.end() :], match[0].count("\n") + 1


def convert(raw: Any, kind: type[R], where: str, text: str | None = None) -> R:
    """Plain values as a record. Raises RecordError with the field, and its line when `text` shows one."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        problem, fix, field = _explain(str(error), kind)
        line = _line_of(text, field) if text and field else None
        raise RecordError(problem, fix=fix, where=f"{where}:{line}" if line else where) from error


def _explain(message: str, kind: type) -> tuple[str, str, str]:
    """Problem, next step and field of a msgspec complaint or of a record's own ("problem; next step")."""
    problem, _, path = message.partition(" - at ")
    field = re.sub(r"^`\$\.?|`$", "", path)
    named = re.search(r"field `([^`]+)`", problem)
    if "unknown field" in problem and named:
        fields = _fields_at(kind, field)
        problem = f"there is no field {named[1]!r}{nearest(named[1], fields)}"
        return problem, f"remove it or mend its name; known: {', '.join(fields)}", named[1]
    if "missing required field" in problem and named:
        return f"the field {named[1]!r} is missing", "add it", field
    if problem.startswith(("Expected", "Invalid", "Object")):
        return f"{field}: {problem}" if field else problem, "write what is expected", field
    problem, _, fix = problem.partition("; ")
    return problem, fix or "mend the field", field or problem.split()[0]


def _fields_at(kind: type, path: str) -> list[str]:
    """The fields of the record at a path such as `slots` or `claims[...]` in another."""
    from msgspec.inspect import NoneType, StructType, UnionType, type_info

    info: Any = type_info(kind)
    for part in filter(None, re.split(r"[.\[\]]+", path)):
        if isinstance(info, StructType):
            info = next((one.type for one in info.fields if one.encode_name == part), info)
        else:  # a table or list of records
            info = getattr(info, "value_type", None) or getattr(info, "item_type", info)
        if isinstance(info, UnionType):  # a record or none
            info = next((one for one in info.types if not isinstance(one, NoneType)), info)
    return [one.encode_name for one in getattr(info, "fields", ())]


def _line_of(text: str, field: str) -> int | None:
    """The first line that sets the innermost named part of a field path such as `arms.baseline`."""
    for part in reversed([p for p in re.split(r"[.\[\]]+", field) if p and p != "..." and not p.isdigit()]):
        pattern = re.compile(rf"^\s*(?:-\s*)?(?:\[[^\]]*\b)?[\"']?{re.escape(part)}[\"']?\s*(?:[=:\]])")
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.match(line):
                return number
    return None
