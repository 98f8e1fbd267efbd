//! The pixels of images of one size: in memory, or in a mapped file when they are too many for that.

use std::fmt;
use std::sync::Arc;

use ndarray::Array4;

use crate::data::dataset::CHANNELS;
use crate::data::sums::Sums;
use crate::system::mapped::Mapped;

/// Images `[N, side, side, 3]` (NHWC).
#[derive(Clone)]
pub struct Images {
    side: usize,
    pixels: Pixels,
    /// Of each image, where that was summed up while it was decoded.
    sums: Option<Vec<Sums>>,
}

#[derive(Clone)]
enum Pixels {
    /// One image after another.
    Memory(Vec<u8>),
    /// Of a file that begins with images, those at these places.
    Mapped { file: Arc<Mapped>, places: Vec<u32> },
}

impl Images {
    /// `pixels` has side x side x 3 values for each image.
    pub fn in_memory(side: usize, pixels: Vec<u8>) -> Self {
        Self {
            side,
            pixels: Pixels::Memory(pixels),
            sums: None,
        }
    }

    /// The images at `places` of those that `file` begins with.
    pub fn mapped(side: usize, file: Arc<Mapped>, places: Vec<u32>) -> Self {
        Self {
            side,
            pixels: Pixels::Mapped { file, places },
            sums: None,
        }
    }

    /// The same images with the `sums` of each.
    ///
    /// # Panics
    /// When there are not as many as images.
    pub fn with_sums(self, sums: Vec<Sums>) -> Self {
        assert_eq!(sums.len(), self.len(), "sums of each image");
        Self {
            sums: Some(sums),
            ..self
        }
    }

    /// The sums of each image, where they are known without looking at its pixels.
    pub fn sums(&self) -> Option<&[Sums]> {
        self.sums.as_deref()
    }

    /// Rows and columns of an image.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match &self.pixels {
            Pixels::Memory(pixels) => pixels.len() / self.image_len(),
            Pixels::Mapped { places, .. } => places.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `(N, side, side, 3)`.
    pub fn dim(&self) -> (usize, usize, usize, usize) {
        (self.len(), self.side, self.side, CHANNELS)
    }

    /// The pixels of one image.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn get(&self, index: usize) -> &[u8] {
        let len = self.image_len();
        match &self.pixels {
            Pixels::Memory(pixels) => &pixels[index * len..][..len],
            Pixels::Mapped { file, places } => &file[places[index] as usize * len..][..len],
        }
    }

    /// The pixels of each image.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// A copy as one array.
    pub fn to_array(&self) -> Array4<u8> {
        let pixels = self.iter().flatten().copied().collect();
        // `iter` gives side x side x 3 values for each of them.
        Array4::from_shape_vec(self.dim(), pixels).expect("the values of all images")
    }

    /// Takes off the images from the one with the number `at` on, and returns them.
    ///
    /// # Panics
    /// When there are fewer than `at`.
    pub fn split_off(&mut self, at: usize) -> Images {
        let len = self.image_len();
        let pixels = match &mut self.pixels {
            Pixels::Memory(pixels) => Pixels::Memory(pixels.split_off(at * len)),
            Pixels::Mapped { file, places } => Pixels::Mapped {
                file: Arc::clone(file),
                places: places.split_off(at),
            },
        };
        let sums = self.sums.as_mut();
        Images {
            side: self.side,
            pixels,
            sums: sums.map(|sums| sums.split_off(at)),
        }
    }

    /// Takes out the images for which `is_out` is true, and returns them; both parts keep their order. Takes no more
    /// memory than the images taken out.
    pub fn take_out(&mut self, is_out: &[bool]) -> Images {
        let len = self.image_len();
        let pixels = match &mut self.pixels {
            Pixels::Memory(pixels) => Pixels::Memory(take_out(pixels, len, is_out)),
            Pixels::Mapped { file, places } => Pixels::Mapped {
                file: Arc::clone(file),
                places: take_out(places, 1, is_out),
            },
        };
        let sums = self.sums.as_mut();
        Images {
            side: self.side,
            pixels,
            sums: sums.map(|sums| take_out(sums, 1, is_out)),
        }
    }

    fn image_len(&self) -> usize {
        self.side * self.side * CHANNELS
    }
}

/// Takes out those of `values`, which has `len` for each of `is_out`, that are out.
fn take_out<T: Copy>(values: &mut Vec<T>, len: usize, is_out: &[bool]) -> Vec<T> {
    let mut out = Vec::new();
    let mut kept = 0;
    for (place, is_out) in is_out.iter().enumerate() {
        let one = place * len..(place + 1) * len;
        match is_out {
            true => out.extend_from_slice(&values[one]),
            false => {
                values.copy_within(one, kept * len);
                kept += 1;
            }
        }
    }
    values.truncate(kept * len);
    out
}

impl From<Array4<u8>> for Images {
    /// Of square images with three channels.
    fn from(array: Array4<u8>) -> Self {
        let side = array.dim().1;
        let values = array.iter().copied().collect();
        Self::in_memory(side, values)
    }
}

impl PartialEq for Images {
    fn eq(&self, other: &Self) -> bool {
        self.dim() == other.dim() && self.iter().eq(other.iter())
    }
}

impl Eq for Images {}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let place = match self.pixels {
            Pixels::Memory(_) => "memory",
            Pixels::Mapped { .. } => "a file",
        };
        write!(f, "{:?} in {place}", self.dim())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Images of 2 x 2 pixels whose values are their numbers, with their sums: in memory, and in a file in the opposite order.
    fn numbered(count: u8) -> [Images; 2] {
        let pixels: Vec<u8> = (0..count).flat_map(|number| [number; 12]).collect();
        let mut file = tempfile::tempfile().unwrap();
        for image in pixels.chunks(12).rev() {
            file.write_all(image).unwrap();
        }
        let file = Arc::new(Mapped::of(&file).unwrap());
        let places = (0..u32::from(count)).rev().collect();
        let sums: Vec<Sums> = pixels.chunks(12).map(Sums::of).collect();
        [
            Images::in_memory(2, pixels).with_sums(sums.clone()),
            Images::mapped(2, file, places).with_sums(sums),
        ]
    }

    fn numbers(images: &Images) -> Vec<u8> {
        let sums: Vec<Sums> = images.iter().map(Sums::of).collect();
        assert_eq!(images.sums(), Some(&sums[..]));
        images.iter().map(|image| image[11]).collect()
    }

    #[test]
    fn images_in_memory_and_in_a_file_are_divided_alike() {
        let [memory, file] = numbered(6);
        assert_eq!(memory, file);
        for mut images in [memory, file] {
            assert_eq!(images.dim(), (6, 2, 2, 3));
            assert_eq!(images.to_array()[[4, 1, 1, 2]], 4);
            let last = images.split_off(5);
            assert_eq!(
                (numbers(&images), numbers(&last)),
                (vec![0, 1, 2, 3, 4], vec![5])
            );
            let out = images.take_out(&[false, true, false, true, false]);
            assert_eq!(
                (numbers(&images), numbers(&out)),
                (vec![0, 2, 4], vec![1, 3])
            );
            let all = images.take_out(&[true; 3]);
            assert!(images.is_empty() && all.len() == 3);
        }
    }
}
