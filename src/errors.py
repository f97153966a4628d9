"""The one error that a user is expected to read."""


class UserError(Exception):
    """Something that the user can mend: bad input, a missing file, a parameter out of range.

    The message is one line that names the thing and the way out. Entry points print it on
    stderr without a traceback and exit non-zero; any other exception is a defect of ours.
    """
