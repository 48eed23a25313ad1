"""What serves the live page: its answers are the network's, and pages of other origins get none."""

import base64
import json
import socket

import numpy as np
import pytest
from launching import REPOSITORY  # noqa: F401

import cnn_jax

pytest.importorskip("starlette", reason="needs the extra explore: pip install '.[explore]'")
testclient = pytest.importorskip("starlette.testclient", reason="needs httpx: pip install httpx", exc_type=ImportError)

from cnn_jax.explore.scene import Scene  # noqa: E402
from cnn_jax.explore.server import application, serving  # noqa: E402

pytestmark = pytest.mark.slow
URL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def network():
    return cnn_jax.load("lenet_digits")


@pytest.fixture(scope="module")
def client(network):
    return testclient.TestClient(application(Scene({"one": network})), base_url=URL)


def pixels(network):
    return cnn_jax.dataset(network.settings, "test").images[7]


def test_it_answers_as_the_network_does(client, network):
    image = pixels(network)
    (found,) = client.post("/look", content=image.tobytes()).json()
    logits, maps = network(image[None])
    np.testing.assert_allclose(found["logits"], logits[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["probabilities"], network.predict(image[None]).probabilities[0], atol=1e-4)
    for name, shown in found["layers"].items():
        if name not in maps:
            continue
        values = np.frombuffer(base64.b64decode(shown["data"]), np.int8).astype(float)
        high, wide, channels = shown["shape"]
        values = np.moveaxis(values.reshape(channels, high, wide), 0, -1) / 127 * shown["limit"]
        np.testing.assert_allclose(values, maps[name][0], atol=shown["limit"] / 127)


def test_a_unit_and_the_evidence(client, network):
    image = pixels(network)
    unit = client.post("/unit?network=0&layer=conv1&place=3,4,2", content=image.tobytes()).json()
    assert unit["value"] == pytest.approx(float(network(image[None])[1]["conv1"][0, 3, 4, 2]), rel=1e-4)
    assert unit["window"] == [3, 4, 5, 5] and len(unit["inputs"][0]["weights"]) == 5
    found = client.post("/evidence?network=0&label=3", content=image.tobytes()).json()
    assert found["occlusion"]["shape"] == [28, 28, 1]
    assert found["occlusion"]["limit"] == pytest.approx(np.abs(network.evidence(image, 3).occlusion).max(), rel=1e-4)


def test_test_images_and_pictures(client, network):
    answer = client.get("/examples/7")
    assert answer.content == pixels(network).tobytes() and json.loads(answer.headers["x-label"]) in "0123456789"
    picture = client.post("/picture", content=(REPOSITORY / "docs" / "report.png").read_bytes())
    assert len(picture.content) == 28 * 28


@pytest.mark.parametrize(
    "path, content, said",
    [
        ("/look", b"short", "has 784 bytes, not 5"),
        ("/unit?layer=conv1&place=1,2", bytes(784), "conv1 has no number"),
        ("/unit?layer=conv1&place=a", bytes(784), "must be a whole number"),
        ("/unit?layer=nothing&place=1", bytes(784), "there is no layer 'nothing'"),
        ("/unit?network=5&layer=conv1&place=1,1,1", bytes(784), "there is no network 5"),
        ("/evidence?label=99", bytes(784), "must be from 0 to 9"),
        ("/picture", b"no picture", "the picture"),
    ],
)
def test_what_is_wrong_is_said(client, path, content, said):
    answer = client.post(path, content=content)
    assert answer.status_code == 400 and said in answer.json()["error"]
    assert "/tmp" not in answer.text


def test_a_body_that_is_too_large_is_not_read_on(client):
    read = []

    def parts():
        for number in range(100):
            read.append(number)
            yield bytes(2**20)

    assert "larger than 64 MiB" in client.post("/picture", content=parts()).json()["error"]


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "evil.example"}, 400),  # its name may lead to this machine
        ({"host": "evil.example:8000"}, 400),
        ({"origin": URL}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, 200),
    ],
)
def test_other_hosts_and_origins_are_refused(client, headers, status):
    for method, path in (("get", "/"), ("get", "/examples/0"), ("get", "/windows")):
        assert getattr(client, method)(path, headers=headers).status_code == status
    assert client.post("/look", content=bytes(784), headers=headers).status_code == status


def test_nothing_outside_is_loaded(client):
    for path in ("/", "/windows"):
        answer = client.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert (
            "http://" not in text and "https://" not in text and 'src="' not in text.replace('data-src="windows"', "")
        )


def test_a_port_that_is_taken(network):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(cnn_jax.UserError, match=f"--port={port} cannot be used on 127.0.0.1"):
            with serving(Scene({"one": network}), port):
                pass


def test_names_are_not_code(network):
    """A run's folder and classes may be called anything."""
    text = testclient.TestClient(application(Scene({"</script><b>": network})), base_url=URL).get("/").text
    assert "</script><b>" not in text and "<b>" not in text
