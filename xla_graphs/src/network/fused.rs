//! The units of a network on the fused kernels of the CPU: see [`crate::ops::kernels`].

use xla::{PrimitiveType, XlaOp};

use crate::arrays::cast;
use crate::collective::Replicas;
use crate::error::Result;
use crate::loops::{Values, repeat, write};
use crate::network::parts::{Part, Traced};
use crate::network::unit::{Layer, Shortcut, Unit};
use crate::network::unit_loop::{EqualUnits, Kept, STATISTICS};
use crate::ops::conv::Conv;
use crate::ops::kernels::{self, BehindNorm, Features, Gradient, Inference, Junction, Skip, Value};
use crate::tensors::{Place, Tensors};

/// What a unit's backward pass needs from its forward pass.
pub(crate) struct UnitSaved {
    /// The input of each layer.
    inputs: Vec<Features>,
    /// What pooling chose.
    chosen: Option<XlaOp>,
}

/// The gradient of a unit's result.
enum Arriving {
    /// `[N, H, W, C]`.
    Whole(XlaOp),
    /// Out of the two branches of the unit behind, which the last layer may put together as it goes.
    Junction(Junction),
}

impl Arriving {
    fn whole(self, params: &Tensors) -> Result<XlaOp> {
        match self {
            Self::Whole(dy) => Ok(dy),
            Self::Junction(junction) => junction.sum(params),
        }
    }
}

/// The `parts` of a network, at least one, on the kernels: `x` `[N, H, W, C]` to the input of the last
/// batch norm. Both are f32; all images between them are of type `inside`, f32 or bf16.
pub(crate) fn forward<'a>(
    parts: Vec<Part<'a>>,
    params: &Tensors,
    x: &XlaOp,
    inside: PrimitiveType,
    replicas: Replicas,
    batch: &mut Tensors,
) -> Result<(XlaOp, Vec<Traced<'a, UnitSaved>>)> {
    let bn = &parts[0].unit().layers[0].bn;
    let x = cast(x, inside)?;
    let (mean, variance) = bn.statistics(params, &x, replicas)?;
    let mut x = Features::new(&x, &mean, &variance)?;
    let mut traced = Vec::new();
    for part in parts {
        match part {
            Part::Unit(unit) => {
                let saved;
                (x, saved) = unit.fused_forward(params, &x, None, replicas, batch)?;
                traced.push(Traced::Unit(unit, saved));
            }
            Part::Loop(units) => {
                let kept;
                (x, kept) = units.fused_forward(params, &x, replicas, batch)?;
                traced.push(Traced::Loop(units, kept));
            }
        }
    }
    Ok((cast(&x.images()?, PrimitiveType::F32)?, traced))
}

/// The backward pass through [`forward`], from the gradient of its result to dx, both f32.
pub(crate) fn backward(
    traced: &[Traced<UnitSaved>],
    params: &Tensors,
    dy: &XlaOp,
    inside: PrimitiveType,
    replicas: Replicas,
    gradients: &mut Tensors,
) -> Result<XlaOp> {
    let mut dx = Arriving::Whole(cast(dy, inside)?);
    for part in traced.iter().rev() {
        dx = match part {
            Traced::Unit(unit, saved) => {
                let junction = unit.fused_backward(params, saved, dx, replicas, gradients)?;
                Arriving::Junction(junction)
            }
            Traced::Loop(units, kept) => {
                let dy = dx.whole(params)?;
                Arriving::Whole(units.fused_backward(params, kept, &dy, replicas, gradients)?)
            }
        };
    }
    cast(&dx.whole(params)?, PrimitiveType::F32)
}

/// [`forward`] with moving statistics, behind the convolution `stem` of `x` if there is one. It is one call, so that loops
/// are of no use to it.
pub(crate) fn infer(
    stem: Option<&Conv>,
    parts: Vec<Part>,
    params: &Tensors,
    x: &XlaOp,
    inside: PrimitiveType,
) -> Result<XlaOp> {
    let stored;
    let (mut call, mut value) = match stem {
        Some(stem) => Inference::behind(params, stem, x, inside)?,
        None => {
            stored = cast(x, inside)?;
            Inference::new(params, &stored)?
        }
    };
    for unit in parts.iter().flat_map(Part::units) {
        value = unit.fused_infer(&mut call, value)?;
    }
    cast(&call.result()?, PrimitiveType::F32)
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
        let bn = &unit.layers[0].bn;
        let images = x.images()?;
        let builder = images.builder();
        let mut stacks = Vec::new();
        for (index, [n, h, w, c]) in unit.input_dims(x.dims()).into_iter().enumerate() {
            // A unit reads its row of the first stack and writes the next one. So no input is copied:
            // neither into a row, nor as what the next round begins with.
            let rows = if index == 0 { count + 1 } else { count };
            stacks.push(kernels::unwritten(
                builder,
                x.format(),
                &[rows, n, h, w, c],
                index,
            )?);
        }
        stacks[0] = write(&stacks[0], &builder.c0(0i32)?, &images)?;
        let carried = Values {
            list: stacks,
            each: [self.empty_rows(STATISTICS, builder)?, x.moments()?],
        };
        let end = repeat(
            count,
            carried,
            self.rows(params)?.into(),
            |i, before, rows| {
                let [statistics, moments] = before.each;
                let params = self.params(&rows.each, i)?;
                let own = unit.input_statistics(&moments)?;
                let x = Features::in_row(&before.list[0], i, &own, bn)?;
                let mut batch = Tensors::new();
                let rows = unit.rows_of_results(&before.list, i)?;
                let (y, saved) =
                    unit.fused_forward(&params, &x, Some(&rows), replicas, &mut batch)?;
                let mut list = vec![y.array().clone()];
                list.extend(saved.inputs[1..].iter().map(|x| x.array().clone()));
                let statistics = write(&statistics, i, &self.row(STATISTICS, &batch)?)?;
                Ok(Values {
                    list,
                    each: [statistics, y.moments()?],
                })
            },
        )?;
        let [statistics, moments] = end.each;
        self.insert_rows(STATISTICS, &statistics, batch)?;
        let last = builder.c0(count as i32)?;
        let own = unit.input_statistics(&moments)?;
        let y = Features::in_row(&end.list[0], &last, &own, bn)?;
        let kept = Kept {
            inputs: end.list,
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
                let stacks = kept.inputs.iter().zip(&unit.layers);
                let inputs =
                    stacks.map(|(stack, layer)| Features::in_row(stack, round, &batch, &layer.bn));
                let saved = UnitSaved {
                    inputs: inputs.collect::<Result<_>>()?,
                    chosen: None,
                };
                let dy = Arriving::Whole(dy.clone());
                let junction = unit.fused_backward(params, &saved, dy, replicas, gradients)?;
                junction.sum(params)
            },
        )
    }
}

impl Unit {
    /// The `moments` of the unit's input, under the names of its moving statistics.
    fn input_statistics(&self, moments: &XlaOp) -> Result<Tensors> {
        let mut statistics = Tensors::new();
        let mut specs = self.layers[0].bn.tensors();
        specs.retain(|spec| spec.role == STATISTICS);
        statistics.insert_parts(&specs, moments, &Place::new(moments, 0))?;
        Ok(statistics)
    }

    /// Where in the `stacks` of the layers' inputs the result of each layer goes in `round`: the next layer's input, and
    /// at last the next unit's.
    fn rows_of_results(&self, stacks: &[XlaOp], round: &XlaOp) -> Result<Vec<Place>> {
        let mut rows = Vec::new();
        for stack in stacks {
            let row: usize = stack.dims()?[1..].iter().product();
            rows.push(Place {
                round: Some((round.clone(), row)),
                ..Place::new(stack, 0)
            });
        }
        rows.rotate_left(1);
        if let Some(Place {
            offset,
            round: Some((_, row)),
            ..
        }) = rows.last_mut()
        {
            *offset = *row;
        }
        Ok(rows)
    }

    /// [`Unit::forward`] on the kernels. `batch` gets the batch statistics. In a loop, the layers' results become these
    /// `rows`.
    fn fused_forward(
        &self,
        params: &Tensors,
        x: &Features,
        rows: Option<&[Place]>,
        replicas: Replicas,
        batch: &mut Tensors,
    ) -> Result<(Features, UnitSaved)> {
        let run = |index: usize, x: &Features, skip| {
            let Layer { bn, conv } = &self.layers[index];
            match rows {
                None => kernels::forward(params, bn, conv, x, skip, replicas),
                Some(rows) => {
                    kernels::forward_into(params, (bn, conv), x, skip, &rows[index], replicas)
                }
            }
        };
        let (last, inner) = self.split();
        let mut inputs = Vec::new();
        let mut h = x.clone();
        for (index, layer) in inner.iter().enumerate() {
            h.record(&layer.bn, batch)?;
            let y = run(index, &h, None)?;
            inputs.push(h);
            h = y;
        }
        h.record(&last.bn, batch)?;
        let skip = match &self.shortcut {
            Shortcut::Projection(shortcut) => Some(kernels::forward(
                params,
                &self.layers[0].bn,
                shortcut,
                x,
                None,
                replicas,
            )?),
            Shortcut::Identity => Some(x.clone()),
            Shortcut::Zeros(widen) => Some(x.with_images(&widen.forward(&x.images()?)?)?),
            Shortcut::None => None,
        };
        let skip = skip.as_ref();
        let (y, chosen) = match self.pools {
            false => (run(inner.len(), &h, skip)?, None),
            true => {
                let (bn, conv) = (&last.bn, &last.conv);
                let (y, chosen) = kernels::forward_pooled(params, bn, conv, &h, skip, replicas)?;
                (y, Some(chosen))
            }
        };
        inputs.push(h);
        Ok((y, UnitSaved { inputs, chosen }))
    }

    /// [`Unit::backward`] on the kernels.
    fn fused_backward(
        &self,
        params: &Tensors,
        saved: &UnitSaved,
        dy: Arriving,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<Junction> {
        let inputs = &saved.inputs;
        let (mut dz, dy) = self.fused_backward_last(params, saved, dy, replicas, gradients)?;
        let mut back = |bn, conv, x, dy: &Gradient| {
            kernels::backward(params, bn, conv, x, dy, replicas, gradients)
        };
        for (layer, x) in self.split().1.iter().zip(inputs).rev() {
            dz = back(
                &layer.bn,
                &layer.conv,
                x,
                &Gradient::BehindNorm(Box::new(dz)),
            )?;
        }
        Ok(match &self.shortcut {
            Shortcut::Projection(shortcut) => {
                let first = &self.layers[0].bn;
                let other = back(first, shortcut, &inputs[0], &Gradient::Plain(dy))?;
                dz.join(&other, replicas, gradients)?
            }
            Shortcut::Identity => dz.with_skip(&dy),
            Shortcut::Zeros(widen) => {
                let skipped = widen.backward(&inputs[0].dims(), &dy)?;
                dz.with_skip(&skipped)
            }
            Shortcut::None => dz.with_skip(&inputs[0].zeros()?),
        })
    }

    /// The way back through the last layer, and with it `dy` as a whole.
    fn fused_backward_last(
        &self,
        params: &Tensors,
        saved: &UnitSaved,
        dy: Arriving,
        replicas: Replicas,
        gradients: &mut Tensors,
    ) -> Result<(BehindNorm, XlaOp)> {
        let (Layer { bn, conv }, inner) = self.split();
        let x = &saved.inputs[inner.len()];
        let dy = match (dy, &saved.chosen) {
            (Arriving::Junction(junction), None) => {
                let layer = (bn, conv);
                return kernels::backward_from_junction(
                    params, layer, x, junction, replicas, gradients,
                );
            }
            (dy, _) => dy.whole(params)?,
        };
        let of_result = match &saved.chosen {
            Some(chosen) => Gradient::Pooled {
                dy: dy.clone(),
                chosen: chosen.clone(),
            },
            None => Gradient::Plain(dy.clone()),
        };
        let dz = kernels::backward(params, bn, conv, x, &of_result, replicas, gradients)?;
        Ok((dz, dy))
    }

    /// [`Unit::infer`] on the kernels: the unit's layers in `call`, for its input `x`.
    fn fused_infer(&self, call: &mut Inference, x: Value) -> Result<Value> {
        let (last, inner) = self.split();
        let mut h = x;
        for Layer { bn, conv } in inner {
            h = call.layer((bn, conv, false), h, None)?;
        }
        let skip = |value, stride| Some(Skip { value, stride });
        let skip = match &self.shortcut {
            Shortcut::Projection(shortcut) => {
                let bn = &self.layers[0].bn;
                skip(call.layer((bn, shortcut, false), x, None)?, 1)
            }
            Shortcut::Identity => skip(x, 1),
            Shortcut::Zeros(widen) => skip(x, widen.stride),
            Shortcut::None => None,
        };
        call.layer((&last.bn, &last.conv, self.pools), h, skip)
    }
}
