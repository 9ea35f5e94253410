"""Pictures that are deblurred while nobody waits for the answer, kept on disk until then."""
