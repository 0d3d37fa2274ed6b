"""Patterns as analysts work with them: written in YAML, tried, published, looked up, compared.

yaml_document   one YAML document as JSON values, each with its place in the file
pattern_file    the format of a pattern file: which keys there are, and what they become in a statement
authoring       reading a pattern file and saying everything that is wrong with it, line by line
library         the templates and starter patterns that ship with the client
trials          trying other labs' patterns here before they come into force
submission      drafting patterns and withdrawals, and knowing what the log has already
outbox          submitting a record so that a lost answer never makes two of it
finding         which record a user means, and which ones a list shows
presenting      one pattern's provenance, sightings and differences
yaml_writing    a pattern as a pattern file, and as Sigma for other tools
"""
