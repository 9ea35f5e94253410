"""Making pairs: simulated shake of photographs, averaged video, the sample data set."""
