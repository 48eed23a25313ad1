"""Training steps of AlexNet in PyTorch, on one fixed batch. Run by ../alexnet_step.py, which tells it when to go.

For every line on standard input it takes --steps steps and answers with one line of JSON, {"seconds"}; the first
line it prints says what it runs. On CUDA: autocast to bfloat16, torch.compile, channels-last. On the CPU: float32,
eager, channels-last or not, whichever turned out faster before the first line. SGD is fused on both.
"""

import argparse
import json
import sys
import time

import torch
from torch import nn


def convolutions(model):
    """The layers up to the dense ones. `alexnet` has two groups and local response normalisation, as in 2012."""
    relu, pool = lambda: nn.ReLU(inplace=True), lambda: nn.MaxPool2d(3, 2)
    if model == "alexnet_owt":
        first = [nn.Conv2d(3, 64, 11, 4, 2), relu(), pool(), nn.Conv2d(64, 192, 5, padding=2), relu(), pool()]
        sizes, groups = (192, 384, 256, 256), (1, 1, 1)
    else:
        norm = lambda: nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)  # PyTorch divides alpha by the size
        first = [nn.ZeroPad2d((0, 3, 0, 3)), nn.Conv2d(3, 96, 11, 4), relu(), norm(), pool()]
        first += [nn.Conv2d(96, 256, 5, padding=2, groups=2), relu(), norm(), pool()]
        sizes, groups = (256, 384, 384, 256), (1, 2, 2)
    shapes = zip(sizes, sizes[1:], groups)
    rest = [part for i, o, g in shapes for part in (nn.Conv2d(i, o, 3, padding=1, groups=g), relu())]
    return [*first, *rest, pool(), nn.Flatten()]


def network(model):
    """[N, 3, 224, 224] to [N, 1000] logits: 60,965,224 parameters (alexnet) or 61,100,840 (alexnet_owt)."""
    relu = lambda: nn.ReLU(inplace=True)
    dense = [nn.Linear(9216, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)]
    if model == "alexnet_owt":
        last = [nn.Dropout(), dense[0], relu(), nn.Dropout(), dense[1], relu(), dense[2]]
    else:
        last = [dense[0], relu(), nn.Dropout(), dense[1], relu(), nn.Dropout(), dense[2]]
    return nn.Sequential(*convolutions(model), *last)


def trainer(options, device, memory_format):
    """A function that takes so many steps and returns their seconds."""
    torch.manual_seed(0)
    model = network(options.model).to(device, memory_format=memory_format)
    forward = torch.compile(model) if device == "cuda" else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True)
    images = torch.randn(options.batch, 3, 224, 224).to(device, memory_format=memory_format)
    labels = torch.randint(1000, (options.batch,)).to(device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def steps(count):
        wait()
        began = time.perf_counter()
        for _ in range(count):
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                loss = nn.functional.cross_entropy(forward(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        wait()
        return time.perf_counter() - began

    steps(2)  # compiles, and takes its memory
    return steps


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=("alexnet", "alexnet_owt"), required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    if torch.cuda.is_available():
        form, steps = "bfloat16, compiled, channels-last", trainer(options, "cuda", torch.channels_last)
    else:
        formats = {"channels-first": torch.contiguous_format, "channels-last": torch.channels_last}
        trainers = {name: trainer(options, "cpu", memory_format) for name, memory_format in formats.items()}
        fastest = min(trainers, key=lambda name: min(trainers[name](1) for _ in range(2)))
        form, steps = f"float32, {fastest}", trainers[fastest]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(json.dumps({"form": form, "device": device, "versions": {"torch": torch.__version__}}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": steps(options.steps)}), flush=True)


if __name__ == "__main__":
    main()
