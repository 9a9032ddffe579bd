"""What features do: to the next token, to the loss, and to features of later sites."""
