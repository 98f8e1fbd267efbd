//! Files that are mistaken for checkpoints: recognises them by their first bytes and says how to convert them.

use std::path::Path;

const OWN_NAMES: &str = "save its tensors with the safetensors package, under the names and with the dimensions of a file \
                         that `resnet-xla export` writes";

const AS_SAFETENSORS: &str = "save it as safetensors (`safetensors.torch.save_file(torch.load(FILE), \"m.safetensors\")`; \
                              unpickling runs what a stranger wrote, so this program does not) and take that to \
                              `resnet-xla import --from m.safetensors`";

/// The first bytes of a kind of file, and what it is.
const MAGICS: [(&[u8], Kind); 10] = [
    (
        b"\x89HDF\r\n\x1a\n",
        Kind::Keras("an HDF5 file, as Keras writes them for .h5"),
    ),
    (b"\x93NUMPY", Kind::Tensors("a NumPy file")),
    (
        b"\x80\x02",
        Kind::PyTorch("a Python pickle, as PyTorch writes them for .pt and .pth"),
    ),
    (b"\x80\x03", Kind::Tensors("a Python pickle")),
    (b"\x80\x04", Kind::Tensors("a Python pickle")),
    (b"\x80\x05", Kind::Tensors("a Python pickle")),
    (
        b"GGUF",
        Kind::Other("a GGUF file, which no ResNet comes in"),
    ),
    (
        b"\x1f\x8b",
        Kind::Other("compressed with gzip; unpack it first"),
    ),
    (b"\x7fELF", Kind::Other("a program or a shared library")),
    (
        b"version https://git-lfs",
        Kind::Other("a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`"),
    ),
];

#[derive(Clone, Copy)]
enum Kind {
    /// A model that `scripts/keras_weights.py` converts.
    Keras(&'static str),
    /// A module's state, for `import`.
    PyTorch(&'static str),
    /// Tensors, which must be saved again in our format.
    Tensors(&'static str),
    Other(&'static str),
}

/// What the file at `path` is and how to convert it, unless `bytes` begin like a safetensors file.
pub fn description(path: &Path, bytes: &[u8]) -> Option<String> {
    if begins_as_safetensors(bytes) {
        return None;
    }
    if bytes.is_empty() {
        return Some("it is empty".to_owned());
    }
    if let Some(kind) = kind(bytes) {
        return Some(match kind {
            Kind::Keras(what) => format!(
                "it is {what}; convert it with `python3 scripts/keras_weights.py from-keras {} weights.safetensors`",
                path.display()
            ),
            Kind::PyTorch(what) => format!("it is {what}; {AS_SAFETENSORS}"),
            Kind::Tensors(what) => format!("it is {what}; {OWN_NAMES}"),
            Kind::Other(what) => format!("it is {what}"),
        });
    }
    let start = &bytes[..bytes.len().min(16)];
    let what = if is_text(bytes) { "text" } else { "a file" };
    Some(format!(
        "expected a safetensors file, got {what} that begins with `{}`",
        start.escape_ascii()
    ))
}

/// Whether the bytes begin with a little-endian length of less than 4 GiB in eight bytes, followed by JSON.
fn begins_as_safetensors(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

fn kind(bytes: &[u8]) -> Option<Kind> {
    let magic = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic));
    if let Some((_, kind)) = magic {
        return Some(*kind);
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Some(kind_of_zip(bytes));
    }
    // ir_version, a small number, then producer_name.
    if let [0x08, 1..=30, 0x12, ..] = bytes {
        return Some(Kind::Tensors("an ONNX model"));
    }
    is_html(bytes).then_some(Kind::Other(
        "a web page, perhaps one that asks to log in; download the file itself",
    ))
}

/// What an archive is, by the name of its first member.
fn kind_of_zip(bytes: &[u8]) -> Kind {
    const LENGTH_AT: usize = 26;
    const NAME_AT: usize = 30;
    let length = match bytes.get(LENGTH_AT..LENGTH_AT + 2) {
        Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
        _ => 0,
    };
    let name = bytes.get(NAME_AT..NAME_AT + length).unwrap_or_default();
    match name {
        b"metadata.json" | b"config.json" | b"model.weights.h5" => {
            Kind::Keras("a Keras model (.keras)")
        }
        _ if name.ends_with(b".npy") => Kind::Tensors("a NumPy archive (.npz)"),
        _ if name.ends_with(b"/data.pkl") => Kind::PyTorch("a PyTorch file (.pt, .pth)"),
        _ => Kind::Other("a zip archive; unpack it first"),
    }
}

fn is_html(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"].iter().any(|tag| {
        text.get(..tag.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(tag))
    })
}

/// Whether the beginning is text.
fn is_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(512)];
    start
        .iter()
        .all(|byte| *byte >= b' ' && *byte != 0x7f || byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zip archive's first bytes, with a member called `name`.
    fn zip(name: &str) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04\x14\0\0\0\0\0".to_vec();
        bytes.resize(26, 0);
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(name.as_bytes());
        bytes
    }

    #[test]
    fn files_that_people_take_for_checkpoints_are_named_with_what_to_do() {
        let cases: [(&[u8], &str, &str); 16] = [
            (b"", "empty", ""),
            (
                b"\x89HDF\r\n\x1a\nrest",
                "HDF5",
                "keras_weights.py from-keras dir/m.x weights",
            ),
            (
                &zip("metadata.json"),
                "Keras",
                "keras_weights.py from-keras dir/m.x weights",
            ),
            (&zip("conv.npy"), ".npz", "resnet-xla export"),
            (&zip("archive/data.pkl"), "PyTorch", "resnet-xla import"),
            (&zip("photo.jpg"), "zip archive", "unpack"),
            (b"PK\x03\x04", "zip archive", "unpack"),
            (b"\x80\x02\x8a\nl\xfc\x9c", "PyTorch", "resnet-xla import"),
            (b"\x80\x04\x95", "pickle", "resnet-xla export"),
            (b"\x93NUMPY\x01\0", "NumPy", "resnet-xla export"),
            (b"\x08\x07\x12\x07pytorch", "ONNX", "resnet-xla export"),
            (
                b"version https://git-lfs.example/spec/v1\noid",
                "Git LFS",
                "git lfs pull",
            ),
            (b"\n<!DOCTYPE html><title>", "web page", "download"),
            (
                b"name,value\n1,2\n",
                "text that begins with `name,value\\n1,2\\n`",
                "safetensors",
            ),
            (&[0; 64], "begins with `\\x00", "safetensors"),
            (b"short", "text that begins with `short`", "safetensors"),
        ];
        for (bytes, what, advice) in cases {
            let said = description(Path::new("dir/m.x"), bytes).unwrap();
            assert!(
                said.contains(what) && said.contains(advice),
                "{what}: {said}"
            );
        }
    }

    #[test]
    fn a_safetensors_file_is_left_to_its_reader() {
        // The length of this header begins like a pickle.
        assert_eq!(
            description(Path::new("x"), b"\x80\x02\0\0\0\0\0\0{\"a\":1}"),
            None
        );
    }
}
