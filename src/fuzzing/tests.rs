//! Damaged, random and malicious input for every parser.

use allocation_counter::measure;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Whether `parser` accepts the bytes. Fails if it takes too much memory.
fn accepts(parser: &Parser, bytes: &[u8]) -> bool {
    let (accepted, memory) = accepts_with(parser, bytes);
    let (name, most) = (parser.name, parser.most_memory);
    assert!(
        memory <= most,
        "{name}: {memory} bytes of memory, promised {most}"
    );
    accepted
}

/// Whether `parser` accepts the bytes, and the most memory that it took, its input included.
fn accepts_with(parser: &Parser, bytes: &[u8]) -> (bool, u64) {
    let mut accepted = false;
    let info = measure(|| accepted = (parser.accepts)(bytes));
    (accepted, info.bytes_max + bytes.len() as u64)
}

fn parser(name: &str) -> &'static Parser {
    PARSERS.iter().find(|parser| parser.name == name).unwrap()
}

/// A change of some input.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Flip(Index, u8),
    /// Four bytes that are a number in many formats.
    Number(Index, [u8; 4]),
    Insert(Index, Vec<u8>),
    /// A piece of it comes again in another place.
    Repeat(Index, Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    let large = prop_oneof![
        Just([0xff; 4]),
        Just([0x7f, 0xff, 0xff, 0xff]),
        any::<[u8; 4]>()
    ];
    prop_oneof![
        index().prop_map(Damage::Cut),
        (index(), any::<u8>()).prop_map(|(at, value)| Damage::Flip(at, value)),
        (index(), large).prop_map(|(at, value)| Damage::Number(at, value)),
        (index(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (index(), index(), index()).prop_map(|(from, to, at)| Damage::Repeat(from, to, at)),
    ]
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match damage {
        Damage::Cut(at) => bytes.truncate(at.index(len)),
        Damage::Flip(at, value) => bytes[at.index(len)] ^= value,
        Damage::Number(at, value) => {
            let places = bytes[at.index(len)..].iter_mut();
            places.zip(value).for_each(|(place, value)| *place = *value);
        }
        Damage::Insert(at, more) => {
            let at = at.index(len);
            bytes.splice(at..at, more.iter().copied());
        }
        Damage::Repeat(from, to, at) => {
            let (from, to, at) = (from.index(len), to.index(len), at.index(len));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

/// `RESNET_XLA_HOSTILE_CASES` is for the long form.
fn cases() -> u32 {
    let asked = std::env::var("RESNET_XLA_HOSTILE_CASES");
    asked.map_or(100, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn damaged_input_is_accepted_or_refused_within_the_limits(
        damages in prop::collection::vec(damage(), 1..4),
        which in any::<Index>(),
    ) {
        for parser in &PARSERS {
            let seeds = seeds::seeds(parser.name);
            let seed: &Vec<u8> = which.get(&seeds);
            let mut bytes = seed.clone();
            for damage in &damages {
                apply(damage, &mut bytes);
            }
            accepts(parser, &bytes);
            // Damage to what is compressed, and damage to what it is compressed to.
            if ["archive", "package"].contains(&parser.name) {
                let mut zipped = gzip(seed);
                for damage in &damages {
                    apply(damage, &mut zipped);
                }
                accepts(parser, &zipped);
            }
        }
    }

    #[test]
    fn random_input_stays_within_the_limits(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        for parser in &PARSERS {
            accepts(parser, &bytes);
        }
    }
}

/// Also writes them into the folder that `RESNET_XLA_SEEDS` names, where a fuzzer begins with them.
#[test]
fn the_seeds_are_what_the_parsers_expect() {
    for parser in &PARSERS {
        for (index, seed) in seeds::seeds(parser.name).iter().enumerate() {
            // The content of an archive must have the sums of the official files.
            let expected = !["archive", "package"].contains(&parser.name);
            assert_eq!(accepts(parser, seed), expected, "{} {index}", parser.name);
            if let Some(folder) = std::env::var_os("RESNET_XLA_SEEDS") {
                let folder = Path::new(&folder).join(parser.name);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("seed{index}")), seed).unwrap();
            }
        }
    }
}

/// A PNG's or JPEG's bytes with other dimensions in its header, big-endian.
fn with_size(mut bytes: Vec<u8>, at: usize, size: &[u8]) -> Vec<u8> {
    bytes[at..at + size.len()].copy_from_slice(size);
    bytes
}

/// `png` with another width and height, and the checksum that belongs to them.
fn huge_png(side: u32) -> Vec<u8> {
    let png = seeds::seeds("picture").swap_remove(0);
    let size = [side.to_be_bytes(), side.to_be_bytes()].concat();
    // Signature (8), length (4), then the chunk: type (4), width, height and 5 more bytes.
    let png = with_size(png, 16, &size);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    with_size(png, 29, &crc.sum().to_be_bytes())
}

/// `jpeg` with another height and width, in a frame of the kind `marker`.
fn huge_jpeg(side: u16, marker: u8) -> Vec<u8> {
    let jpeg = seeds::seeds("picture").swap_remove(3);
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    let size = [side.to_be_bytes(), side.to_be_bytes()].concat();
    let jpeg = with_size(jpeg, frame + 5, &size);
    with_size(jpeg, frame + 1, &[marker])
}

#[test]
fn pictures_that_claim_to_be_huge_are_refused_or_decoded_within_the_limit() {
    const PROGRESSIVE: u8 = 0xc2;
    for side in [9_000, 16_000, 60_000] {
        for bytes in [
            huge_png(u32::from(side)),
            huge_jpeg(side, 0xc0),
            huge_jpeg(side, PROGRESSIVE),
        ] {
            let (_, memory) = accepts_with(parser("picture"), &bytes);
            println!("{side}: {} MiB", memory >> 20);
            accepts(parser("picture"), &bytes);
        }
    }
}

#[test]
fn the_largest_picture_that_is_taken_keeps_within_the_limit() {
    let side = 9_450;
    let picture = image::RgbImage::new(side, side);
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    drop(picture);
    let (accepted, memory) = accepts_with(parser("picture"), png.get_ref());
    println!("{side}: {accepted}, {} MiB", memory >> 20);
    assert!(accepted && memory <= parser("picture").most_memory);
}

/// A header of 16 MiB that is full of the smallest tensors.
#[test]
fn a_checkpoint_of_nothing_but_a_header_keeps_within_the_limit() {
    let tensors: Vec<String> = (0..(16 << 20) / 60)
        .map(|i| format!("\"{i:06}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}"))
        .collect();
    let mut header = format!("{{{}}}", tensors.join(","));
    header.truncate(16 << 20);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    let (_, memory) = accepts_with(parser("checkpoint"), &bytes);
    println!("header of {} bytes: {} MiB", header.len(), memory >> 20);
    assert!(memory <= 512 << 20);
    // A header that claims to be longer than any.
    let bytes = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(!accepts(parser("checkpoint"), &bytes));
}

#[test]
fn a_checkpoint_of_a_network_too_deep_for_the_memory_is_refused() {
    assert!(accepts(parser("checkpoint"), &seeds::checkpoint(164)));
    let bytes = seeds::checkpoint(9_000_000_000_002);
    assert!(!accepts(parser("checkpoint"), &bytes));
}

/// One entry of the given kind and size, followed by endless zeros.
fn bomb(kind: tar::EntryType, name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(400 << 20, 0);
    gzip(&bytes)
}

#[test]
fn a_small_tarball_that_unpacks_to_much_is_not_unpacked() {
    use tar::EntryType;
    let endless = 1 << 40;
    for (kind, name) in [
        (EntryType::GNULongName, "././@LongLink"),
        (EntryType::XHeader, "PaxHeaders/x"),
        (EntryType::Regular, "notes.txt"),
        (EntryType::GNUSparse, "test_batch.bin"),
    ] {
        let bytes = bomb(kind, name, endless);
        assert!(bytes.len() < 4 << 20);
        for name in ["archive", "package"] {
            assert!(!accepts(parser(name), &bytes), "{kind:?}");
        }
    }
}

#[test]
fn an_entry_that_points_out_of_the_folder_writes_nothing() {
    let names = ["../../test_batch.bin", "/tmp/test_batch.bin", "../tarball"];
    for name in names {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        // What `set_path` would refuse.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(5);
        header.set_cksum();
        tar.append(&header, &b"12345"[..]).unwrap();
        // `unpack` looks at what is left.
        assert!(!accepts(parser("archive"), &tar.into_inner().unwrap()));
    }
}

#[test]
fn deeply_nested_settings_are_refused_without_a_crash() {
    let opening = "[".repeat(60_000);
    for text in [
        format!("depth = {opening}"),
        format!("depth = {}", "{a=".repeat(20_000)),
        format!("[{}]", vec!["a"; 30_000].join(".")),
        format!("{} = 1", vec!["a"; 30_000].join(".")),
        opening.clone(),
        "[[a]]\n".repeat(10_000),
        "lr-drops = \"".to_owned() + &"1:0.1,".repeat(10_000) + "\"",
        format!("depth = {}", "9".repeat(60_000)),
    ] {
        assert!(!accepts(parser("config"), text.as_bytes()));
    }
}

#[test]
fn a_history_of_a_million_rows_or_fields_keeps_within_the_limit() {
    let header = crate::run::history::COLUMNS.join(",");
    let row = |epoch: usize| format!("{epoch},1,1,,,1,1,1,1\n");
    let rows: String = (0..700_000).map(row).collect();
    assert!(accepts(
        parser("history"),
        format!("{header}\n{rows}").as_bytes()
    ));
    for text in [
        ",".repeat(16 << 20),
        "a\n".repeat(8 << 20),
        "\",\"\n".repeat(4 << 20),
        format!("{header}\n{}", "\"".repeat(15 << 20)),
        format!("{header}\n{}", "9".repeat(15 << 20)),
    ] {
        assert!(!accepts(parser("history"), text.as_bytes()));
    }
}
