"""The verdict of a check: for a terminal, for GitHub, for JUnit's readers and as a document."""
