//! Views of a test image: as it is, mirrored, shifted. Averaged over several, a network errs less often.

use crate::data::pipeline::augment::{Fill, Transform};

/// Which views of each test image are scored ("test-time augmentation").
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tta {
    /// the image alone
    None,
    /// the image and its mirror image
    Flip,
    /// these two, and both of the image shifted by a pixel up and left, and down and right
    Crops,
}

/// A view of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    pub transform: Transform,
    /// The share of its logits in the average.
    pub weight: f32,
}

impl Tta {
    /// As on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Flip => "flip",
            Self::Crops => "crops",
        }
    }

    /// The views; the first is the image itself. The weights add up to 1. Those of [`Tta::Crops`] are the six of K. Jordan,
    /// arXiv 2404.00498: half of the average is the image in its place.
    pub fn views(self) -> Vec<View> {
        let both = |shift: f32, weight: f32| {
            [false, true].map(|flip| View {
                transform: Transform {
                    dy: shift,
                    dx: shift,
                    flip,
                    fill: Fill::Reflect,
                },
                weight,
            })
        };
        match self {
            Self::None => vec![View {
                transform: Transform::IDENTITY,
                weight: 1.0,
            }],
            Self::Flip => both(0.0, 0.5).to_vec(),
            Self::Crops => [both(0.0, 0.25), both(-1.0, 0.125), both(1.0, 0.125)].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_first_view_is_the_image_and_the_weights_add_up_to_1() {
        for (tta, count) in Tta::value_variants().iter().zip([1, 2, 6]) {
            let views = tta.views();
            assert_eq!(views.len(), count);
            let first = views[0].transform;
            assert_eq!((first.dy, first.dx, first.flip), (0.0, 0.0, false));
            assert_eq!(views.iter().map(|view| view.weight).sum::<f32>(), 1.0);
        }
    }

    #[test]
    fn crops_are_the_six_views_of_airbench() {
        // `infer_mirror_translate` of airbench94: padded by a pixel that is reflected, cut from its first and its last corner.
        let views: Vec<_> = Tta::Crops
            .views()
            .into_iter()
            .map(|view| {
                let Transform { dy, dx, flip, fill } = view.transform;
                assert_eq!((dy, fill), (dx, Fill::Reflect));
                (dy, flip, view.weight)
            })
            .collect();
        let expected = [
            (0.0, false, 0.25),
            (0.0, true, 0.25),
            (-1.0, false, 0.125),
            (-1.0, true, 0.125),
            (1.0, false, 0.125),
            (1.0, true, 0.125),
        ];
        assert_eq!(views, expected);
    }
}
