"""The part of the differential about strings: their token ids, with the published CLIP vocabulary in folders of every layout that
transformers 4.53 opens. Strings and folders are those of textenc's goldens, with another seed."""

import functools
import gzip
import os
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "textenc" / "testdata"))

import make_hostile as hostile

COUNT = 8_200  # of each folder
CHUNK = 4_096  # cases that are answered together: opening the folders takes as long as hundreds of them
FOLDERS = [name for name in hostile.FOLDERS if name != "alone"]  # which transformers 5 alone opens


def cases():
    texts = hostile.strings(COUNT, 13)
    for text in texts:
        for name in FOLDERS:
            yield dict(Name=name, Class=hostile.FOLDERS[name][0], Text=text)


@functools.cache
def opened(name):
    """The folder, of this process alone, and the reference's encoder."""
    at = pathlib.Path(tempfile.gettempdir()) / f"differential-strings-{os.getpid()}-{name}"
    shutil.rmtree(at, ignore_errors=True)
    merges = gzip.open(hostile.HERE / "merges.txt.gz").read().decode().strip().split("\n")[1:]
    tokenizer = hostile.folder(at, name, hostile.published(merges), merges)
    return str(at), hostile.encoder(tokenizer)


def prepare(c):
    c["Folder"] = opened(c["Name"])[0]


def compare(c, a):
    want = opened(c["Name"])[1](c["Text"])
    if a["Error"]:
        return "DIFFERENT", f"{c['Name']}: refused: {a['Error']}"
    if a["IDs"] != want:
        return "DIFFERENT", f"{c['Name']}: {a['IDs']}, want {want}"
    return "equal", None
