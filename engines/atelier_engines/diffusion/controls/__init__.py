"""Pictures that steer the composition: maps, made of photos if need be, and ControlNets."""
