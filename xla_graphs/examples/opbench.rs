use std::time::Instant;
use xla::*;
use xla_graphs::Result;
use xla_graphs::collective::Replicas;
use xla_graphs::ops::Lowering;
use xla_graphs::ops::batch_norm::*;
use xla_graphs::ops::conv::*;
use xla_graphs::tensors::Tensors;
fn bench(
    client: &PjRtClient,
    name: &str,
    flops: f64,
    dims: &[Vec<usize>],
    f: impl Fn(&[XlaOp]) -> Result<Vec<XlaOp>>,
) {
    let b = XlaBuilder::new("b");
    let ops: Vec<XlaOp> = dims
        .iter()
        .enumerate()
        .map(|(i, d)| {
            let d: Vec<i64> = d.iter().map(|&x| x as i64).collect();
            b.parameter(i as i64, ElementType::F32, &d, &format!("p{i}"))
                .unwrap()
        })
        .collect();
    let outs = f(&ops).unwrap();
    let c = b.build(&b.tuple(&outs).unwrap()).unwrap();
    let t = Instant::now();
    let exe = client.compile(&c).unwrap();
    let ct = t.elapsed().as_secs_f64();
    let bufs: Vec<PjRtBuffer> = dims
        .iter()
        .map(|d| {
            let n: usize = d.iter().product();
            let v: Vec<f32> = (0..n)
                .map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5)
                .collect();
            client.buffer_from_host_buffer(&v, d, None).unwrap()
        })
        .collect();
    let mut ts = vec![];
    for _ in 0..12 {
        let t = Instant::now();
        let _o = exe.execute_b(&bufs).unwrap();
        ts.push(t.elapsed().as_secs_f64());
    }
    ts.sort_by(f64::total_cmp);
    let m = ts[ts.len() / 2];
    println!(
        "{name:40} {:8.2} ms  {:7.1} GFLOP/s compile {:.2}s",
        m * 1e3,
        flops / m / 1e9,
        ct
    );
}
fn conv(side: usize, s: usize, i: usize, o: usize, l: Lowering) -> Conv {
    Conv {
        name: "c".into(),
        side,
        stride: s,
        inputs: i,
        outputs: o,
        lowering: l,
    }
}
fn main() {
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
    let client = PjRtClient::cpu().unwrap();
    let n = 128usize;
    for (h, c) in [(32usize, 16usize), (16, 32), (8, 64)] {
        let x = vec![n, h, h, c];
        let k = vec![3, 3, c, c];
        let fl = 2.0 * (n * h * h * 9 * c * c) as f64;
        let cv = conv(3, 1, c, c, Lowering::Dots);
        bench(
            &client,
            &format!("3x3 {h} {c} fwd"),
            fl,
            &[x.clone(), k.clone()],
            |p| {
                let mut t = Tensors::new();
                t.insert("c/kernel", p[1].clone());
                Ok(vec![cv.forward(&t, &p[0])?])
            },
        );
        bench(
            &client,
            &format!("3x3 {h} {c} dx"),
            fl,
            &[x.clone(), k.clone(), x.clone()],
            |p| {
                let mut t = Tensors::new();
                t.insert("c/kernel", p[1].clone());
                let mut g = Tensors::new();
                Ok(vec![cv.backward(&t, &p[0], &p[2], &mut g)?])
            },
        );
        bench(
            &client,
            &format!("3x3 {h} {c} dW conv"),
            fl,
            &[x.clone(), k.clone(), x.clone()],
            |p| {
                let mut g = Tensors::new();
                cv.backward_kernel(&p[0], &p[2], &mut g)?;
                Ok(vec![g.get("c/kernel")?.clone()])
            },
        );
        for split in [1usize, 8, 32, 128] {
            bench(
                &client,
                &format!("3x3 {h} {c} dW 9 dots split {split}"),
                fl,
                &[x.clone(), x.clone()],
                |p| {
                    let zero = p[0].builder().c0(0f32)?;
                    let pad = p[0].pad(&zero, &[(0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)])?;
                    let m = n * h * h;
                    let (sp, kk) = (split as i64, (m / split) as i64);
                    let cc = c as i64;
                    let dy = p[1].reshape(&[sp, kk, cc])?;
                    let mut outs = vec![];
                    for a in 0..3i64 {
                        for b in 0..3i64 {
                            let v = pad
                                .slice_in_dim(a, a + h as i64, 1, 1)?
                                .slice_in_dim(b, b + h as i64, 1, 2)?
                                .reshape(&[sp, kk, cc])?;
                            let d = v
                                .dot_general(&dy, &[1], &[1], &[0], &[0])?
                                .reduce_sum(&[0], false)?;
                            outs.push(d.reshape(&[1, cc, cc])?);
                        }
                    }
                    let first = outs.remove(0);
                    Ok(vec![
                        first.concat_in_dim(&outs, 0)?.reshape(&[3, 3, cc, cc])?,
                    ])
                },
            );
            bench(
                &client,
                &format!("3x3 {h} {c} dW im2col split {split}"),
                fl,
                &[x.clone(), x.clone()],
                |p| {
                    let zero = p[0].builder().c0(0f32)?;
                    let pad = p[0].pad(&zero, &[(0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)])?;
                    let m = n * h * h;
                    let (sp, kk) = (split as i64, (m / split) as i64);
                    let cc = c as i64;
                    let dy = p[1].reshape(&[sp, kk, cc])?;
                    let mut vs = vec![];
                    for a in 0..3i64 {
                        for b in 0..3i64 {
                            vs.push(pad.slice_in_dim(a, a + h as i64, 1, 1)?.slice_in_dim(
                                b,
                                b + h as i64,
                                1,
                                2,
                            )?);
                        }
                    }
                    let first = vs.remove(0);
                    let col = first.concat_in_dim(&vs, 3)?.reshape(&[sp, kk, 9 * cc])?;
                    let d = col
                        .dot_general(&dy, &[1], &[1], &[0], &[0])?
                        .reduce_sum(&[0], false)?;
                    Ok(vec![d.reshape(&[3, 3, cc, cc])?])
                },
            );
        }
        let (i, o) = (4 * c, c);
        for (i, o) in [(i, o), (o, i)] {
            let x = vec![n, h, h, i];
            let y = vec![n, h, h, o];
            let k = vec![1, 1, i, o];
            let fl = 2.0 * (n * h * h * i * o) as f64;
            for l in [Lowering::Dots, Lowering::Native] {
                let cv = conv(1, 1, i, o, l);
                bench(
                    &client,
                    &format!("1x1 {h} {i}->{o} fwd {l:?}"),
                    fl,
                    &[x.clone(), k.clone()],
                    |p| {
                        let mut t = Tensors::new();
                        t.insert("c/kernel", p[1].clone());
                        Ok(vec![cv.forward(&t, &p[0])?])
                    },
                );
                bench(
                    &client,
                    &format!("1x1 {h} {i}->{o} dx {l:?}"),
                    fl,
                    &[x.clone(), k.clone(), y.clone()],
                    |p| {
                        let mut t = Tensors::new();
                        t.insert("c/kernel", p[1].clone());
                        let mut g = Tensors::new();
                        Ok(vec![cv.backward(&t, &p[0], &p[2], &mut g)?])
                    },
                );
                bench(
                    &client,
                    &format!("1x1 {h} {i}->{o} dW {l:?}"),
                    fl,
                    &[x.clone(), k.clone(), y.clone()],
                    |p| {
                        let mut g = Tensors::new();
                        cv.backward_kernel(&p[0], &p[2], &mut g)?;
                        Ok(vec![g.get("c/kernel")?.clone()])
                    },
                );
            }
            for split in [8usize, 64] {
                bench(
                    &client,
                    &format!("1x1 {h} {i}->{o} dW split {split}"),
                    fl,
                    &[x.clone(), y.clone()],
                    |p| {
                        let m = n * h * h;
                        let (sp, kk) = (split as i64, (m / split) as i64);
                        let a = p[0].reshape(&[sp, kk, i as i64])?;
                        let b = p[1].reshape(&[sp, kk, o as i64])?;
                        Ok(vec![
                            a.dot_general(&b, &[1], &[1], &[0], &[0])?
                                .reduce_sum(&[0], false)?,
                        ])
                    },
                );
            }
        }
        for c in [c, 4 * c] {
            let x = vec![n, h, h, c];
            let by = (n * h * h * c * 4) as f64;
            let bn = BatchNorm {
                name: "b".into(),
                channels: c,
                lowering: xla_graphs::ops::Lowering::Dots,
            };
            let v = vec![c];
            let t = |p: &[XlaOp]| {
                let mut t = Tensors::new();
                for (i, nm) in ["gamma", "beta", "moving_mean", "moving_variance"]
                    .iter()
                    .enumerate()
                {
                    t.insert(format!("b/{nm}"), p[i + 1].clone());
                }
                t
            };
            bench(
                &client,
                &format!("bn {h} {c} fwd (GB/s of x)"),
                by,
                &[x.clone(), v.clone(), v.clone(), v.clone(), v.clone()],
                |p| {
                    let mut u = Tensors::new();
                    Ok(vec![bn.forward(&t(p), &p[0], Replicas(1), &mut u)?.0])
                },
            );
            bench(
                &client,
                &format!("bn {h} {c} fwd+bwd"),
                by,
                &[
                    x.clone(),
                    v.clone(),
                    v.clone(),
                    v.clone(),
                    v.clone(),
                    x.clone(),
                ],
                |p| {
                    let mut u = Tensors::new();
                    let t = t(p);
                    let (_, s) = bn.forward(&t, &p[0], Replicas(1), &mut u)?;
                    let mut g = Tensors::new();
                    let dx = bn.backward(&t, &s, &p[5], Replicas(1), &mut g)?;
                    Ok(vec![
                        dx,
                        g.get("b/gamma")?.clone(),
                        g.get("b/beta")?.clone(),
                    ])
                },
            );
            bench(
                &client,
                &format!("sum {h} {c} reduce"),
                by,
                &[x.clone()],
                |p| Ok(vec![p[0].reduce_sum(&[0, 1, 2], false)?]),
            );
            bench(
                &client,
                &format!("sum {h} {c} ones dot"),
                by,
                &[x.clone()],
                |p| {
                    let m = (n * h * h) as i64;
                    let ones = p[0].builder().c0(1f32)?.broadcast(&[1, m])?;
                    Ok(vec![ones.dot_general(
                        &p[0].reshape(&[m, c as i64])?,
                        &[1],
                        &[0],
                        &[],
                        &[],
                    )?])
                },
            );
            bench(
                &client,
                &format!("sum {h} {c} two stage"),
                by,
                &[x.clone()],
                |p| {
                    Ok(vec![
                        p[0].reduce_sum(&[1, 2], false)?.reduce_sum(&[0], false)?,
                    ])
                },
            );
            bench(&client, &format!("relu {h} {c}"), by, &[x.clone()], |p| {
                Ok(vec![xla_graphs::ops::relu::forward(&p[0])?])
            });
        }
    }
}
