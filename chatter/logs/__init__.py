"""Logs of chat -> rows, for parse_logs.py. Each module imports only those above it in this list.

unpacking       compressed files, and how much they may unpack to
archives        archives of logs, read like folders
batch           the columns, a row, a batch: what every reader yields
reading         files in chunks, and in parts that can be shared among processes
times           stamps, offsets and epoch times -> a date and a time
file_names      what the name of a log says: its kind, its channel, its day
notices         what Twitch writes about users: subscriptions, gifts, raids
shared_chat     messages of other channels in a shared chat
format          LineFormat, JsonFormat and TableFormat, and how a line is matched
formats         the formats, one file a program
entries         a line or a JSON object -> its kind and its row
folders         which files are logs, and which CSVs they become
long_lines      lines that contain a whole chat
sessions        dates and times that the lines lack
json_documents  JSON documents in a file: where each begins, and what it contains
json_reader     readers of JSON documents
text_reader     lines of text or of JSON
json_lines      lines of JSON objects with several entries each
columns         which column of a table holds the messages, their users, ...
table_times     dates and times in the cells of tables
table_reader    tables of messages
columnar        Parquet, Arrow and Feather files
columnar_reader messages in these files
table_syntax    delimiter, quotes and backslashes of a CSV
tables          CSVs and TSVs of any program, row by row
csv_reader      messages in CSVs and TSVs
object_reader   JSON objects with the names of tables
headers         the names of the columns of a file
find_reader     which reader a file needs
copies          logs that are copies of other logs
unknown         what a file in no known format resembles
readers         the readers of all logs, and the logs that cannot be used
moderation      timeouts, bans and deletions, and the messages that led to them
filters         which messages are left out
whole_logs      filters that need facts about whole logs
earlier         CSVs of earlier runs that this run does not write
summary         what became of each log, printed at the end
"""
