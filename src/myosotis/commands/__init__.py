"""One story a file: what each command does."""
