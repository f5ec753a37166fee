"""Beliefs of a language model: how probable it finds the right answer in each context."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from turnwise.errors import JudgeError, TurnwiseError, attribute_to
from turnwise.protocols import (
    AnswerLogProbs,
    AnswerQuery,
    Belief,
    BeliefRequest,
    ContextRenderer,
    ForcedAnswer,
    LogProbSource,
)
from turnwise.records import Json
from turnwise.rewards.gain.contexts import PlainContexts
from turnwise.rewards.gain.parts import made, use_of
from turnwise.rewards.options import OptionError, choice

Aliases = Literal["max", "mean"]


class ModelBeliefs:
    """Teacher-forced confidence of a model in the right answer (keeps the BatchBeliefScorer protocol).

    The model is made to answer after each turn: context, ``prefix``, answer, ``suffix``. With ``s`` the
    mean log-probability of the answer's own tokens, the confidence is ``exp(s)``, the geometric mean of
    their probabilities, as in IGPO (arXiv 2510.14967; its code scores the first alias only).
    """

    def __init__(
        self,
        source: LogProbSource | str,
        *,
        source_options: Mapping[str, Json] | None = None,
        renderer: ContextRenderer | str | None = None,
        renderer_options: Mapping[str, Json] | None = None,
        prefix: str = "<answer>\n",
        suffix: str = "\n</answer>",
        aliases: Aliases = "max",
    ) -> None:
        """Ask a model.

        Args:
            source: Where log-probabilities come from: an object, or an import string such as
                ``"turnwise.agents.likelihood:EndpointLogProbs"``.
            source_options: What to make it with, for an import string.
            renderer: How trajectories are written; None takes the source's own ``renderer`` where it
                has one, else plain text.
            renderer_options: What to make it with, for an import string.
            prefix: What stands between the context and the answer.
            suffix: What follows the answer.
            aliases: With several right answers, take in each context the most probable one
                (``"max"``), or the mean of the probabilities and of the log-probabilities (``"mean"``).

        Raises:
            ConfigError: An option is unknown, or an import string points nowhere.
        """
        self.source: LogProbSource = made("source", source, source_options, LogProbSource)
        own = getattr(self.source, "renderer", None) or PlainContexts()
        self.renderer: ContextRenderer = made("renderer", renderer or own, renderer_options, ContextRenderer)
        for option, text in (("prefix", prefix), ("suffix", suffix)):
            if not isinstance(text, str):
                raise OptionError(option, f"must be text, got {text!r}")
        self.prefix, self.suffix = prefix, suffix
        self.aliases: Aliases = choice("aliases", aliases, ("max", "mean"))

    def beliefs(self, request: BeliefRequest) -> tuple[Belief, ...]:
        """Return the model's confidence before the first turn and after each of ``request.turns``.

        Raises:
            TurnwiseError: There is no right answer to score, or the model cannot be asked.
        """
        (result,) = self.beliefs_many([request])
        if isinstance(result, TurnwiseError):
            raise result
        return result

    def beliefs_many(self, requests: Sequence[BeliefRequest]) -> list[tuple[Belief, ...] | TurnwiseError]:
        """Score several trajectories with one call of the source."""
        queries = [self._query(request) for request in requests]
        asked = [query for query in queries if isinstance(query, AnswerQuery)]
        with attribute_to("judge", "scoring answers"):
            answers = list(self.source.answer_logprobs(asked)) if asked else []
        if len(answers) != len(asked):
            raise JudgeError(f"the log-prob source gave {len(answers)} results for {len(asked)} queries")
        replies = iter(answers)
        return [
            query if isinstance(query, TurnwiseError) else self._read(request, next(replies))
            for request, query in zip(requests, queries, strict=True)
        ]

    def _query(self, request: BeliefRequest) -> AnswerQuery | TurnwiseError:
        if not request.answers:
            return JudgeError(f"task {request.trajectory.task.id!r} names no right answer to score")
        forced = tuple(ForcedAnswer(answer=a, prefix=self.prefix, suffix=self.suffix) for a in request.answers)
        try:
            with attribute_to("judge", "writing the context"):
                segments = self.renderer.render(request.trajectory, request.turns)
        except TurnwiseError as error:
            return error
        return AnswerQuery(segments=segments, answers=forced)

    def _read(
        self, request: BeliefRequest, reply: AnswerLogProbs | TurnwiseError
    ) -> tuple[Belief, ...] | TurnwiseError:
        if isinstance(reply, TurnwiseError):
            return reply
        if len(reply.tokens) != request.turns + 1:
            return JudgeError(f"the log-prob source scored {len(reply.tokens)} contexts of {request.turns + 1}")
        try:
            return tuple(self._belief(request.answers, row) for row in reply.tokens)
        except JudgeError as error:
            return error

    def _belief(self, answers: Sequence[str], row: Sequence[Sequence[float]]) -> Belief:
        if len(row) != len(answers):
            raise JudgeError(f"the log-prob source scored {len(row)} answers of {len(answers)}")
        means = [_mean(answer, tokens) for answer, tokens in zip(answers, row, strict=True)]
        if self.aliases == "mean" and len(means) > 1:
            probability = math.fsum(math.exp(mean) for mean in means) / len(means)
            evidence: dict[str, Json] = {"aliases": len(means)}
            return Belief(probability=probability, logprob=math.fsum(means) / len(means), evidence=evidence)
        best = max(range(len(means)), key=means.__getitem__)
        evidence = {"aliases": len(means)} if len(means) > 1 else {}
        return Belief(probability=math.exp(means[best]), logprob=means[best], answer=answers[best], evidence=evidence)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {
            "source": use_of(self.source),
            "source_options": self.source.describe(),
            "renderer": use_of(self.renderer),
            "renderer_options": self.renderer.describe(),
            "prefix": self.prefix,
            "suffix": self.suffix,
            "aliases": self.aliases,
        }


def _mean(answer: str, tokens: Sequence[float]) -> float:
    if not tokens:
        raise JudgeError(f"the answer {answer[:80]!r} has no tokens of its own, so it has no probability")
    mean = math.fsum(tokens) / len(tokens)
    if not math.isfinite(mean) or mean > 1e-3:
        raise JudgeError(f"the answer {answer[:80]!r} got the log-probability {mean!r}, expected a number of at most 0")
    return min(mean, 0.0)
