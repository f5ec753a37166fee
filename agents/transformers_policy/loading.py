"""Model and tokenizer by path or hub name."""

from __future__ import annotations

import os
import re
from typing import Any

from turnwise.errors import ConfigError, MissingExtraError, PolicyError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def place_of(target: str) -> str:
    """Return a model's folder as an absolute path, or its hub name as it is.

    Raises:
        ConfigError: It is neither a folder nor a name that a hub could have.
    """
    folder = os.path.expanduser(target)
    if os.path.isdir(folder):
        return os.path.abspath(folder)
    if not _HUB_NAME.fullmatch(target) or ".." in target:
        raise ConfigError(
            f"there is no folder {target!r} (looked at {os.path.abspath(folder)}), and a hub name looks like "
            "'owner/name': give the folder that save_pretrained wrote"
        )
    return target


def load_model(model: Any, tokenizer: Any, *, device: str | None, dtype: str) -> tuple[Any, Any]:
    """Return model and tokenizer, loaded where they are given by name; the model in evaluation mode.

    Code that comes with a model is never run.

    Args:
        model: A model, or its place.
        tokenizer: A tokenizer, its place, or None for the one beside the model.
        device: Where the model goes; None leaves a model object where it is and puts a loaded one on a
            GPU if there is one.
        dtype: Number type of a loaded model; ``"auto"`` is float32 on a CPU, else the model's own.

    Raises:
        ConfigError: It cannot be loaded.
        MissingExtraError: torch or transformers is not installed.
        PolicyError: It does not fit into memory.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "torch") from error
    what = tokenizer or model
    try:
        if tokenizer is None or isinstance(tokenizer, str):
            tokenizer = AutoTokenizer.from_pretrained(what, trust_remote_code=False)
        if isinstance(model, str):
            what = model
            device = device or ("cuda" if torch.cuda.is_available() else "cpu")
            number = "float32" if dtype == "auto" and torch.device(device).type == "cpu" else dtype
            model = AutoModelForCausalLM.from_pretrained(model, dtype=number, trust_remote_code=False)
        model = model.to(device) if device is not None else model
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        raise PolicyError(f"the model {what!r} does not fit into memory: {error}", kind="memory") from error
    except ImportError as error:
        raise ConfigError(f"{what!r} needs more than is installed: {error}") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, AssertionError) as error:
        # The assertion is torch's, of a device that it was built without.
        raise ConfigError(
            f"cannot load {what!r}: {type(error).__name__}: {error}. Give a folder with a causal language model and "
            "its tokenizer, as save_pretrained writes them (tokenizer=PATH where it stands elsewhere), or a hub name"
        ) from error
    return model.eval(), tokenizer
