"""Guards of language models while they generate, one file a method."""
