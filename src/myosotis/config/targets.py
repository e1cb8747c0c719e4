"""`_target_` in the config: resolved, trusted, and held against its signature.

A config can name any class, so it could run any code. Hence three conditions: the package is
trusted, what the name resolves to is of the type its group expects, and its keywords fit. A package
of your own becomes trusted by the environment variable MYOSOTIS_TRUSTED (names, comma-separated) or
an entry point in the group `myosotis.trusted`, never by the config itself.
"""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError

TRUSTED = frozenset({"bitsandbytes", "myosotis", "torch", "lightning", "peft", "transformers"})


def trusted() -> frozenset[str]:
    """Top-level packages a `_target_` may come from."""
    return TRUSTED | trusted_by_the_user()


def trusted_by_the_user() -> frozenset[str]:
    """Those of them that the environment or an installed package names."""
    if _settled:
        return _settled[-1]
    given = os.environ.get("MYOSOTIS_TRUSTED", "").split(",")
    return frozenset({name.strip() for name in given if name.strip()}) | _named_by_packages()


@cache
def _named_by_packages() -> frozenset[str]:
    """Looked up once: it reads the description of every package there is."""
    points = entry_points(group="myosotis.trusted")
    return frozenset(point.value.partition(":")[0] for point in points)


_settled: list[frozenset[str]] = []


@contextmanager
def settled() -> Iterator[None]:
    """While Hydra runs, which may set variables: trust is what the environment said before."""
    _settled.append(trusted_by_the_user())
    try:
        yield
    finally:
        _settled.pop()


def resolve(name: str, base: type, where: str) -> Any:
    """The class (or factory) that `name` means.

    Raises `ConfigError` unless it lies in a trusted package and is a subclass of `base`, or a
    function declared to return one. `where` is the key, for the message.
    """
    package = name.partition(".")[0]
    if package not in trusted():
        raise ConfigError(
            f"{where}={name}: the package {package!r} is not trusted to run here.",
            f"If you trust it, set the environment variable MYOSOTIS_TRUSTED={package}.",
        )
    module_name, _, attribute = name.rpartition(".")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{where}={name}: cannot import {module_name!r} ({error}).") from None
    found = getattr(module, attribute, None)
    if found is None:
        fitting = [n for n, v in vars(module).items() if inspect.isclass(v) and issubclass(v, base)]
        raise ConfigError(
            f"{where}={name}: {module_name} has no {attribute!r}.", did_you_mean(attribute, fitting)
        )
    if not _makes(found, base):
        raise ConfigError(f"{where}={name} is not a {base.__module__}.{base.__qualname__}.")
    return found


def _makes(found: Any, base: type) -> bool:
    if inspect.isclass(found):
        return _is_subtype(found, base)
    if not inspect.isfunction(found):
        return False
    try:
        returned = typing.get_type_hints(found).get("return")
    except (NameError, TypeError):
        return False
    return inspect.isclass(returned) and _is_subtype(returned, base)


def _is_subtype(found: type, base: type) -> bool:
    if found.__module__ != "typing":  # Any is a class since Python 3.11
        # A protocol with data members (objectives) cannot be asked by issubclass: by its methods.
        if getattr(base, "_is_protocol", False):
            members = {*base.__annotations__, *(n for n in vars(base) if not n.startswith("_"))}
            return all(hasattr(found, name) for name in members)
        return issubclass(found, base)
    return False


def bound(
    settings: Mapping[str, Any], base: type, where: str, *given: str
) -> tuple[Any, dict[str, Any]]:
    """The class that `settings["_target_"]` names, and its keywords, checked to fit.

    A `name` that the class does not take is only the label of a choice. `given` are parameters that
    the run supplies itself.
    """
    words = {k: v for k, v in settings.items() if k != "_target_"}
    if "_target_" not in settings:
        raise ConfigError(f"{where} names no class.", f"Add {where}._target_=package.Class.")
    if special := sorted(k for k in words if k.startswith("_")):
        raise ConfigError(f"{where}.{special[0]} is not supported here.", "Only _target_ is.")
    found = resolve(str(settings["_target_"]), base, f"{where}._target_")
    parameters = inspect.signature(found).parameters
    if "name" not in parameters:
        words.pop("name", None)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for word in words:
        if word not in parameters and not takes_any:
            known = [p for p in parameters if p not in given and p != "self"]
            raise ConfigError(f"{where} has no key {word!r}.", did_you_mean(word, known))
    for name, parameter in parameters.items():
        needed = parameter.default is inspect.Parameter.empty and parameter.kind in (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        )
        if needed and name not in words and name not in given:
            raise ConfigError(f"{where} needs the key {name!r}.", f"Add +{where}.{name}=VALUE.")
    return found, words


def refuse_elsewhere(node: Any, where: str = "") -> None:
    """Refuse a `_target_` below the top of a group: it would run unseen."""
    children = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list):
        children = enumerate(node)
    for key, child in children:
        path = f"{where}.{key}" if where else str(key)
        if key == "_target_":
            raise ConfigError(f"{path} has no place here: nothing would be built from it.")
        refuse_elsewhere(child, path)
