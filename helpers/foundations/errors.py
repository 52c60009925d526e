"""The one exception that is meant for the user: a clear message instead of a traceback."""


class UserError(Exception):
    """Bad input (config, file, path, checkpoint or data), told in one line a mistake.

    Every line says where, what was expected, what was found and what to do. The command
    line prints the lines and exits with code 2.
    """

    def __init__(self, *lines: str):
        self.lines = lines
        super().__init__("\n".join(lines))
