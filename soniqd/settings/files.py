"""Read soniq.toml and the files it includes: parsed, variables replaced, relative paths made absolute."""

from __future__ import annotations

import glob
import re
import tomllib
from pathlib import Path
from typing import Any

from soniqd.settings.document import Document, Origin, map_strings
from soniqd.settings.env import Environment
from soniqd.settings.paths import absolute_paths
from soniqd.settings.problems import Loc, quoted

_VARIABLE = re.compile(r"\$(?:\$|\{([^}]*)\})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AT = re.compile(
    r"^(?P<reason>.*) \((?:at line (?P<line>\d+), column (?P<column>\d+)|at end of document)\)$", re.DOTALL
)


def read_files(path: Path, environment: Environment, document: Document) -> tuple[Path, ...]:
    """Merge a file and what it includes into the document; return the files that were read."""
    values = _read(path, environment, document)
    document.merge(values, source=str(path))
    files = [path]
    for included in _included(path, values.get("include", ()), document):
        inner = _read(included, environment, document)
        if "include" in inner:
            del inner["include"]
            document.problems.append(f"{included}: include: only {path} itself can include files")
        document.merge(inner, source=str(included))
        files.append(included)
    return tuple(files)


def _read(path: Path, environment: Environment, document: Document) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        document.problems.append(f"{path}: cannot read: {(error.strerror or str(error)).lower()}")
        return {}
    except UnicodeDecodeError as error:
        document.problems.append(f"{path}: cannot read: not UTF-8 at byte {error.start}")
        return {}
    except tomllib.TOMLDecodeError as error:
        document.problems.append(_syntax_problem(path, str(error)))
        return {}
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, arrays in arrays without end
        document.problems.append(f"{path}: cannot parse: {str(error).lower()}")
        return {}

    def expand(text: str, loc: Loc) -> str:
        return _expand(text, loc, path, environment, document)

    return absolute_paths(map_strings(values, expand), base=path.parent, credentials=environment.credentials)


def _syntax_problem(path: Path, message: str) -> str:
    match = _AT.match(message)
    if match is None:
        return f"{path}: cannot parse: {message}"
    where = f":{match['line']}:{match['column']}" if match["line"] else " (at its end)"
    return f"{path}{where}: cannot parse: {match['reason']}"


def _expand(text: str, loc: Loc, path: Path, environment: Environment, document: Document) -> str:
    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        variable = environment.get(name) if _NAME.fullmatch(name) else None
        if variable is None:
            reason = "is not set" if _NAME.fullmatch(name) else 'is not a variable; write "$$" for a dollar sign'
            document.problems.append(f"{Origin(str(path), loc)}: ${{{name}}} {reason}")
            return ""
        return variable.value

    return _VARIABLE.sub(replace, text)


def _included(path: Path, patterns: Any, document: Document) -> list[Path]:
    if not isinstance(patterns, list | tuple):
        return []  # the model says what is wrong with it
    files: list[Path] = []
    for index, pattern in enumerate(patterns):
        if not isinstance(pattern, str):
            continue
        found = sorted(glob.glob(pattern, root_dir=path.parent))  # noqa: PTH207  patterns may be absolute
        if not found and not glob.has_magic(pattern):
            document.problems.append(f"{path}: include[{index}]: no such file: {quoted(pattern)}")
        files += [path.parent / name for name in found]
    return [file for file in dict.fromkeys(files) if file != path]
