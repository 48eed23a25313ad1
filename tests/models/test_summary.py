"""The table of layers, character by character."""

from cnn_jax import config
from cnn_jax.models import outline, summary

TABLE = """
layer        kind                             output    parameters  multiply-adds
-----------  -------------------------------  --------  ----------  -------------
input        images                           32x32x1            0              0
c1           convolution 5x5                  28x28x6          156        117,600
activation1  1.7159 tanh(2x/3)                28x28x6            0              0
s2           subsampling 2x2, stride 2        14x14x6           12              0
activation2  1.7159 tanh(2x/3)                14x14x6            0              0
c3           convolution 5x5, 60 connections  10x10x16       1,516        150,000
activation3  1.7159 tanh(2x/3)                10x10x16           0              0
s4           subsampling 2x2, stride 2        5x5x16            32              0
activation4  1.7159 tanh(2x/3)                5x5x16             0              0
c5           convolution 5x5                  1x1x120       48,120         48,000
activation5  1.7159 tanh(2x/3)                1x1x120            0              0
flatten      flatten 1x1x120 to 120           120                0              0
f6           dense                            84            10,164         10,080
activation6  1.7159 tanh(2x/3)                84                 0              0
output       radial basis, fixed              10                 0            840
-----------  -------------------------------  --------  ----------  -------------
total                                                       60,000        326,520
"""


def test_table_of_the_1998_network():
    rows = summary.summarise(outline(config.LeNet5(layout="NHWC"), (32, 32, 1), 10))
    assert summary.table(rows) == TABLE.strip()


def test_the_table_widens_with_its_contents():
    row = summary.Row(name="a_very_long_name", kind="k", output=(1,), parameters=10**12, multiply_adds=5)
    lines = summary.table([row, row]).splitlines()
    assert lines[2] == "a_very_long_name  k     1       1,000,000,000,000              5"
    assert lines[-1] == "total                           2,000,000,000,000             10"
    assert len({len(line) for line in lines}) == 1
