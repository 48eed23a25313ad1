"""AlexNet with batch normalisation on ImageNet, by a recipe for large batches on accelerators.

Batches of 2,048, SGD with Nesterov momentum, warm-up and cosine, bfloat16, label smoothing, averaged parameters.

Source: batch normalisation in AlexNet reaches 60.4 % top-1 in the best public Caffe model; the schedule follows Goyal
et al., 2017 (rate 0.1 for each 256 examples, five epochs of warm-up). The aim is to pass 60.4 %. Not trained here.

Command: python launch.py --experiment=alexnet_bn_imagenet

Protocol: the 50,000 validation images are what is reported; they choose nothing.
"""

from cnn_jax.config import AlexNetBN, Augment, Config, Data, Evaluation, Optimizer, Schedule, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=AlexNetBN(dropout=0.3),
        data=Data.of(name="imagenet2012", crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        augment=Augment(flip=True, area=0.25),
        optimizer=Optimizer.of(
            name="sgd", learning_rate=0.8, momentum=0.9, nesterov=True, weight_decay=5e-5, ema=0.9999
        ),
        schedule=Schedule.of(name="cosine", warmup="5 epochs"),
        train=Train(batch_size=2048, duration="100 epochs", label_smoothing=0.1, precision="bfloat16"),
        evaluation=Evaluation(batch_size=500),
    )
