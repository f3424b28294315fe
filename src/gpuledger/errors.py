"""Failures: things that stop a command. Bad *data* is a value instead (see `diagnostics`).

Every error says where it happened and what to do about it; the command line prints it without a traceback and
exits with `exit_code`.
"""


class GpuledgerError(Exception):
    """A failure with a location and a hint.

    `where` names the file, table, option or address concerned; `hint` says what the user can do.
    """

    exit_code = 3

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\nHint: {self.hint}" if self.hint else text


class UsageError(GpuledgerError):
    """The command or its options make no sense together (exit code 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """gpuledger.toml, or an environment variable that it names, is wrong (exit code 2)."""


class SourceError(GpuledgerError):
    """A delivery can't be read: truncated, not a bill of that type, or unlike its manifest."""


class LedgerError(GpuledgerError):
    """The ledger can't be read or written."""


class ConflictError(LedgerError):
    """Another writer committed the same unit first, more often than we were ready to retry."""
