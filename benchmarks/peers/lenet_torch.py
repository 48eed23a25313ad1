"""The LeNet of the Keras notebook in PyTorch, eager, on the CPU. Run by ../lenet_mnist.py.

Prints one line of JSON for each epoch, {"epoch", "seconds" of training alone, "accuracy" on the test set}, and a
last one with the versions.

The data are tensors in memory, shuffled once an epoch and cut into batches: a DataLoader, which collates single
examples, is slower. Convolutions run channels-last and Adam is fused, both faster here. torch.compile is not used: it
compiles for longer than it saves.
"""

import argparse
import json
import time

import numpy as np
import torch
from torch import nn


def lenet():
    """[N, 1, 28, 28] to [N, 10] logits; 44,426 parameters: Glorot uniform kernels, zero biases, as in Keras."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 120),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, 10),
    )
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
    return model


def tensors(path, split):
    """Images as float32 [N, 1, 28, 28] in [0, 1] and labels as int64 [N]."""
    with np.load(path) as data:
        images, labels = (torch.from_numpy(data[f"{kind}_{split}"]) for kind in "xy")
    images = images.permute(0, 3, 1, 2).float().div_(255)
    return images.to(memory_format=torch.channels_last), labels.long()


def train(model, optimizer, x, y, batch_size=32):
    """One epoch in a new random order."""
    order = torch.randperm(len(x))
    for images, labels in zip(x[order].split(batch_size), y[order].split(batch_size)):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def accuracy(model, x, y, batch_size=500):
    """Fraction of examples whose largest logit is the right one."""
    right = sum(
        (model(images).argmax(1) == labels).sum().item()
        for images, labels in zip(x.split(batch_size), y.split(batch_size))
    )
    return right / len(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    x_train, y_train = tensors(options.data, "train")
    x_test, y_test = tensors(options.data, "test")
    model = lenet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)
    for epoch in range(options.epochs):
        began = time.perf_counter()
        train(model, optimizer, x_train, y_train)
        seconds = time.perf_counter() - began
        line = {"epoch": epoch + 1, "seconds": seconds, "accuracy": accuracy(model, x_test, y_test)}
        print(json.dumps(line), flush=True)
    print(json.dumps({"versions": {"torch": torch.__version__}}))


if __name__ == "__main__":
    main()
