"""The refusals: everything a person at the screen or the terminal can act on.

The text of an `AppError` is one or two whole sentences that say what is wrong and what to do. It is shown as it
is. It never holds a file's content, a name or an identifier of a patient. Every other exception is a bug: it goes
up with its traceback to the log.
"""

import traceback


class AppError(Exception):
    """Base of all refusals; `str(error)` is shown to the person."""


class UnreadableImage(AppError):
    """The file is not a picture this product reads (broken, wrong kind, too large, not a breast image)."""


class InvalidInput(AppError):
    """A form or an argument holds something that cannot be used."""


class NotAllowed(AppError):
    """The person who asks does not have the role that this action needs."""


class SignedOut(NotAllowed):
    """The session of whoever asks has ended: signed out, too old, idle too long, or the account is disabled."""

    def __init__(self) -> None:
        super().__init__("You are not signed in any more. Reload the page and sign in.")


class NotFound(AppError):
    """What was asked for is not there (any more)."""


class Conflict(AppError):
    """The state of things does not permit this now (already final, already exists, refers to something)."""


class SiteFault(AppError):
    """Something of this site is not as it should be now, whatever was asked for: the same may be tried again later."""


class DiskFull(Conflict, SiteFault):
    """There is no space left where it was to be written."""


class KeysUnreadable(InvalidInput, SiteFault):
    """The credentials or certificates that an archive asks for cannot be read as they stand there now."""


class NotSaved(Conflict):
    """The database cannot take anything now (busy, full, moved): what was to be written may be tried again later."""


class StateMoved(NotSaved):
    """Another state folder lies where that of this process was: it saves nothing any more."""


class DatabaseAway(NotSaved):
    """The database does not answer now: whatever was not acknowledged may be tried again later."""


CHANGED_BY_ANOTHER = (
    "Somebody else changed this since this page showed it, so nothing was saved. Reload the page, look at what it says "
    "now, and change it again."
)
"""Of a form that would put back what another person has changed."""


class ModelUnavailable(AppError):
    """No usable weights for the model that was asked for."""


class ArchiveAway(AppError):
    """An archive does not answer as it should now; trying again later may help."""


class ArchiveRefused(AppError):
    """An archive refuses what is asked or sent, and would refuse it again."""


class LanguageModelAway(AppError):
    """A language model does not answer as it should now. retry_after: seconds after which it asks to be asked again."""

    def __init__(self, sentence: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class LanguageModelRefused(AppError):
    """A language model refuses, or answers with what is no answer to the question."""


class PictureNotSent(AppError):
    """A picture must not leave the house. needs_look: it may once somebody has looked that no text is in it."""

    def __init__(self, sentence: str, *, needs_look: bool = False) -> None:
        super().__init__(sentence)
        self.needs_look = needs_look


class InvalidSettings(AppError):
    """An environment variable holds a value that cannot be used."""


def traceback_of(error: BaseException) -> str:
    """Where an error was raised and what led to it, without its words: they may name a file or a patient."""
    chain: list[str] = []
    one: BaseException | None = error
    while one is not None:
        chain.append("".join(traceback.format_tb(one.__traceback__)) + type(one).__name__)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\nled to\n".join(reversed(chain))
