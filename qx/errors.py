"""The errors that qx reports in one line, and those that plugins raise about the model or the data."""

from __future__ import annotations


class QxError(Exception):
    """Base of the errors below."""

    #: Traceback of a plugin's error that is the reason and that has not been shown; empty if there is none.
    traceback = ""


class UsageError(QxError):
    """The user asked for something impossible: qx reports it in one line and exits with 2."""


class DataError(QxError):
    """A workload's data are missing, incomplete or damaged. The message says which, and what to do."""


class Unsupported(QxError):
    """A config cannot quantize this model. The message names the layer and the reason."""


class PluginError(QxError):
    """A plugin broke the contract. The message names plugin, distribution, hook and cause."""
