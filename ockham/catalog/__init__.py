"""Catalog: SQL views over the files of all runs, in an in-memory DuckDB."""

from ockham.catalog.catalog import Catalog as Catalog
from ockham.catalog.schemas import ODR_SCHEMAS as ODR_SCHEMAS
