"""AlexNet as published in 2012, on ImageNet: two groups, LRN, overlapping pooling, dropout, 60,965,224 parameters.

Random 224x224 crops of 256x256 images and their mirror images, colour noise along the principal components, SGD with
momentum, the rate divided by ten three times. The rate drops where the authors' own configuration has them (epochs
25, 51 and 79 of 90); the paper only says "when the validation error stopped improving".

Source: Krizhevsky, Sutskever and Hinton, 2012, and the configuration of run 145 in the code they released. Published:
40.7 % top-1 and 18.2 % top-5 error on the validation images with ten crops. Not trained here in full.
Weights of conv3 to conv5 begin with a standard deviation of 0.03, as in that configuration; with the 0.01 that the
paper gives for all layers, what tells one image from another is a fifteenth as large in the first logits, and the
loss stays where it is (--set model.middle_std=0.01).
Departures from both: the mean colour is subtracted, not the mean image; every image has a crop of its own (the code
cuts 32 at the same place). From the code, where it differs from the paper: the first LRN comes after its ReLU
(--set model.norm_first=true), alpha is not divided by the window (--set model.alpha_divided=true), there is no second
normalisation within each map after conv2, biases learn at the rate of the weights, not at twice that, and the colour
noise stays on to the end (the code: off from epoch 67, when conv1's rate falls as well; conv1 rests from epoch 72).
The noise goes by the square roots of the eigenvalues, and the image is divided by 1.1, as in the code; the paper's
formula, and what others made of it, has the eigenvalues (--set augment.pca_reading=community). Weights decay and biases
do not, as in the code.

Images are not turned by their EXIF data, and transparency is dropped (data.exif, data.ground), as in 2012.

Command: python launch.py --experiment=alexnet_imagenet --set evaluation.crops=10

Protocol: the 50,000 validation images are what is reported, as in the paper; they choose nothing.
"""

from cnn_jax.config import AlexNet, Augment, Config, Data, Evaluation, Log, Optimizer, Schedule, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=AlexNet(middle_std=0.03),
        data=Data.of(name="imagenet2012", crop=224, high=255.0, mean=(123.68, 116.779, 103.939)),
        augment=Augment(flip=True, pca=0.1, pca_reading="2012"),
        optimizer=Optimizer.of(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=5e-4),
        schedule=Schedule.of(name="step", drops=("25 epochs", "51 epochs", "79 epochs"), factor=0.1),
        train=Train(batch_size=128, duration="90 epochs"),
        evaluation=Evaluation(batch_size=100),
        log=Log(every="100 steps"),
    )
