"""The actions of search QA: native, JSON tool calls, Search-R1's tags, and a bare final report."""

from __future__ import annotations

import json
import re
from typing import Any

from turnwise.actions import MAX_ACTION_CHARS, ActionGrammar, ActionProblem, ActionSpec
from turnwise.messages import ToolCall
from turnwise.records import Action, Json

SPECS = (
    ActionSpec(
        name="search",
        template="search[{query}] top {k}",
        description="Search the documents; lists their titles, addresses and first words.",
        parameters={"query": "What to look for, in words.", "k": "How many results, 1 to 20."},
    ),
    ActionSpec(
        name="open",
        template="open[{doc}] page {page}",
        description="Read a document that a search has listed.",
        parameters={
            "doc": "Its id, its address, or its number in the last list of results.",
            "page": "Which page, from 1.",
        },
    ),
    ActionSpec(
        name="find",
        template="find[{pattern}]",
        description="List the sentences of the open document that contain a text.",
        parameters={"pattern": "The text; upper and lower case are the same."},
    ),
    ActionSpec(
        name="answer",
        template="answer[{text}]",
        description=(
            "End with the final report: the sections '## Explanation with Citations' (each claim followed by "
            "[[id](url)] of the document that supports it), '## Exact Answer' and '## References'."
        ),
        parameters={"text": "The report, or just the answer with its citations."},
    ),
)
_OPTIONAL = {"search": ("k", "search[{query}]"), "open": ("page", "open[{doc}]")}
# Names that models trained elsewhere use for the same arguments (CaRR's browser tools, Search-R1's server).
_ARGUMENT_ALIASES = {
    "search": {"num": "k", "topk": "k", "top_k": "k"},
    "open": {"id": "doc", "url": "doc", "document": "doc"},
    "answer": {"answer": "text"},
}
_SHORT = re.compile(r"(search|open)\[(.+)\]", re.IGNORECASE | re.DOTALL)
_TAGGED = re.compile(r"<(search|answer)>(.+)</\1>", re.IGNORECASE | re.DOTALL)
_FIRST = {"search": "query", "open": "doc", "answer": "text"}
_THINK = re.compile(r"\A\s*(?:<think>)?(?P<thought>.*?)</think>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<(search|answer)>", re.IGNORECASE)
_OTHER_CALL = re.compile(r"<(?:tool_call|action)>|^\s*\*{0,2}action\b[^\n]{0,8}:", re.IGNORECASE | re.MULTILINE)
_REPORT = re.compile(r"^[ \t]*#{1,6}[ \t]*exact answer\b", re.IGNORECASE | re.MULTILINE)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class SearchGrammar(ActionGrammar):
    """The shared grammar, with optional arguments, Search-R1's tags and bare reports."""

    def parse(self, text: str) -> Action | ActionProblem:
        """Read the one action of a message; never raises, whatever the text.

        Tags are read as Search-R1 does: the first closed ``<search>`` or ``<answer>`` counts and what follows it is
        ignored, since its samplers stop there. The ``command`` of such an action keeps the tags.
        """
        if len(text) <= MAX_ACTION_CHARS and not _UNPRINTABLE.search(text):
            thought, body = _split(text)
            if not body.startswith(("{", "[")) and not _OTHER_CALL.search(body):
                tag = _TAG.search(body)
                if tag is not None:
                    return self._tagged(tag, body, thought)
                if _REPORT.search(body) and _SHORT.match(body) is None and not body.lower().startswith("answer["):
                    return _answer(" ".join(body.split()), thought)
        return super().parse(text)

    def _tagged(self, tag: re.Match[str], body: str, thought: str) -> Action | ActionProblem:
        name = tag[1].lower()
        inside = re.split(f"</{name}>", body[tag.end() :], maxsplit=1, flags=re.IGNORECASE)[0]
        content = " ".join(inside.split())
        said = "\n".join(part for part in (thought, body[: tag.start()].strip()) if part) or None
        if content:
            return _in_tags(name, content, said)
        message = "the query is empty" if name == "search" else "the answer is empty"
        return ActionProblem(message=message, explanation=f"Invalid action: {message}\n{self.explain()}")

    def _match(self, text: str) -> Action | None:
        action = super()._match(text)
        if action is not None:
            return action
        command = " ".join(text.split())
        short, tagged = _SHORT.fullmatch(command), _TAGGED.fullmatch(command)
        if short is not None and short[2].strip():
            name, value = short[1].lower(), short[2].strip()
            return Action(name=name, arguments={_FIRST[name]: value}, command=f"{name}[{value}]")
        if tagged is not None and tagged[2].strip():
            return _in_tags(tagged[1].lower(), tagged[2].strip(), None)
        return None

    def _call(self, call: ToolCall, thought: str | None) -> Action:
        name = call.name.removeprefix("browser.")
        aliases = _ARGUMENT_ALIASES.get(name, {})
        arguments = {aliases.get(key, key): value for key, value in call.arguments.items()}
        if name not in _OPTIONAL:
            return super()._call(ToolCall(name, arguments), thought)
        optional, short = _OPTIONAL[name]
        if arguments.get(optional) is not None:
            return super()._call(ToolCall(name, arguments), thought)
        action = super()._call(ToolCall(name, {**arguments, optional: "1"}), thought)
        kept = {key: value for key, value in action.arguments.items() if key != optional}
        return Action(name=name, arguments=kept, command=short.format(**kept), form=action.form, thought=action.thought)

    def tools(self) -> list[dict[str, Json]]:
        """Return the actions as tool schemas; those with an optional argument cannot be strict."""
        tools = super().tools()
        for tool in tools:
            function: dict[str, Any] = tool["function"]
            if function["name"] in _OPTIONAL:
                optional, _ = _OPTIONAL[function["name"]]
                function["strict"] = False
                function["parameters"]["properties"][optional]["type"] = "integer"
                function["parameters"]["required"].remove(optional)
        return tools

    def _explain(self) -> str:
        call = json.dumps({"name": "search", "arguments": {"query": "..."}})
        return "\n".join(
            (
                "Answer with exactly one action per message, in one of these forms:",
                *(f"  {_OPTIONAL.get(spec.name, ('', spec.template))[1]} - {spec.description}" for spec in SPECS),
                "'search[...] top 10' and 'open[...] page 2' give the number of results and the page.",
                f"The same as a JSON tool call: {call}",
                "Or in tags: <search>query</search> is answered with whole documents in <information> tags, "
                "and <answer>text</answer> ends.",
                "A thought may come first. Example: Thought: what to do next. Action: search[...]",
            )
        )


def _split(text: str) -> tuple[str, str]:
    """Split a message into its thought (in ``<think>`` tags) and the rest."""
    match = _THINK.match(text)
    return (match["thought"].strip(), text[match.end() :].strip()) if match else ("", text.strip())


def _in_tags(name: str, content: str, thought: str | None) -> Action:
    return Action(name=name, arguments={_FIRST[name]: content}, command=f"<{name}>{content}</{name}>", thought=thought)


def _answer(text: str, thought: str) -> Action:
    return Action(name="answer", arguments={"text": text}, command=f"answer[{text}]", thought=thought or None)


GRAMMAR = SearchGrammar(SPECS)
