//! Writes the types and sizes of the PJRT C API from the XLA runtime's own header (`bindings.rs`), and
//! pairs each function's arguments with the function (`calls.rs`), for `tests/generated.rs`: the crate itself is built
//! from the copies in `src/generated`, which need neither the header nor a compiler of C.

#[cfg(feature = "header")]
use std::{env, path::Path};

#[cfg(not(feature = "header"))]
fn main() {}

#[cfg(feature = "header")]
fn main() {
    println!("cargo::rerun-if-env-changed=XLA_EXTENSION_DIR");
    let xla_dir = env::var_os("XLA_EXTENSION_DIR").unwrap_or_default();
    let include = Path::new(&xla_dir).join("include");
    // It includes the interface's own header.
    let header = include.join("xla/pjrt/c/pjrt_c_api_ffi_extension.h");
    println!("cargo::rerun-if-changed={}", header.display());
    if let Err(error) = generate(&include, &header) {
        println!(
            "cargo::error=no bindings of {}: {error}; run ./setup first",
            header.display()
        );
    }
}

#[cfg(feature = "header")]
fn generate(include: &Path, header: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let bindings = bindgen::Builder::default()
        .header(header.to_string_lossy())
        .clang_arg(format!("-I{}", include.display()))
        .allowlist_item("PJRT_.*")
        .derive_default(true)
        .prepend_enum_name(false)
        .layout_tests(false)
        .generate_comments(false)
        .disable_header_comment()
        .generate()?
        .to_string();
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?;
    let out_dir = Path::new(&out_dir);
    std::fs::write(out_dir.join("calls.rs"), calls(&bindings))?;
    std::fs::write(out_dir.join("bindings.rs"), bindings)?;
    Ok(())
}

/// A line for each function that takes one struct and returns an error:
/// `pair!(PJRT_Compile, PJRT_Compile_Args, PJRT_Compile_Args_STRUCT_SIZE);`
#[cfg(feature = "header")]
fn calls(bindings: &str) -> String {
    // As bindgen writes a function type, without the spaces and commas of line breaks.
    let flat: String = bindings.split_whitespace().collect();
    let flat = flat.replace(",)", ")");
    let mut calls = String::new();
    for piece in flat.split("pubtype").skip(1) {
        let Some((name, rest)) = piece.split_once('=') else {
            continue;
        };
        let function = format!(
            "::std::option::Option<unsafeextern\"C\"fn(args:*mut{name}_Args)->*mutPJRT_Error"
        );
        let in_table = flat.contains(&format!("pub{name}:{name},"));
        if rest.starts_with(&function) && in_table {
            calls.push_str(&format!(
                "pair!({name}, {name}_Args, {name}_Args_STRUCT_SIZE);\n"
            ));
        }
    }
    calls
}
