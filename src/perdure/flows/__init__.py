"""Flow control: how many processes of a type run at once, and how fast they begin."""
