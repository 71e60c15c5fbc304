"""ControlNets, their control maps, and the preprocessors that compute maps from photos."""
