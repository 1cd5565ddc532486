"""YAML 1.2 by ruamel.yaml, with the line of each key, and the chain of files that a policy extends.

PyYAML reads 1e-3 as text and `no` as false, and keeps the last of two equal keys. ruamel.yaml reads YAML 1.2.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from ockham import resources
from ockham.errors import PolicyError, suggest_name
from ockham.text_safety import is_path_text

ALIASES: Mapping[str, str] = {"ockham_tight": "tight", "production_balanced": "balanced"}
KEYS = ("policy", "name", "description", "extends", "shadow", "targets", "hyperparameters", "plugins")
MAX_EXTENDS = 8
MAX_DEPTH = 16


def preset_names() -> list[str]:
    """Return the names of all shipped presets and their aliases."""
    return sorted([*(path.stem for path in resources.presets_dir().glob("*.yaml")), *ALIASES])


def resolve_extends(name_or_path: str | Path) -> list[Path]:
    """Return the file of a policy and all files that it extends, the nearest first.

    Raises:
        PolicyError: If a file does not exist, or extends itself.

    """
    paths = [_find(name_or_path)]
    while (base := load_yaml(paths[-1]).get("extends")) is not None:
        paths.append(_find(base, paths[-1].parent))
        if paths[-1] in paths[:-1] or len(paths) > MAX_EXTENDS:
            raise PolicyError(
                f"{paths[-1]}: extends itself through {' > '.join(path.name for path in paths)}"
            )
    return paths


def _find(name_or_path: Any, folder: Path | None = None) -> Path:
    text, known = str(name_or_path), preset_names()
    presets = f"presets: {', '.join(known)}"
    if not isinstance(name_or_path, Path) and not is_path_text(text):
        if text in known:
            return resources.presets_dir() / f"{ALIASES.get(text, text)}.yaml"
        close = suggest_name(text, known)
        hint = close if "did you mean" in close else ""
        raise PolicyError(f"no preset {text!r:.200}{hint}; {presets}; write a file as ./{text:.200}")
    path = Path(text) if folder is None else folder / text
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a name is too long
        raise PolicyError(f"no policy file {text!r:.200}; {presets}")
    return path


def load_yaml(path: Path) -> CommentedMap:
    """Return one file as a mapping that contains its line numbers.

    Raises:
        PolicyError: If it is not YAML 1.2, or not a mapping. The message names file and line.

    """
    # The round-trip loader is the only one that keeps line numbers. It creates no Python objects.
    yaml = YAML(typ="rt")
    try:
        text = path.read_text(encoding="utf-8-sig")
        _check_shape(path, text)
        loaded = yaml.load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{path}:{line}: {error.problem or error.context}") from None
    except (YAMLError, ValueError, OSError) as error:
        raise PolicyError(f"{path}: {error}") from None
    if not isinstance(loaded, CommentedMap):
        raise PolicyError(f"{path}:1: a policy is a mapping with the keys {', '.join(KEYS)}")
    return loaded


def _check_shape(path: Path, text: str) -> None:
    """Reject aliases and deep nesting, which could expand to millions of values or overflow the stack."""
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            raise PolicyError(
                f"{path}:{line}: a policy has no aliases; use `extends` to build on another one"
            )
        if depth > MAX_DEPTH:
            raise PolicyError(f"{path}:{line}: a policy has at most {MAX_DEPTH} levels of nesting")
