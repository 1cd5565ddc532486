"""Catalog: the audit views over the files of all runs, in a DuckDB in memory."""

from ockham.catalog.catalog import Catalog as Catalog
from ockham.catalog.schemas import ODR_SCHEMAS as ODR_SCHEMAS
