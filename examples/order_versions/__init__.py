"""Three versions of an order, as packages."""
