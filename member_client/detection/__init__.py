"""Running the patterns in force over a lab's own logs. Nothing of it leaves the lab.

in_force           which patterns run, and why others do not
log_settings       logs.toml, folders and globs: which files, and what their columns mean
request_logs       files and streams of lines: opened, decompressed, split; broken rows told apart
reading            files as record batches in the canonical form, by csv_rows, otlp_rows, parquet_rows and rows
canonical          that form
literals           what a rule cannot match without; text_scan searches for all of it at once
hits               all rules over batches
engine             hits, correlations over them, windows and the patterns over these; reference_engine in its place
spark_engine       the same on a lab's Spark; spark_reading is what its machines do, spark_windows the windows
segments           requests kept for windows
state              what runs that follow their logs remember
detecting          one run from its sources to its file
findings           the detections file, and the summary of a run that sightings are made from
"""
