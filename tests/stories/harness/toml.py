"""Writes TOML; Python itself only reads it."""

import json


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return json.dumps(str(value), ensure_ascii=False)


def _is_tables(value):
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _table(out, path, table):
    for key, value in table.items():
        if not isinstance(value, dict) and not _is_tables(value):
            out.append(f"{key} = {_value(value)}")
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, dict):
            out.append(f"\n[{name}]")
            _table(out, name, value)
        elif _is_tables(value):
            for item in value:
                out.append(f"\n[[{name}]]")
                _table(out, name, item)


def dumps(table):
    """The text of a table of scalars, lists, tables and lists of tables."""
    out = []
    _table(out, "", table)
    return "\n".join(out) + "\n"
