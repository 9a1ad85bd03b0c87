"""A model and the chat so far -> the next message, for generate.py. Each module imports only those above it.

engine                 how tokens are sampled, and what every engine can do
transformers_engine    Hugging Face transformers, on any device
ctranslate2_copy       weights for CTranslate2, compared with the model in transformers
ctranslate2_engine     CTranslate2, on a CPU
choose_engine          which engine and which device to take
csv_rows               rows of the CSVs of parse_logs.py, one line at a time
stream_clock           when lines were sent: the times in a log, or else the clock
stream_lines           lines of a stream: what somebody typed, or what moderators removed
chat_input             the chat so far: lines of text or of logs, and the channel they come from
forgetting             the chat that a stream shows to the model, without what moderators removed
manners                which lines of a stream are answered
reload                 a model's folder, loaded again when it changes
"""
