"""The one exception that means: the input is at fault, not the program."""


class InputError(Exception):
    """A user's mistake: configuration, table, image or weight file.

    The message names the file, the key, what was found, what was expected, and the next step. The command line prints
    it without a traceback and exits with status 2.
    """
