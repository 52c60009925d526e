"""python -m helpers.config: writes configs/schema.json and the tables of configs/README.md anew."""

from ..foundations.files import ROOT
from ..foundations.markdown import fill_document
from .json_schema import write_schema
from .reference import reference_tables

write_schema()
fill_document(ROOT / "configs" / "README.md", reference_tables())
