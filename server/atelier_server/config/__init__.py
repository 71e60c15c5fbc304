"""Reads the configuration: one YAML file and the environment."""
