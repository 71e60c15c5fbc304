"""What a gateway does with a request before it is stored: choose the engine, decide the task, check the gates."""
