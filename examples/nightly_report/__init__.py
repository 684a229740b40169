"""A report that is made each night from many parts: some come late, some never, and the summary says so."""
