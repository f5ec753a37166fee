"""Answer log-probabilities from a Hugging Face causal language model on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from turnwise.agents.likelihood.chat import ChatContexts, RecordedContexts
from turnwise.agents.likelihood.encode import Encoded, Encoder, Target
from turnwise.errors import ConfigError, JudgeError, MissingExtraError, TurnwiseError, unknown_name
from turnwise.protocols import AnswerLogProbs, AnswerQuery, ContextRenderer
from turnwise.records import Json

if TYPE_CHECKING:
    from turnwise.agents.likelihood.passes import Method, Passes

METHODS = ("auto", "one_pass", "incremental", "sequential")
CONTEXTS = ("auto", "chat", "recorded", "plain")
# Attention kernels that take any mask; the flash kernels take none.
_MASKED_KERNELS = ("sdpa", "eager")


class TransformersLogProbs:
    """Scores answers with a local model, one pass per trajectory (keeps the LogProbSource protocol).

    Nothing is loaded before it is needed. ``method="auto"`` takes the one-pass computation where model
    and attention kernel allow it, else the next best; ``method_used`` and ``why`` tell.

    Attributes:
        method_used: How answers are scored, once the first ones were: see
            :mod:`turnwise.agents.likelihood.passes`.
        why: Why a method before it was not taken, or None.
    """

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Any = None,
        method: Literal["auto", "one_pass", "incremental", "sequential"] = "auto",
        contexts: Literal["auto", "chat", "recorded", "plain"] = "auto",
        system: str = "",
        max_tokens: int = 4096,
        batch_size: int = 8,
        device: str | None = None,
        dtype: str = "auto",
    ) -> None:
        """Score with a model.

        Args:
            model: A model, or the path or hub name of one.
            tokenizer: Its fast tokenizer, or the path of one; None loads the one beside the model.
            method: How to score; ``"one_pass"`` is an error where it cannot be used.
            contexts: How trajectories are written: ``"chat"`` by the tokenizer's chat template,
                ``"recorded"`` as the token ids that were sampled, ``"plain"`` as plain text; ``"auto"``
                takes the chat template where there is one.
            system: System prompt of the chat.
            max_tokens: Most tokens in one forward pass, which bounds the memory; at least 1.
            batch_size: Most trajectories side by side, at least 1.
            device: Where to load the model to, such as ``"cuda"``; None leaves it where it is.
            dtype: Number type to load a model by path in, such as ``"bfloat16"``.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        if method not in METHODS:
            raise unknown_name("method", str(method), METHODS)
        if contexts not in CONTEXTS:
            raise unknown_name("contexts", str(contexts), CONTEXTS)
        for name, value in (("max_tokens", max_tokens), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")
        if tokenizer is None and not isinstance(model, str):
            raise ConfigError("a model given as an object needs its tokenizer: tokenizer=...")
        self.method = method
        self.contexts = contexts
        self.system = system
        self.max_tokens = max_tokens
        self.batch_size = batch_size
        self.method_used: Method | None = None
        self.why: str | None = None
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self._dtype = dtype
        self._encoder: Encoder | None = None
        self._passes: Passes | None = None
        self._limit: int | None = None

    # -- loading -----------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, loaded on first use.

        Raises:
            MissingExtraError: transformers is not installed.
        """
        if self._tokenizer is None or isinstance(self._tokenizer, str):
            try:
                from transformers import AutoTokenizer
            except ImportError as error:
                raise MissingExtraError("transformers", "torch") from error
            self._tokenizer = AutoTokenizer.from_pretrained(self._tokenizer or self._model)
        return self._tokenizer

    @property
    def renderer(self) -> ContextRenderer | None:
        """How trajectories are written for this model; None for plain text."""
        if self.contexts == "recorded":
            return RecordedContexts(self.tokenizer, system=self.system)
        if self.contexts == "chat" or (self.contexts == "auto" and getattr(self.tokenizer, "chat_template", None)):
            return ChatContexts(self.tokenizer, system=self.system)
        return None

    def _ready(self) -> tuple[Encoder, Passes]:
        if self._encoder is None or self._passes is None:
            try:
                from transformers import AutoModelForCausalLM

                from turnwise.agents.likelihood.passes import Passes
            except ImportError as error:
                raise MissingExtraError(error.name or "torch", "torch") from error
            model = self._model
            if isinstance(model, str):
                model = AutoModelForCausalLM.from_pretrained(model, dtype=self._dtype)
            model = model.to(self._device) if self._device else model
            self._encoder = Encoder(self.tokenizer)
            self._passes = Passes(model.eval(), max_tokens=self.max_tokens)
            self.method_used, self.why = _choose(self.method, self._passes, model.config)
            self._limit = getattr(_text_config(model.config), "max_position_embeddings", None)
        return self._encoder, self._passes

    # -- scoring -----------------------------------------------------------------------------------

    @property
    def tokens_computed(self) -> int:
        """How many tokens the model was run on so far, padding included."""
        return 0 if self._passes is None else self._passes.tokens

    def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> list[AnswerLogProbs | TurnwiseError]:
        """Score answers; queries that cannot be encoded get the reason in their place.

        Raises:
            ConfigError: ``method="one_pass"`` does not work with this model.
            MissingExtraError: torch or transformers is not installed.
        """
        encoder, passes = self._ready()
        results: list[AnswerLogProbs | TurnwiseError] = []
        encoded: list[tuple[int, Encoded]] = []
        for position, query in enumerate(queries):
            try:
                ids = encoder.encode(query)
                self._check_length(ids)
                encoded.append((position, ids))
                results.append(AnswerLogProbs(tokens=()))
            except TurnwiseError as error:
                results.append(error)
        # Neighbours in length are padded least.
        encoded.sort(key=lambda item: len(item[1].ids))
        assert self.method_used is not None  # noqa: S101 - set by _ready
        for begin in range(0, len(encoded), self.batch_size):
            batch = encoded[begin : begin + self.batch_size]
            for (position, _), scores in zip(batch, passes.run(self.method_used, [e for _, e in batch]), strict=True):
                results[position] = scores
        return results

    def _check_length(self, encoded: Encoded) -> None:
        longest = encoded.ends[-1] + max((len(target.ids) for target in encoded.targets), default=0)
        if self._limit is not None and longest > self._limit:
            raise JudgeError(f"the trajectory with an answer has {longest} tokens, the model takes {self._limit}")

    def describe(self) -> dict[str, Json]:
        """Return the options; a model or tokenizer given as an object by its name."""
        model = self._model if isinstance(self._model, str) else getattr(self._model.config, "_name_or_path", "")
        tokenizer = self._tokenizer
        if tokenizer is not None and not isinstance(tokenizer, str):
            tokenizer = getattr(tokenizer, "name_or_path", None) or None
        return {
            "model": model,
            "tokenizer": tokenizer,
            "method": self.method,
            "contexts": self.contexts,
            "system": self.system,
            "max_tokens": self.max_tokens,
            "batch_size": self.batch_size,
            "device": self._device,
            "dtype": self._dtype,
        }


def _text_config(config: Any) -> Any:
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def cache_problem(config: Any) -> str | None:
    """Return why a plain growing cache does not hold what this model attends to, or None."""
    config = _text_config(config)
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention"}:
        return f"some of its layers are {', '.join(sorted(kinds - {'full_attention'}))}, not full attention"
    if not kinds and getattr(config, "sliding_window", None):
        return "it attends within a sliding window only"
    return None


def _choose(wanted: str, passes: Passes, config: Any) -> tuple[Method, str | None]:
    """Return the method to use, and why not an earlier one.

    Whatever a configuration does not tell (position codes that ignore position ids, a state besides the
    cache) shows in a small example, which every method must agree on with the sequential one.
    """
    cache = cache_problem(config)
    kernel = getattr(config, "_attn_implementation", None)
    mask = None if kernel in _MASKED_KERNELS else f"its attention kernel {kernel!r} takes no mask of our own"
    problems: dict[Method, str | None] = {"one_pass": cache or mask, "incremental": cache}
    reasons: list[str] = []
    methods: tuple[Method, ...] = ("one_pass", "incremental")
    for method in methods:
        if wanted not in ("auto", method):
            continue
        problem = problems[method] or _disagreement(method, passes, config)
        if problem is None:
            return method, "; ".join(reasons) or None
        reasons.append(f"{method} does not work with this model: {problem}")
    if wanted in problems:
        raise ConfigError(f"{reasons[0]}. Use method='auto' for the next best")
    return "sequential", "; ".join(reasons) or None


def _disagreement(method: Method, passes: Passes, config: Any) -> str | None:
    vocabulary = _text_config(config).vocab_size
    ids = tuple((7 * i + 3) % vocabulary for i in range(24))
    targets = (Target(ids[3:8], 2), Target(ids[9:12], 0))
    example = Encoded(ids, (5, 13, 24), targets)
    before = passes.tokens
    try:
        expected, got = (passes.run(way, [example])[0].tokens for way in ("sequential", method))
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        passes.tokens = before
    off = max(
        abs(a - b)
        for rows in zip(expected, got, strict=True)
        for pair in zip(*rows, strict=True)
        for a, b in zip(*pair, strict=True)
    )
    # Half-precision kernels differ by a few hundredths; a wrong mask or position by far more.
    exact = "float32" in str(passes.dtype) or "float64" in str(passes.dtype)
    return None if off <= (1e-3 if exact else 0.25) else f"on an example it is off by {off:.3g}"
