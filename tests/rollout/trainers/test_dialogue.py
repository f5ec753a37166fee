"""Episodes in token ids: nothing that was sampled is written again, and budgets hold."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from scripted import END, ByteChat, clumsy, expert_actions, make_world, play_script, sampled

from turnwise.agents.transformers_policy.tiny import make_tiny_model
from turnwise.errors import ConfigError, EnvError, EpisodeOverError, JudgeError
from turnwise.rollout.trainers.dialogue import OwnThread, Sampled, TokenEpisode, TokenizerChat, play, usable_row
from turnwise.rollout.trainers.openrlhf import TemplateMarkup
from turnwise.rollout.trainers.rows import make_rows

WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)


class Sampler:
    """Says a script, from its start in every attempt, and notes what it was asked."""

    def __init__(self, script: list[str]) -> None:
        self.script, self.prompts, self.rooms = script, [], []  # type: ignore[var-annotated]

    async def __call__(self, prompt: tuple[int, ...], room: int | None) -> Sampled:
        turn = bytes(one for one in prompt if one != END).count(b"[agent]") - 1
        self.prompts.append(prompt)
        self.rooms.append(room)
        one = sampled(self.script[turn], turn)
        return Sampled(ids=one.ids[:room], logprobs=one.logprobs[:room], policy_version="7")


def test_every_prompt_continues_what_was_said() -> None:
    sampler = Sampler(EXPERT)
    trajectory = asyncio.run(play(WORLD, ByteChat(), sampler, task_id=TASK))
    row = usable_row(trajectory)
    for turn, prompt in enumerate(sampler.prompts):
        start = row.turn_spans[turn][0]
        assert prompt == row.prompt_ids + row.response_ids[:start]
    assert [turn.action_text for turn in trajectory.turns] == EXPERT
    (scripted,) = make_rows([play_script(WORLD, TASK, EXPERT)])
    assert row == replace(scripted, policy_version="7")


@pytest.mark.parametrize("room", [1, 5, 200, 1000])
def test_a_response_is_never_longer_than_its_budget(room: int) -> None:
    sampler = Sampler(clumsy(EXPERT))
    trajectory = asyncio.run(play(WORLD, ByteChat(), sampler, task_id=TASK, max_response=room))
    row = usable_row(trajectory)
    assert len(row.response_ids) <= room
    assert all(given is not None and 0 < given <= room for given in sampler.rooms)
    assert (trajectory.ending.kind, trajectory.ending.cause) == ("truncated", "tokens")


def test_a_budget_that_ends_with_an_observation_asks_for_nothing_more() -> None:
    room = make_rows([play_script(WORLD, TASK, EXPERT)])[0].turn_spans[1][0]
    sampler = Sampler(EXPERT)
    row = usable_row(asyncio.run(play(WORLD, ByteChat(), sampler, task_id=TASK, max_response=room)))
    assert sampler.rooms == [room]
    assert len(row.turn_spans) == 1


def test_an_episode_that_fails_is_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    env = type(WORLD.make().unwrapped)
    apply, failures = env._apply, iter([True, True, False])

    def sometimes(self: Any, action: Any) -> Any:
        if next(failures, False):
            raise EnvError("it hung")
        return apply(self, action)

    monkeypatch.setattr(env, "_apply", sometimes)
    twice = asyncio.run(play(WORLD, ByteChat(), Sampler(EXPERT), task_id=TASK, attempts=2))
    assert twice.failed
    with pytest.raises(EnvError, match="it hung"):
        usable_row(twice)
    assert not asyncio.run(play(WORLD, ByteChat(), Sampler(EXPERT), task_id=TASK, attempts=1)).failed


def test_what_the_sampler_raises_is_the_trainers_own() -> None:
    closed: list[int] = []

    class Closing(TokenEpisode):
        def close(self) -> None:
            closed.append(1)
            super().close()

    async def broken(prompt: tuple[int, ...], room: int | None) -> Sampled:
        raise RuntimeError("no GPU")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("turnwise.rollout.trainers.dialogue.TokenEpisode", Closing)
        with pytest.raises(RuntimeError, match="no GPU"):
            asyncio.run(play(WORLD, ByteChat(), broken, task_id=TASK))
    assert closed == [1]


def test_a_world_stays_in_one_thread_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    env = type(WORLD.make().unwrapped)
    apply = env._apply

    def noting(self: Any, action: Any) -> Any:
        seen.add(threading.current_thread().name)
        return apply(self, action)

    monkeypatch.setattr(env, "_apply", noting)
    asyncio.run(play(WORLD, ByteChat(), Sampler(EXPERT), task_id=TASK))
    assert len(seen) == 1
    assert threading.main_thread().name not in seen


def test_own_thread_hands_errors_on() -> None:
    async def run() -> None:
        aside = OwnThread()
        assert await aside(max, 1, 2) == 2
        with pytest.raises(ZeroDivisionError):
            await aside(divmod, 1, 0)
        aside.close()

    asyncio.run(run())


def test_mistakes_are_named() -> None:
    episode = TokenEpisode(WORLD, ByteChat())
    with pytest.raises(EpisodeOverError, match="call begin"):
        episode.say(sampled("look"))
    episode.begin(TASK)
    with pytest.raises(ConfigError, match="no tokens cannot be trained on"):
        episode.say(Sampled(ids=()))
    with pytest.raises(ConfigError, match="attempts must be at least 1"):
        asyncio.run(play(WORLD, ByteChat(), Sampler(EXPERT), task_id=TASK, attempts=0))
    with pytest.raises(ConfigError, match="unknown task"):
        episode.begin("trian/nothing")
    episode.begin(TASK)
    with pytest.raises(JudgeError, match="no turn was played"):
        usable_row(episode.trajectory())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_model(folder, ["go to desk 1", "look"])
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("message", ["look", '{"name": "look", "arguments": {}}'])
def test_openrlhfs_text_is_tokenised_to_the_same_ids(tokenizer: Any, message: str) -> None:
    chat, markup = TokenizerChat(tokenizer), TemplateMarkup(tokenizer)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert ids(markup.opening("Be brief.", (), "A desk.")) == tuple(chat.opening("Be brief.", (), "A desk."))
    said = (*ids(message), chat.ends[0])
    assert ids(markup.continuation("A lamp.", message)) == tuple(chat.continuation("A lamp.", said))
    assert "<|im_end|>" in markup.ends


def test_a_tokenizers_chat(tokenizer: Any) -> None:
    chat = TokenizerChat(tokenizer)
    opening = chat.opening("Be brief.", (), "You see a desk.")
    assert "You see a desk." in tokenizer.decode(opening)
    said = tuple(tokenizer("look", add_special_tokens=False)["input_ids"])
    ended = (*said, chat.ends[0])
    assert chat.message(ended) == chat.message(said) == "look"
    # the end is written once, whether the model sampled it or not
    assert (*ended, *chat.continuation("A lamp.", ended)) == (*said, *chat.continuation("A lamp.", said))
