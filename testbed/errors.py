"""What can go wrong in the test bed, told apart by whether anything was changed before."""


class TestbedError(Exception):
    """Base of errors that end the command with one sentence instead of a traceback."""

    exit_code = 1
    __test__ = False  # its name begins like a test class


class Refused(TestbedError):
    """The machine lacks something; raised before anything is changed."""

    exit_code = 2


class Failed(TestbedError):
    """A step failed on the way; the message says where its log is."""
