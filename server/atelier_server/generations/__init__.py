"""What happens to a task: it is resolved, routed, queued, worked on, and recorded."""
