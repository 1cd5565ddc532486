"""Plugin classes by name, and the check of their settings against the parameters of `__init__`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import operator
import sys
import types
import typing
from importlib import metadata
from pathlib import Path
from typing import Any

from ockham.errors import PolicyError, suggest_name
from ockham.plugin import OccamPlugin, setting_names
from ockham.plugins import BUILT_IN, load_built_in

GROUP = "ockham.plugins"


def plugin_class(use: str, place: str = "") -> type[OccamPlugin]:
    """Return the class of a built-in name such as `gate`, of an entry point, or of `package.module:Class`.

    Raises:
        PolicyError: If the class does not exist.

    """
    if use in BUILT_IN:
        return load_built_in(use)
    if ":" in use:
        return _import_class(use, place)
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if use not in points:
        hint = suggest_name(use, {*BUILT_IN, *points})
        raise PolicyError(f"{place}no plugin {use!r}{hint}; name a custom plugin as 'package.module:Class'")
    return _import_class(points[use].value, place)


def plugin_reference(cls: type) -> str:
    """Return the name of a class in a policy: the inverse of `plugin_class`."""
    path = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, known in BUILT_IN.items() if known == path), path)


def check_setting(cls: type[OccamPlugin], plugin: str, key: str, value: Any, place: str) -> Any:
    """Return a setting as the type of its parameter. An int becomes a float if a float is required.

    Raises:
        PolicyError: If the setting does not exist, or the value has the wrong type.

    """
    names = setting_names(cls)
    if key not in names:
        raise PolicyError(
            f"{place}plugin {plugin!r} has no setting {key!r}{suggest_name(key, {*names, 'shadow', 'use'})}"
        )
    hints = typing.get_type_hints(cls.__init__)
    hint = hints.get(key)
    if hint is None:
        return value
    fits, converted = _coerce_to_hint(value, hint)
    if not fits:
        raise PolicyError(
            f"{place}{plugin}.{key} takes {_describe_type(hint)}, got {type(value).__name__} {value!r:.60}"
        )
    return converted


def default_settings(cls: type[OccamPlugin]) -> dict[str, Any]:
    """Return each setting and its default in order, for help and docs."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def code_digest(cls: type) -> str:
    """Return the SHA-256 of the source file of a class, or of its name if there is no file."""
    try:
        path = inspect.getsourcefile(cls)
        data = Path(path).read_bytes() if path else b""
    except (OSError, TypeError):
        data = cls.__qualname__.encode()
    return hashlib.sha256(data).hexdigest()


def _import_class(use: str, place: str) -> type[OccamPlugin]:
    module, _, attribute = use.partition(":")
    found: Any
    try:
        found = _module(module)
    except Exception as error:
        hint = ""
        if isinstance(error, ModuleNotFoundError):
            hint = "; install the module, or put it into the working folder or on PYTHONPATH"
        raise PolicyError(f"{place}plugin {use!r} cannot be imported: {_one_line(error)}{hint}") from None
    try:
        found = operator.attrgetter(attribute)(found)
    except AttributeError:
        raise PolicyError(f"{place}module {module!r} has no class {attribute!r}") from None
    if not (isinstance(found, type) and issubclass(found, OccamPlugin)):
        raise PolicyError(f"{place}{use!r} is not a class that derives from ockham.OccamPlugin")
    return found


def _module(name: str) -> types.ModuleType:
    """Import an installed module, or one in the working folder.

    Only this function looks into the working folder. A reader of another user's run may have changed into
    that user's folder, which could contain a module that a library imports optionally (numexpr, cloudpickle,
    ...).
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        working_folder = str(Path.cwd())
        if working_folder in sys.path:
            raise
        # Appended last, so that it hides no other module. It remains for later imports of the plugin.
        sys.path.append(working_folder)
        importlib.invalidate_caches()
        return importlib.import_module(name)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _coerce_to_hint(value: Any, wanted: Any) -> tuple[bool, Any]:
    """Return whether a value fits a type hint, and the value as that type."""
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(wanted):
            fits, converted = _coerce_to_hint(value, option)
            if fits:
                return True, converted
        return False, value
    if origin is typing.Literal:
        return value in typing.get_args(wanted), value
    if wanted in (None, type(None)):
        return value is None, value
    if wanted is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and not math.isnan(value), float(value) if number else value
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if wanted in (bool, str):
        return isinstance(value, wanted), value
    return True, value


def _describe_type(wanted: Any) -> str:
    if typing.get_origin(wanted) is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(wanted))
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return " or ".join(_describe_type(option) for option in typing.get_args(wanted))
    if wanted in (None, type(None)):
        return "null"
    return {float: "a number", int: "a whole number", bool: "true or false", str: "text"}.get(
        wanted, str(wanted)
    )
