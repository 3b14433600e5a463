"""Runs this project's queries over sample rows, with duckdb-kql on DuckDB.

Two words the engine does not know are put otherwise first, and nothing else:
`ingestion_time()` becomes the sample column IngestionTime, and
`column_ifexists('a', b)` becomes `a` where a sample table has that column and
`b` where none has, which is what it means.
"""

import json
import re
from datetime import datetime, timedelta, timezone
from functools import cache

import duckdb_kql

SQL_TYPES = {"string": "VARCHAR", "datetime": "TIMESTAMP", "long": "BIGINT", "real": "DOUBLE", "bool": "BOOLEAN", "dynamic": "JSON"}
IF_EXISTS = re.compile(r"column_ifexists\('(\w+)',\s*((?:\w+\([^()]*\))|'[^']*')\)")


def ago(minutes: float) -> datetime:
    """A moment before now, as the engine's `ago` reckons."""
    return (datetime.now(timezone.utc) - timedelta(minutes=minutes)).replace(tzinfo=None)


def reword(query: str, tables: dict) -> str:
    """The query in the engine's words."""
    present = set().union(*(columns for columns in tables.values()))
    query = IF_EXISTS.sub(lambda m: m[1] if m[1] in present else m[2], query)
    if "column_ifexists" in query:
        raise ValueError("a column_ifexists was not understood")
    return query.replace("ingestion_time()", "IngestionTime")


@cache
def translated(query: str, tables: str) -> str:
    """The query as SQL. Slow, so each is translated once."""
    return str(duckdb_kql.to_sql(query, schema=json.loads(tables)))


def run(query: str, tables: dict, rows: dict) -> list[dict]:
    """Rows that come out. `tables` gives names and types; `rows` what each holds."""
    connection = duckdb_kql.connect()
    tables = {name: {**columns, "IngestionTime": "datetime"} for name, columns in tables.items()}
    for name, columns in tables.items():
        declared = ", ".join(f'"{c}" {SQL_TYPES[t]}' for c, t in columns.items())
        connection.sql(f'CREATE TABLE "{name}" ({declared})')
        for row in rows.get(name, []):
            if unknown := set(row) - set(columns):
                raise ValueError(f"{name} has no column {sorted(unknown)}")
            row = {**row, "IngestionTime": row.get("IngestionTime", row["TimeGenerated"])}
            values = [json.dumps(v) if columns[c] == "dynamic" else v for c, v in row.items()]
            names = ", ".join(f'"{c}"' for c in row)
            connection.execute(f'INSERT INTO "{name}" ({names}) VALUES ({", ".join("?" * len(row))})', values)
    query = reword(query, {n: c for n, c in tables.items() if n in query})
    found = connection.execute(translated(query, json.dumps({n: list(c) for n, c in tables.items()})))
    names = [column[0] for column in found.description]
    return [dict(zip(names, row)) for row in found.fetchall()]
