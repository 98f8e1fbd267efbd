//! Files that are no plugins, and plugins that do not start.

use std::fs;
use std::path::{Path, PathBuf};

use crate::library;
use crate::program::{fail, text};

#[test]
fn a_library_without_the_interface_is_no_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let path = library(folder.path(), "int answer(void) { return 42; }");
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(message.contains("it has no GetPjrtApi"), "{message}");
}

#[test]
fn an_interface_without_a_table_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = library(folder.path(), "void *GetPjrtApi(void) { return 0; }");
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(message.contains("returned no function table"), "{message}");
}

#[test]
fn a_plugin_for_another_processor_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    let mut binary = fs::read(env!("CARGO_BIN_EXE_resnet-xla")).unwrap();
    // The machine's number in the ELF header: 243 is RISC-V.
    binary[18..20].copy_from_slice(&243u16.to_le_bytes());
    fs::write(&path, &binary[..4096]).unwrap();
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(message.contains("it is built for RISC-V"), "{message}");
}

#[test]
fn a_text_file_is_no_library() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    fs::write(&path, "not a library\n").unwrap();
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(message.contains("it is not a shared library"), "{message}");
}

#[test]
fn a_plugin_that_crashes_at_load_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for source in [
        "__attribute__((constructor)) static void start(void) { *(volatile int *)0 = 1; }",
        "void abort(void);\nvoid *GetPjrtApi(void) { abort(); }",
    ] {
        let path = library(folder.path(), source);
        let message = fail(&["--plugin", text(&path)], 4);
        assert!(
            message.contains(text(&path)) && message.contains("crashed while it started"),
            "{message}"
        );
    }
}

/// A plugin in C whose functions all do `body`, of version `major` of the interface.
fn plugin_of(folder: &Path, major: u32, body: &str) -> PathBuf {
    let source = format!(
        "#include <stddef.h>
        static void *function(void *arguments) {{ {body} return 0; }}
        static struct {{
            size_t size; void *extension;
            struct {{ size_t size; void *extension; int major, minor; }} version;
            void *(*functions[150])(void *);
        }} table;
        void *GetPjrtApi(void) {{
            table.size = sizeof table;
            table.version.major = {major};
            for (int i = 0; i < 150; ++i) table.functions[i] = function;
            return &table;
        }}"
    );
    library(folder, &source)
}

#[test]
fn a_plugin_that_crashes_when_it_is_started_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = plugin_of(folder.path(), 0, "*(volatile int *)0 = 1;");
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(
        message.contains(text(&path)) && message.contains("crashed while it started"),
        "{message}"
    );
}

#[test]
fn a_plugin_of_another_version_of_the_interface_says_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = plugin_of(folder.path(), 7, "");
    let message = fail(&["--plugin", text(&path)], 4);
    assert!(
        message.contains("it speaks PJRT C API 7.0; expected major version 0"),
        "{message}"
    );
}
