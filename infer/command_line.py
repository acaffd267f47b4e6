"""What the commands' argument parsers share."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line: a ValueError, for `main` to print."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see --help")
