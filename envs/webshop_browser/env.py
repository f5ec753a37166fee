"""``WebShopBrowserEnv``: the web shop as a site in Chromium, seen and used as a person would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from turnwise.actions import ActionGrammar
from turnwise.env import MAX_OBSERVATION_CHARS, ReplayState, StepResult, TurnEnv
from turnwise.envs.browser.browser import Browser, borrow_browser, return_browser
from turnwise.envs.browser.page import BrowserPage, RefusedError
from turnwise.envs.browser.tree import Tree
from turnwise.envs.webshop.env import WebShopEnv
from turnwise.envs.webshop.goal import read_goal
from turnwise.envs.webshop.goals import SEED
from turnwise.envs.webshop.milestones import OUTCOME_LEVELS
from turnwise.envs.webshop.nouns import Tagger, open_tagger
from turnwise.envs.webshop.reward import REWARD_MODES, RewardMode
from turnwise.envs.webshop.shop import Shop
from turnwise.envs.webshop.tasksets import SYNTHETIC_PREFIX, GoalTasks, read_reset
from turnwise.envs.webshop.text import text_rich
from turnwise.envs.webshop.visit import Visit
from turnwise.envs.webshop_browser.expert import SiteExpert
from turnwise.envs.webshop_browser.grammar import GRAMMAR, ROLE
from turnwise.envs.webshop_browser.hands import carry_out
from turnwise.envs.webshop_browser.screen import (
    DEADLINE_S,
    OBSERVATION_MODES,
    VIEWPORT,
    Observation,
    ObservationMode,
    admissible,
    describe,
    read_deadline,
    read_viewport,
)
from turnwise.envs.webshop_browser.server import SiteServer, borrow_server, return_server
from turnwise.envs.webshop_browser.sessions import Session
from turnwise.errors import ConfigError, EpisodeOverError, unknown_name
from turnwise.protocols import Expert
from turnwise.records import Action, Task


@dataclass(frozen=True, kw_only=True)
class SiteState(ReplayState):
    """A mid-episode state: the actions that led to it, and the task where it is not of the task set."""

    given: Task | None


class WebShopBrowserEnv(TurnEnv[Observation]):
    """Shopping on a real site, in a real browser; rules, tasks and reward are those of ``turnwise/WebShop-v0``.

    The observation shows the page as ``observation_mode`` says: ``"axtree"`` (the accessibility tree with a number for
    every element that can be acted on) and ``"text"`` (what the page says, with the same numbers) are texts;
    ``"screenshot"``, ``"axtree+screenshot"`` and ``"text+screenshot"`` are dicts of ``text`` and ``image`` (uint8 of
    height x width x 3). With ``"screenshot"`` the text holds the instruction and how far the page is scrolled, no more.

    The reward of the purchase, which ends the episode, is that of the text world; every other turn's is 0. What an
    action that cannot be carried out came to is told in the text. A browser that crashes or hangs raises
    :class:`~turnwise.errors.SandboxError`; the next ``reset`` starts another.

    ``info["admissible_actions"]`` are clicks on the elements of the page, and scrolling.
    ``info["extra"]`` holds what the text world's does, and ``moves`` (what the turn came to, as commands of the text
    world), ``scrolled`` (top and height of the page in pixels) and ``title``.
    """

    grammar: ClassVar[ActionGrammar] = GRAMMAR
    outcome_levels: ClassVar[tuple[str, ...]] = OUTCOME_LEVELS
    experts: ClassVar[tuple[str, ...]] = ("expert", "heuristic")
    default_max_turns: ClassVar[int] = 50
    random_floor: ClassVar[float] = 0.1
    tasks: GoalTasks

    def __init__(
        self,
        *,
        data: str | None = None,
        split: str = "train",
        max_turns: int | None = None,
        render_mode: str | None = None,
        observation_mode: ObservationMode = "axtree+screenshot",
        viewport: Sequence[int] = VIEWPORT,
        deadline_s: float = DEADLINE_S,
        goals: Literal["human", "synthetic"] = "human",
        reward_mode: RewardMode = "compat",
        tagger: str | Tagger = "rule",
        shop_seed: int = SEED,
    ) -> None:
        """Open a shop; server and browser start with the first episode.

        Args:
            data: None for the embedded shop, or WebShop's data as for the text world.
            split: A split of the text world.
            max_turns: Turns after which an episode is truncated; None means 50.
            render_mode: None or ``"ansi"``.
            observation_mode: What is shown of a page.
            viewport: Width and height of the page in pixels, each 200 to 4096.
            deadline_s: Seconds that an action may take, the page that follows included.
            goals: ``"synthetic"`` puts ``synthetic-`` before the split.
            reward_mode: ``"compat"`` keeps the quirks of WebShop's reward, ``"strict"`` does without them.
            tagger: What finds nouns in titles, as in the text world.
            shop_seed: Seed of prices, price ceilings and the order of goals.

        Raises:
            ConfigError: An argument is out of range, or the data cannot be read.
        """
        if observation_mode not in OBSERVATION_MODES:
            raise unknown_name("observation mode", str(observation_mode), OBSERVATION_MODES)
        if reward_mode not in REWARD_MODES:
            raise unknown_name("reward mode", str(reward_mode), REWARD_MODES)
        if goals not in ("human", "synthetic"):
            raise unknown_name("kind of goals", str(goals), ("human", "synthetic"))
        if isinstance(shop_seed, bool) or not isinstance(shop_seed, int) or shop_seed < 0:
            raise ConfigError(f"shop_seed must be a whole number of at least 0, got {shop_seed!r}")
        if goals == "synthetic" and not split.startswith(SYNTHETIC_PREFIX):
            split = SYNTHETIC_PREFIX + split
        self.viewport, self.deadline_s = read_viewport(viewport), read_deadline(deadline_s)
        self.observation_mode, self.reward_mode = observation_mode, reward_mode
        self._pictured = "screenshot" in observation_mode
        super().__init__(data=data, split=split, max_turns=max_turns, render_mode=render_mode)
        if shop_seed != SEED:
            self.tasks = self.tasks.with_seed(shop_seed)
        self.shop = Shop(self.tasks.catalogue)
        self._tagger = tagger if callable(tagger) else open_tagger(tagger)
        self._given: Task | None = None
        self._browser: Browser | None = None
        self._server: SiteServer | None = None
        self._page: BrowserPage | None = None
        self._session: Session | None = None
        self._token = ""
        self._tree: Tree | None = None
        self._image: Any = None
        self._sound = False  # whether the last thing that was done with the page came to its end

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> GoalTasks:
        """Return the goals of a split: those of the text world.

        Raises:
            UnknownNameError: Nobody calls a split that.
            ConfigError: The data cannot be read.
        """
        return WebShopEnv.make_task_set(data=data, split=split)

    def _make_observation_space(self) -> gymnasium.Space[Observation]:
        text = super()._make_observation_space()
        if not self._pictured:
            return text
        shape = (self.viewport[1], self.viewport[0], 3)
        space: Any = spaces.Dict({"text": text, "image": spaces.Box(0, 255, shape, dtype=np.uint8)})
        return space  # type: ignore[no-any-return]

    # -- what is being played ----------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The session being played, for experts, graders and tests; agents see its pages only.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        if self._session is None:
            raise EpisodeOverError("no episode yet: call reset() first")
        return self._session

    @property
    def visit(self) -> Visit:
        """The visit being played."""
        return self.session.visit

    @property
    def tree(self) -> Tree:
        """The page as it was read last.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        if self._tree is None:
            raise EpisodeOverError("no episode yet: call reset() first")
        return self._tree

    @property
    def page(self) -> BrowserPage:
        """The browser's page.

        Raises:
            EpisodeOverError: ``reset`` was never called, or the environment is closed.
        """
        if self._page is None:
            raise EpisodeOverError("no page is open: call reset() first")
        return self._page

    @property
    def system_prompt(self) -> str:
        """The role and the grammar."""
        screen = f"The screen is {self.viewport[0]} pixels wide and {self.viewport[1]} high."
        return f"{ROLE} {screen}\n\n{self.grammar.explain()}"

    def expert(self, kind: str | None = None) -> Expert:
        """Return a scripted solver: one of the text world's, who uses the site.

        Args:
            kind: ``"expert"`` (the default) knows the wanted product; ``"heuristic"`` reads what the shop shows.

        Raises:
            UnknownNameError: There is no such expert.
        """
        if kind in (None, "expert"):
            from turnwise.envs.webshop.expert import BuyingExpert

            return SiteExpert(BuyingExpert(lambda: self.visit), lambda: self.tree)
        if kind == "heuristic":
            from turnwise.envs.webshop.shopper import HeuristicShopper

            return SiteExpert(HeuristicShopper(lambda: text_rich(self.visit.view(self.task.id))), lambda: self.tree)
        raise unknown_name("expert", str(kind), self.experts)

    # -- the hooks of TurnEnv ----------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode, in a new browser if the last one failed.

        Args:
            seed: Seed of this episode's own generator.
            options: ``{"task_id": ...}`` picks the task, or ``{"goal": {...}}`` gives one as WebShop writes it.

        Raises:
            ConfigError: Unknown option or task id, both of them, or no goal; or Chromium is not installed.
            MissingExtraError: The extra ``browser`` is not installed.
            SandboxError: The browser does not start, or fails.
        """
        chosen, self._given = read_reset(options, self.tasks.split)
        return super().reset(seed=seed, options=chosen)

    def _task_of(self, task_id: str) -> Task:
        if self._given is not None and self._given.id == task_id:
            return self._given
        return super()._task_of(task_id)

    def _begin(self, task: Task) -> StepResult[Observation]:
        visit = Visit(
            self.shop,
            read_goal(task.data["goal"]),
            seed=self.tasks.seed,
            draws=int(self.np_random.integers(2**31)),
            mode=self.reward_mode,
            tagger=self._tagger,
        )
        server, page = self._open()
        self._sound = False
        server.sessions.close(self._token)
        self._token, self._session = server.sessions.open(visit)
        with page.working("opening the shop"):
            page.begin(server.address(self._token))
            result = self._look()
        self._sound = True
        return result

    def _apply(self, action: Action) -> StepResult[Observation]:
        page, refused = self.page, None
        self._sound = False
        with page.working(f"the action {action.name!r}"):
            try:
                carry_out(action, page, self.tree)
            except RefusedError as error:
                refused = str(error)
            result = self._look(refused)
        self._sound = True
        return result

    def _open(self) -> tuple[SiteServer, BrowserPage]:
        """Return the server, and a page in a browser that works."""
        server, page = self._server, self._page
        if server is None or not server.alive:
            self.close()
            server, page = borrow_server(), None
            self._server = server
        if page is None or not page.usable or not self._sound:
            self._close_browser()
            self._browser = borrow_browser()
            page = self._browser.new_page(size=self.viewport, origins=(server.host,), deadline_s=self.deadline_s)
            self._page = page
        return server, page

    def _look(self, refused: str | None = None) -> StepResult[Observation]:
        """Read the page, and what has been reached in the shop."""
        page, visit = self.page, self.visit
        if self.session.failure is not None:
            raise self.session.failure  # the site's own fault is the environment's, and no observation
        self._tree = tree = page.read()
        self._image = page.screenshot() if self._pictured else None
        scrolled = page.scrolled()
        milestones = visit.customer.milestones
        said = f"Invalid action: {refused}"
        if refused is None:
            said = describe(
                tree,
                self.observation_mode,
                instruction=self.task.instruction,
                viewport=self.viewport,
                scrolled=scrolled,
            )
        extra = {"moves": self.session.take_moves(), "scrolled": list(scrolled), "title": tree.title}
        return StepResult(
            observation=self._text_observation(said[:MAX_OBSERVATION_CHARS]),
            reward=visit.reward,
            terminated=visit.bought is not None,
            valid=refused is None,
            error=refused,
            progress=milestones.progress,
            success=milestones.bought,
            level=visit.level,
            admissible=admissible(tree, viewport=self.viewport, scrolled=scrolled),
            extra={**visit.report(), **extra},
        )

    def _text_observation(self, text: str) -> Observation:
        # A copy, as what is returned belongs to the caller, and an explanation shows the same picture again.
        return {"text": text, "image": self._image.copy()} if self._pictured else text

    # -- branching and the end ---------------------------------------------------------------------

    def state(self) -> SiteState:
        """Return the current point of the episode: the actions that led to it.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        kept: ReplayState = super().state()
        return SiteState(
            task_id=kept.task_id, seed=kept.seed, generator=kept.generator, actions=kept.actions, given=self._given
        )

    def restore(self, state: Any) -> tuple[Observation, dict[str, Any]]:
        """Go back to a point of an episode by playing it again.

        Args:
            state: What :meth:`state` returned.

        Returns:
            The observation and ``info`` that were returned at that point.

        Raises:
            ConfigError: ``state`` is something else.
        """
        if not isinstance(state, SiteState):
            raise ConfigError(f"restore() takes what state() returned, got {type(state).__name__}")
        self._given = state.given
        restored: tuple[Observation, dict[str, Any]] = super().restore(state)
        return restored

    def close(self) -> None:
        """End the session and the page; with the last environment, the browser and the server."""
        self._close_browser()
        if self._server is not None:
            self._server.sessions.close(self._token)
            return_server(self._server)
            self._server = None
        super().close()

    def _close_browser(self) -> None:
        page, browser = self._page, self._browser
        self._page = self._browser = None
        if page is not None:
            page.close()
        if browser is not None:
            return_browser(browser)
