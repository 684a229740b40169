"""Commands: work for workers elsewhere, leased, fenced and answered once."""
