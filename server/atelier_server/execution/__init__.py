"""What a worker does with a claimed generation: run the engine, store the outputs, record the result."""
