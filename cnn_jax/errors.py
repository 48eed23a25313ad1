"""The exceptions that the command line turns into a message instead of a traceback."""

EXIT_USAGE = 2  # wrong flags or settings; nothing was started
EXIT_FAILED = 1  # the run could not go on
EXIT_STUCK = 76  # no progress for a long time; start again to continue
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: saved on SIGTERM or Ctrl-C, start again to continue


class UserError(Exception):
    """Something a user can put right.

    The message names the thing, its value, the rule it breaks and the way out.

    Args:
      message: what is printed, after "error: ".
      exit_code: the process's exit status.
    """

    def __init__(self, message: str, exit_code: int = EXIT_FAILED):
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(UserError):
    """The work was asked to stop, and is saved; the same command continues it."""

    def __init__(self, message: str):
        super().__init__(message, EXIT_INTERRUPTED)


class UsageError(UserError):
    """A wrong flag or setting, found before a device or the workdir is touched."""

    def __init__(self, message: str):
        super().__init__(message, EXIT_USAGE)
