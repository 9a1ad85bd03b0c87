"""Logs of chat -> rows, for parse_logs.py. Each module imports only those above it in this list.

batch           the columns, a row, a batch: what every reader yields
times           stamps, offsets and epochs, as a date and a time
file_names      what the name of a log tells: channel, day, start of the video
format          what a format of lines or of JSON is, and how a line is matched
formats         the formats, one file a program
entries         a line or a JSON object -> its kind and its row
folders         which files are logs, and which CSVs they become
reading         files in chunks, many side by side
sessions        days and times that lines do not have
json_reader     JSON documents
text_reader     lines of text or of JSON
tables          CSVs by the column, whichever program wrote them
table_reader    tables of messages
find_reader     which reader a file needs
moderation      timeouts and bans, and the messages that led to them
filters         which messages are left out
"""
