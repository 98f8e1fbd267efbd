"""The training step in Keras on TensorFlow: a compiled model's train_on_batch, as `fit` runs it."""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.append(str(pathlib.Path(__file__).parents[2] / "scripts"))

import common
import keras
import keras_resnet
import tensorflow as tf


def main():
    args = common.arguments(__doc__, precision=["f32", "bf16"])
    tf.config.threading.set_intra_op_parallelism_threads(common.threads())
    if args.precision == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = keras_resnet.build(args.depth, common.L2)
    variables = keras_resnet.variables(model)
    for name, values in common.first_weights(args.depth).items():
        variables[name].assign(values)
    model.compile(
        optimizer=keras.optimizers.SGD(common.LEARNING_RATE, momentum=common.MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    images, labels = map(tf.constant, common.synthetic_batch(args.batch_size))
    common.measure(
        args,
        lambda: model.train_on_batch(images, labels),
        name="Keras on TensorFlow",
        version=f"{keras.__version__} on {tf.__version__}",
        precision=args.precision,
        trainable_parameters=sum(variable.shape.num_elements() for variable in model.trainable_variables),
    )


main()
