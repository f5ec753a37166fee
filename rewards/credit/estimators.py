"""Group-relative advantages: GRPO, Dr.GRPO and RLOO, over the valid members of a group only.

=========== ======================================= =====================================
estimator   formula                                  source
=========== ======================================= =====================================
``grpo``    ``(R - mean) / (std + eps)``            verl; ``std`` with n-1 as verl and TRL
``dr_grpo`` ``R - mean``                            Dr.GRPO, ``mean_norm``
``rloo``    ``(R - mean) * n / (n - 1)``            equals ``R[i]`` minus the mean of the others
=========== ======================================= =====================================

A group of one and a group of equal returns give exactly 0.0. (verl gives a group of one its raw
return in GRPO and in one of its two RLOO versions, and 0 in the other; here it has no advantage over
anybody.) Members that are not valid get 0.0 and have no part in any mean or deviation.

Arrays are of shape (n,), or (n, turns) for one comparison per column; then ``grpo`` divides all
columns by one deviation, pooled over them, so that a column with hardly any spread is not blown up.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from turnwise.errors import ConfigError
from turnwise.rewards.credit.returns import Bools, Floats

Std = Literal["unbiased", "biased"]
# Returns that differ by less than this share of the largest one differ by rounding only.
_ROUNDING = 1e-12


def _read(returns: ArrayLike, valid: ArrayLike | None) -> tuple[Floats, Bools]:
    values = np.asarray(returns, dtype=np.float64)
    mask = np.ones(values.shape, dtype=np.bool_) if valid is None else np.asarray(valid, dtype=np.bool_)
    if values.ndim not in (1, 2) or mask.shape != values.shape:
        raise ConfigError(f"returns and valid must both be (n,) or (n, turns), got {values.shape} and {mask.shape}")
    if not np.isfinite(values[mask]).all():
        raise ConfigError("returns must be finite where they are valid: mark the others in 'valid'")
    return values, mask


def _deviations(values: Floats, valid: Bools) -> tuple[Floats, NDArray[np.int64]]:
    """Return value minus column mean, exactly 0 in columns without spread, and the count per column."""
    counts = valid.sum(axis=0)
    filled = np.where(valid, values, 0.0)
    mean = filled.sum(axis=0) / np.maximum(counts, 1)
    lowest = np.where(valid, values, np.inf).min(axis=0, initial=np.inf)
    highest = np.where(valid, values, -np.inf).max(axis=0, initial=-np.inf)
    flat = (counts < 2) | (highest - lowest <= _ROUNDING * np.abs(filled).max(axis=0, initial=0.0))
    return np.where(valid & ~flat, values - mean, 0.0), counts


def dr_grpo(returns: ArrayLike, *, valid: ArrayLike | None = None) -> Floats:
    """Return ``R - mean``.

    Args:
        returns: Shape (n,) or (n, turns).
        valid: Which entries count, same shape; all by default.

    Returns:
        float64 of the same shape; the valid entries of each column sum to 0.

    Raises:
        ConfigError: Shapes differ or a valid return is not finite.
    """
    return _deviations(*_read(returns, valid))[0]


def rloo(returns: ArrayLike, *, valid: ArrayLike | None = None) -> Floats:
    """Return ``R[i]`` minus the mean of the other valid members.

    Args:
        returns: Shape (n,) or (n, turns).
        valid: Which entries count, same shape; all by default.

    Returns:
        float64 of the same shape.

    Raises:
        ConfigError: Shapes differ or a valid return is not finite.
    """
    deviations, counts = _deviations(*_read(returns, valid))
    scaled: Floats = deviations * (counts / np.maximum(counts - 1, 1))
    return scaled


def grpo(returns: ArrayLike, *, valid: ArrayLike | None = None, std: Std = "unbiased", eps: float = 1e-6) -> Floats:
    """Return ``(R - mean) / (std + eps)``.

    Args:
        returns: Shape (n,) or (n, turns).
        valid: Which entries count, same shape; all by default.
        std: ``"unbiased"`` divides squares by n-1 (verl, TRL), ``"biased"`` by n.
        eps: Added to the deviation; verl has 1e-6, TRL-based code 1e-4.

    Returns:
        float64 of the same shape.

    Raises:
        ConfigError: Shapes differ, a valid return is not finite, or an option is out of range.
    """
    check_std(std, eps)
    deviations, counts = _deviations(*_read(returns, valid))
    freedom = np.maximum(counts - (1 if std == "unbiased" else 0), 0).sum()
    if freedom == 0:
        return deviations
    scale = np.sqrt(np.square(deviations).sum() / freedom) + eps
    return deviations / scale if scale > 0.0 else deviations


def check_std(std: str, eps: float) -> None:
    """Check the options of :func:`grpo`.

    Raises:
        ConfigError: ``std`` is unknown or ``eps`` negative.
    """
    if std not in ("unbiased", "biased"):
        raise ConfigError(f"std must be 'unbiased' (n-1) or 'biased' (n), got {std!r}")
    check_eps(eps)


def check_eps(eps: float) -> float:
    """Return what is added to a deviation.

    Raises:
        ConfigError: It is no finite number of at least 0.
    """
    if isinstance(eps, bool) or not isinstance(eps, (int, float)) or not 0.0 <= eps < np.inf:
        raise ConfigError(f"eps must be a number of at least 0, got {eps!r}")
    return float(eps)
