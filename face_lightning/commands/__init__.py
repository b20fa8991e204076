"""Subcommands of `face`, one module each; nothing heavy is imported before the command that needs it."""

import argparse
from typing import NoReturn

from face_lightning.errors import ConfigurationError
from face_lightning.trust import trust_no_code

trust_no_code()


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that reports mistakes as the rest of the command line does."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit with.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(f"{message}; see {self.prog} --help")
