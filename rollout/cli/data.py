"""``turnwise data``: the embedded worlds' data as files of the originals, for other programs and in other sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turnwise.rollout.cli.console import output, print_json
from turnwise.rollout.cli.options import AsJson

data = typer.Typer(help="Write generated data in the original formats.", no_args_is_help=True)


@data.callback()
def _group() -> None:
    """Write generated data in the original formats."""


@data.command("webshop")
def webshop(
    out: Annotated[Path, typer.Option("--out", help="Folder to write to.", show_default=False)],
    products: Annotated[int, typer.Option("--products", help="How many products.")] = 1_000,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the shop; by default the embedded one's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a generated shop as files that WebShop loads, and turnwise with --data."""
    from turnwise.envs.webshop.generator import SEED, write_shop

    files = write_shop(out, products=products, seed=SEED if seed is None else seed)
    if as_json:
        print_json([{"file": str(file), "bytes": file.stat().st_size} for file in files])
        return
    for file in files:
        output().print(f"{file}  {file.stat().st_size:,} bytes", markup=False, soft_wrap=True)
