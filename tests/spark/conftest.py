"""One Spark for all tests of this folder; without PySpark and Java they are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running session: a cluster of two processes, or what STILLWATCH_TEST_SPARK names."""
    pyspark_sql = pytest.importorskip("pyspark.sql", reason="PySpark is not installed; `make test-spark` installs it")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Spark needs Java 17 or later")
    folder: Path = tmp_path_factory.mktemp("spark")
    made = (
        pyspark_sql.SparkSession.builder.master(os.environ.get("STILLWATCH_TEST_SPARK", "local-cluster[2,1,1024]"))
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.warehouse.dir", str(folder))
        .config("spark.local.dir", str(folder))
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    made.sparkContext.setLogLevel("OFF")
    yield made
    made.stop()
