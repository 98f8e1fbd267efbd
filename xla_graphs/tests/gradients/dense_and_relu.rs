//! The dense layer and the rectified linear unit.

use xla_graphs::ops::dense::Dense;
use xla_graphs::ops::relu;
use xla_graphs::tensors::Tensors;

use crate::common::{Graph, Input, check_gradients, input};
use crate::only;

#[test]
fn dense_layer() {
    for (batch, inputs, outputs) in [(5, 7, 3), (1, 1, 1), (1, 9, 2)] {
        let dense = Dense {
            name: "d".into(),
            inputs,
            outputs,
        };
        check_gradients(
            &[
                input("x", &[batch, inputs]),
                input("d/kernel", &[inputs, outputs]),
                input("d/bias", &[outputs]),
            ],
            &["x", "d/kernel", "d/bias"],
            |t| dense.forward(t, t.get("x")?),
            |t, dy| {
                let mut gradients = Tensors::new();
                let dx = dense.backward(t, t.get("x")?, dy, &mut gradients)?;
                gradients.insert("x", dx);
                Ok(gradients)
            },
        );
    }
}

#[test]
fn rectified_linear_unit_away_from_its_kink() {
    let mut x = input("x", &[2, 3, 3, 5]);
    // Central differences are meaningless within a step of the kink.
    x.values.iter_mut().for_each(|v| *v += 0.05f32.copysign(*v));
    check_gradients(
        &[x],
        &["x"],
        |t| relu::forward(t.get("x")?),
        |t, dy| only("x", relu::backward(&relu::forward(t.get("x")?)?, dy)?),
    );
}

#[test]
fn at_its_kink_the_rectified_linear_unit_has_slope_zero_as_in_tensorflow() {
    let x = Input {
        name: "x",
        dims: vec![3],
        values: vec![-0.0, 0.0, 1e-30],
    };
    let graph = Graph::new(std::slice::from_ref(&x), |t| {
        let y = relu::forward(t.get("x")?)?;
        let dy = y.builder().c0(1f32)?.broadcast(&[3])?;
        Ok(vec![relu::backward(&y, &dy)?])
    });
    assert_eq!(graph.run(&[x])[0], [0.0, 0.0, 1.0]);
}
