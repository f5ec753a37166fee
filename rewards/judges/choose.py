"""From a reward's option to a judge."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from turnwise import registry
from turnwise.errors import ConfigError, did_you_mean
from turnwise.protocols import Judge
from turnwise.rewards.judges.llm import LLMJudge
from turnwise.rewards.judges.rule import RuleJudge
from turnwise.rewards.options import OptionError, show

_KINDS: dict[str, Any] = {"rule": RuleJudge, "llm": LLMJudge}


def make_judge(judge: object) -> Judge:
    """Return the judge that an option describes.

    Args:
        judge: ``"rule"``; ``"llm"`` with its options in a mapping, ``{"use": "llm", "model": ..}``; an import string
            ``"module:Class"``, alone or as ``use``; or a judge.

    Raises:
        OptionError: There is no such judge, or its options are wrong.
    """
    if isinstance(judge, Judge) and not isinstance(judge, type):
        return judge
    options: dict[str, Any] = {}
    if isinstance(judge, Mapping):
        options = {str(key): value for key, value in judge.items()}
        judge = options.pop("use", None)
    if not isinstance(judge, str):
        raise OptionError(
            "judge", f"must be 'rule' or a mapping with 'use', such as {{use: llm, ..}}, got {show(judge)}"
        )
    kind = _kind(judge)
    known = inspect.signature(kind).parameters
    for key in options:
        if key not in known:
            raise OptionError(f"judge.{key}", f"judge {judge!r} has no such option.{did_you_mean(key, known)}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in options and parameter.kind is parameter.KEYWORD_ONLY:
            raise OptionError("judge", f"judge {judge!r} needs the option {key!r}: write {{use: {judge}, {key}: ..}}")
    try:
        made = kind(**options)
    except OptionError as error:
        raise OptionError(f"judge.{error.option}", error.problem) from None
    if not isinstance(made, Judge):
        missing = [n for n in ("remote", "answer", "entities", "support", "useful", "describe") if not hasattr(made, n)]
        raise OptionError("judge", f"{judge!r} is no judge: it lacks {', '.join(missing)}")
    return made


def _kind(name: str) -> Any:
    if ":" not in name:
        if name not in _KINDS:
            raise OptionError("judge", f"unknown judge {name!r}.{did_you_mean(name, _KINDS)}")
        return _KINDS[name]
    try:
        return registry.load_entry_point(name)
    except ConfigError as error:
        raise OptionError("judge", str(error)) from error
