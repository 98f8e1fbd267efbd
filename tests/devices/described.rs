//! What `doctor` says of a device.

use cpu_kernels::isa::{self, Isa};

use crate::program::text;
use crate::{doctor, errors, stub};

#[test]
fn doctor_says_whether_the_cpus_kernels_are_used() {
    let mut command = doctor(&["--device", "cpu"]);
    let output = command.env("RESNET_XLA_ISA", "generic").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed.contains("kernels     not used: see RESNET_XLA_ISA\n")
            && printed.contains("variable    RESNET_XLA_ISA=generic\n"),
        "{printed}"
    );
}

#[test]
fn doctor_says_what_a_plugin_says_of_its_extensions_memory_and_devices() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("plugin.so");
    stub::compile("MEMORY=1", &plugin);
    let output = doctor(&["--plugin", text(&plugin)]).output().unwrap();
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{printed}{}", errors(&output));
    for line in [
        "PJRT C API 0.0, extensions: Layouts",
        "StubDevice(id=0), memory: 512 MiB in use of 16384 MiB, 2048 MiB at its peak, coords: [0, 1]",
    ] {
        assert!(
            printed.contains(&format!("            {line}\n")),
            "{printed}"
        );
    }
}

#[test]
fn doctor_names_the_instruction_set_of_the_cpus_kernels() {
    if !Isa::Avx2.is_present() {
        println!("skipped: this processor has no AVX2");
        return;
    }
    for (named, isa) in [("auto", Isa::of_processor()), ("avx2", Isa::Avx2)] {
        let mut command = doctor(&["--device", "cpu"]);
        let output = command.env(isa::VARIABLE, named).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let mut lines = printed.lines();
        let kernels = lines.find_map(|line| line.strip_prefix("kernels     for "));
        assert_eq!(kernels, Some(&isa.to_string()[..]), "{printed}");
    }
}
