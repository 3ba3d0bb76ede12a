"""The errors that qx tells in one line, and those by which plugins speak of the model or the data."""

from __future__ import annotations


class QxError(Exception):
    """Base of the errors below."""


class UsageError(QxError):
    """The user asked for something that cannot be: told in one line, exit 2."""


class DataError(QxError):
    """A workload's data are missing, incomplete or damaged. The message says what, and how to mend it."""


class Unsupported(QxError):
    """A config cannot treat this model. The message names the layer and the reason."""


class PluginError(QxError):
    """A plugin broke the contract. The message names plugin, distribution, hook and cause."""
