"""Damaged and crafted files for the tests of the format, made of any stored file by walking its tree."""

import copy
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from stellarhml.storage import asdf_files
from stellarhml.storage.asdf_text import DTYPES, Array, Tagged
from stellarhml.storage.registry import READERS, TAGS

MEMORY = 200_000_000
SECONDS = 1.0
WORKER = Path(__file__).with_name("attack_worker.py")


def unpack(path):
    """Tree and arrays of a stored file."""
    with open(path, "rb") as file:
        tree, blocks = asdf_files._read_header(file, path)
        arrays = asdf_files._read_arrays(file, path, tree["estimator"], blocks, None, True)
    tree["stellarhml"]["checksum"] = asdf_files._NO_CHECKSUM
    return tree, [arrays[i] for i in range(len(arrays))]


def pack(tree, arrays):
    return b"".join(bytes(piece) for piece in asdf_files.pack(tree, arrays))


def repair(content):
    """A file whose checksum of the header suits its header and blocks, if it still has the form of one."""
    end = content.find(asdf_files._END)
    if end < 0:
        return content
    text, heads, position = content[: end + 5], [], content.find(b"\xd3BLK", end)
    found = asdf_files._CHECKSUM.search(text)
    if not found:
        return content
    while position >= 0 and content[position : position + 4] == b"\xd3BLK":
        head = content[position : position + 54]
        if len(head) < 54:
            break
        used, allocated = int.from_bytes(head[22:30], "big"), int.from_bytes(head[14:22], "big")
        body = content[position + 54 : position + 54 + used] if used < len(content) else b""
        head = head[:38] + asdf_files._md5(body)
        content = content[:position] + head + content[position + 54 :]
        heads.append(head)
        position += 54 + min(allocated, len(content))
    blank = text[: found.start(1)] + asdf_files._NO_CHECKSUM.encode() + text[found.end(1) :]
    return content[: found.start(1)] + asdf_files._checksum(blank, heads).encode() + content[found.end(1) :]


def damage(content, rng):
    """Name and content of a damaged file: bits, bytes and pieces, with and without repaired checksums."""
    kind = rng.choice(["bit", "cut", "swap", "zero", "repeat", "grow", "header bit", "header byte", "block bits"])
    data = bytearray(content)
    end = content.find(asdf_files._END) + 5
    start, stop = sorted(int(n) for n in rng.integers(0, len(data), 2))
    if kind == "bit":
        data[start] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del data[start:]
    elif kind == "swap":
        data[start], data[stop] = data[stop], data[start]
    elif kind == "zero":
        data[start : start + 16] = bytes(min(16, len(data) - start))
    elif kind == "repeat":
        data[start:start] = data[start : start + 64]
    elif kind == "grow":
        data += bytes(int(rng.integers(1, 100)))
    elif kind == "header bit":
        data[int(rng.integers(end))] ^= 1 << int(rng.integers(8))
    elif kind == "header byte":
        data[int(rng.integers(end))] = int(rng.choice(list(b"0123456789-.[]{}:!&*'\" \nxe")))
    else:
        for place in rng.integers(end, len(data), 8):
            data[int(place)] ^= 1 << int(rng.integers(8))
    repaired = bool(rng.integers(2)) and bytes(data) != content
    data = repair(bytes(data)) if repaired else bytes(data)
    return f"{kind}{' repaired' if repaired else ''}", data


def draw(path, n, seed):
    """Names and contents of `n` crafted files, each of all that `crafted` makes with the same probability."""
    n_all = sum(1 for _ in crafted(path, np.random.default_rng(seed)))
    chosen = set(np.random.default_rng(seed + 1).permutation(n_all)[:n].tolist())
    every = crafted(path, np.random.default_rng(seed))
    return [(name, make()) for i, (name, make) in enumerate(every) if i in chosen]


def crafted(path, rng):
    """Yield names of files of other structure, size, index or value, each with a function that makes its content."""
    tree, arrays = unpack(path)
    for name, content in _headers(pack(tree, arrays)):
        yield name, partial(bytes, content)
    nodes = list(_walk(tree["estimator"], ()))
    yield from _scaled(tree, arrays)
    for place, node in nodes:
        where = ".".join(map(str, place))
        if isinstance(node, Array):
            for name, array in _arrays(arrays[node.source], rng):
                yield f"{where} {name}", partial(_with_array, tree, arrays, place, array)
        for name, value in _values(node, nodes, rng):
            yield f"{where} -> {name}", partial(_with_value, tree, arrays, place, value)


def _scaled(tree, arrays):
    """Files in which all axes of one length have another, as large as a file under 1 MB can be.

    Whatever a class computes from its sizes is largest here; numbers stay in their range and order.
    """
    lengths = {n for array in arrays for n in array.shape if n > 1}
    changes = [{n: new} for n in lengths for new in (1, n - 1, n + 1, 2 * n, 50, 1000, 30_000, 100_000)]
    changes += [{n: factor * n for n in lengths} for factor in (2, 4, 8, 16)]
    for change in changes:
        # one more row pointer than rows
        change = change | {n + 1: new + 1 for n, new in change.items() if n + 1 in lengths and n + 1 not in change}
        sizes = [np.prod([change.get(n, n) for n in a.shape], dtype=float) * a.itemsize for a in arrays]
        if sum(sizes) < 1e6:
            yield f"scaled {change}", partial(_scale, tree, arrays, change)


def _scale(tree, arrays, change):
    new = [_resized(array, change) for array in arrays]
    return pack(_with_sizes(tree, change, new), new)


def _resized(array, change):
    for axis, n in enumerate(array.shape):
        if n in change:
            place = np.linspace(0, n - 1, change[n])
            if array.dtype.kind == "f" and array.ndim == 1:  # keeps increasing arrays so
                array = np.interp(place, np.arange(n), array).astype(array.dtype)
            else:
                array = np.take(array, place.astype(int), axis=axis)
    return np.asarray(array, order="F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C")


def _with_sizes(node, change, arrays):
    if isinstance(node, Array):
        array = arrays[node.source]
        return Array(node.source, array.dtype, array.shape, "C" if array.flags.c_contiguous else "F")
    if isinstance(node, Tagged):
        return Tagged(node.tag, _with_sizes(node.state, change, arrays))
    if isinstance(node, dict):
        return {key: _with_sizes(part, change, arrays) for key, part in node.items()}
    if isinstance(node, list):
        return [_with_sizes(part, change, arrays) for part in node]
    return change.get(node, node) if type(node) is int else node


def _walk(node, place):
    yield place, node
    parts = node.state if isinstance(node, Tagged) else node
    if isinstance(parts, dict) or (isinstance(parts, list) and not isinstance(node, Array)):
        for key, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
            yield from _walk(part, (*place, key))


def _put(node, place, value):
    if not place:
        return value
    parts = node.state if isinstance(node, Tagged) else node
    parts = copy.copy(parts)
    parts[place[0]] = _put(parts[place[0]], place[1:], value)
    return Tagged(node.tag, parts) if isinstance(node, Tagged) else parts


def _with_array(tree, arrays, place, array):
    source = len(arrays)
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    node = Array(source, array.dtype, array.shape, order)
    return _numbered(tree | {"estimator": _put(tree["estimator"], place, node)}, [*arrays, array])


def _with_value(tree, arrays, place, value):
    return _numbered(tree | {"estimator": _put(tree["estimator"], place, value)}, arrays)


def _numbered(tree, arrays):
    """A file with those blocks that are used."""
    kept = []

    def renumber(node):
        if isinstance(node, Array):
            if node.source not in kept:
                kept.append(node.source)
            return node._replace(source=kept.index(node.source))
        if isinstance(node, Tagged):
            return Tagged(node.tag, renumber(node.state))
        if isinstance(node, dict):
            return {key: renumber(part) for key, part in node.items()}
        return [renumber(part) for part in node] if isinstance(node, list) else node

    tree = renumber(tree)
    return pack(tree, [arrays[source] for source in kept])


def _arrays(array, rng):
    """Other arrays in the place of one."""
    kind = array.dtype.kind
    bad = {"f": [np.nan, np.inf, -np.inf, -1.0, 0.0, 1e308, 5e-324], "b": [True, False]}.get(kind)
    if bad is None:
        info = np.iinfo(array.dtype)
        bad = [info.min, info.max, min(info.max, int(array.max(initial=0)) + 1), 0]
    for value in bad if array.dtype != np.float32 else map(np.float32, bad[:-2]):
        if array.size:
            for name, index in (("one", int(rng.integers(array.size))), ("first", 0), ("last", -1)):
                new = array.copy(order="A")
                flat = new.reshape(-1, order="A")
                flat[index] = value
                yield f"{name}={value}", new
        yield f"all={value}", np.full_like(array, value)
    if array.ndim:
        yield "empty", array[:0].copy()
        yield "shorter", array[:-1].copy()
        yield "longer", np.concatenate([array, array[-1:]])
        yield "reversed", array[::-1].copy()
        yield "doubled", np.concatenate([array, array])
        yield "wider", np.repeat(array[..., None], 2, axis=-1).copy()
        yield "flat", array.ravel()
        yield "scalar", np.ones((), dtype=array.dtype)
        yield "no columns", np.zeros((len(array), 0), dtype=array.dtype)
        yield "many empty rows", np.zeros((5000, 0, *array.shape[1:]), dtype=array.dtype)
        rows = min(100_000 // max(array[:1].nbytes, 1) + 2, 30_000)
        yield "long", np.resize(array if array.size else np.ones(1, dtype=array.dtype), (rows, *array.shape[1:]))
        if array.dtype.kind in "iu" and array.size:
            yield "long sorted", np.linspace(0, min(np.iinfo(array.dtype).max, 2**31 - 1), 20_000).astype(array.dtype)
        if array.dtype.kind == "f":
            spread = rng.normal(size=(20_000 // max(array[:1].size, 1) + 2, *array.shape[1:]))
            yield "scattered", spread.astype(array.dtype)
            yield "sorted", np.sort(np.abs(spread), axis=0).astype(array.dtype)
    if array.ndim > 1:
        yield "transposed", np.ascontiguousarray(array.T)
        yield "other order", np.asarray(array, order="F" if array.flags.c_contiguous else "C").copy(order="K")
    for name in DTYPES.values():
        if np.dtype(name) != array.dtype:
            with np.errstate(all="ignore"):
                yield f"as {name}", array.astype(name)
    if array.size:
        order = rng.permutation(array.size)
        yield "shuffled", array.ravel()[order].reshape(array.shape)


def _values(node, nodes, rng):
    """Other values in the place of one."""
    plain = [None, True, -1, 0, 1, 2, 1000, 2**31, 2**62, -1.0, 0.0, 1e-300, 1e300, float("nan"), float("inf")]
    plain += ["", "x", "x\0\n", "y" * 3000, [], {}, [1], {"a": 1}, [[]], ["x"] * 3, [0.5] * 3000]
    for value in plain:
        if type(value) is not type(node) or value != node:
            yield f"{value!r:.30}", value
    if isinstance(node, list) and node:
        yield "shorter", node[:-1]
        yield "doubled", node + node
        yield "many", (node * 3000)[:3000]
        yield "reversed", node[::-1]
    if isinstance(node, dict):
        for key in node:
            yield f"without {key}", {k: v for k, v in node.items() if k != key}
        yield "with more", node | {"more": 1}
        yield "renamed", {f"{key}_": value for key, value in node.items()}
    if isinstance(node, Tagged):
        for key in node.state:
            yield f"without {key}", Tagged(node.tag, {k: v for k, v in node.state.items() if k != key})
        yield "bare", node.state
        yield "empty", Tagged(node.tag, {})
        for tag in READERS:
            yield f"as {tag}", Tagged(tag, node.state)
        others = [other for _, other in nodes if isinstance(other, Tagged) and other.tag != node.tag]
        for other in others[:8]:
            yield f"swapped for {other.tag}", other
        nested = node
        for _ in range(25):
            nested = [nested]
        yield "deep", nested
        yield "many times", [node] * 400
    if isinstance(node, Array):
        arrays = [other for _, other in nodes if isinstance(other, Array)]
        for i in rng.permutation(len(arrays))[:6]:
            yield f"array {arrays[i].source}", arrays[i]
        wrong = [
            node._replace(shape=(2**39,)),
            node._replace(shape=(0, 2**39)),
            node._replace(shape=(0, 2**39, 2**39)),
            node._replace(shape=(*node.shape, 1, 1, 1, 1, 1, 1, 1, 1)),
            node._replace(shape=(*node.shape, 2)),
        ]
        for other in wrong:
            yield f"{other.shape}", other


def _headers(content):
    """Headers of other form, with repaired checksums."""
    end = content.find(asdf_files._END)
    array = content.find(b"!core/ndarray-1.0.0 {source: 0,")
    line = content[array : content.find(b"}", array) + 1]

    def changed(old, new, *, at=None):
        return repair(content[:end].replace(old, new, 1) + content[end:])

    insert = b"estimator:"
    laughs = b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    for i in range(8):
        laughs += f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(9 * [f'*{chr(97 + i)}'])}]\n".encode()
    texts = {
        "laughs": laughs,
        "anchor": b"extra: &x 1\n",
        "alias": b"extra: *x\n",
        "merge": b"<<: {a: 1}\n",
        "deep list": b"extra: " + b"[" * 20_000 + b"]" * 20_000 + b"\n",
        "deep map": b"extra: " + b"{a: " * 20_000 + b"}" * 20_000 + b"\n",
        "deep block": b"extra:\n  " + b"- " * 100_000 + b"x\n",
        "deep keys": b"? " * 100_000 + b"x\n",
        "open maps": b"extra: " + b"{" * 100_000 + b"\n",
        "maps in lists": b"extra: " + b"[{a: " * 50_000 + b"\n",
        "many anchors": b"extra: [" + b"&a x," * 40_000 + b"]\n",
        "long tag": b"extra: !<" + b"x" * 200_000 + b"> y\n",
        "long anchor": b"extra: &" + b"x" * 200_000 + b" y\n",
        "escapes": b'extra: "' + b"\\x41" * 50_000 + b'"\n',
        "folded": b"extra: >\n" + b"  x\n\n" * 40_000,
        "blank lines": b"\n" * 200_000,
        "blanks": b"extra:" + b" " * 200_000 + b"x\n",
        "colons": b"extra: " + b"a: " * 60_000 + b"\n",
        "open list": b"extra: " + b"[" * 100_000 + b"\n",
        "python": b"extra: !!python/object/apply:os.system ['echo']\n",
        "python tag": b"extra: !<tag:yaml.org,2002:python/name:os.system> ''\n",
        "binary": b"extra: !!binary aGFsbG8=\n",
        "set": b"extra: !!set {a, b}\n",
        "external": b"extra: !core/externalarray-1.0.0 {fileuri: a, target: 0, datatype: int8, shape: [1]}\n",
        "reference": b"extra: {$ref: 'file:///etc/passwd'}\n",
        "long int": b"extra: " + b"9" * 200_000 + b"\n",
        "sexagesimal": b"extra: " + b"59:" * 1_000 + b"59\n",
        "long text": b"extra: '" + b"x" * 200_000 + b"'\n",
        "long header": b"extra: '" + b"x" * 600_000 + b"'\n",
        "many values": b"extra: [" + b"1," * 100_000 + b"]\n",
        "many keys": b"".join(b"k%d: 1\n" % i for i in range(15_000)),
        "many objects": b"extra: [" + f"!<{TAGS}line_bank-1.0.0> {{}},".encode() * 3_000 + b"]\n",
        "same key": b"estimator: 1\n",
        "complex key": b"? [1, 2]\n: 3\n",
        "number key": b"3: 4\n",
        "timestamp": b"extra: 2001-12-14t21:59:43.10-05:00\n",
        "documents": b"--- 1\n",
        "directive": b"%YAML 1.1\n",
        "nul": b"extra: \0\n",
        "not utf": b"extra: \xff\xfe\n",
        "escape": b'extra: "\\x1b[31m"\n',
        "comment": b"# " + b"x" * 100_000 + b"\n",
    }
    for name, text in texts.items():
        yield f"header {name}", changed(insert, text + insert)
    yield "newer tag", changed(b"-1.0.0>", b"-9.0.0>")
    yield "unknown tag", changed(TAGS.encode(), b"asdf://elsewhere.org/tags/")
    yield "python as estimator", changed(b"estimator: !<asdf:", b"estimator: !<tag:yaml.org,2002:python/object:os.")
    yield "version escape", changed(b"python: ", b'python: "\\e[2J" #')
    if array >= 0:
        arrays = {
            "inline": b"!core/ndarray-1.0.0 {data: [1, 2, 3], datatype: float64, shape: [3]}",
            "list": b"!core/ndarray-1.0.0 [1, 2, 3]",
            "external": line.replace(b"source: 0", b"source: /etc/passwd"),
            "streamed": line.replace(b"source: 0", b"source: -1"),
            "mask": line[:-1] + b", mask: 0}",
            "offset": line[:-1] + b", offset: 8}",
            "negative strides": line[:-1] + b", strides: [-8]}",
            "strides": line[:-1] + b", strides: [0, 0]}",
            "big": line.replace(b"little", b"big"),
            "star": line.replace(b"shape: [", b"shape: ['*', "),
            "negative shape": line.replace(b"shape: [", b"shape: [-1, "),
            "float shape": line.replace(b"shape: [", b"shape: [1.0, "),
            "true shape": line.replace(b"shape: [", b"shape: [true, "),
            "complex": line.replace(b"float64", b"complex128"),
            "structure": line.replace(b"float64", b"[float32, float32]"),
            "text": line.replace(b"float64", b"[ascii, 8]"),
            "object": line.replace(b"float64", b"object"),
            "other tag": line.replace(b"ndarray-1.0.0", b"ndarray-1.1.0"),
            "no source": line.replace(b"source: 0, ", b""),
        }
        for name, text in arrays.items():
            yield f"array {name}", changed(line, text)
    block = content.find(b"\xd3BLK", end)
    if block < 0:
        return
    fields = {
        "magic": (block, b"\xd3BLX"),
        "rest": (block + 4, b"\x00\x10"),
        "long rest": (block + 4, b"\xff\xff"),
        "streamed": (block + 6, b"\0\0\0\1"),
        "zlib": (block + 10, b"zlib"),
        "bzp2": (block + 10, b"bzp2"),
        "lz4": (block + 10, b"lz4\0"),
        "allocated": (block + 14, (2**63).to_bytes(8, "big")),
        "allocated less": (block + 14, (8).to_bytes(8, "big")),
        "used": (block + 22, (2**40).to_bytes(8, "big")),
        "size": (block + 30, (2**40).to_bytes(8, "big")),
    }
    for name, (place, new) in fields.items():
        yield f"block {name}", repair(content[:place] + new + content[place + len(new) :])
    index = content.find(b"#ASDF BLOCK INDEX")
    yield "no index", repair(content[:index])
    yield "long index", content + b"- 1\n" * 1000
    yield "other index", content[:index] + content[index:].replace(b"- ", b"- 1", 1)


def attack(files, n_pixels):
    """Load and use files in a process of their own (attack_worker.py), which is started again when one kills it.

    Parameters
    ----------
    files : dict
        From the path of each file to the sound file that it was made of.
    n_pixels : int
        Pixels of the spectra of the sound files.

    Returns
    -------
    sound, reports : dict
        Report on each sound file, and on each file, by its path.
    """
    sound, reports, left = {}, {}, dict(files)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
    while left:
        before = len(left)
        worker = subprocess.run(
            [sys.executable, str(WORKER), str(MEMORY), str(n_pixels), *sorted({str(path) for path in left.values()})],
            input="\n".join(map(str, left)),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | threads,
        )
        begun = None
        for record in map(json.loads, worker.stdout.splitlines()):
            if "begin" in record:
                begun = record["begin"]
            else:
                (sound if "sound" in record else reports)[record["end"]] = record
        if worker.returncode and begun is None:
            raise AssertionError(worker.stderr[-3000:])
        if begun is not None and begun not in reports:
            died = f"WRONG died of {worker.returncode}"
            reports[begun] = {"outcome": died, "stage": "?", "seconds": 0.0, "memory": 0.0, "leak": None}
        left = {path: of for path, of in left.items() if str(path) not in reports}
        assert len(left) < before, worker.stderr[-3000:]
    return sound, reports


def kind_of(report, sound):
    """What became of a file, in words; "wrong" for what must not be."""
    outcome, limit = report["outcome"], SECONDS + sound["seconds"]
    if report["leak"] or report["seconds"] > limit or report["memory"] > MEMORY or outcome.startswith("WRONG"):
        return "wrong"
    if outcome == "refused":
        return "refused by load"
    if report["stage"] == "load":
        return "wrong"
    if report["error"]:
        return "refused by predict"
    return "same numbers" if outcome == sound["outcome"] else "other numbers"
