"""TRL's GRPO with turnwise: rewards, rollouts, environments as tools, and turn advantages on the tokens.

What survives of turn rewards:

================================ =====================================================================
:class:`Rollouts` with           everything: each token's advantage is that of its turn; what may not be
:class:`TurnAdvantages`          trained on is masked
:class:`Rollouts` alone          the sum per episode reaches the gradient; turn rewards and spans arrive
                                 in reward functions and logs
:func:`make_environment`         the sum per episode; turn rewards are in each environment's trajectory
:func:`make_reward`              the sum per episode
================================ =====================================================================

An invalid reward is ``None`` in every way, which TRL leaves out of the group; it is never 0.
"""

from turnwise.rollout.trainers.trl.advantages import TurnAdvantages, turn_grpo_trainer
from turnwise.rollout.trainers.trl.environments import make_environment
from turnwise.rollout.trainers.trl.rewards import component_reward, episode_reward, make_async_reward, make_reward
from turnwise.rollout.trainers.trl.rollouts import Rollouts

__all__ = [
    "Rollouts",
    "TurnAdvantages",
    "component_reward",
    "episode_reward",
    "make_async_reward",
    "make_environment",
    "make_reward",
    "turn_grpo_trainer",
]
