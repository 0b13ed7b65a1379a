"""Shards arrive whole or not at all, whatever the hub does, and an interrupted download goes on."""

import gzip
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub import Hub
from waiting import wait_for

from course_lib.data import remote
from course_lib.data.dataset import open_dataset
from course_lib.data.documents import open_parquet
from course_lib.data.remote import REMOTES, Remote
from course_lib.host import download
from course_lib.host.download import Stopped, fetch, fetch_file, file_size
from course_lib.host.errors import CourseError

pytestmark = pytest.mark.slow

REPO = REMOTES["fineweb-edu"].repo
FIRST, LAST = "shard_00000.parquet", "shard_01822.parquet"


def shard(seed, kilobytes=3000):
    """Bytes of a parquet shard that does not compress well, and its texts."""
    source = random.Random(seed)
    texts = [f"{seed} {source.randbytes(500).hex()}" for _ in range(kilobytes)]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), buffer, compression="none", use_dictionary=False, row_group_size=256)
    return buffer.getvalue()


BODY = shard(0)


def point_to(monkeypatch, url):
    """Send the hub's library to `url`: it reads HF_ENDPOINT once, when it is imported."""
    monkeypatch.setattr(hub_constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(download, "WAITS", (0.01,) * 5)


@pytest.fixture
def hub(monkeypatch):
    with Hub({FIRST: BODY}) as hub:
        point_to(monkeypatch, hub.url)
        yield hub


def parts(folder):
    return sorted(path for path in folder.iterdir() if path.name.endswith(".part"))


def test_a_file_arrives_and_is_not_fetched_twice(hub, tmp_path):
    path = tmp_path / "new folder" / FIRST
    seen = []
    fetch(REPO, FIRST, path, on_bytes=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BODY and parts(path.parent) == []
    assert seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen) and len(seen) >= 3
    fetch(REPO, FIRST, path)
    assert hub.asked == [(FIRST, 0)]
    assert file_size(REPO, FIRST) == len(BODY)


FAULTS = {
    "503 once": [503],
    "503 twice, then 429": [503, 503, 429],
    "connection reset": [("drop", 1_500_000)],
    "reset at once, again and again": [("drop", 0)] * 3,
    "reset once a megabyte": [("drop", 1_100_000)] * 2,
    "a short body": [("short", 2_000_000)],
    "longer than announced": ["endless"],
    "short, then no ranges": [("short", 2_000_000), "no ranges"],
    "dropped, then no ranges": [("drop", 2_000_000), "no ranges"],
    "wrong content": ["corrupt"],
    "short, then wrong content": [("short", 1_200_000), "corrupt"],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_hub_that_fails_for_a_while_is_asked_again(hub, tmp_path, faults):
    hub.faults[FIRST] = list(faults)
    fetch(REPO, FIRST, tmp_path / FIRST)
    assert (tmp_path / FIRST).read_bytes() == BODY
    assert hub.faults[FIRST] == [] and parts(tmp_path) == []
    assert hub.sent < 12 * len(BODY), "an endless body is read to its announced size, and what buffers hold"


def test_a_metadata_request_that_fails_is_repeated(hub, tmp_path):
    hub.faults[f"HEAD {FIRST}"] = [503, 500]
    fetch(REPO, FIRST, tmp_path / FIRST)
    assert (tmp_path / FIRST).read_bytes() == BODY


def test_a_short_body_is_gone_on_with_and_not_begun_anew(hub, tmp_path):
    hub.faults[FIRST] = [("short", 2_000_000)]
    fetch(REPO, FIRST, tmp_path / FIRST)
    assert hub.asked == [(FIRST, 0), (FIRST, 2_000_000)]


def test_more_failures_than_attempts_are_no_matter_while_bytes_arrive(hub, tmp_path):
    hub.faults[FIRST] = [("short", 300_000)] * 8
    fetch(REPO, FIRST, tmp_path / FIRST)
    assert (tmp_path / FIRST).read_bytes() == BODY and len(hub.asked) == 9


def test_a_line_that_breaks_every_900_000_bytes_ends_with_the_whole_file(hub, tmp_path):
    hub.faults[FIRST] = [("drop", 900_000)] * 20
    fetch(REPO, FIRST, tmp_path / FIRST)
    assert (tmp_path / FIRST).read_bytes() == BODY and len(hub.asked) < 10
    starts = [start for _, start in hub.asked]
    assert starts == sorted(set(starts)), "no byte is fetched twice"


def test_what_breaks_off_and_then_is_wrong_again_and_again_is_given_up(hub, tmp_path):
    hub.faults[FIRST] = [("short", 2_000_000), "corrupt"] * 20
    with pytest.raises(CourseError, match="checksum|the download broke off"):
        fetch(REPO, FIRST, tmp_path / FIRST)
    assert len(hub.asked) < 12 and not (tmp_path / FIRST).exists()


def test_a_hub_that_goes_on_failing_ends_with_one_sentence_and_keeps_the_part(hub, tmp_path):
    hub.faults[FIRST] = [("short", 2_000_000), *[503] * 100]
    with pytest.raises(CourseError, match=rf"{FIRST}.*503.*it goes on where it stopped"):
        fetch(REPO, FIRST, tmp_path / FIRST)
    assert not (tmp_path / FIRST).exists() and [part.stat().st_size for part in parts(tmp_path)] == [2_000_000]
    hub.faults[FIRST], hub.asked[:] = [], []
    fetch(REPO, FIRST, tmp_path / FIRST)
    assert hub.asked == [(FIRST, 2_000_000)] and (tmp_path / FIRST).read_bytes() == BODY


def test_a_file_that_the_hub_does_not_have_is_not_asked_for_again(hub, tmp_path):
    with pytest.raises(CourseError, match="shard_77777.parquet: the server answered 404 Not Found"):
        fetch(REPO, "shard_77777.parquet", tmp_path / "shard_77777.parquet")
    assert hub.asked == [] and parts(tmp_path) == []


def test_without_a_connection_it_says_so(monkeypatch, tmp_path):
    point_to(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(CourseError, match=f"could not fetch {FIRST}, 6 attempts failed: no connection"):
        fetch(REPO, FIRST, tmp_path / FIRST)


def test_content_that_stays_wrong_is_never_kept(hub, tmp_path):
    hub.faults[FIRST] = ["corrupt"] * 100
    with pytest.raises(CourseError, match="checksum"):
        fetch(REPO, FIRST, tmp_path / FIRST)
    assert list(tmp_path.glob("*.parquet")) == parts(tmp_path) == []


def test_a_part_of_a_file_that_the_hub_has_replaced_is_dropped(hub, tmp_path):
    hub.faults[FIRST] = [("short", 2_000_000), *[404] * 2]
    with pytest.raises(CourseError):
        fetch(REPO, FIRST, tmp_path / FIRST)
    hub.files[FIRST], hub.faults[FIRST], hub.asked[:] = shard(1), [], []
    fetch(REPO, FIRST, tmp_path / FIRST)
    assert hub.asked == [(FIRST, 0)] and (tmp_path / FIRST).read_bytes() == shard(1) and parts(tmp_path) == []


def test_without_a_checksum_the_footer_still_must_be_right(hub, tmp_path):
    hub.sha256 = False
    hub.faults[FIRST] = ["corrupt"]
    REMOTES["fineweb-edu"].fetch(FIRST, tmp_path)
    assert (tmp_path / FIRST).read_bytes() == BODY and len(hub.asked) == 2


def test_a_stopped_download_ends_soon_and_goes_on_later(hub, tmp_path):
    hub.seconds_per_megabyte = 0.2
    stop = threading.Event()

    def stop_after_a_megabyte(done, total):
        if done >= 1 << 20:
            stop.set()

    with pytest.raises(Stopped):
        fetch(REPO, FIRST, tmp_path / FIRST, on_bytes=stop_after_a_megabyte, stopped=stop.is_set)
    (part,) = parts(tmp_path)
    assert 1 << 20 <= part.stat().st_size < len(BODY)
    fetch(REPO, FIRST, tmp_path / FIRST)
    assert hub.asked[-1][1] >= 1 << 20 and (tmp_path / FIRST).read_bytes() == BODY


def test_two_that_want_the_same_file_share_one_download(hub, tmp_path):
    hub.seconds_per_megabyte = 0.1
    threads = [threading.Thread(target=fetch, args=(REPO, FIRST, tmp_path / FIRST)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hub.asked == [(FIRST, 0)] and (tmp_path / FIRST).read_bytes() == BODY


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0 or sys.platform != "linux", reason="mounts a disk")
def test_a_disk_that_fills_up_is_said_and_room_made_later_suffices(hub, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("may not mount here")

    def fill(done, total):  # as another process would, meanwhile
        (disk / "other").write_bytes(bytes(shutil.disk_usage(disk).free - (1 << 20))) if done == 0 else None

    try:
        with pytest.raises(CourseError, match=f"{FIRST} needs .* MB more, and .* MB free; free some space"):
            fetch(REPO, FIRST, disk / FIRST)
        assert hub.asked == [(FIRST, 0)] and parts(disk) == []
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        with pytest.raises(CourseError, match=f"the disk is full and {FIRST} is not complete"):
            fetch(REPO, FIRST, disk / FIRST, on_bytes=fill)
        assert not (disk / FIRST).exists()
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        fetch(REPO, FIRST, disk / FIRST)
        assert (disk / FIRST).read_bytes() == BODY and hub.asked[-1][1] > 0
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


# --- the program, from outside --------------------------------------------------------------------------------------


def get_data(home, url, *flags, start=False):
    command = [sys.executable, "-m", "course_lib.scripts.get_data", "--dataset", "fineweb-edu", *flags]
    env = {**os.environ, "COURSE_HOME": str(home), "HF_ENDPOINT": url, "COLUMNS": "200"}
    if start:
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def shards():
    names = [f"shard_{number:05d}.parquet" for number in (0, 1, 2, 1822)]
    return {name: shard(seed, kilobytes=2000) for seed, name in enumerate(names)}


def folder_of(home):
    return home / "datasets" / "fineweb-edu"


def fetched(home):
    return {path.name: path.read_bytes() for path in folder_of(home).glob("*.parquet")}


@pytest.mark.slow
def test_get_data_fetches_what_was_asked_for_and_validation(home, shards):
    with Hub(shards) as hub:
        hub.faults["shard_00001.parquet"] = [503, ("drop", 1_200_000)]
        done = get_data(home, hub.url, "--shards", "2")
        assert done.returncode == 0, done.stderr
        assert fetched(home) == {name: shards[name] for name in shards if name != "shard_00002.parquet"}
        assert "train" in done.stdout and "4,000 documents" in done.stdout and str(folder_of(home)) in done.stdout
        for name in fetched(home):
            assert f"{name}  {len(shards[name]) / 1e6:.1f} MB" in done.stderr
        hub.asked.clear()
        assert get_data(home, hub.url, "--shards", "3").returncode == 0
        assert {name for name, _ in hub.asked} == {"shard_00002.parquet"} and fetched(home) == shards
        hub.asked.clear()
        assert get_data(home, hub.url, "--shards", "3").returncode == 0 and hub.asked == []


@pytest.mark.slow
def test_get_data_fetches_a_damaged_shard_again(home, shards):
    with Hub(shards) as hub:
        assert get_data(home, hub.url, "--shards", "1").returncode == 0
        path = folder_of(home) / FIRST
        path.write_bytes(path.read_bytes()[:-100])
        done = get_data(home, hub.url, "--shards", "1")
        assert done.returncode == 0 and f"{FIRST} is no complete parquet file" in done.stdout
        assert path.read_bytes() == shards[FIRST]


def test_a_shard_that_may_not_be_read_is_not_deleted(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / FIRST).write_bytes(BODY)
    monkeypatch.setattr(pq, "ParquetFile", refuse)
    with pytest.raises(PermissionError):
        remote.fetch_shards(REMOTES["fineweb-edu"], [FIRST], tmp_path, workers=1)
    assert (tmp_path / FIRST).read_bytes() == BODY


@pytest.mark.slow
def test_one_missing_shard_does_not_keep_the_others_from_coming(home, shards):
    with Hub({name: body for name, body in shards.items() if name != "shard_00001.parquet"}) as hub:
        done = get_data(home, hub.url, "--shards", "3", "--workers", "2")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "get_data: could not fetch shard_00001.parquet: the server answered 404" in done.stderr
    assert set(fetched(home)) == {*shards} - {"shard_00001.parquet"}


@pytest.mark.slow
def test_a_download_killed_at_random_moments_ends_with_the_same_bytes(home, shards):
    source = random.Random(7)
    kept = 0
    with Hub(shards, seconds_per_megabyte=0.15) as hub:
        for _ in range(6):
            enough = hub.sent + source.randrange(500_000, 8_000_000)
            process = get_data(home, hub.url, "--shards", "3", start=True)
            wait_for(lambda: hub.sent >= enough or process.poll() is not None)  # noqa: B023
            process.kill()
            process.communicate()
            kept = max(kept, sum(path.stat().st_size for path in folder_of(home).glob(".*.part")))
            for name, body in fetched(home).items():
                assert body == shards[name]
        hub.seconds_per_megabyte = 0
        done = get_data(home, hub.url, "--shards", "3")
        assert done.returncode == 0, done.stderr
        assert any(start > 0 for _, start in hub.asked), "a killed download should go on where it stopped"
    assert kept > 0 and fetched(home) == shards and not list(folder_of(home).glob(".*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("bytes_a_second", [100_000, 1, 0])
def test_ctrl_c_stops_soon_and_keeps_what_arrived(home, shards, bytes_a_second):
    with Hub(shards, bytes_a_second=bytes_a_second) as hub:
        process = get_data(home, hub.url, "--shards", "1", start=True)
        wait_for(lambda: hub.sent >= min(2 * bytes_a_second, 200_000) and len(hub.asked) == 2)
        sent, started = hub.sent, time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=100)
        assert time.monotonic() - started < 5  # under a second on a machine with nothing else to do
        assert process.returncode == 130 and "Traceback" not in errors
        assert "run the same command again to go on" in errors
        kept = sum(part.stat().st_size for part in folder_of(home).glob(".*.part"))
        assert kept >= sent - 2 * 2048, "what is on its way may be lost, and nothing else"
        hub.bytes_a_second = None
        hub.asked.clear()
        assert get_data(home, hub.url, "--shards", "1").returncode == 0
        assert sum(start for _, start in hub.asked) == kept
    assert fetched(home) == {name: shards[name] for name in (FIRST, LAST)}


def test_too_little_room_is_said_before_anything_is_fetched(home, shards, monkeypatch):
    monkeypatch.setattr(remote, "file_size", lambda repo, name: 10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 10**8, 10**8))
    with pytest.raises(CourseError, match=r"need 0\.9 GB more, and .* has 0\.1 GB free; .*--shards"):
        remote.fetch_shards(REMOTES["fineweb-edu"], [f"shard_{n:05d}.parquet" for n in range(9)], folder_of(home), 4)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--shards", "0"), ("--shards", "1823"), ("--workers", "0"), ("--shards", "x")])
def test_wrong_flags_end_with_2(home, flags):
    done = get_data(home, "http://127.0.0.1:9", *flags)
    assert done.returncode == 2 and "Traceback" not in done.stderr and flags[0] in done.stderr


def test_streaming_reads_every_document_and_keeps_few_shards(home, shards, monkeypatch):
    small = Remote(REPO, 5)
    bodies = {small.shard(number): body for number, body in zip((0, 1, 2, 4), shards.values(), strict=True)}
    bodies[small.shard(3)] = shard(9, kilobytes=100)
    monkeypatch.setitem(REMOTES, "fineweb-edu", small)
    most = 0
    with Hub(bodies) as hub:
        point_to(monkeypatch, hub.url)
        hub.faults[small.shard(1)] = [503]
        dataset = open_dataset("fineweb-edu", streaming=True, max_cached_shards=3)
        assert sum(1 for _ in dataset.documents("val")) == 2000
        texts = []
        for text in dataset.documents("train"):
            texts.append(text)
            if len(texts) % 500 == 0:
                time.sleep(0.05)  # reading is faster than any hub
                most = max(most, len(list(folder_of(home).rglob("*.parquet"))))
        expected = [pq.read_table(io.BytesIO(bodies[small.shard(number)]))["text"].to_pylist() for number in range(4)]
    assert texts == sum(expected, []) and most == 3
    assert (folder_of(home) / "streamed" / small.shard(-1)).exists()


def test_without_shards_it_says_how_to_get_them(home):
    with pytest.raises(CourseError, match="get_data --dataset climbmix --shards 8"):
        open_dataset("climbmix")


def test_a_fetched_shard_can_be_opened(hub, tmp_path):
    REMOTES["fineweb-edu"].fetch(FIRST, tmp_path)
    with open_parquet(Path(tmp_path / FIRST)) as file:
        assert file.metadata.num_rows == 3000


# ---- a single file from anywhere

SMALL = bytes(range(256)) * 500  # 128,000 bytes


@pytest.fixture
def website(monkeypatch):
    """A web server on this machine that does what the path says; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path in ("/loop", "/script", "/nowhere"):
                self.send_response(302)
                to = {"/loop": "/loop", "/script": "javascript:alert(1)", "/nowhere": "http://[::1"}
                self.send_header("Location", to[self.path])
                return self.end_headers()
            packed = self.path == "/file" and "gzip" in self.headers["Accept-Encoding"]
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            body = gzip.compress(SMALL) if packed else SMALL[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(SMALL) - 1}/{len(SMALL)}")
            if packed or self.path == "/bad-gzip":
                self.send_header("Content-Encoding", "gzip")
            if self.path in ("/file", "/breaks", "/too-long"):
                self.send_header("Content-Length", str(10**15 if self.path == "/too-long" else len(body)))
                self.send_header("ETag", '"1"')
            self.end_headers()
            try:
                for _ in range(1000 if self.path == "/endless" else 1):
                    self.wfile.write(body[:10_000] if self.path == "/breaks" else body)
            except OSError:  # the other side has had enough
                pass

        def log_message(self, *args):
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=web.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "WAITS", (0.01,) * 5)
    yield f"http://127.0.0.1:{web.server_address[1]}"
    web.shutdown()
    web.server_close()
    thread.join()


def left_in(folder):
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("page", ["file", "breaks"])
def test_a_file_is_fetched_once_and_its_bytes_are_told(website, tmp_path, page):
    told = []
    for _ in range(2):
        path = fetch_file(
            f"{website}/{page}", tmp_path / "f", 200_000, "wait", on_bytes=lambda *numbers: told.append(numbers)
        )
    assert path == tmp_path / "f" and path.read_bytes() == SMALL and left_in(tmp_path) == [path]
    assert told[-1] == (128_000, 128_000) and told == sorted(told)
    assert len(told) < 200, "the second time nothing is fetched"


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("loop", "the server's answer cannot be used (TooManyRedirects)"),
        ("script", "the server's answer cannot be used (InvalidURL)"),
        ("nowhere", "the download broke off"),
        ("bad-gzip", "the server's answer cannot be used (DecodingError)"),
        ("endless", "what arrives is longer than 1.0 MB, so it is not the file"),
        ("too-long", "what arrives is longer than 1.0 MB, so it is not the file"),
    ],
)
def test_an_answer_that_is_no_file_is_one_sentence_and_nothing_is_left(website, tmp_path, page, said):
    with pytest.raises(CourseError) as caught:
        fetch_file(f"{website}/{page}", tmp_path / "f", 1_000_000, "wait")
    assert str(caught.value) == f"could not fetch {website}/{page}: {said}; try again online, or wait"
    assert sum(path.stat().st_size for path in left_in(tmp_path)) == 0


def test_a_silent_server_is_not_waited_for_without_end(monkeypatch, tmp_path):
    import httpx

    def no_answer(method, url, **how):
        assert how["timeout"] <= 30
        raise httpx.ReadTimeout("")

    monkeypatch.setattr(httpx, "stream", no_answer)
    with pytest.raises(CourseError, match="the server did not answer in time"):
        fetch_file("http://127.0.0.1/x", tmp_path / "f", 1_000, "wait")
