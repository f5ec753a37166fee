"""Credit: a group of trajectories in, advantages per turn and per token out.

The only place where rewards are compared and normalised; rewards themselves stay raw.
"""

from turnwise.rewards.credit.cgrpo import CGRPO, FORMS, mix_rewards
from turnwise.rewards.credit.estimators import dr_grpo, grpo, rloo
from turnwise.rewards.credit.group import ESTIMATORS, GroupCredit
from turnwise.rewards.credit.information_gain import (
    NORMALISATIONS,
    InformationGainCredit,
    normalise_gains,
    unbiased_turn_credit,
)
from turnwise.rewards.credit.returns import return_to_go
from turnwise.rewards.credit.tokens import expand_to_tokens, place_on_boundaries, turn_boundaries, turn_of_token

__all__ = [
    "CGRPO",
    "ESTIMATORS",
    "FORMS",
    "NORMALISATIONS",
    "GroupCredit",
    "InformationGainCredit",
    "dr_grpo",
    "expand_to_tokens",
    "grpo",
    "mix_rewards",
    "normalise_gains",
    "place_on_boundaries",
    "return_to_go",
    "rloo",
    "turn_boundaries",
    "turn_of_token",
    "unbiased_turn_credit",
]
