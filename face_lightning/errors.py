"""Errors that a user can mend. The command line shows them as one line and exits with code 2."""


class FaceError(Exception):
    """A mistake with a cure: the message says what was expected, what came and what to do."""


class DataError(FaceError):
    """Interactions, texts or vectors that are missing, damaged or do not fit together."""


class ConfigurationError(FaceError):
    """Arguments that are wrong by themselves or contradict each other."""


class CheckpointError(FaceError):
    """A checkpoint that is missing, damaged, or belongs to another stage or size."""


class MissingDependencyError(FaceError):
    """An optional package that the configuration demands is not installed."""
