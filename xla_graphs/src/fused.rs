//! The units of the network on the fused kernels of the CPU: see [`crate::ops::kernels`].

use xla::XlaOp;

use crate::Result;
use crate::collective::Replicas;
use crate::loops::{next, repeat, write};
use crate::ops::kernels::{self, Features, Gradient};
use crate::resnet::{Part, ResNet, Traced};
use crate::tensors::{Place, Tensors};
use crate::unit::Unit;
use crate::unit_loop::{EqualUnits, Kept, STATISTICS};

/// What a unit's backward pass needs from its forward pass.
pub struct UnitSaved {
    x: Features,
    h1: Features,
    h2: Features,
}

impl ResNet {
    /// The units on the kernels, `x` `[N, H, W, C]` to the input of the last batch norm.
    pub(crate) fn fused_forward(
        &self,
        params: &Tensors,
        x: &XlaOp,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(XlaOp, Vec<Traced<'_, UnitSaved>>)> {
        let (mean, variance) = self.units[0].bn1.statistics(params, x, replicas)?;
        let mut x = Features::new(x, &mean, &variance)?;
        let mut traced = Vec::new();
        for part in self.parts() {
            match part {
                Part::Unit(unit) => {
                    let saved;
                    (x, saved) = unit.fused_forward(params, &x, replicas, batch)?;
                    traced.push(Traced::Unit(unit, saved));
                }
                Part::Loop(units) => {
                    let kept;
                    (x, kept) = units.fused_forward(params, &x, replicas, batch)?;
                    traced.push(Traced::Loop(units, kept));
                }
            }
        }
        Ok((x.images()?, traced))
    }

    /// [`Self::fused_forward`] with moving statistics.
    pub(crate) fn fused_infer(&self, params: &Tensors, x: &XlaOp) -> Result<XlaOp> {
        let mut x = Features::inferring(params, x, &self.units[0].bn1)?;
        for part in self.parts() {
            x = match part {
                Part::Unit(unit) => unit.fused_infer(params, &x)?,
                Part::Loop(units) => units.fused_infer(params, &x)?,
            };
        }
        x.images()
    }
}

/// The way back through [`ResNet::fused_forward`], from the gradient of its result to dx.
pub(crate) fn backward_units(
    traced: &[Traced<UnitSaved>],
    params: &Tensors,
    mut dx: XlaOp,
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<XlaOp> {
    for part in traced.iter().rev() {
        dx = match part {
            Traced::Unit(unit, saved) => {
                unit.fused_backward(params, saved, &dx, replicas, gradients)?
            }
            Traced::Loop(units, kept) => {
                units.fused_backward(params, kept, &dx, replicas, gradients)?
            }
        };
    }
    Ok(dx)
}

impl EqualUnits<'_> {
    /// [`EqualUnits::forward`] on the kernels.
    fn fused_forward(
        self,
        params: &Tensors,
        x: &Features,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(Features, Kept)> {
        let (unit, count) = (self.unit(), self.count());
        let images = x.images()?;
        let builder = images.builder();
        let h_dims = unit.inner_dims(x.dims());
        let stack = |rows: usize, [n, h, w, c]: [usize; 4], number| {
            kernels::unwritten(builder, &[rows, n, h, w, c], number)
        };
        // A unit reads its row of `xs` and writes the next one. So no input is copied twice: as a row,
        // and as what the next round begins with.
        let xs = stack(count + 1, x.dims(), 0)?;
        let carried = [
            write(&xs, &builder.c0(0i32)?, &images)?,
            stack(count, h_dims, 1)?,
            stack(count, h_dims, 2)?,
            self.empty_rows(STATISTICS, builder)?,
            x.moments()?,
        ];
        let [xs, h1s, h2s, statistics, moments] = repeat(
            count,
            carried,
            self.rows(params)?,
            |i, [xs, h1s, h2s, statistics, moments], rows| {
                let params = self.params(&rows, i)?;
                let x = Features::in_row(&xs, i, &unit.input_statistics(&moments)?, &unit.bn1)?;
                let mut batch = Tensors::new();
                let (y, saved) = unit.fused_forward(&params, &x, replicas, &mut batch)?;
                Ok([
                    write(&xs, &next(i)?, &y.images()?)?,
                    write(&h1s, i, &saved.h1.images()?)?,
                    write(&h2s, i, &saved.h2.images()?)?,
                    write(&statistics, i, &self.row(STATISTICS, &batch)?)?,
                    y.moments()?,
                ])
            },
        )?;
        self.insert_rows(STATISTICS, &statistics, batch);
        let last = builder.c0(count as i32)?;
        let y = Features::in_row(&xs, &last, &unit.input_statistics(&moments)?, &unit.bn1)?;
        let kept = Kept {
            xs,
            h1s,
            h2s,
            statistics,
        };
        Ok((y, kept))
    }

    /// [`EqualUnits::backward`] on the kernels.
    fn fused_backward(
        self,
        params: &Tensors,
        kept: &Kept,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let unit = self.unit();
        self.go_back(
            params,
            kept,
            dy,
            gradients,
            |round, params, kept, dy, gradients| {
                let batch = self.statistics(&kept.statistics, round)?;
                let saved = UnitSaved {
                    x: Features::in_row(&kept.xs, round, &batch, &unit.bn1)?,
                    h1: Features::in_row(&kept.h1s, round, &batch, &unit.bn2)?,
                    h2: Features::in_row(&kept.h2s, round, &batch, &unit.bn3)?,
                };
                unit.fused_backward(params, &saved, dy, replicas, gradients)
            },
        )
    }

    /// [`EqualUnits::infer`] on the kernels.
    fn fused_infer(self, params: &Tensors, x: &Features) -> Result<Features> {
        let unit = self.unit();
        let [y] = repeat(
            self.count(),
            [x.images()?],
            self.rows(params)?,
            |i, [x], rows| {
                let params = self.params(&rows, i)?;
                let x = Features::inferring(&params, &x, &unit.bn1)?;
                Ok([unit.fused_infer(&params, &x)?.images()?])
            },
        )?;
        Features::inferring(params, &y, &unit.bn1)
    }
}

impl Unit {
    /// The `moments` of the unit's input, under the names of its moving statistics.
    fn input_statistics(&self, moments: &XlaOp) -> Result<Tensors> {
        let mut statistics = Tensors::new();
        let mut specs = self.bn1.tensors();
        specs.retain(|spec| spec.role == STATISTICS);
        statistics.insert_parts(&specs, moments, &Place::new(moments, 0))?;
        Ok(statistics)
    }

    /// [`Unit::forward`] on the kernels. `batch` gets the batch statistics.
    pub(crate) fn fused_forward(
        &self,
        params: &Tensors,
        x: &Features,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(Features, UnitSaved)> {
        x.record(&self.bn1, batch)?;
        let h1 = kernels::forward(params, &self.bn1, &self.conv1, x, None, replicas)?;
        h1.record(&self.bn2, batch)?;
        let h2 = kernels::forward(params, &self.bn2, &self.conv2, &h1, None, replicas)?;
        h2.record(&self.bn3, batch)?;
        let skip = match &self.shortcut {
            Some(shortcut) => kernels::forward(params, &self.bn1, shortcut, x, None, replicas)?,
            None => x.clone(),
        };
        let y = kernels::forward(params, &self.bn3, &self.conv3, &h2, Some(&skip), replicas)?;
        let saved = UnitSaved {
            x: x.clone(),
            h1,
            h2,
        };
        Ok((y, saved))
    }

    /// [`Unit::backward`] on the kernels.
    pub(crate) fn fused_backward(
        &self,
        params: &Tensors,
        saved: &UnitSaved,
        dy: &XlaOp,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<XlaOp> {
        let mut back = |bn, conv, x, dy: &Gradient| {
            kernels::backward(params, bn, conv, x, dy, replicas, gradients)
        };
        let plain = Gradient::Plain(dy.clone());
        let dz3 = Gradient::BehindNorm(Box::new(back(&self.bn3, &self.conv3, &saved.h2, &plain)?));
        let dz2 = Gradient::BehindNorm(Box::new(back(&self.bn2, &self.conv2, &saved.h1, &dz3)?));
        let dz1 = back(&self.bn1, &self.conv1, &saved.x, &dz2)?;
        match &self.shortcut {
            Some(shortcut) => {
                let other = back(&self.bn1, shortcut, &saved.x, &plain)?;
                dz1.join(params, &other, replicas, gradients)
            }
            None => dz1.through_norm(params, dy),
        }
    }

    /// [`Unit::infer`] on the kernels.
    pub(crate) fn fused_infer(&self, params: &Tensors, x: &Features) -> Result<Features> {
        let layer = |bn, conv, x: &Features, skip| {
            let x = x.with_moving_statistics(params, bn)?;
            kernels::forward(params, bn, conv, &x, skip, Replicas(1))
        };
        let h1 = layer(&self.bn1, &self.conv1, x, None)?;
        let h2 = layer(&self.bn2, &self.conv2, &h1, None)?;
        match &self.shortcut {
            Some(shortcut) => {
                let skip = layer(&self.bn1, shortcut, x, None)?;
                layer(&self.bn3, &self.conv3, &h2, Some(&skip))
            }
            None => layer(&self.bn3, &self.conv3, &h2, Some(x)),
        }
    }
}
