"""One-pass information gain beside per-turn scoring: wall time and tokens computed, same model and trajectories.

    python benchmarks/information_gain.py [--quick] [--out benchmarks/results/information_gain.json]

A randomly initialised Llama configuration (weights do not change the work), trajectories of T turns with the
given total number of tokens in equal segments, an answer of 8 tokens between 4 tokens of prefix and 5 of suffix.
Contexts are the bare prompt and one per turn, as information gain needs them: T + 1. The methods take turns, each
is timed ``--repeats`` times and the fastest counts. Processor time is recorded too: on a machine that others use,
wall time says less.

``released``     as IGPO's code: each context with the whole forced answer is one forward pass, with logits everywhere.
``re-encode``    the same without waste: cut after the answer's last token, logits where they are needed.
``incremental``  keeps the cache and takes the answer out again after each turn.
``one pass``     ours.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig

from turnwise.agents.likelihood.encode import Encoded, Target
from turnwise.agents.likelihood.passes import Method, Passes

OURS: dict[str, Method] = {"re-encode": "sequential", "incremental": "incremental", "one pass": "one_pass"}
METHODS = ("released", *OURS)
SUFFIX = (11, 12, 13, 14, 15)
GOAL = 0.4  # times T, against the released code's way


def make_model(hidden: int, layers: int, device: str, dtype: str) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=16384,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return model.to(device=device, dtype=getattr(torch, dtype)).eval()


def trajectory(turns: int, tokens: int) -> Encoded:
    generator = torch.Generator().manual_seed(turns * tokens)
    ids = torch.randint(0, 8192, (tokens,), generator=generator).tolist()
    ends = [round(tokens * (t + 1) / (turns + 1)) for t in range(turns + 1)]
    answer = torch.randint(0, 8192, (12,), generator=generator).tolist()
    return Encoded(tuple(ids), tuple(ends), (Target(tuple(answer), 4),))


def released(model: Any, encoded: Encoded) -> tuple[list[float], int]:
    """Score as the released code does; return the log-probabilities and the tokens computed."""
    values: list[float] = []
    tokens = 0
    (target,) = encoded.targets
    for end in encoded.ends:
        ids = torch.tensor([[*encoded.ids[:end], *target.ids, *SUFFIX]], device=model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits
        scored = logits[0, end + target.start - 1 : end + len(target.ids) - 1].float().log_softmax(-1)
        wanted = torch.tensor(target.ids[target.start :], device=model.device)
        values += scored.gather(1, wanted[:, None])[:, 0].tolist()
        tokens += ids.numel()
    return values, tokens


def score(name: str, model: Any, passes: Passes, encoded: Encoded) -> tuple[list[float], int]:
    if name not in OURS:
        return released(model, encoded)
    before = passes.tokens
    (scores,) = passes.run(OURS[name], [encoded])
    return [value for row in scores.tokens for part in row for value in part], passes.tokens - before


def measure(model: Any, passes: Passes, encoded: Encoded, repeats: int) -> dict[str, Any]:
    wall: dict[str, float] = {}
    cpu: dict[str, float] = {}
    tokens: dict[str, int] = {}
    values: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name in METHODS:
            begin, begin_cpu = time.perf_counter(), time.process_time()
            values[name], tokens[name] = score(name, model, passes, encoded)  # numbers, so the device is done
            took, took_cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
            wall[name] = min(wall.get(name, took), took)
            cpu[name] = min(cpu.get(name, took_cpu), took_cpu)
    off = {n: max(abs(a - b) for a, b in zip(values[n], values["released"], strict=True)) for n in METHODS}
    return {"wall_s": wall, "cpu_s": cpu, "tokens": tokens, "max_difference": off}


def compare(turns: int, tokens: int, measured: dict[str, Any]) -> dict[str, Any]:
    ratio = {
        kind: {name: measured[kind][name] / measured[kind]["one pass"] for name in METHODS}
        for kind in ("wall_s", "cpu_s", "tokens")
    }
    row = {"turns": turns, "trajectory_tokens": tokens, **measured, "times_one_pass": ratio}
    row["released_per_turn"] = ratio["wall_s"]["released"] / turns
    row["goal_met"] = row["released_per_turn"] >= GOAL
    return row


def show(row: dict[str, Any]) -> str:
    wall, ratio = row["wall_s"], row["times_one_pass"]
    times = " ".join(f"{1e3 * wall[name]:>11.1f}" for name in METHODS)
    faster = " ".join(
        f"{ratio[kind]['released']:>5.1f} {ratio[kind]['re-encode']:>5.1f} {ratio[kind]['incremental']:>5.2f} |"
        for kind in ("wall_s", "cpu_s", "tokens")
    )
    return (
        f"{row['turns']:>3} {row['trajectory_tokens']:>6} | {times} | {faster} {row['released_per_turn']:.2f} T"
        f" | {row['max_difference']['one pass']:.0e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-tokens", type=int, default=4096, help="most tokens in one forward pass")
    parser.add_argument("--quick", action="store_true", help="T = 8 and 512 tokens only")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "information_gain.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = make_model(options.hidden, options.layers, options.device, options.dtype)
    passes = Passes(model, max_tokens=options.max_tokens)
    score("one pass", model, passes, trajectory(4, 128))
    print("milliseconds of wall time, then how many times one pass (wall | processor | tokens): released, re-encode,")
    print("incremental; then released over one pass as a share of T, and the largest difference in a log-probability")
    rows = []
    for turns in (8,) if options.quick else (8, 16, 32):
        for tokens in (512,) if options.quick else (256, 512, 1024, 2048, 4096):
            rows.append(compare(turns, tokens, measure(model, passes, trajectory(turns, tokens), options.repeats)))
            print(show(rows[-1]), flush=True)
    result = {
        "benchmark": "information_gain",
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else platform.processor(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "model": {"parameters": sum(p.numel() for p in model.parameters()), "hidden": options.hidden},
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{sum(r['goal_met'] for r in rows)} of {len(rows)} settings reach {GOAL} T; {options.out}")


if __name__ == "__main__":
    main()
