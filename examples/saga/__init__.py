"""A trip of flight, hotel and car: what is booked is released, in reverse order, when a later part fails or somebody cancels."""
