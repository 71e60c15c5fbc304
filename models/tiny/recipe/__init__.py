"""The program that draws, trains, exports and judges the weights of ``atelier-tiny``."""
