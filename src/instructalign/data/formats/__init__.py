"""The corpus formats, one file each. `registry.FORMATS` lists them.

A reader is a generator `read(languages, counts, *, options...)` that yields a row for each record of its
files: it counts what it reads, and drops, with a reason, what is no parallel row.
"""
