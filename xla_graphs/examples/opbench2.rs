use std::time::Instant;
use xla::*;
use xla_graphs::Result;
fn bench(
    client: &PjRtClient,
    name: &str,
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
    let exe = client.compile(&c).unwrap();
    let bufs: Vec<PjRtBuffer> = dims
        .iter()
        .map(|d| {
            let n: usize = d.iter().product();
            let v: Vec<f32> = (0..n)
                .map(|i| ((i * 7919) % 1000) as f32 / 1000.0 + 0.5)
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
    println!("{name:40} {:8.2} ms min {:8.2}", ts[6] * 1e3, ts[0] * 1e3);
}
fn main() {
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
    let client = PjRtClient::cpu().unwrap();
    let (n, h, c) = (128usize, 32usize, 64usize);
    let x = vec![n, h, h, c];
    let v = vec![c];
    let d = [n as i64, h as i64, h as i64, c as i64];
    let m = (n * h * h) as i64;
    let bc = |p: &XlaOp| p.broadcast_in_dim(&d, &[3]);
    bench(&client, "sum(x)", &[x.clone()], |p| {
        Ok(vec![p[0].reduce_sum(&[0, 1, 2], false)?])
    });
    bench(&client, "sum(x-p)", &[x.clone(), v.clone()], |p| {
        Ok(vec![(&p[0] - bc(&p[1])?)?.reduce_sum(&[0, 1, 2], false)?])
    });
    bench(&client, "sum(x*x)", &[x.clone()], |p| {
        Ok(vec![(&p[0] * &p[0])?.reduce_sum(&[0, 1, 2], false)?])
    });
    bench(&client, "sum((x-p)^2)", &[x.clone(), v.clone()], |p| {
        let s = (&p[0] - bc(&p[1])?)?;
        Ok(vec![(&s * &s)?.reduce_sum(&[0, 1, 2], false)?])
    });
    bench(&client, "sum(x*y)", &[x.clone(), x.clone()], |p| {
        Ok(vec![(&p[0] * &p[1])?.reduce_sum(&[0, 1, 2], false)?])
    });
    bench(&client, "sum(x*y) 2d", &[x.clone(), x.clone()], |p| {
        Ok(vec![
            (&p[0].reshape(&[m, 64])? * &p[1].reshape(&[m, 64])?)?.reduce_sum(&[0], false)?,
        ])
    });
    bench(
        &client,
        "sum(x*y) [64,2048,c] over 1 then 0",
        &[x.clone(), x.clone()],
        |p| {
            Ok(vec![
                (&p[0].reshape(&[64, m / 64, 64])? * &p[1].reshape(&[64, m / 64, 64])?)?
                    .reduce_sum(&[1], false)?
                    .reduce_sum(&[0], false)?,
            ])
        },
    );
    bench(&client, "ones.(x*y)", &[x.clone(), x.clone()], |p| {
        let ones = p[0].builder().c0(1f32)?.broadcast(&[1, m])?;
        Ok(vec![ones.dot_general(
            &(&p[0] * &p[1])?.reshape(&[m, 64])?,
            &[1],
            &[0],
            &[],
            &[],
        )?])
    });
    bench(
        &client,
        "ones.(x*y) split 64",
        &[x.clone(), x.clone()],
        |p| {
            let ones = p[0].builder().c0(1f32)?.broadcast(&[64, 1, m / 64])?;
            Ok(vec![
                ones.dot_general(
                    &(&p[0] * &p[1])?.reshape(&[64, m / 64, 64])?,
                    &[2],
                    &[1],
                    &[0],
                    &[0],
                )?
                .reduce_sum(&[0], false)?,
            ])
        },
    );
    bench(&client, "x*y", &[x.clone(), x.clone()], |p| {
        Ok(vec![(&p[0] * &p[1])?])
    });
    bench(&client, "x*s", &[x.clone(), v.clone()], |p| {
        Ok(vec![(&p[0] * bc(&p[1])?)?])
    });
    bench(&client, "x*s+o", &[x.clone(), v.clone(), v.clone()], |p| {
        Ok(vec![((&p[0] * bc(&p[1])?)? + bc(&p[2])?)?])
    });
    bench(
        &client,
        "x*rsqrt(s)+o",
        &[x.clone(), v.clone(), v.clone()],
        |p| Ok(vec![((&p[0] * bc(&p[1].rsqrt()?)?)? + bc(&p[2])?)?]),
    );
    bench(
        &client,
        "(x-m)*(g*rsqrt(s+e))+o relu",
        &[x.clone(), v.clone(), v.clone(), v.clone()],
        |p| {
            let e = p[0].builder().c0(1e-3f32)?;
            let sl = ((&p[1] + e)?.rsqrt()? * &p[3])?;
            let y = (((&p[0] - bc(&p[3])?)? * bc(&sl)?)? + bc(&p[2])?)?;
            Ok(vec![y.max(&y.zeros_like()?)?])
        },
    );
}
