"""How far a long piece of work has come."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Sequence[Item], label: str) -> Iterator[Item]:
    """The items one by one: under a bar on a terminal, where tqdm is installed, and announced by a line elsewhere."""
    if sys.stderr.isatty() and importlib.util.find_spec("tqdm"):
        from tqdm import tqdm

        with tqdm(items, label, leave=False) as bar:
            for item in bar:
                bar.set_postfix_str(str(item))
                yield item
        return
    for index, item in enumerate(items, 1):
        print(f"{label} [{index}/{len(items)}] {item}", file=sys.stderr, flush=True)
        yield item
