"""Every error that gifthorse raises on purpose, in one tree.

    GifthorseError                 exit code 2 unless said otherwise
    ├── SpecError                  a plugin name or one of its options is wrong
    ├── PluginError                an installed plugin cannot be imported or clashes with another
    ├── DataError                  a data set is missing, unreadable or of the wrong kind
    ├── ModelError                 a model is missing, unreadable, or may not be opened
    ├── RecordError                a record file is not one, or of an unknown version
    │   └── LedgerError            a ledger of trials cannot be read or written
    ├── TrustError                 exit code 1: files are not what someone trusted has signed
    │   └── TrustInputError        exit code 2: a key, policy or path is missing or unreadable
    └── IncompleteError            exit code 3: the question was understood and has no answer
        ├── NotApplicableError     this method cannot judge this subject, and says why
        ├── OutOfTimeError         the user's time budget ended before the answer was there
        └── RepairRefusedError     the repaired model is worse than the user allows

The text of an error says what was got, what was expected and what to do.
"""


class GifthorseError(Exception):
    """Base of all expected failures; the command line prints it without a traceback."""

    exit_code: int = 2


class SpecError(GifthorseError):
    """A plugin's name or one of its options is wrong."""


class PluginError(GifthorseError):
    """An installed plugin cannot be imported, or two share a name."""


class DataError(GifthorseError):
    """A data set is missing, unreadable, or does not fit its use."""


class ModelError(GifthorseError):
    """A model is missing, unreadable, or in a format that is never opened."""


class RecordError(GifthorseError):
    """A record file cannot be read as one."""


class TrustError(GifthorseError):
    """Files are not, or cannot be shown to be, what someone trusted has signed."""

    exit_code = 1


class TrustInputError(TrustError):
    """The question itself is wrong: no such path, an unreadable key or policy, a missing extra."""

    exit_code = 2


class LedgerError(RecordError):
    """A ledger of trials cannot be read or written; what is in it stays as it is."""


class IncompleteError(GifthorseError):
    """The question was understood, but it has no answer."""

    exit_code = 3


class NotApplicableError(IncompleteError):
    """A method cannot judge this subject; the text says why."""


class OutOfTimeError(IncompleteError):
    """The time that the user allows has ended; the text says during what."""


class RepairRefusedError(IncompleteError):
    """A repair costs more than the user allows."""
