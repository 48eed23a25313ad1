"""Google Cloud Storage for tests: an emulator in memory, on 127.0.0.1, that needs neither a network nor credentials.

It is gcp-storage-emulator, started as a process of its own, with what that lacks and the code relies on: conditions on
the generation of an object, ranges counted from the end of one, and moves.

    with gcs.running("bucket") as environment: ...   # gs://bucket is there, and empty
"""

import contextlib
import functools
import http.server
import itertools
import logging
import os
import re
import subprocess
import sys

NAMES = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL", "CLOUD_STORAGE_EMULATOR_ENDPOINT")  # by client
ALONE = {
    "FSSPEC_GCS_TOKEN": "anon",
    "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
    "NO_GCE_CHECK": "true",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it would ask by gRPC, which is not emulated
    "http_proxy": "",
    "no_proxy": "127.0.0.1",
}
ASKED = itertools.count(1)
MOVE = r".*/b/(?=(?P<dest_bucket_name>[^/]+))(?P<bucket_name>[^/]+)/o/(?P<object_id>.+)/moveTo/o/(?P<dest_object_id>.+)"


@contextlib.contextmanager
def running(*buckets):
    """Starts the emulator; gives the variables of the environment by which the clients of a process find it."""
    command = [sys.executable, os.path.abspath(__file__), *buckets]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            yield dict.fromkeys(NAMES, url) | ALONE
        finally:
            server.terminate()


def _handle(inner, method, request, response, storage):
    """Answers as the emulator does, and adds what it lacks."""
    names = request.params or {}
    query = {name: values[0] for name, values in request.query.items()}
    if fault := _fault(names.get("bucket_name") or ""):
        response.status, message = fault
        return response.json({"error": {"code": int(response.status), "message": message}})
    bucket = names.get("dest_bucket_name") or names.get("bucket_name")
    name = names.get("dest_object_id") or names.get("object_id") or query.get("name")
    if "ifGenerationMatch" in query and not name:  # an upload that is named in its body
        body = storage.resumable.get(query["upload_id"], {}) if "upload_id" in query else request.data
        name = body.get("meta", body).get("name")
    found = storage.objects.get(bucket, {}).get(name)
    generation = found["generation"] if found else "0"
    if method != "GET" and query.get("ifGenerationMatch", generation) != generation:
        response.status = http.HTTPStatus.PRECONDITION_FAILED
        return response.json({"error": {"code": 412, "message": "conditionNotMet"}})
    if found and method == "GET":
        response["x-goog-generation"] = generation
        last = re.fullmatch(r"\s*bytes=-(\d+)", request.get_header("range") or "")
        if last:
            first = max(0, int(found["size"]) - int(last[1]))
            request._request_handler.headers.replace_header("range", f"bytes={first}-")
    inner(request, response, storage)
    if "/moveTo/o/" in request.path and response.status == http.HTTPStatus.OK:
        storage.delete_file(names["bucket_name"], names["object_id"])


def _fault(bucket):
    """What some buckets answer: "forbidden" and "failing" always, "flaky" now and then."""
    if bucket == "forbidden":
        return http.HTTPStatus.FORBIDDEN, "you may not use this bucket"
    if bucket == "failing" or bucket == "flaky" and next(ASKED) % 25 == 0:
        return http.HTTPStatus.SERVICE_UNAVAILABLE, "try again later"
    return None


def _serve(buckets):
    from gcp_storage_emulator import server, storage

    logging.disable(logging.CRITICAL)
    handlers = [(MOVE, {"POST": server.objects.copy}), *server.HANDLERS]
    wrapped = lambda methods: {method: functools.partial(_handle, inner, method) for method, inner in methods.items()}
    server.HANDLERS = [(path, wrapped(methods)) for path, methods in handlers]
    storage.Storage._write_config_to_file = lambda self: None  # all metadata as JSON, at every change
    storage.DEFAULT_SOFT_DELETE_RETENTION_SECONDS = 0  # what is deleted is gone
    http.server.HTTPServer.request_queue_size = 128  # many readers at a time
    report = http.server.HTTPServer.handle_error  # clients may hang up
    quiet = lambda *about: isinstance(sys.exc_info()[1], ConnectionError) or report(*about)
    http.server.HTTPServer.handle_error = quiet
    with server.create_server("127.0.0.1", 0, in_memory=True, default_bucket=buckets[0]) as started:
        for name in buckets[1:]:
            started._api._storage.create_bucket(name, {"name": name})
        print(started._api._httpd.server_port, flush=True)
        sys.stdin.read()  # ends with the process that started it


if __name__ == "__main__":
    _serve(sys.argv[1:])
