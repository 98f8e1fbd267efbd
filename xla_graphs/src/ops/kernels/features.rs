//! Images with their statistics: what one kernel hands to the next on the way forward.

use kernel_contract::{Format, plan};
use xla::{PrimitiveType, XlaOp};

use crate::arrays::{cast, dims_of, to_i64};
use crate::collective::Replicas;
use crate::error::Result;
use crate::loops::read;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::kernels::call::{Operands, element, part};
use crate::table::Role;
use crate::tensors::{Place, Tensors};

/// Images `[N, H, W, C]` and the statistics by which they are to be normalised.
#[derive(Clone)]
pub struct Features {
    /// All of an array, or in a loop a row of it.
    pub(super) values: Place,
    pub(super) dims: [usize; 4],
    pub(super) format: Format,
    pub(super) statistics: Statistics,
}

/// Mean and variance of each channel.
#[derive(Clone)]
pub(super) struct Statistics {
    mean: Place,
    variance: Place,
}

impl Features {
    /// Images `x` `[N, H, W, C]` whose channels have `mean` and `variance`, `[C]` each.
    pub fn new(x: &XlaOp, mean: &XlaOp, variance: &XlaOp) -> Result<Self> {
        Ok(Self {
            values: Place::new(x, 0),
            dims: dims_of(x, "[N, H, W, C]")?,
            format: format_of(x)?,
            statistics: Statistics::joined(mean, variance)?,
        })
    }

    /// Zeros in the images' place.
    pub fn zeros(&self) -> Result<XlaOp> {
        let zero = self.values.array.builder().c0(0f32)?;
        let zero = cast(&zero, element(self.format).primitive_type())?;
        Ok(zero.broadcast(&to_i64(&self.dims))?)
    }

    /// `images` `[N, H, W, C]` in the place of these, for a sum: nothing normalises them.
    pub fn with_images(&self, images: &XlaOp) -> Result<Self> {
        Ok(Self {
            values: Place::new(images, 0),
            dims: dims_of(images, "[N, H, W, C]")?,
            format: format_of(images)?,
            statistics: self.statistics.clone(),
        })
    }

    /// Images in row `round` of `stack` `[rows, N, H, W, C]`, to be normalised by what `statistics` has
    /// under the names of the moving statistics of `bn`.
    pub fn in_row(
        stack: &XlaOp,
        round: &XlaOp,
        statistics: &Tensors,
        bn: &BatchNorm,
    ) -> Result<Self> {
        let [_, n, h, w, c] = dims_of(stack, "[rows, N, H, W, C]")?;
        let (dims, format) = ([n, h, w, c], format_of(stack)?);
        let values = Place {
            round: Some((round.clone(), dims.iter().product())),
            ..Place::new(stack, 0)
        };
        Ok(Self {
            values,
            dims,
            format,
            statistics: Statistics::moving(statistics, bn)?,
        })
    }

    /// The images alone, `[N, H, W, C]`.
    pub fn images(&self) -> Result<XlaOp> {
        let Place {
            array,
            offset,
            round,
        } = &self.values;
        match round {
            Some((round, growth)) => {
                let before = round.builder().c0((offset / growth) as i32)?;
                read(array, &(round + before)?)
            }
            None => Ok(array.clone()),
        }
    }

    /// Mean and variance of each channel, one after another: `[2·C]`.
    pub fn moments(&self) -> Result<XlaOp> {
        // A batch's statistics always lie side by side.
        part(&self.statistics.mean, 2 * self.dims[3])
    }

    /// The array that the images are all of or, in a loop, a row of.
    pub fn array(&self) -> &XlaOp {
        &self.values.array
    }

    /// Puts the batch's mean and variance into `batch`, as a block of the moving statistics of `bn`,
    /// which normalises these images.
    pub fn record(&self, bn: &BatchNorm, batch: &mut Tensors) -> Result<()> {
        let mut moving = bn.tensors();
        moving.retain(|spec| spec.role == Role::MovingStatistic);
        batch.insert_block(&moving, self.moments()?)
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// `[N, H, W, C]`.
    pub fn dims(&self) -> [usize; 4] {
        self.dims
    }

    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Values per channel.
    pub(super) fn pixels(&self) -> usize {
        self.len() / self.dims[3]
    }
}

/// The format of `images`, an array of bf16 or f32.
pub(super) fn format_of(images: &XlaOp) -> Result<Format> {
    Ok(format_of_type(images.primitive_type()?))
}

/// The format of images of elements `ty`, bf16 or f32.
pub(super) fn format_of_type(ty: PrimitiveType) -> Format {
    match ty {
        PrimitiveType::Bf16 => Format::Bf16,
        _ => Format::F32,
    }
}

impl Statistics {
    /// Of `mean` and `variance`, `[C]` each.
    fn joined(mean: &XlaOp, variance: &XlaOp) -> Result<Self> {
        let array = mean.concat_in_dim(&[variance], 0)?;
        Ok(Self::of(&array, mean.dims()?[0]))
    }

    /// The mean of `channels` and then their variance, one after the other in `array`.
    pub(super) fn of(array: &XlaOp, channels: usize) -> Self {
        Self {
            mean: Place::new(array, 0),
            variance: Place::new(array, channels),
        }
    }

    /// The moving ones of `bn`.
    pub(super) fn moving(params: &Tensors, bn: &BatchNorm) -> Result<Self> {
        Ok(Self {
            mean: params.home(&bn.path("moving_mean"))?.clone(),
            variance: params.home(&bn.path("moving_variance"))?.clone(),
        })
    }

    /// Of all replicas' images, from this replica's alone; each has as many images.
    ///
    /// The mean is the mean of the means; the variance is the mean of the variances and of the
    /// squared distances of the means from their mean.
    pub(super) fn over(self, replicas: Replicas, channels: usize) -> Result<Self> {
        if replicas.0 == 1 {
            return Ok(self);
        }
        let own_mean = part(&self.mean, channels)?;
        let mean = replicas.mean(&own_mean)?;
        let apart = (own_mean - &mean)?;
        let spread = (part(&self.variance, channels)? + (&apart * &apart)?)?;
        Self::joined(&mean, &replicas.mean(&spread)?)
    }

    /// Describes a batch norm with these statistics to a kernel.
    pub(super) fn norm(
        &self,
        params: &Tensors,
        bn: &BatchNorm,
        operands: &mut Operands,
    ) -> Result<plan::Norm> {
        let gamma = params.home(&bn.path("gamma"))?;
        let beta = params.home(&bn.path("beta"))?;
        Ok(plan::Norm {
            mean: operands.add("the mean", &self.mean, bn.channels)?,
            variance: operands.add("the variance", &self.variance, bn.channels)?,
            gamma: operands.add("gamma", gamma, bn.channels)?,
            beta: operands.add("beta", beta, bn.channels)?,
        })
    }
}
