"""The procedural world: scenes of moving objects, questions and captions about them, and the benchmark made of these."""
