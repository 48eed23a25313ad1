"""Golden values of torchvision's AlexNet in PyTorch: logits, and the losses of 20 steps.

To make them again, where PyTorch is installed (made with 2.13.0, CPU):

    PYTHONPATH=tests python -m golden.make_torch
"""

from collections import OrderedDict

import numpy as np
import torch
from golden import recipe
from torch import nn

SIDE, BATCH, STEPS = 95, 4, 20  # 95 pixels: the last map has 2x2, so that the order it is flattened in matters
RATE, MOMENTUM, DECAY = 0.00003, 0.9, 1.0  # small steps: rounding errors do not grow. Decay that shows all the same


def network() -> nn.Module:
    """Torchvision's AlexNet, module by module, without the average pool that changes nothing at 224 pixels."""
    convolutions = [
        *[nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)],
    ]
    dense = [
        *[nn.Dropout(), nn.Linear(256 * 2 * 2, 4096), nn.ReLU()],
        *[nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()],
        nn.Linear(4096, recipe.CLASSES),
    ]
    parts = {"features": nn.Sequential(*convolutions), "flatten": nn.Flatten(), "classifier": nn.Sequential(*dense)}
    return nn.Sequential(OrderedDict(parts))


def state_dict(model: nn.Module) -> dict:
    """Weights drawn with the outputs last, brought to PyTorch's shapes; NumPy arrays by torchvision's names."""
    shapes = {name: (*value.shape[1:], value.shape[0]) for name, value in model.state_dict().items()}
    drawn = recipe.weights(shapes, seed=1)
    return {name: np.ascontiguousarray(np.moveaxis(value, -1, 0)) for name, value in drawn.items()}


def results() -> dict:
    """Logits of the first batch, and the loss of each step, with the dropout off."""
    model = network().eval()
    model.load_state_dict({name: torch.tensor(value) for name, value in state_dict(model).items()})
    images, labels = recipe.batches(STEPS, BATCH, (SIDE, SIDE, 3), seed=2)
    images = torch.tensor(recipe.centred(images)).permute(0, 1, 4, 2, 3)
    labels = torch.tensor(labels, dtype=torch.int64)
    logits = model(images[0]).tolist()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY)
    losses = []
    for batch, answers in zip(images, labels):
        loss = nn.functional.cross_entropy(model(batch), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {"logits": logits, "losses": losses}


if __name__ == "__main__":
    recipe.save("torch", results())
