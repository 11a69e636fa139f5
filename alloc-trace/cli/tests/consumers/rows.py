"""Reads blocks with DuckDB, and Parquet with Arrow too: prints what they add up to."""

import json
import sys

import duckdb

kind, path = sys.argv[1:]
read = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json"}[kind]
blocks = duckdb.sql(f"select * from {read}('{path}')")
columns = [
    "count(*)", "sum(size)", "count(freed_ns)", "sum(size) filter (freed_ns is null)",
    "count(*) filter (temporary)", "max(align)", "min(allocated_ns)", "sum(lifetime_ns)",
    "count(*) filter (lifetime_ns <> freed_ns - allocated_ns)", "count(distinct function)",
]
sums = duckdb.sql(f"select {', '.join(columns)} from blocks").fetchall()[0]
threads = "select thread_name, sum(size) from blocks group by 1 order by 1"
spans = "select span_path, sum(size) from blocks where span is not null group by 1 order by 1"
answer = {
    "sums": [int(value) for value in sums],
    "threads": {name: int(size) for name, size in duckdb.sql(threads).fetchall()},
    "spans": {name: int(size) for name, size in duckdb.sql(spans).fetchall()},
}
if kind == "parquet":
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    answer["arrow"] = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert table.num_rows == sums[0]
    assert sum(table["size"].to_pylist()) == sums[1]
print(json.dumps(answer))
