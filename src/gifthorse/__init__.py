"""gifthorse: look a gift horse in the mouth."""

__version__ = "0.1.0"
