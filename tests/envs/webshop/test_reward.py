"""The reward's quirks by name, and what the strict mode makes of them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.envs.webshop.colours import first_colour
from turnwise.envs.webshop.goal import Goal
from turnwise.envs.webshop.nouns import NounRule, SpacyTagger, open_tagger
from turnwise.envs.webshop.product import Product
from turnwise.envs.webshop.reward import alike, attribute_matches, option_matches, plain, purchase_reward
from turnwise.errors import ConfigError, MissingExtraError, UnknownNameError

PRODUCT = Product(
    asin="B000000001",
    title="Steel Kettle with Lid",
    description="A kettle for unhairy people.",
    bullets=("boils fast",),
    prices=(34.5,),
    options={"color": ("navy | blue", "wine red"), "size": ("large", "x-large")},
    category="garden",
    query="electric kettle",
    product_category="Home \u203a Kitchen \u203a Kettles",
    attributes=("stainless steel", "natural hair"),
)
GOAL = Goal(
    asin="B000000001",
    category="garden",
    query="electric kettle",
    name="Steel Kettle with Lid",
    product_category="Home \u203a Kitchen \u203a Kettles",
    instruction_text="i need a steel kettle, and price lower than 40.00 dollars",
    attributes=("stainless steel",),
    price_upper=40.0,
    goal_options=("navy/blue", "x-large"),
)
RIGHT = {"color": "navy | blue", "size": "x-large"}
MODES: tuple[Any, ...] = ("compat", "strict")


def changed(record: Any, **changes: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(record, **changes)


def total(
    product: Product = PRODUCT, goal: Goal = GOAL, price: float = 34.5, options: Any = None, mode: Any = "compat"
):
    return purchase_reward(product, goal, price, RIGHT if options is None else options, mode=mode).total


@pytest.mark.parametrize("mode", MODES)
def test_the_worked_example(mode: Any) -> None:
    assert total(mode=mode) == 1.0
    assert total(options={"color": "navy | blue"}, mode=mode) == 0.75
    assert total(price=40.01, mode=mode) == 0.75
    assert total(price=40.0, mode=mode) == 1.0
    assert total(options={}, mode=mode) == 0.5
    stranger = changed(PRODUCT, title="Felt Slippers", query="slippers", product_category="Shoes \u203a Men")
    assert total(stranger, mode=mode) == 0.0


def test_parts_say_why() -> None:
    found = purchase_reward(PRODUCT, GOAL, 50.0, {"color": "navy | blue", "size": "small"})
    assert (found.r_type, found.query_match, found.category_match, found.title_score) == (1.0, True, True, 1.0)
    assert (found.r_att, found.r_option, found.r_price) == (1.0, 0.5, False)
    assert (found.w_att, found.w_option, found.w_price) == (0.25, 0.5, 0.25)
    assert (found.attributes, found.options) == ((True,), (True, False))
    with pytest.raises(FrozenInstanceError):
        found.total = 1.0  # type: ignore[misc]
    assert replace(found, total=0.0).total == 0.0


def test_quirk_large_takes_x_large() -> None:
    assert option_matches(["x-large"], ["large"], mode="compat") == (True,)
    assert option_matches(["x-large"], ["large"], mode="strict") == (False,)


def test_quirk_a_pack_takes_its_size() -> None:
    assert option_matches(["12 inch (pack of 1)"], ["12 inch"], mode="compat") == (True,)
    assert option_matches(["12 inch (pack of 1)"], ["12 inch"], mode="strict") == (False,)


def test_quirk_hair_takes_natural_hair() -> None:
    assert attribute_matches(PRODUCT, ["hair"], mode="compat") == (True,)
    assert attribute_matches(PRODUCT, ["hair"], mode="strict") == (False,)
    assert attribute_matches(PRODUCT, ["natural hair"], mode="strict") == (True,)


def test_quirk_an_attribute_counts_inside_other_words() -> None:
    bare = changed(PRODUCT, attributes=())
    assert attribute_matches(bare, ["hair", "boils fast"], mode="compat") == (True, True)
    assert attribute_matches(bare, ["hair", "boils fast"], mode="strict") == (False, True)


def test_strict_attributes_do_not_reach_over_two_texts() -> None:
    assert attribute_matches(PRODUCT, ["lid boils"], mode="strict") == (False,)


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("standard", "tan"),
        ("washed denim", "ash"),
        ("wine red", "red"),
        ("blackberry", "black"),
        ("zzz", "zzz"),
        ("", ""),
    ],
)
def test_quirk_palette_words_count_inside_other_words(text: str, colour: str) -> None:
    assert first_colour(text) == colour


def test_quirk_two_options_of_one_palette_word_are_the_same() -> None:
    assert option_matches(["standard"], ["tan leather"], mode="compat") == (True,)
    assert option_matches(["blackberry"], ["black"], mode="compat") == (True,)
    assert option_matches(["standard"], ["tan leather"], mode="strict") == (False,)
    assert option_matches(["blackberry"], ["black"], mode="strict") == (False,)


def test_quirk_the_title_overrides_query_and_category() -> None:
    renamed = changed(PRODUCT, title="Something else entirely")
    assert total(renamed, mode="compat") == 0.0
    assert total(renamed, mode="strict") == 1.0
    long = changed(GOAL, name="Kettle " + " ".join(f"noun{'abcdefghijklmnop'[i]}" for i in range(15)))
    assert purchase_reward(PRODUCT, long, 1.0, RIGHT).r_type == 0.1
    assert purchase_reward(PRODUCT, long, 1.0, RIGHT, mode="strict").r_type == 1.0


def test_quirk_one_choice_may_serve_two_wanted_options() -> None:
    assert option_matches(["navy | blue"], ["blue", "sky blue"], mode="compat") == (True, True)
    assert option_matches(["navy | blue"], ["blue", "sky blue"], mode="strict") == (False, False)


@pytest.mark.parametrize("mode", MODES)
def test_of_another_kind_with_a_related_title_is_half(mode: Any) -> None:
    other = changed(PRODUCT, title="Kettle Bell", query="weights", product_category="Sports", attributes=())
    found = purchase_reward(other, changed(GOAL, name="Steel Kettle Lid Handle Spout"), 1.0, {}, mode=mode)
    assert (found.title_score, found.r_type) == (0.2, 0.5)
    nameless = purchase_reward(other, changed(GOAL, name="the of 12"), 1.0, {}, mode=mode)
    assert (nameless.title_score, nameless.r_type) == (0.2, 0.5)


@pytest.mark.parametrize("mode", MODES)
def test_a_slash_is_a_slash_however_it_is_written(mode: Any) -> None:
    assert option_matches(["7 | 8 inch"], ["7/8 inch"], mode=mode) == (True,)


def test_goals_without_options_or_ceiling() -> None:
    found = purchase_reward(PRODUCT, changed(GOAL, goal_options=(), price_upper=0.0), 1.0, {})
    assert (found.r_option, found.w_option, found.r_price, found.w_price) == (None, None, None, None)
    assert found.total == 0.5
    named = changed(GOAL, goal_options={"color": "navy/blue", "size": "x-large"})
    assert total(goal=named) == 1.0
    assert purchase_reward(PRODUCT, changed(GOAL, attributes=()), 1.0, RIGHT).r_att is None


def test_mappings_as_webshop_keeps_them(make_item: Any) -> None:
    raw = make_item(1) | {"Attributes": ["stainless steel"]}
    found = purchase_reward(raw, GOAL.as_json() | {"name": "Steel kettle number 1 for tea", "more": 1}, 34.5, RIGHT)
    assert found.total == 1.0
    for product, goal in ((7, GOAL), ({"asin": "nan"}, GOAL), (PRODUCT, {"asin": "x"}), (PRODUCT, 7)):
        with pytest.raises(ConfigError):
            purchase_reward(product, goal, 1.0, {})  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="strict"):
        purchase_reward(PRODUCT, GOAL, 1.0, {}, mode="stric")  # type: ignore[arg-type]


def test_alike_is_a_rounded_token_set_ratio_without_case_and_accents() -> None:
    assert alike("Easy to Use", "use easy to!")
    assert not alike("large", "medium")
    assert not alike("", "")
    assert alike("caf\u00e9 noir", "caf noir")


def test_the_noun_rule() -> None:
    rule = NounRule()
    assert rule("Men's T-Shirt with the 12 Inch USB3 Zip, and (Pockets)") == (
        "men",
        "t",
        "shirt",
        "inch",
        "zip",
        "pockets",
    )
    assert rule("") == ()
    assert NounRule({"kettle"})("Steel Kettle") == ("steel",)


def test_taggers_by_name() -> None:
    assert open_tagger("rule")("red kettle") == ("red", "kettle")
    with pytest.raises(UnknownNameError, match="rule"):
        open_tagger("rulle")


def test_spacy_tags_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import types

    token = types.SimpleNamespace
    tagged = [token(text="Steel", pos_="NOUN"), token(text="red", pos_="ADJ"), token(text="Acme", pos_="PROPN")]

    def load(name: str) -> Any:
        if name != "en_core_web_sm":
            raise OSError(name)
        return lambda title: tagged

    real = importlib.import_module
    fake = types.SimpleNamespace(load=load)
    monkeypatch.setattr(importlib, "import_module", lambda name, *a: fake if name == "spacy" else real(name, *a))
    assert SpacyTagger()("x") == ("steel", "acme")
    with pytest.raises(ConfigError, match="spacy download"):
        SpacyTagger("nothing")

    def missing(name: str, *rest: Any) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"turnwise\[nouns\]"):
        SpacyTagger()


WORDS = st.sampled_from(["red", "x-large", "large", "kettle", "steel", "tan", "standard", "hair", "\u00e9", "12", ""])
TEXTS = st.lists(WORDS, max_size=4).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(
    title=TEXTS,
    name=TEXTS,
    attributes=st.lists(TEXTS, max_size=3),
    options=st.lists(TEXTS, max_size=3),
    chosen=st.dictionaries(TEXTS, TEXTS, max_size=3),
    price=st.floats(0, 1e4),
    mode=st.sampled_from(MODES),
)
def test_rewards_stay_in_range(
    title: str, name: str, attributes: list[str], options: list[str], chosen: dict[str, str], price: float, mode: Any
) -> None:
    product = changed(PRODUCT, title=title, attributes=tuple(attributes))
    goal = changed(GOAL, name=name, attributes=tuple(attributes), goal_options=tuple(options))
    found = purchase_reward(product, goal, price, chosen, mode=mode)
    assert 0.0 <= found.total <= 1.0
    assert found.r_type in (0.0, 0.1, 0.5, 1.0)
    assert plain(plain(title)) == plain(title)
