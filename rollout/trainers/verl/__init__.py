"""verl 0.9: a reward function, a reward manager, an agent loop with our worlds, and turn-level estimators.

What survives of turn rewards:

* :mod:`~turnwise.rollout.trainers.verl.loop` puts each turn's reward on the last token sampled in it
  (``rm_scores``), in verl's default trainer (``trainer.use_v1=true``). Its older trainer overwrites that
  with the sum on the last token.
* Of verl's estimators ``reinforce_plus_plus`` and ``gae`` read positions and keep the structure; ``grpo``
  and its relatives sum the tokens first, so that only the total is left.
* :mod:`~turnwise.rollout.trainers.verl.estimators` registers ``turnwise_grpo``, ``turnwise_dr_grpo`` and
  ``turnwise_rloo``, which compare returns-to-go turn by turn within a group.
* :mod:`~turnwise.rollout.trainers.verl.reward` is a reward function of a text: it gives the total only.
* :mod:`~turnwise.rollout.trainers.verl.manager` places the turn rewards that another agent loop reports,
  where verl assembles a batch's scores at once.

A failed episode raises; verl then drops that task's whole group from the batch.

Install: ``pip install verl==0.9.1 TransferQueue uvicorn fastapi cachetools`` (verl imports the last four without
asking for them).
"""

REQUIREMENT = "verl==0.9.1"
