"""What every engine that runs a model on this machine needs, whatever the model makes."""
