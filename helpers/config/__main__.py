"""python -m helpers.config: writes configs/schema.json anew."""

from .json_schema import write_schema

write_schema()
