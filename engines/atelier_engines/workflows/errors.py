"""What can be wrong with a workflow."""


class WorkflowError(ValueError):
    """A workflow, its bindings or a change to it makes no sense; the text says what to correct."""
