"""Audio that follows words: noise, strokes and tones, mixed by recipes."""
