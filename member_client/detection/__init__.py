"""Running the patterns in force over a lab's own request logs. Nothing of it leaves the lab.

request_logs    files and streams of rows: opened, decompressed, split, parsed; broken rows told apart
rows            one row as an event: nested objects flattened, columns renamed
in_force        which patterns run, and why others do not
running         all patterns over all rows, in one pass
findings        the detections file, and the summary of a run that sightings are made from
"""
