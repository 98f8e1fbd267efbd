//! What of a data set a run is trained on, and what it is validated on.
//!
//! Settings chosen by test accuracy make that accuracy too high for new images. So a run may hold out training images to
//! validate on, and leave the test images alone.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::data::dataset::{Dataset, DatasetSpec, Split};
use crate::data::pipeline::random::{Purpose, Random};
use crate::system::limits;

/// How many training images are held out. Written `400` or `0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Number")]
pub enum HeldOut {
    Images(usize),
    /// Above 0 and below 1.
    Share(f64),
}

/// What a file may have in its place.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(i64),
    Real(f64),
}

impl TryFrom<Number> for HeldOut {
    type Error = String;

    fn try_from(number: Number) -> Result<Self, String> {
        match number {
            Number::Whole(number) => number.to_string().parse(),
            Number::Real(number) => number.to_string().parse(),
        }
    }
}

impl HeldOut {
    pub const NONE: HeldOut = HeldOut::Images(0);

    /// The number of images, of `all` training images; may be more than there are. A share is at least one.
    pub fn count(self, all: usize) -> usize {
        match self {
            Self::Images(images) => images,
            Self::Share(share) => ((all as f64 * share).round() as usize).max(1),
        }
    }
}

impl FromStr for HeldOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = limits::VALIDATION_SPLIT;
        let images = text.parse().ok().filter(|images| range.contains(images));
        if let Some(images) = images.and_then(|images| usize::try_from(images).ok()) {
            return Ok(Self::Images(images));
        }
        let share = text.parse().ok();
        match share.filter(|share| (f64::MIN_POSITIVE..1.0).contains(share)) {
            Some(share) => Ok(Self::Share(share)),
            None => Err(format!(
                "expected a whole number from {} to {}, or a share between 0 and 1 such as 0.1",
                range.start(),
                range.end()
            )),
        }
    }
}

impl fmt::Display for HeldOut {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Images(images) => images.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

/// Images that a network is scored on.
#[derive(Clone, Debug)]
pub struct Validation {
    pub split: Arc<Split>,
    /// Whether they are training images held out or the data set's own for validation, or else the test images.
    pub held_out: bool,
}

impl Validation {
    /// What its images are called: "test" or "validation" images.
    pub fn name(&self) -> &'static str {
        match self.held_out {
            true => "validation",
            false => "test",
        }
    }
}

/// The images of a run.
#[derive(Clone, Debug)]
pub struct RunImages {
    /// Of the data set.
    pub name: String,
    pub spec: DatasetSpec,
    pub training: Split,
    pub validation: Validation,
    /// That of the data set.
    pub sum: Option<String>,
}

impl Dataset {
    /// For a run that is validated on `held_out` training images; if that is 0, on the validation images that the data
    /// set has, and if it has none, on the test images.
    ///
    /// Held out are the last images in the order of the files, or of a `stratified` data set the same share of each
    /// class, drawn by `seed` alone; but one image of each class is always left.
    ///
    /// # Panics
    /// When there are fewer training images.
    pub fn divide(self, held_out: usize, seed: u64) -> RunImages {
        let mut training = self.train;
        let own = self.validation.filter(|split| !split.is_empty());
        let of_its_own = own.is_some();
        let split = match (held_out, own) {
            (0, Some(validation)) => validation,
            (0, None) => self.test,
            _ if self.stratified => {
                let labels = training.labels.as_slice().unwrap_or_default();
                let drawn = drawn(labels, self.spec.classes(), held_out, seed);
                training.take_out(&drawn)
            }
            _ => {
                let first = training.len() - held_out;
                let (before, last) = training.split_at(first);
                training = before;
                last
            }
        };
        RunImages {
            name: self.name,
            spec: self.spec,
            training,
            validation: Validation {
                split: Arc::new(split),
                held_out: held_out > 0 || of_its_own,
            },
            sum: self.sum,
        }
    }
}

/// Which of the images with `labels` are held out: `held_out` in all if each class can keep an image.
fn drawn(labels: &[u16], classes: usize, held_out: usize, seed: u64) -> Vec<bool> {
    let mut of_class = vec![Vec::new(); classes];
    for (place, label) in labels.iter().enumerate() {
        of_class[usize::from(*label)].push(place);
    }
    let sizes: Vec<usize> = of_class.iter().map(Vec::len).collect();
    let mut is_drawn = vec![false; labels.len()];
    let shares = shares(&sizes, held_out);
    for (class, (places, share)) in of_class.into_iter().zip(shares).enumerate() {
        let mut random = Random::new(Purpose::HoldOut, seed, 0, class as u64);
        let mut keyed: Vec<(u64, usize)> = places
            .into_iter()
            .map(|place| (random.next_u64(), place))
            .collect();
        keyed.sort_unstable();
        for (_, place) in keyed.into_iter().take(share) {
            is_drawn[place] = true;
        }
    }
    is_drawn
}

/// How many of each class of `sizes` images are held out: the same share of each, rounded so that they are `held_out` in
/// all (those with the largest remainders are rounded up). One of each class is left.
fn shares(sizes: &[usize], held_out: usize) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let exact = |size: usize| size as u128 * held_out as u128;
    let most = |class: usize| sizes[class].saturating_sub(1);
    let whole = |size: &usize| (exact(*size) / all.max(1) as u128) as usize;
    let mut shares: Vec<usize> = sizes.iter().map(whole).collect();
    for (class, share) in shares.iter_mut().enumerate() {
        *share = most(class).min(*share);
    }
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by_key(|class| std::cmp::Reverse(exact(sizes[*class]) % all.max(1) as u128));
    let mut missing = held_out - shares.iter().sum::<usize>();
    // A second round is needed only where small classes have nothing more to give.
    while missing > 0 {
        let before = missing;
        for class in &by_remainder {
            if missing > 0 && shares[*class] < most(*class) {
                shares[*class] += 1;
                missing -= 1;
            }
        }
        if missing == before {
            break;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pipeline::augment::Augment;
    use crate::data::pipeline::batches::{Batch, BatchSource, TrainingOptions};
    use crate::data::pipeline::normalization::Normalization;
    use crate::data::test_split::{PLAIN, SIDE, numbered, numbers};

    fn dataset() -> Dataset {
        Dataset {
            name: "numbers".to_owned(),
            spec: DatasetSpec {
                side: SIDE,
                class_names: ('0'..='9').map(String::from).collect(),
            },
            train: (*numbered(30)).clone(),
            validation: None,
            stratified: false,
            sum: None,
            test: (*numbered(5)).clone(),
        }
    }

    /// The numbers of the images in the batches of one epoch.
    fn epoch(source: &BatchSource) -> Vec<usize> {
        let mut batch = Batch::default();
        let steps = 0..source.steps_per_epoch();
        let batches = steps.map(|step| {
            source.fill(step, &mut batch);
            numbers(&batch)
        });
        batches.flatten().collect()
    }

    fn trained_on(split: Split) -> Vec<usize> {
        let options = TrainingOptions {
            augment: Augment::None,
            cutout: 0,
            mix: None,
            seed: 1,
            batch_size: 1,
            shuffle: true,
            steps_per_epoch: None,
        };
        let mut images = epoch(&BatchSource::training(Arc::new(split), PLAIN, options));
        images.sort_unstable();
        images
    }

    #[test]
    fn the_last_images_are_held_out_and_all_others_trained_on() {
        for held_out in 1..30 {
            let RunImages {
                training,
                validation,
                ..
            } = dataset().divide(held_out, 0);
            assert_eq!(validation.name(), "validation");
            let validated_on = BatchSource::evaluation(validation.split, PLAIN, 7);
            let first = 30 - held_out;
            assert_eq!(epoch(&validated_on), Vec::from_iter(first..30));
            assert_eq!(trained_on(training), Vec::from_iter(0..first));
        }
    }

    #[test]
    fn without_a_split_the_test_images_are_validated_on() {
        let images = dataset().divide(0, 0);
        assert_eq!(images.validation.name(), "test");
        assert_eq!(images.validation.split, numbered(5));
        assert_eq!(images.training, *numbered(30));
    }

    #[test]
    fn a_data_set_with_images_for_validation_is_validated_on_them_unless_others_are_held_out() {
        let own = Dataset {
            validation: Some((*numbered(3)).clone()),
            ..dataset()
        };
        let images = own.clone().divide(0, 0).validation;
        assert_eq!((images.name(), images.split), ("validation", numbered(3)));
        assert_eq!(own.divide(4, 0).validation.split.len(), 4);
    }

    #[test]
    fn a_part_for_validation_without_images_counts_as_none() {
        let without = Dataset {
            validation: Some(Split::empty(SIDE)),
            ..dataset()
        };
        let images = without.divide(0, 0).validation;
        assert_eq!((images.name(), images.split), ("test", numbered(5)));
    }

    #[test]
    fn of_a_stratified_data_set_the_same_share_of_each_class_is_held_out_by_the_seed_alone() {
        let stratified = Dataset {
            stratified: true,
            ..dataset()
        };
        let held_out = |count, seed| {
            let images = stratified.clone().divide(count, seed);
            assert_eq!(images.training.len() + count, 30);
            let held = epoch(&BatchSource::evaluation(images.validation.split, PLAIN, 7));
            let mut both = [&held[..], &trained_on(images.training)].concat();
            both.sort_unstable();
            assert_eq!(both, Vec::from_iter(0..30));
            held
        };
        // Ten classes of three images each.
        for (count, each) in [(10, 1), (20, 2)] {
            let mut labels: Vec<usize> = held_out(count, 1).iter().map(|n| n % 10).collect();
            labels.sort_unstable();
            let expected: Vec<usize> = (0..10).flat_map(|label| vec![label; each]).collect();
            assert_eq!(labels, expected);
        }
        assert_eq!(held_out(10, 1), held_out(10, 1));
        assert_ne!(held_out(10, 1), held_out(10, 2));
    }

    #[test]
    fn shares_are_the_nearest_whole_numbers_and_leave_an_image_of_each_class() {
        // 6.5, 2.6 and 0.9 of 65, 26 and 9: rounded down, the two largest remainders up.
        assert_eq!(shares(&[65, 26, 9], 10), [6, 3, 1]);
        assert_eq!(shares(&[65, 26, 9], 0), [0, 0, 0]);
        assert_eq!(shares(&[1, 1, 8], 5), [0, 0, 5]);
        assert_eq!(shares(&[2, 3, 0], 5), [1, 2, 0]);
    }

    #[test]
    fn a_number_or_a_share_may_be_held_out() {
        assert_eq!("400".parse(), Ok(HeldOut::Images(400)));
        assert_eq!("0".parse(), Ok(HeldOut::NONE));
        assert_eq!("0.1".parse(), Ok(HeldOut::Share(0.1)));
        assert_eq!(HeldOut::Share(0.1).count(2005), 201);
        assert_eq!(HeldOut::Share(0.001).count(400), 1);
        assert_eq!(HeldOut::Images(9).count(5), 9);
        for wrong in [
            "",
            "-1",
            "1.0",
            "0.0",
            "1.5",
            "NaN",
            "inf",
            "1000000000",
            "x",
            "-0.1",
        ] {
            let error = wrong.parse::<HeldOut>().unwrap_err();
            assert!(
                error.contains("or a share between 0 and 1 such as 0.1"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_is_held_out_does_not_count_for_normalisation() {
        let images = dataset().divide(28, 0);
        // Images of nothing but 0 and of nothing but 1 are left.
        let normalization = Normalization::of(&images.training);
        assert_eq!(
            (normalization.mean, normalization.std),
            ([0.5; 3], [0.5; 3])
        );
    }
}
