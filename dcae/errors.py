"""The one exception family of DCAE.

Everything the package raises on purpose derives from :class:`DCAEError`, so that a caller needs one ``except``.
The message says what was wrong with which input and what to do about it.
"""

from __future__ import annotations


class DCAEError(Exception):
    """Base of every error that DCAE raises on purpose.

    Args:
        what: was wrong, with which input, and what to do about it if anybody can.
        advice: what to do about it by options of the command line or by installing something; this is the end of the
            message. A service has clients who can do neither, and tells them `what` alone.
    """

    joint = "; "
    """Between `what` and `advice`."""

    def __init__(self, what: str = "", advice: str = "") -> None:
        super().__init__(f"{what}{self.joint}{advice}" if advice else what)
        self.what, self.advice = what, advice


class PictureError(DCAEError):
    """A picture cannot be read, is too large, or is of a kind that is not coded."""


class FileFormatError(DCAEError):
    """A `.dcae` file is damaged, truncated, foreign or asks for something this version does not know."""


class SymbolMismatchError(FileFormatError):
    """The file is intact, but this machine decoded other symbols than the encoder wrote."""


class ModelFileError(DCAEError):
    """A model file is damaged, foreign, or of a version that this package does not read."""


class ModelNotFoundError(DCAEError):
    """No installed model has the asked name or id."""


class OptionError(DCAEError, ValueError):
    """An option or argument is outside its range."""


class MissingDependencyError(DCAEError, ImportError):
    """A package that an engine, training or evaluation needs is not installed."""

    joint = ": "


class PictureWarning(UserWarning):
    """Something of a picture cannot be kept, or came out badly; said, and gone on."""


def naming(file: str, message: str) -> str:
    """A message with the name of the file that it is about in front, unless it names that file already.

    Bytes have no name of their own, and are called "the picture" where they are read; that gives way to this one.
    """
    message = message.removeprefix("the picture: ")
    return message if f"{file}:" in message else f"{file}: {message}"


def one_line(message: str) -> str:
    """A message as one line that does nothing to a terminal: parts of it may come from a file."""
    message = " ".join(message.split())
    message = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    return message if len(message) <= 1000 else f"{message[:1000]}..."


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; torch says it in a RuntimeError: "CUDA out of memory"."""
    said = ("out of memory", "allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in said)
    )
