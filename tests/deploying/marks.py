"""What steps of packages in tests have done: a package finds it under its public name, as it does a distribution."""

ran: list[str] = []
