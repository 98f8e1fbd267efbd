//! Transparency: colours hidden by a pixel's alpha are not visible to a viewer, so the network must not see them.

use image::{DynamicImage, ImageBuffer, Pixel, Primitive};

/// Composites `picture` onto white and removes its alpha.
pub fn lay_over(picture: DynamicImage) -> DynamicImage {
    match picture {
        DynamicImage::ImageLumaA8(picture) => DynamicImage::ImageLuma8(opaque(&picture)),
        DynamicImage::ImageLumaA16(picture) => DynamicImage::ImageLuma16(opaque(&picture)),
        DynamicImage::ImageRgba8(picture) => DynamicImage::ImageRgb8(opaque(&picture)),
        DynamicImage::ImageRgba16(picture) => DynamicImage::ImageRgb16(opaque(&picture)),
        // The formats that are read are never decoded to other kinds with alpha.
        picture => picture,
    }
}

/// The pixels of `picture` over white; `O` is the pixel type without alpha.
fn opaque<T, O>(picture: &ImageBuffer<T, Vec<T::Subpixel>>) -> ImageBuffer<O, Vec<O::Subpixel>>
where
    T: Pixel,
    O: Pixel<Subpixel = T::Subpixel>,
    T::Subpixel: Into<u64> + TryFrom<u64>,
{
    ImageBuffer::from_fn(picture.width(), picture.height(), |x, y| {
        let channels = picture.get_pixel(x, y).channels();
        let (colours, alpha) = channels.split_at(usize::from(O::CHANNEL_COUNT));
        let mut pixel = *O::from_slice(colours);
        pixel.apply(|colour| over_white(colour, alpha[0]));
        pixel
    })
}

/// Mixes `colour`, weighted by `alpha`, with white, and rounds.
fn over_white<S: Primitive + Into<u64> + TryFrom<u64>>(colour: S, alpha: S) -> S {
    let white: u64 = S::DEFAULT_MAX_VALUE.into();
    let (colour, alpha) = (colour.into(), alpha.into());
    let mixed = (colour * alpha + white * (white - alpha) + white / 2) / white;
    // A mean of two values of the type fits the type.
    mixed.try_into().unwrap_or(S::DEFAULT_MAX_VALUE)
}
