"""Tinker cookbook 0.6: our worlds as its environments, and datums with an advantage on every token.

What survives of turn rewards:

* Each transition carries its turn's reward: :class:`~turnwise.rollout.trainers.tinker.envs.WorldGroup` writes
  them once the episode is graded. The cookbook's ``compute_advantages`` sums them to one number per episode.
* So that turns count, the group's turn advantages are worked out with the rewards, and
  :func:`~turnwise.rollout.trainers.tinker.data.assemble_turn_data` puts them on the tokens of each datum. It
  stands in for the cookbook's function of the same signature::

      from tinker_cookbook.rl import train
      from turnwise.rollout.trainers.tinker.data import assemble_turn_data

      train.assemble_training_data = assemble_turn_data

  ``remove_constant_reward_groups`` still looks at totals: switch it off to keep groups whose episodes
  differ in their turns only.

A failed episode raises in ``step``; the cookbook's rollout strategy decides whether that costs the
trajectory (it is retried or left out) or the group. It is never a reward of 0.

Install: ``pip install tinker-cookbook==0.6.1``.
"""

REQUIREMENT = "tinker-cookbook==0.6.1"
