//! Pooling, and the shortcut that pools.

use xla_graphs::ops::conv::Padding;
use xla_graphs::ops::widen::Widen;
use xla_graphs::ops::{max_pool, overlapping_pool, pool};

use crate::common::{Graph, check_gradients, input};
use crate::only;

#[test]
fn global_average_pooling() {
    for dims in [[2, 3, 3, 5], [1, 1, 1, 2], [1, 5, 2, 1]] {
        check_gradients(
            &[input("x", &dims)],
            &["x"],
            |t| pool::forward(t.get("x")?),
            |_, dy| only("x", pool::backward(&dims, dy)?),
        );
    }
}

#[test]
fn max_pooling_takes_the_first_of_the_largest_and_sends_its_gradient_there_alone() {
    for dims in [[2, 4, 6, 3], [1, 5, 7, 2], [3, 2, 2, 1]] {
        let mut x = input("x", &dims);
        // Many values in a square are equal.
        x.values.iter_mut().for_each(|v| *v = (*v * 3.0).round());
        let [n, h, w, c] = dims;
        let dy = input("dy", &[n, h / 2, w / 2, c]);
        let inputs = [x.clone(), dy.clone()];
        let graph = Graph::new(&inputs, |t| {
            let (y, saved) = max_pool::forward(t.get("x")?)?;
            Ok(vec![y, max_pool::backward(&saved, t.get("dy")?)?])
        });
        let mut expected = [Vec::new(), vec![0.0; x.values.len()]];
        for (number, gradient) in dy.values.iter().enumerate() {
            let (column, channel) = (number / c % (w / 2), number % c);
            let (row, image) = (
                number / c / (w / 2) % (h / 2),
                number / c / (w / 2) / (h / 2),
            );
            let at =
                |a: usize, b: usize| ((image * h + 2 * row + a) * w + 2 * column + b) * c + channel;
            let mut best = at(0, 0);
            for other in [at(0, 1), at(1, 0), at(1, 1)] {
                if x.values[other] > x.values[best] {
                    best = other;
                }
            }
            expected[0].push(x.values[best]);
            expected[1][best] = *gradient;
        }
        assert_eq!(graph.run(&inputs), expected, "{dims:?}");
    }
}

#[test]
fn overlapping_pooling_takes_the_first_of_the_largest_and_sends_its_gradient_there() {
    for (dims, padding) in [
        ([2, 4, 6, 3], Padding::Far),
        ([1, 5, 7, 2], Padding::Far),
        ([2, 1, 2, 1], Padding::Far),
        ([2, 4, 6, 3], Padding::Near),
        ([1, 5, 2, 2], Padding::Near),
    ] {
        let mut x = input("x", &dims);
        // Many values in a square are equal.
        x.values.iter_mut().for_each(|v| *v = (*v * 3.0).round());
        let [n, h, w, c] = dims;
        let dy = input("dy", &[n, h.div_ceil(2), w.div_ceil(2), c]);
        let inputs = [x.clone(), dy.clone()];
        let graph = Graph::new(&inputs, |t| {
            let (y, saved) = overlapping_pool::forward(t.get("x")?, padding)?;
            Ok(vec![y, overlapping_pool::backward(&saved, t.get("dy")?)?])
        });
        let mut expected = [Vec::new(), vec![0.0; x.values.len()]];
        for (number, gradient) in dy.values.iter().enumerate() {
            let (column, channel) = (number / c % w.div_ceil(2), number % c);
            let row = number / c / w.div_ceil(2) % h.div_ceil(2);
            let image = number / c / w.div_ceil(2) / h.div_ceil(2);
            // Where the size is odd, the padding begins with a pixel; where it is even, that is all on one side.
            let before = |size: usize| usize::from(size % 2 == 1 || padding == Padding::Near);
            let range = |place: usize, size: usize| {
                let end = 2 * place + 3 - before(size);
                end.saturating_sub(3)..end.min(size)
            };
            let (rows, columns) = (range(row, h), range(column, w));
            let at = |i: usize, j: usize| ((image * h + i) * w + j) * c + channel;
            let mut best = at(rows.start, columns.start);
            for i in rows {
                for other in columns.clone().map(|j| at(i, j)) {
                    if x.values[other] > x.values[best] {
                        best = other;
                    }
                }
            }
            expected[0].push(x.values[best]);
            expected[1][best] += *gradient;
        }
        let got = graph.run(&inputs);
        assert_eq!(got[0], expected[0], "{dims:?}");
        for (got, expected) in got[1].iter().zip(&expected[1]) {
            assert!((got - expected).abs() < 1e-6, "{dims:?}: {got} {expected}");
        }
    }
}

#[test]
fn a_shortcut_of_fewer_pixels_and_more_channels() {
    for (dims, stride, outputs) in [
        ([2, 4, 6, 3], 2, 5),
        ([1, 5, 3, 2], 2, 2),
        ([1, 3, 3, 2], 1, 4),
    ] {
        let widen = Widen {
            stride,
            inputs: dims[3],
            outputs,
        };
        check_gradients(
            &[input("x", &dims)],
            &["x"],
            |t| widen.forward(t.get("x")?),
            |_, dy| only("x", widen.backward(&dims, dy)?),
        );
    }
}
