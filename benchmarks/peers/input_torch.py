"""The decoding of benchmarks/input_pipeline.py by PyTorch's DataLoader with Pillow; called by that script.

The same Pillow calls as ours, in worker processes, as the DataLoader is meant to be used.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import PIL
import torch
from PIL import Image


class Squares(torch.utils.data.Dataset):
    def __init__(self, paths, side):
        self.paths, self.side = paths, side

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            image = image.convert("RGB")
            short = min(image.size)
            left, top = (image.width - short) / 2, (image.height - short) / 2
            box = (left, top, left + short, top + short)
            pixels = np.array(image.resize((self.side, self.side), Image.Resampling.BILINEAR, box=box))
        return torch.from_numpy(pixels)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", required=True, help="text file of image paths, one a line")
    for name in ("side", "batch", "workers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    paths = pathlib.Path(options.list).read_text().splitlines()
    loader = torch.utils.data.DataLoader(Squares(paths, options.side), options.batch, num_workers=options.workers)
    batches = iter(loader)
    next(batches)  # starts the workers
    began, count = time.perf_counter(), 0
    for images in batches:
        count += len(images)
    rate = count / (time.perf_counter() - began)
    versions = {"torch": torch.__version__, "pillow": PIL.__version__}
    print(json.dumps({"rate": rate, "versions": versions}))


if __name__ == "__main__":
    main()
