"""The error of an unusable workflow."""


class WorkflowError(ValueError):
    """A workflow, its bindings or an override is not valid; the message says what to correct."""
