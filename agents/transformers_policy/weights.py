"""New weights for a model in use: read and checked as a whole before the first one is changed."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from turnwise.errors import ConfigError, did_you_mean

_SHOWN = 5  # names listed in a message


def read_weights(weights: Any, model: Any) -> dict[str, Tensor]:
    """Return new weights by name, checked against the model's names and shapes.

    Args:
        weights: A folder that ``save_pretrained`` wrote, a folder of safetensors files, or a mapping of
            name to tensor such as a state dict. One of several names of a shared tensor is enough.
        model: The model they are for; not changed.

    Raises:
        ConfigError: They cannot be read, a name is unknown or missing, or a shape is wrong.
    """
    if isinstance(weights, (str, os.PathLike)):
        return _check(_read_folder(Path(weights), model), model)
    if isinstance(weights, Mapping):
        return _check(dict(weights), model)
    raise ConfigError(
        f"weights are a folder's path or a mapping of name to tensor, got {type(weights).__name__}: "
        "write them with model.save_pretrained(folder), or pass model.state_dict()"
    )


def apply_weights(tensors: Mapping[str, Tensor], model: Any) -> None:
    """Copy checked weights into the model's own tensors."""
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _read_folder(folder: Path, model: Any) -> dict[str, Any]:
    if not folder.is_dir():
        raise ConfigError(f"there is no folder of weights at {str(folder)!r}")
    files = sorted(folder.glob("*.safetensors"))
    try:
        if not (folder / "config.json").exists() and files:
            from safetensors.torch import load_file

            return {name: tensor for file in files for name, tensor in load_file(file).items()}
        # Through transformers, which knows how it writes each architecture's weights.
        loaded, report = type(model).from_pretrained(
            folder, config=copy.deepcopy(model.config), dtype=model.dtype, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ConfigError(f"the weights in {str(folder)!r} cannot be read into this model: {error}") from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, report.get(problem) or ())):
            raise ConfigError(f"the weights in {str(folder)!r} are not this model's: {problem} {names[:_SHOWN]}")
    found: dict[str, Any] = loaded.state_dict()
    return found


def _check(found: Mapping[Any, Any], model: Any) -> dict[str, Tensor]:
    own: dict[str, Tensor] = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        if name not in own:
            raise ConfigError(f"the model has no weights named {name!r}.{did_you_mean(str(name), own)}")
        try:
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"the weights {name!r} are no tensor: {error}") from error
        if tensor.shape != own[name].shape:
            raise ConfigError(
                f"the weights {name!r} have shape {tuple(tensor.shape)}, the model's have {tuple(own[name].shape)}"
            )
        tensors[name] = tensor
    # Names of one shared tensor (tied embeddings) stand for one another.
    given = {own[name].data_ptr() for name in tensors}
    missing = [name for name, tensor in own.items() if name not in tensors and tensor.data_ptr() not in given]
    if missing:
        raise ConfigError(f"{len(missing)} of the model's weights are missing: {missing[:_SHOWN]}. Give all of them")
    return tensors
