"""The tutorial's network in Keras, and its tensors under this project's names.

Used by keras_weights.py and tests/fixtures/make_keras_fixtures.py.
"""

import keras

CLASSES = 10
SIDE = 32
STEM_FILTERS = 16
STAGE_FILTERS = (64, 128, 256)
BOTTLENECK = 4
L2 = 1e-4


def build(depth, l2=L2):
    """ResNet v2 with `depth` = 9n + 2 layers, n bottleneck units a stage; gives logits, without a softmax.

    Keras allows no slash in a layer's name: `stage1/unit01/conv2` is called `stage1.unit01.conv2`.
    """
    if depth < 11 or (depth - 2) % 9:
        raise ValueError(f"depth {depth} is not of the form 9n+2 with n >= 1")

    def conv(name, x, filters, side=1, stride=1):
        return keras.layers.Conv2D(
            filters,
            side,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(l2),
            name=name,
        )(x)

    def bn_relu(name, x):
        return keras.layers.ReLU()(keras.layers.BatchNormalization(name=name)(x))

    def unit(name, x, filters, stride):
        inner = filters // BOTTLENECK
        a1 = bn_relu(f"{name}.bn1", x)
        shortcut = x
        if x.shape[-1] != filters:
            shortcut = conv(f"{name}.shortcut", a1, filters, stride=stride)
        y = conv(f"{name}.conv1", a1, inner, stride=stride)
        y = conv(f"{name}.conv2", bn_relu(f"{name}.bn2", y), inner, side=3)
        y = conv(f"{name}.conv3", bn_relu(f"{name}.bn3", y), filters)
        return keras.layers.Add()([shortcut, y])

    images = keras.Input((SIDE, SIDE, 3))
    x = conv("conv_in", images, STEM_FILTERS, side=3)
    for stage, filters in enumerate(STAGE_FILTERS, start=1):
        for index in range(1, (depth - 2) // 9 + 1):
            stride = 2 if stage > 1 and index == 1 else 1
            x = unit(f"stage{stage}.unit{index:02}", x, filters, stride)
    x = keras.layers.GlobalAveragePooling2D()(bn_relu("bn_out", x))
    logits = keras.layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(l2), name="dense")(x)
    return keras.Model(images, logits)


def variables(model):
    """The variables of a model of `build` by this project's tensor names, such as stage1/unit01/conv2/kernel."""
    return {
        f"{layer.name.replace('.', '/')}/{variable.name}": variable for layer in model.layers for variable in layer.weights
    }
