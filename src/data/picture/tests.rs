use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{ImageBuffer, Luma, LumaA, Rgb, RgbImage, Rgba};

use super::*;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

fn read_bytes(bytes: &[u8]) -> Result<Vec<[u8; 3]>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    fs::write(&path, bytes).unwrap();
    let pixels = read(&path, 32).map_err(|error| error.reason)?;
    Ok(pixels.as_chunks().0.to_vec())
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    fs::read(folder.join(name)).unwrap()
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A file with a picture of a single colour.
fn plain<P>(pixel: P) -> Vec<u8>
where
    P: image::Pixel,
    DynamicImage: From<ImageBuffer<P, Vec<P::Subpixel>>>,
{
    encoded(ImageBuffer::from_pixel(4, 4, pixel), ImageFormat::Png)
}

fn largest_difference(a: &[[u8; 3]], b: &[[u8; 3]]) -> u8 {
    let pairs = a.as_flattened().iter().zip(b.as_flattened());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn mean_difference(a: &[[u8; 3]], b: &[[u8; 3]]) -> f64 {
    let (a, b) = (a.as_flattened(), b.as_flattened());
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.len() as f64
}

/// A chunk of a PNG.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let named = [name, content].concat();
    let mut sum = flate2::Crc::new();
    sum.update(&named);
    let length = (content.len() as u32).to_be_bytes();
    [&length, &named[..], &sum.sum().to_be_bytes()].concat()
}

/// A PNG of 2 x 2 pixels of the given colour type, 8 bits deep, with `chunks` before its pixels.
fn small_png(colour_type: u8, chunks: &[Vec<u8>], rows: [&[u8]; 2]) -> Vec<u8> {
    let header = [0, 0, 0, 2, 0, 0, 0, 2, 8, colour_type, 0, 0, 0];
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::fast());
    for row in rows {
        pixels.write_all(&[&[0], row].concat()).unwrap();
    }
    let pieces = [
        SIGNATURE.to_vec(),
        chunk(b"IHDR", &header),
        chunks.concat(),
        chunk(b"IDAT", &pixels.finish().unwrap()),
        chunk(b"IEND", &[]),
    ];
    pieces.concat()
}

/// EXIF data with an orientation and nothing else.
fn exif(orientation: u8) -> Vec<u8> {
    // Big-endian; one entry at byte 8: tag 0x112, type short, count 1.
    let head = *b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
    [&head[..], &[orientation, 0, 0, 0, 0, 0, 0]].concat()
}

fn jpeg_with_exif(jpeg: &[u8], exif: &[u8]) -> Vec<u8> {
    let content = [b"Exif\0\0", exif].concat();
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &content, &jpeg[2..]].concat()
}

/// `png` with an EXIF chunk after its header, or before its end if `late`.
fn png_with_exif(png: &[u8], exif: &[u8], late: bool) -> Vec<u8> {
    let at = if late { png.len() - 12 } else { 33 };
    [&png[..at], &chunk(b"eXIf", exif), &png[at..]].concat()
}

/// Where row `r`, column `c` of an `n` x `n` picture stored with an orientation is in the upright picture:
/// the EXIF standard says on which sides of the scene the first row and column are.
fn upright(orientation: u8, r: u32, c: u32, n: u32) -> (u32, u32) {
    let (last_r, last_c) = (n - 1 - r, n - 1 - c);
    match orientation {
        1 => (r, c),           // top, left
        2 => (r, last_c),      // top, right
        3 => (last_r, last_c), // bottom, right
        4 => (last_r, c),      // bottom, left
        5 => (c, r),           // left, top
        6 => (c, last_r),      // right, top
        7 => (last_c, last_r), // right, bottom
        8 => (last_c, r),      // left, bottom
        _ => unreachable!(),
    }
}

#[test]
fn all_eight_orientations_are_turned_upright_in_both_formats() {
    const SIZE: u32 = 64;
    // Four colours, so that all eight orientations look different.
    let colours = [[20, 20, 220], [20, 200, 20], [220, 20, 20], [240, 240, 240]];
    let scene = |row: u32, column: u32| Rgb(colours[(row / 32 * 2 + column / 32) as usize]);
    let expected = RgbImage::from_fn(SIZE, SIZE, |x, y| scene(y, x));
    let expected = read_bytes(&encoded(expected, ImageFormat::Png)).unwrap();
    for orientation in 1..=8 {
        let stored = RgbImage::from_fn(SIZE, SIZE, |x, y| {
            let (row, column) = upright(orientation, y, x, SIZE);
            scene(row, column)
        });
        let exif = exif(orientation);
        let png = encoded(stored.clone(), ImageFormat::Png);
        for late in [false, true] {
            let turned = read_bytes(&png_with_exif(&png, &exif, late)).unwrap();
            assert_eq!(turned, expected, "{orientation} in a PNG, late: {late}");
        }
        let jpeg = jpeg_with_exif(&encoded(stored, ImageFormat::Jpeg), &exif);
        let difference = largest_difference(&read_bytes(&jpeg).unwrap(), &expected);
        // Where the colours meet, the triangle filter takes up to a quarter from beyond; in a wrong place a colour differs by
        // 200.
        assert!(difference < 60, "{orientation} in a JPEG: {difference}");
    }
}

#[test]
fn pictures_of_a_turned_camera_are_those_of_an_upright_one() {
    let chart = read_bytes(&fixture("chart.png")).unwrap();
    for name in ["exif_orientation_3.jpg", "exif_orientation_6.jpg"] {
        let turned = read_bytes(&fixture(name)).unwrap();
        let difference = mean_difference(&turned, &chart);
        // A picture that is upside down differs by more than 50.
        assert!(difference < 6.0, "{name}: {difference}");
    }
}

#[test]
fn a_turned_jpeg_is_cropped_as_if_it_had_been_upright_all_along() {
    // The sides differ by an odd number, so that no middle is the only one.
    for (width, height) in [(41, 32), (32, 41)] {
        let slope = RgbImage::from_fn(width, height, |x, y| {
            Rgb([6 * x, 6 * y, 3 * (x + y)].map(|v| v as u8))
        });
        let jpeg = encoded(slope, ImageFormat::Jpeg);
        for orientation in 1..=8 {
            let file = jpeg_with_exif(&jpeg, &exif(orientation));
            let turned = decode(file.clone(), ImageFormat::Jpeg).unwrap().into_rgb8();
            let expected = resize::middle_to_side(&turned, 32);
            let got = jpeg::read(&file, 32).unwrap().unwrap();
            let difference = mean_difference(got.as_chunks().0, expected.as_chunks().0);
            // Of neighbouring pixels it is 3.
            assert!(
                difference < 0.7,
                "{orientation}, {width} x {height}: {difference}"
            );
        }
    }
}

#[test]
fn webp_and_bmp_are_read_as_png_is_with_their_alpha_and_orientation() {
    let scene = RgbImage::from_fn(32, 32, |x, y| Rgb([x as u8 * 8, y as u8 * 8, 9]));
    let expected = read_bytes(&encoded(scene.clone(), ImageFormat::Png)).unwrap();
    for format in [ImageFormat::WebP, ImageFormat::Bmp] {
        let file = encoded(scene.clone(), format);
        assert_eq!(read_bytes(&file).unwrap(), expected, "{format:?}");
        assert!(read_bytes(&file[..file.len() / 2]).is_err(), "{format:?}");
    }
    // A fifth of 100 and four fifths of 255.
    let clear = ImageBuffer::from_pixel(4, 4, Rgba([100u8, 100, 100, 51]));
    for format in [ImageFormat::WebP, ImageFormat::Bmp] {
        let pixels = read_bytes(&encoded(clear.clone(), format)).unwrap();
        assert_eq!(pixels[0], [224; 3], "{format:?}");
    }
    let mut turned = Vec::new();
    let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut turned);
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif(3)).unwrap();
    encoder
        .encode(scene.as_raw(), 32, 32, image::ExtendedColorType::Rgb8)
        .unwrap();
    let mut upside_down = expected;
    upside_down.reverse();
    assert_eq!(read_bytes(&turned).unwrap(), upside_down);
}

#[test]
fn what_transparency_hides_does_not_reach_the_network() {
    let pixels = read_bytes(&fixture("alpha_hidden_magenta.png")).unwrap();
    // Green (20, 200, 20), white, and mixtures of both; the hidden magenta has no green.
    assert!(pixels.contains(&[20, 200, 20]) && pixels.contains(&[255; 3]));
    assert!(pixels.iter().all(|[_, green, _]| *green >= 200));
}

#[test]
fn every_kind_of_alpha_is_laid_over_white() {
    // A fifth of 100 and four fifths of 255.
    let (colour, alpha, mixed) = (100u8, 51u8, 224);
    let deep = |value: u8| u16::from(value) * 257;
    for (alpha, mixed) in [(alpha, mixed), (0, 255), (255, colour)] {
        let files = [
            plain(LumaA([colour, alpha])),
            plain(LumaA([deep(colour), deep(alpha)])),
            plain(Rgba([colour, colour, colour, alpha])),
            plain(Rgba([colour, colour, colour, alpha].map(deep))),
        ];
        for (kind, file) in files.iter().enumerate() {
            let pixels = read_bytes(file).unwrap();
            assert_eq!(pixels[0], [mixed; 3], "kind {kind}, alpha {alpha}");
        }
    }
}

#[test]
fn a_transparent_colour_of_a_palette_of_rgb_or_of_grey_is_white() {
    // Transparent magenta (or grey 9) on the left, opaque green (or grey 200) on the right.
    let palette = chunk(b"PLTE", &[255, 0, 255, 20, 200, 20]);
    let indexed = small_png(3, &[palette, chunk(b"tRNS", &[0])], [&[0, 1]; 2]);
    let key = chunk(b"tRNS", &[0, 255, 0, 0, 0, 255]);
    let rgb = small_png(2, &[key], [&[255, 0, 255, 20, 200, 20]; 2]);
    let grey = small_png(0, &[chunk(b"tRNS", &[0, 9])], [&[9, 200]; 2]);
    for (file, right) in [
        (indexed, [20, 200, 20]),
        (rgb, [20, 200, 20]),
        (grey, [200; 3]),
    ] {
        let pixels = read_bytes(&file).unwrap();
        assert_eq!((pixels[0], pixels[31]), ([255; 3], right));
    }
}

#[test]
fn sixteen_bits_are_rounded_to_eight() {
    // Divided by 257: 0.99, 254.01, 127.5.
    for (deep, rounded) in [(255u16, 1), (65_280, 254), (32_768, 128)] {
        assert_eq!(read_bytes(&plain(Luma([deep]))).unwrap()[0], [rounded; 3]);
        assert_eq!(read_bytes(&plain(Rgb([deep; 3]))).unwrap()[0], [rounded; 3]);
    }
}

#[test]
fn inks_become_the_colours_that_they_print() {
    let pixels = read_bytes(&fixture("cmyk.jpg")).unwrap();
    let near = |pixel: [u8; 3], colour| largest_difference(&[pixel], &[colour]) < 8;
    assert!(near(pixels[3], [0, 255, 255]), "{:?}", pixels[3]);
    assert!(near(pixels[28], [127; 3]), "{:?}", pixels[28]);
}

fn whole_jpegs() -> [Vec<u8>; 3] {
    let slope = RgbImage::from_fn(40, 33, |x, y| Rgb([x as u8 * 6, y as u8 * 7, 7]));
    [
        encoded(slope, ImageFormat::Jpeg),
        fixture("restarts.jpg"),
        fixture("progressive.jpg"),
    ]
}

#[test]
fn a_jpeg_that_is_cut_anywhere_is_refused() {
    for whole in whole_jpegs() {
        read_bytes(&whole).unwrap();
        for length in 3..whole.len() {
            let reason = read_bytes(&whole[..length]).unwrap_err();
            assert_eq!(reason, "the file is cut short", "at {length}");
        }
    }
}

#[test]
fn a_jpeg_whose_pixels_are_cut_is_refused_though_its_end_is_there() {
    // A progressive one with fewer scans is a complete but coarser picture.
    for whole in &whole_jpegs()[..2] {
        let scan = whole.windows(2).position(|pair| pair == [0xff, 0xda]);
        for length in scan.unwrap() + 14..whole.len() - 2 {
            let ended = [&whole[..length], &[0xff, 0xd9]].concat();
            read_bytes(&ended).unwrap_err();
        }
    }
}

#[test]
fn what_follows_the_end_of_a_jpeg_is_no_concern() {
    for whole in whole_jpegs() {
        let expected = read_bytes(&whole).unwrap();
        let film = [&whole[..], b"\0\0\0\x18ftypmp42 and a film"].concat();
        let half = [&whole[..], &whole[..whole.len() / 2]].concat();
        for longer in [film, half] {
            assert_eq!(read_bytes(&longer).unwrap(), expected);
        }
    }
}

#[test]
fn the_end_of_a_thumbnail_is_not_the_end_of_the_picture() {
    let [whole, ..] = whole_jpegs();
    let with_thumbnail = jpeg_with_exif(&whole, &[&exif(1)[..], &whole].concat());
    read_bytes(&with_thumbnail).unwrap();
    let cut = &with_thumbnail[..with_thumbnail.len() - 40];
    assert_eq!(read_bytes(cut).unwrap_err(), "the file is cut short");
}

#[test]
fn a_wide_picture_is_cropped_to_its_middle() {
    // Red to the left and right of a green square.
    let picture = RgbImage::from_fn(192, 64, |x, _| {
        Rgb(match (64..128).contains(&x) {
            true => [0, 255, 0],
            false => [255, 0, 0],
        })
    });
    let pixels = read_bytes(&encoded(picture, ImageFormat::Png)).unwrap();
    assert!(pixels.iter().all(|pixel| *pixel == [0, 255, 0]));
}

#[test]
fn a_file_that_is_no_picture_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.png");
    for content in ["", "not a picture"] {
        fs::write(&path, content).unwrap();
        let message = read(&path, 32).unwrap_err().to_string();
        assert!(message.contains("notes.png"), "{message}");
        assert!(message.ends_with("PNG, JPEG, WebP and BMP files are understood"));
    }
}

#[test]
fn a_picture_of_100_000_pixels_on_a_side_is_refused_before_it_is_decoded() {
    // Headers alone: the end of the file would be another fault.
    let size = |side: u32| [side.to_be_bytes(), 1u32.to_be_bytes()].concat();
    let header = |side| [&size(side)[..], &[8, 2, 0, 0, 0]].concat();
    let png = |side| {
        [
            SIGNATURE,
            &chunk(b"IHDR", &header(side)),
            &chunk(b"IDAT", &[]),
        ]
        .concat()
    };
    let bmp = |side: u32| {
        let mut bytes = encoded(RgbImage::new(4, 4), ImageFormat::Bmp);
        bytes[18..22].copy_from_slice(&side.to_le_bytes());
        bytes
    };
    let limits = "expected at most 16384 pixels on a side, and 256 MiB of pixels, got more";
    for (bytes, expected) in [
        (png(100_000), limits),
        (bmp(20_000), limits),
        // The decoder's own limit.
        (bmp(100_000), "(100000, 4) > soft limit of 65535"),
    ] {
        let reason = read_bytes(&bytes).unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }
    assert!(!read_bytes(&png(16_384)).unwrap_err().contains("16384"));
}

#[test]
fn no_more_pictures_are_read_at_a_time_than_fit_in_memory() {
    assert_eq!(decoders_within(8, Some(16 << 30)), 8);
    assert_eq!(decoders_within(8, Some((4 << 30) - 1)), 3);
    assert_eq!(decoders_within(8, Some(0)), 1);
    assert_eq!(decoders_within(8, None), 8);
}

/// The middle of the JPEG fixture `name` as `side` rows and columns.
fn middle_of(name: &str, side: usize) -> Vec<[u8; 3]> {
    let image = jpeg::read(&fixture(name), side).unwrap();
    let image = image.expect("a JPEG of the common kind");
    image.as_chunks().0.to_vec()
}

#[test]
fn a_jpeg_in_full_size_is_what_another_decoder_reads() {
    for name in [
        "photo_420.jpg",
        "photo_422.jpg",
        "photo_444.jpg",
        "photo_grey.jpg",
    ] {
        let other = decode(fixture(name), ImageFormat::Jpeg)
            .unwrap()
            .into_rgb8();
        let other = resize::middle_to_side(&other, 96);
        let difference = mean_difference(&middle_of(name, 96), other.as_chunks().0);
        assert!(difference < 0.7, "{name}: {difference}");
    }
    let pillow = read_fully(&fixture("photo_96.png"), 96);
    let difference = mean_difference(&middle_of("photo_420.jpg", 96), &pillow);
    assert!(difference < 0.7, "{difference}");
    // With a restart marker behind every unit.
    let other = decode(fixture("restarts.jpg"), ImageFormat::Jpeg).unwrap();
    let other = resize::middle_to_side(&other.into_rgb8(), 24);
    let difference = mean_difference(&middle_of("restarts.jpg", 24), other.as_chunks().0);
    assert!(difference < 0.7, "{difference}");
}

#[test]
fn the_middle_of_a_long_jpeg_is_what_another_decoder_reads_there() {
    for (width, height) in [(150, 40), (40, 150)] {
        let scene = RgbImage::from_fn(width, height, |x, y| {
            Rgb([x as u8, y as u8, (x * y % 256) as u8])
        });
        let file = encoded(scene, ImageFormat::Jpeg);
        let other = decode(file.clone(), ImageFormat::Jpeg).unwrap().into_rgb8();
        let expected = resize::middle_to_side(&other, 40);
        let got = jpeg::read(&file, 40).unwrap().unwrap();
        let difference = mean_difference(got.as_chunks().0, expected.as_chunks().0);
        assert!(difference < 0.7, "{width} x {height}: {difference}");
    }
}

#[test]
fn a_jpeg_that_gets_smaller_while_it_is_decoded_is_no_further_from_a_full_one_than_pillows() {
    // make_picture_fixtures.py prints how far Pillow's `draft` is from a full decoding. It knows halves alone, so what it
    // does at 48 is for 60 too.
    for (side, of_pillow) in [(12, 4.84), (24, 5.07), (48, 5.95), (60, 5.95)] {
        let full = read_fully(&fixture(&format!("photo_{side}.png")), side);
        let difference = mean_difference(&middle_of("photo_420.jpg", side), &full);
        assert!(difference < of_pillow, "{side}: {difference}");
    }
}

/// A picture that has `side` rows and columns already.
fn read_fully(png: &[u8], side: usize) -> Vec<[u8; 3]> {
    let picture = decode(png.to_vec(), ImageFormat::Png).unwrap().into_rgb8();
    assert_eq!(picture.dimensions(), (side as u32, side as u32));
    picture.into_raw().as_chunks().0.to_vec()
}

#[test]
fn other_kinds_of_jpegs_are_left_to_the_other_decoder() {
    for name in ["progressive.jpg", "cmyk.jpg"] {
        assert!(jpeg::read(&fixture(name), 32).unwrap().is_none(), "{name}");
        read_bytes(&fixture(name)).unwrap();
    }
    // Colours that are not luma and chroma, as the names of their channels say.
    let [mut named, ..] = whole_jpegs();
    for (marker, first) in [([0xff, 0xc0], 10), ([0xff, 0xda], 5)] {
        let at = named.windows(2).position(|pair| pair == marker).unwrap();
        let step = if first == 10 { 3 } else { 2 };
        for (place, letter) in b"RGB".iter().enumerate() {
            named[at + first + step * place] = *letter;
        }
    }
    assert!(jpeg::read(&named, 32).unwrap().is_none());
}

#[test]
fn a_jpeg_that_contradicts_itself_is_left_to_the_other_decoder() {
    let [whole, ..] = whole_jpegs();
    assert!(jpeg::read(&whole, 32).unwrap().is_some());
    let at = |marker| {
        let mut pairs = whole.windows(2);
        pairs.position(|pair| pair == [0xff, marker]).unwrap()
    };
    let (frame, scan) = (at(0xc0), at(0xda));
    let length = 2 + usize::from(whole[frame + 3]);
    let mut progressive = whole[frame..frame + length].to_vec();
    progressive[1] = 0xc2;
    let three_codes_of_one_bit = [&[0xff, 0xc4, 0, 22, 0, 3][..], &[0; 15], &[1, 2, 3]].concat();
    for segment in [progressive, three_codes_of_one_bit] {
        let file = [&whole[..scan], &segment, &whole[scan..]].concat();
        assert!(jpeg::read(&file, 32).unwrap().is_none(), "{segment:?}");
    }
    let mut without_columns = whole.clone();
    without_columns[frame + 11] &= 15;
    assert!(jpeg::read(&without_columns, 32).unwrap().is_none());
}
