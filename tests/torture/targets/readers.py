"""Files of ratings in every kind and dialect."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
import scipy.sparse

from dmf_fast.data import ReadOptions, read_pairs, read_ratings
from tests.data.written_ratings import COLUMNS, ROWS, TEXTS, VALUES
from tests.torture.fuzzing import Target
from tests.torture.mutation import Files

TEXT = TEXTS["ratings.csv"].encode()
ATOMIC = "user_id:token\titem_id:token\trating:float\n1\t2\t3\n4\t5\t6\n"
NETFLIX = b"1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n2:\n885013,4,2005-10-19\n"
MATRICES = {
    "real": "%%MatrixMarket matrix coordinate real general\n% a comment\n3 4 3\n1 1 2.5\n2 3 1e0\n3 4 -4\n",
    "symmetric": "%%MatrixMarket matrix coordinate integer symmetric\n3 3 3\n1 1 2\n2 1 1\n3 3 4\n",
    "skew": "%%MatrixMarket matrix coordinate real skew-symmetric\n3 3 2\n2 1 1\n3 2 4\n",
    "dense": "%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n4\n",
}


def texts(_: Path) -> list[Files]:
    """Delimited text, plain and compressed, alone, in archives and in folders."""
    inputs = [{name: text.encode()} for name, text in TEXTS.items()]
    inputs += [{"a.inter": ATOMIC.encode()}, {"a.csv": b"u,i,r\n\"a,b\",x y,3\n' c',\xc3\xa9,4\n"}]
    compressed = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    compressed |= {"zst": partial(_compressed, "zstd"), "lz4": partial(_compressed, "lz4")}
    inputs += [{f"a.csv.{suffix}": compress(TEXT)} for suffix, compress in compressed.items()]
    inputs += [{"part-0.csv": TEXT, "part-1.csv": TEXT.replace(b"196", b"7"), "notes.md": b"none"}]
    inputs += [{"a.zip": _archive({"x/ratings.csv": TEXT, "x/README.txt": b"?"})}]
    several = {"a.csv.gz": gzip.compress(TEXT), "b.tsv": TEXTS["u.data"].encode()}
    return [*inputs, {"a.zip": _archive(several)}]


def netflix(_: Path) -> list[Files]:
    """The text of the Netflix Prize."""
    movies = {f"mv_000000{k}.txt": NETFLIX.partition(b"2:")[0].replace(b"1:", b"%d:" % k) for k in (1, 2)}
    return [{"combined_data_1.txt": NETFLIX}, movies, {"training_set.zip": _archive(movies)}]


def matrices(_: Path) -> list[Files]:
    """Matrix Market and SciPy's archives in every format."""
    inputs: list[Files] = [{f"{name}.mtx": text.encode()} for name, text in MATRICES.items()]
    inputs += [{"a.mtx.gz": gzip.compress(MATRICES["real"].encode())}]
    inputs += [{"a.zip": _archive({"a.mtx": MATRICES["symmetric"].encode()})}]
    matrix = scipy.sparse.random_array((5, 4), density=0.5, rng=np.random.default_rng(0))
    for form in ("csr", "csc", "coo", "bsr", "dia"):
        for compressed in (True, False):
            file = io.BytesIO()
            scipy.sparse.save_npz(file, scipy.sparse.coo_matrix(matrix).asformat(form), compressed=compressed)
            inputs.append({f"{form}.npz": file.getvalue()})
    file = io.BytesIO()
    csr = scipy.sparse.csr_array(matrix)
    np.savez(file, format="csr", shape=[5, 4], data=csr.data, indices=csr.indices, indptr=csr.indptr)
    return [*inputs, {"plain.npz": file.getvalue()}]


def parquets(_: Path) -> list[Files]:
    """Parquet files and folders of them."""
    plain = {"user": ROWS, "item": COLUMNS, "rating": VALUES}
    tables = [
        pa.table(plain),
        pa.table(plain | {"timestamp": pa.array([1, 2, 3, 4], pa.timestamp("ms"))}),
        pa.table({"user": ["a", "b", None, "ü"], "item": COLUMNS, "rating": [1, 2, 3, 4]}),
        pa.table({"user": pa.array(list("abca")).dictionary_encode(), "item": ROWS, "rating": VALUES}),
        pa.table({"user": ROWS, "item": ROWS, "rating": [Decimal("1.5")] * 4, "other": [[1], [], None, [2]]}),
    ]
    inputs = [{"a.parquet": written(table, rows)} for table in tables for rows in (None, 2)]
    first, second = written(tables[0]), written(tables[1])
    inputs += [{"part-0.parquet": first, "part-1.parquet": second, "_SUCCESS": b""}]
    return [*inputs, {"year=2005/part-0.parquet": first}, {"a.zip": _archive({"a.parquet": first})}]


def written(table: pa.Table, rows: int | None = None) -> bytes:
    """Return the bytes of a Parquet file with so many rows a group."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=rows, compression="snappy" if rows else "none")
    return bytes(sink.getvalue())


def read_everything(folder: Path) -> object:
    """Read the one file of a folder, or the folder, as ratings, and build what the kernels read."""
    ratings = read_ratings(source(folder))
    ratings.observations(duplicates="last").layout()
    return None


def read_strictly(folder: Path) -> object:
    """Read the same strictly, with times and text as ids."""
    options = ReadOptions(times=True, dtype="float64", text_ids=(True, True), strict=True)
    return len(read_ratings(source(folder), options))


def read_as_pairs(folder: Path) -> object:
    """Read the same as pairs."""
    return len(read_pairs(source(folder)))


def source(folder: Path) -> Path:
    """Return the file, where a folder holds one alone."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    return inside[0] if len(inside) == 1 and inside[0].is_file() else folder


def targets() -> Iterator[Target]:
    """Yield a target for every reader."""
    for kind, seeds in (("text", texts), ("netflix", netflix), ("matrices", matrices), ("parquet", parquets)):
        yield Target(f"{kind} as ratings", seeds, read_everything, share=3 if kind == "text" else 2)
    yield Target("text read strictly", lambda folder: texts(folder) + netflix(folder), read_strictly)
    yield Target("text as pairs", lambda folder: texts(folder) + matrices(folder), read_as_pairs)


def _archive(members: Files) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _compressed(codec: str, content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(content)
    return bytes(sink.getvalue())
