"""LeNet-5 on 15,000, 30,000 and all 60,000 training images of MNIST, as in figure 6 of 1998; ten seeds each.

The network of lenet5_modern_mnist. All arms train for as many steps, so that they differ in what they see and not in
how long they learn. Published for LeNet-5: 0.95 % test error with 60,000 images, 0.8 % with distorted ones besides; the
figure's other points are not given in numbers.

Command: python launch.py --experiment=lenet5_images_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then the arm's images train, for
1,875 steps (4 epochs of 60,000), and the last step's parameters count. The 10,000 test images are measured once, at the
end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet5, Log, Optimizer, Pool, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    model = LeNet5(
        activation="tanh", pool=Pool.of(kind="average"), connections="dense", output="softmax", init="glorot_uniform"
    )
    return Study(
        base=Config(
            seed=1000,
            model=model,
            data=Data.of(name="mnist", size=32, low=-0.1, high=1.175),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="200 steps"),
            train=Train(batch_size=128, duration="1875 steps"),
            evaluation=Evaluation(every="469 steps"),
            log=Log(every="235 steps", tensorboard=False),
        ),
        arms=(
            Arm(name="60000"),
            Arm(name="30000", changes=("data.limit=30000",)),
            Arm(name="15000", changes=("data.limit=15000",)),
            Arm(name="60000_shifted", changes=("augment.shift=2",)),
        ),
        baseline="60000",
        pairs=(("15000", "30000"),),
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032",
            sweep_seeds=2,
        ),
    )
