"""``WebShopEnv``: the web shop as a turn-level environment in text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

from turnwise.actions import ActionGrammar, ActionProblem
from turnwise.env import Bookmark, StepResult, TurnEnv
from turnwise.envs.webshop.embedded import embedded_tasks
from turnwise.envs.webshop.goal import read_goal
from turnwise.envs.webshop.goals import SEED
from turnwise.envs.webshop.grammar import GRAMMAR, ROLE, read_original
from turnwise.envs.webshop.html import html
from turnwise.envs.webshop.milestones import OUTCOME_LEVELS
from turnwise.envs.webshop.nouns import Tagger, open_tagger
from turnwise.envs.webshop.reward import REWARD_MODES, RewardMode
from turnwise.envs.webshop.shop import SEARCH, Shop
from turnwise.envs.webshop.tasksets import SYNTHETIC_PREFIX, GoalTasks, read_reset, shop_split
from turnwise.envs.webshop.text import Renderer, text, text_rich, url
from turnwise.envs.webshop.visit import Customer, Visit
from turnwise.errors import ConfigError, EpisodeOverError, unknown_name
from turnwise.protocols import Expert
from turnwise.records import Action, Task

RENDERERS: dict[str, Renderer] = {"text_rich": text_rich, "text": text, "html": html, "url": url}


class WebShopState(NamedTuple):
    """A point of an episode, as :meth:`WebShopEnv.state` returns it. Cheap to take and to keep."""

    mark: Bookmark
    customer: Customer


class WebShopEnv(TurnEnv[str]):
    """Shopping on WebShop's pages: ``search[keywords]`` and ``click[label]`` until ``click[buy now]``.

    Pages, search order and reward are WebShop's. The reward of the purchase, which ends the episode, is that of
    :func:`~turnwise.envs.webshop.reward.purchase_reward`; every other turn's is 0. Success is the full reward.

    Outcome levels: ``no_purchase``; ``wrong_type`` (bought, but its type earned less than 1); ``partial`` (the right
    type, not all as asked); ``perfect``. ``info["progress"]`` is the share of milestones reached (the wanted product
    listed, opened, each option chosen, the full reward earned) and never falls.

    ``info["available_actions"]`` is WebShop's ``{"has_search_bar", "clickables"}``; ``info["admissible_actions"]`` are
    the same clicks as commands. ``info["extra"]`` holds ``page`` (its kind), ``page_number``, ``query``, ``results``
    (how many products were found), ``listed`` (the ASINs on the page), ``asin`` (of the open product, or None),
    ``sub_page``, ``options`` (chosen), ``milestones`` and ``purchase`` (None before it; then ``asin``, ``options``,
    ``price`` and the reward's parts).
    """

    grammar: ClassVar[ActionGrammar] = GRAMMAR
    outcome_levels: ClassVar[tuple[str, ...]] = OUTCOME_LEVELS
    experts: ClassVar[tuple[str, ...]] = ("expert", "heuristic")
    default_max_turns: ClassVar[int] = 30
    random_floor: ClassVar[float] = 0.1
    tasks: GoalTasks

    def __init__(
        self,
        *,
        data: str | None = None,
        split: str = "train",
        max_turns: int | None = None,
        render_mode: str | None = None,
        observation_mode: Literal["text_rich", "text", "html", "url"] = "text_rich",
        goals: Literal["human", "synthetic"] = "human",
        reward_mode: RewardMode = "compat",
        tagger: str | Tagger = "rule",
        compat: bool = False,
        shop_seed: int = SEED,
    ) -> None:
        """Open a shop.

        Args:
            data: None for the embedded shop; or a folder with WebShop's ``items_shuffle*.json``,
                ``items_ins_v2*.json`` and ``items_human_ins.json`` (also gzipped), or the path of the first of them.
            split: ``test``, ``val`` or ``train``; of real data also ``verl-val`` and ``verl-train``. With
                ``synthetic-`` before it, the synthetic goals of that split.
            max_turns: Turns after which an episode is truncated; None means 30.
            render_mode: None or ``"ansi"``.
            observation_mode: How pages are shown, as in WebShop.
            goals: ``"synthetic"`` puts ``synthetic-`` before the split.
            reward_mode: ``"compat"`` keeps the quirks of WebShop's reward, ``"strict"`` does without them.
            tagger: What finds nouns in titles: ``"rule"``, ``"spacy"``, ``"spacy:MODEL"``, or a function.
            compat: Read messages to the letter and answer invalid ones with the same page again, as WebShop does:
                no tool calls, no thoughts, no explanations. ``info`` still says what was wrong.
            shop_seed: Seed of prices, price ceilings and the order of goals; 233 gives WebShop's order.

        Raises:
            ConfigError: An argument is out of range, or the data cannot be read.
        """
        if observation_mode not in RENDERERS:
            raise unknown_name("observation mode", str(observation_mode), RENDERERS)
        if reward_mode not in REWARD_MODES:
            raise unknown_name("reward mode", str(reward_mode), REWARD_MODES)
        if goals not in ("human", "synthetic"):
            raise unknown_name("kind of goals", str(goals), ("human", "synthetic"))
        if isinstance(shop_seed, bool) or not isinstance(shop_seed, int) or shop_seed < 0:
            raise ConfigError(f"shop_seed must be a whole number of at least 0, got {shop_seed!r}")
        if goals == "synthetic" and not split.startswith(SYNTHETIC_PREFIX):
            split = SYNTHETIC_PREFIX + split
        super().__init__(data=data, split=split, max_turns=max_turns, render_mode=render_mode)
        if shop_seed != SEED:
            self.tasks = self.tasks.with_seed(shop_seed)
        self.observation_mode, self.reward_mode, self.compat = observation_mode, reward_mode, bool(compat)
        self.shop = Shop(self.tasks.catalogue)
        self._show = RENDERERS[observation_mode]
        self._tagger = tagger if callable(tagger) else open_tagger(tagger)
        self._given: Task | None = None
        self._visit: Visit | None = None
        self._labels: list[str] = []

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> GoalTasks:
        """Return the goals of a split, embedded or from WebShop's data files.

        Raises:
            UnknownNameError: Nobody calls a split that.
            ConfigError: The data cannot be read.
        """
        name = shop_split(split)
        if data is None:
            return embedded_tasks(name)
        from turnwise.envs.webshop.sources import load_tasks

        return load_tasks(data, name)

    # -- what is being played ----------------------------------------------------------------------

    @property
    def visit(self) -> Visit:
        """The visit being played, for experts, graders and tests; agents see its pages only.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        if self._visit is None:
            raise EpisodeOverError("no episode yet: call reset() first")
        return self._visit

    @property
    def system_prompt(self) -> str:
        """The role and the grammar."""
        return f"{ROLE}\n\n{self.grammar.explain()}"

    def expert(self, kind: str | None = None) -> Expert:
        """Return a scripted solver.

        Args:
            kind: ``"expert"`` (the default) knows the wanted product; ``"heuristic"`` sees what an agent sees.

        Raises:
            UnknownNameError: There is no such expert.
        """
        if kind in (None, "expert"):
            from turnwise.envs.webshop.expert import BuyingExpert

            return BuyingExpert(lambda: self.visit)
        if kind == "heuristic":
            from turnwise.envs.webshop.shopper import HeuristicShopper

            # It reads one mode; the others show the same page.
            same = self.observation_mode == "text_rich"
            return HeuristicShopper(None if same else lambda: text_rich(self.visit.view(self.task.id)))
        raise unknown_name("expert", str(kind), self.experts)

    # -- the hooks of TurnEnv ----------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Seed of this episode's own generator.
            options: ``{"task_id": ...}`` picks the task, or ``{"goal": {...}}`` gives one as WebShop writes it.

        Raises:
            ConfigError: Unknown option or task id, both of them, or no goal.
        """
        chosen, self._given = read_reset(options, self.tasks.split)
        return super().reset(seed=seed, options=chosen)

    def _task_of(self, task_id: str) -> Task:
        if self._given is not None and self._given.id == task_id:
            return self._given
        return super()._task_of(task_id)

    def _begin(self, task: Task) -> StepResult[str]:
        self._enter(task, draws=int(self.np_random.integers(2**31)))
        return self._result_of()

    def _enter(self, task: Task, draws: int = 0) -> None:
        self._visit = Visit(
            self.shop,
            read_goal(task.data["goal"]),
            seed=self.tasks.seed,
            draws=draws,
            mode=self.reward_mode,
            tagger=self._tagger,
        )

    def _apply(self, action: Action) -> StepResult[str]:
        visit = self.visit
        if action.name == "search":
            visit.search(action.arguments["keywords"])
            return self._result_of()
        said = action.arguments["label"]
        label = said if self.compat else visit.label_of(said)
        if label is None or not visit.click(label):
            return self._refuse(visit.why_not(said))
        return self._result_of()

    def _parse(self, text: str) -> Action | ActionProblem:
        if not self.compat:
            return self.grammar.parse(text)
        read = read_original(text)
        if read is not None and read[0] in ("search", "click"):
            name, argument = read
            slot = "keywords" if name == "search" else "label"
            return Action(name=name, arguments={slot: argument}, command=f"{name}[{argument}]")
        return ActionProblem(message="the message has neither the form search[...] nor click[...]", explanation="")

    def _reject(self, problem: ActionProblem) -> StepResult[str]:
        result = super()._reject(problem)
        return replace(result, observation=self._page_text()) if self.compat else result

    def _refuse(self, message: str) -> StepResult[str]:
        result = self._result_of(error=message)
        return result if self.compat else replace(result, observation=f"Invalid action: {message}")

    def _page_text(self) -> str:
        return self._show(self.visit.view(self.task.id))

    def _result_of(self, *, error: str | None = None) -> StepResult[str]:
        visit = self.visit
        milestones = visit.customer.milestones
        self._labels = list(self.shop.targets(visit.page))
        return StepResult(
            observation=self._page_text(),
            reward=visit.reward,
            terminated=visit.bought is not None,
            valid=error is None,
            error=error,
            progress=milestones.progress,
            success=milestones.bought,
            level=visit.level,
            admissible=[f"click[{label}]" for label in self._labels if label not in (SEARCH, "")],
            extra=visit.report(),
        )

    def _finish(
        self, result: StepResult[str], *, action: Action | None, truncation: str | None
    ) -> tuple[str, dict[str, Any]]:
        observation, info = super()._finish(result, action=action, truncation=truncation)
        info["available_actions"] = {
            "has_search_bar": self.visit.page.kind == "search",
            "clickables": list(self._labels),
        }
        return observation, info

    # -- branching ---------------------------------------------------------------------------------

    def state(self) -> WebShopState:
        """Return the current point of the episode: a small immutable record.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        return WebShopState(mark=self._bookmark(), customer=self.visit.customer)

    def restore(self, state: WebShopState) -> tuple[str, dict[str, Any]]:
        """Go back to a point of an episode, of this environment or of another one over the same data.

        Args:
            state: What :meth:`state` returned.

        Returns:
            The observation and ``info`` that were returned at that point.

        Raises:
            ConfigError: ``state`` is something else.
        """
        if not isinstance(state, WebShopState):
            raise ConfigError(f"restore() takes what state() returned, got {type(state).__name__}")
        if self._visit is None or self._task is not state.mark.task:
            self._enter(state.mark.task)
        self.visit.customer = state.customer
        self._labels = list(self.shop.targets(self.visit.page))
        return self._return_to(state.mark)
