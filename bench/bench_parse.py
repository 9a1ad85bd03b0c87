"""Time parse_logs.py next to pandas and a bare polars pipeline, on Parquet, on JSON, and on logs of growing size.

python bench/bench_parse.py
python bench/bench_parse.py --quick
"""

from __future__ import annotations

import base64
import json
import random
import sys
import tempfile
from pathlib import Path

from harness import (
    Command,
    compare,
    find_chats,
    growth_table,
    parse_args,
    sample_logs,
    save,
    table,
    time_growth,
)

from chatter.logs.find_reader import find_reader


def write_export(logs_dir: Path, export: Path, num_image_bytes: int) -> float:
    """Write the chat of some logs as TwitchDownloader exports it, with embedded images; return the MB of its chat."""
    badges = [{"_id": "subscriber", "version": "12"}, {"_id": "premium", "version": "1"}]
    with export.open("w", encoding="utf-8") as file:
        file.write('{"FileInfo":{"Version":{"Major":1,"Minor":4,"Patch":0}},"streamer":{"login":"pixelpanda_tv"},')
        file.write('"video":{"created_at":"2024-03-07T18:00:00Z"},"comments":[')
        separator = ""
        for log in sorted(logs_dir.iterdir()):
            for batch in find_reader(log).read(log, lambda num_bytes: None):
                for number, date, time, _, user, text in batch.messages.iter_rows():
                    name = {"display_name": user.title(), "_id": str(number), "name": user, "bio": "a chatter" * 9}
                    logo = {"logo": f"https://images.example/user-default-pictures/{number:040}-profile-300x300.png"}
                    message = {"body": text, "bits_spent": 0, "fragments": [{"text": text, "emoticon": None}]}
                    comment = {
                        "_id": f"{number:036}",
                        "created_at": f"{date}T{time}.123Z",
                        "channel_id": "1234",
                        "content_type": "video",
                        "content_id": "5678",
                        "content_offset_seconds": number,
                        "commenter": name | logo | {"created_at": "2020-05-25T04:14:58.028241Z"},
                        "message": message | {"user_badges": badges, "user_color": "#FF69B4", "emoticons": []},
                    }
                    file.write(separator + json.dumps(comment, separators=(",", ":")))
                    separator = ","
        megabytes = file.tell() / 1e6
        file.write('],"embeddedData":{"thirdParty":[')
        for number in range(num_image_bytes // 40_000):
            image = base64.b64encode(random.Random(number).randbytes(30_000)).decode()
            file.write("," * (number > 0) + json.dumps({"id": str(number), "data": image}))
        file.write("]}}")
    return megabytes


def write_parquet(logs_dir: Path, path: Path, num_messages: int) -> None:
    """Write the messages of some logs, over and over, in one column of a Parquet file, as data sets have them."""
    import polars as pl
    import pyarrow.parquet

    batches = [batch for log in sorted(logs_dir.iterdir()) for batch in find_reader(log).read(log, lambda size: None)]
    messages = pl.concat([batch.messages.select(Message="message") for batch in batches]).to_arrow()
    with pyarrow.parquet.ParquetWriter(path, messages.schema) as file:
        for first in range(0, num_messages, len(messages)):
            file.write_table(messages[: num_messages - first])


def main() -> None:
    args = parse_args(__doc__)
    num_messages = 100_000 if args.quick else 2_700_000
    sizes = [1, 2, 4] if args.quick else [10, 50, 200, 500, 2000]  # MB
    figures = {}
    with sample_logs(num_messages) as logs, tempfile.TemporaryDirectory() as scratch:
        parse = [sys.executable, "parse_logs.py", "--output-dir", f"{scratch}/raw", "--logs-dir"]
        for name, logs_dir in find_chats(logs, args, Path(scratch, "real"), 200_000_000).items():
            texts = [log.read_bytes() for log in logs_dir.iterdir()]
            units = {"MB": sum(map(len, texts)) / 1e6, "lines": sum(text.count(b"\n") for text in texts)}
            del texts
            rows = compare(
                {
                    "parse_logs.py": [*parse, logs_dir],
                    "parse_logs.py --drop-moderated": [*parse, logs_dir, "--drop-moderated"],
                    "bare polars": [sys.executable, "bench/peers/parse_polars.py", logs_dir, f"{scratch}/peer"],
                    "pandas": [sys.executable, "bench/peers/parse_pandas.py", logs_dir, f"{scratch}/peer"],
                },
                units,
                args.rounds,
            )
            figures[name] = {"units": units, "rows": rows}
            print(f"{name} chat: {units['MB']:.0f} MB, {units['lines']:,} lines\n\n{table(rows)}\n")
        (exports := Path(scratch, "exports")).mkdir()
        num_image_bytes = 10_000_000 if args.quick else 60_000_000
        some = Path(scratch, "some")
        some.mkdir()
        for log in sorted(logs.iterdir())[:: 4 if args.quick else 20]:
            (some / log.name).symlink_to(log)
        chat_megabytes = write_export(some, exports / "export.json", num_image_bytes)
        units = {"MB": (exports / "export.json").stat().st_size / 1e6, "MB of chat": chat_megabytes}
        rows = compare({"parse_logs.py, TwitchDownloader JSON": [*parse, exports]}, units, args.rounds)
        figures["export"] = {"units": units, "rows": rows}
        print(f"an export of {units['MB']:.0f} MB, {chat_megabytes:.0f} of them chat\n\n{table(rows)}\n")
        (tables := Path(scratch, "tables")).mkdir()
        num_rows = 100_000 if args.quick else 9_000_000
        write_parquet(logs, tables / "train.parquet", num_rows)
        units = {"MB": (tables / "train.parquet").stat().st_size / 1e6, "rows": num_rows}
        rows = compare(
            {
                "parse_logs.py, Parquet": [*parse, tables],
                "bare polars": [sys.executable, "bench/peers/parse_parquet.py", tables, f"{scratch}/peer"],
            },
            units,
            args.rounds,
        )
        figures["parquet"] = {"units": units, "rows": rows}
        print(f"a Parquet file of {units['MB']:.0f} MB, {num_rows:,} messages\n\n{table(rows)}\n")
        one_log = max(logs.iterdir()).read_bytes()
        (growing := Path(scratch, "growing")).mkdir()

        def parse_megabytes(size: float) -> Command:
            """Write a log of this size, one log over and over, and return the command that parses it."""
            with (growing / "log.txt").open("wb") as log:
                while log.tell() < size * 1e6:
                    log.write(one_log[: int(size * 1e6) - log.tell()])
            return [*parse, growing]

        figures["growth"] = time_growth(parse_megabytes, sizes)
        print(growth_table("MB", figures["growth"]))
    save("parse", figures, args)


if __name__ == "__main__":
    main()
