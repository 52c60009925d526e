"""From a file to runs: what it says, whether it is right, and what each result is identified by."""
