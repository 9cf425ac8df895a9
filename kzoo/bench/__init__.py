"""Load on a running service, and what comes of it: how many sentences a second, and how long each request takes."""

from kzoo.bench.bert_as_service import PUBLISHED, TABLES, Row, measure
from kzoo.bench.load import Ask, Load, ask_all
from kzoo.bench.service import EmbeddingService, started

__all__ = ["PUBLISHED", "TABLES", "Ask", "EmbeddingService", "Load", "Row", "ask_all", "measure", "started"]
