use cpu_kernels::{conv3x3, layer::*, norm::*, pointwise};
use std::time::Instant;
fn data(n: usize, s: u32) -> Vec<f32> {
    let mut x = s;
    (0..n)
        .map(|_| {
            x = x.wrapping_mul(1664525).wrapping_add(1013904223);
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}
fn time(name: &str, flop: f64, bytes: f64, mut f: impl FnMut()) {
    f();
    f();
    let mut t: Vec<f64> = (0..9)
        .map(|_| {
            let s = Instant::now();
            f();
            s.elapsed().as_secs_f64()
        })
        .collect();
    t.sort_by(f64::total_cmp);
    println!(
        "{name:30} {:7.2} ms (min {:6.2}) {:6.1} GFLOP/s {:5.1} GB/s",
        t[4] * 1e3,
        t[0] * 1e3,
        flop / t[4] / 1e9,
        bytes / t[4] / 1e9
    );
}
fn main() {
    let n = 128;
    for (hw, c) in [(32, 64), (16, 128), (8, 256)] {
        let inner = c / 4;
        let m = n * hw * hw;
        for (side, i, o) in [(1, c, inner), (3, inner, inner), (1, inner, c)] {
            let l = Layer {
                images: n,
                height: hw,
                width: hw,
                inputs: i,
                outputs: o,
                side,
                stride: 1,
            };
            let x = data(m * i, 1);
            let k = data(l.kernel_len(), 2);
            let skip = data(m * o, 3);
            let mut y = vec![0f32; m * o];
            let norm = Norm::new(
                &vec![0.1; i],
                &vec![1.0; i],
                &vec![1.0; i],
                &vec![0.1; i],
                1e-3,
            );
            let mut mom = vec![0f32; 2 * o];
            let flop = 2.0 * (m * l.kernel_len()) as f64;
            let sk = (side == 1 && o == c).then(|| lanes(&skip));
            let by = 4.0 * (m * (i + o + if sk.is_some() { o } else { 0 })) as f64;
            time(
                &format!("fwd {side}x{side} {hw} {i}->{o}"),
                flop,
                by,
                || {
                    let y = y.as_chunks_mut().0;
                    if side == 1 {
                        pointwise::forward(&l, &norm, lanes(&x), &k, sk, y, &mut mom)
                    } else {
                        conv3x3::forward(&l, &norm, lanes(&x), &k, y, &mut mom)
                    }
                },
            );
            let dy = OutputGradient::Plain(lanes(&skip));
            let mut dz = vec![0f32; m * i];
            let (mut a, mut b, mut kk) = (vec![0f32; i], vec![0f32; i], vec![0f32; l.kernel_len()]);
            let by = 4.0 * (m * (i + o + i)) as f64;
            time(
                &format!("bwd {side}x{side} {hw} {i}->{o}"),
                2.0 * flop,
                by,
                || {
                    let mut g = Gradients {
                        dz: dz.as_chunks_mut().0,
                        dbeta: &mut a,
                        dgamma: &mut b,
                        kernel: &mut kk,
                    };
                    if side == 1 {
                        pointwise::backward(&l, &norm, lanes(&x), &k, &dy, &mut g)
                    } else {
                        conv3x3::backward(&l, &norm, lanes(&x), &k, &dy, &mut g)
                    }
                },
            );
        }
    }
}
