"""Commands that use what the other packages make."""
