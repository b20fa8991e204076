"""Subcommands of `face`, one module each; heavy packages are only imported by the commands that need them."""

import argparse
from typing import NoReturn

from face_lightning.errors import ConfigurationError
from face_lightning.trust import trust_no_code

trust_no_code()


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that raises errors instead of printing the usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise the message that argparse would print.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(f"{message}; see {self.prog} --help")
