import logging
from collections.abc import Iterator

import pytest

from soniqd.log import setup


@pytest.fixture
def clean_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test configures, logging is afterwards what it was."""
    root, own = logging.getLogger(), logging.getLogger("soniqd")
    before = (root.handlers[:], root.level, own.handlers[:], own.level, own.propagate, own.disabled)
    monkeypatch.setattr(setup, "_handler", None)
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, own.handlers[:], own.level, own.propagate, own.disabled = before
    for logger in (root, own, *map(logging.getLogger, logging.Logger.manager.loggerDict)):
        logger.disabled = False  # a test's dictConfig() disables what it does not know
        logger.setLevel(logger.level)  # drops what isEnabledFor() remembered
