//! `doctor`: what the program finds on this machine, and what is wrong with it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use cpu_kernels::isa::{self, Isa};

use super::output::stdout;
use crate::cli::args::DoctorArgs;
use crate::device::Device;
use crate::device::coordinator::{Group, address};
use crate::device::flags;
use crate::device::hardware;
use crate::device::mpi;
use crate::device::plugin_kind::PluginKind;
use crate::device::plugins;
use crate::device::processes::{Asked, Processes};
use crate::device::replicas::Counted;
use crate::device::runtime;
use crate::device::{DeviceChoice, DeviceKind};
use crate::system::text::{self, shown};

pub fn run(args: &DoctorArgs) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "resnet-xla  {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "runtime     {}", runtime::VERSION)?;
    match runtime::library() {
        Some(path) => writeln!(out, "            {}", shown(&path)),
        None if cfg!(feature = "trace") => writeln!(
            out,
            "            its library is not mapped into the process: run `./setup`"
        ),
        None => writeln!(
            out,
            "            this build runs computations from a folder (--program) on the devices of plugins"
        ),
    }?;
    match plugins::cache_dir() {
        Some(path) => writeln!(out, "cache       {}", shown(&path)),
        None => writeln!(
            out,
            "cache       none: neither HOME nor RESNET_XLA_CACHE is set"
        ),
    }?;
    for variable in [
        plugins::TPU_VARIABLE,
        plugins::PLUGIN_VARIABLE,
        flags::XLA_FLAGS,
        isa::VARIABLE,
    ] {
        if let Ok(value) = std::env::var(variable) {
            writeln!(out, "variable    {variable}={}", text::one_line(&value))?;
        }
    }
    writeln!(out, "kernels     {}", kernels())?;
    accelerator(&mut out, &PluginKind::Tpu)?;
    accelerator(&mut out, &PluginKind::Gpu)?;
    processes(&mut out)?;
    let data_dir = args.data.data_dir.clone().unwrap_or(PathBuf::from("data"));
    data_folder(&mut out, &data_dir)?;

    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    let plugin = args.device.plugin.as_deref();
    // Only this process's devices are shown. It joins no others, but a plugin may: that of a TPU slice finds its hosts.
    let alone = Processes::alone();
    let device = Device::open_among(Group::of(&alone), choice, plugin, args.device.replicas)?;
    let replicas = Counted(device.replicas);
    writeln!(
        out,
        "device      {}: works, {replicas}",
        device.description()
    )?;
    if device.kind == DeviceKind::CpuPlugin && cpu_kernels::supported() {
        writeln!(
            out,
            "            XLA's own operations compute: it takes none of this program's kernels"
        )?;
    }
    let (process, count) = (device.process(), device.processes());
    if count > 1 {
        writeln!(
            out,
            "            process {process} of {count}, by its plugin"
        )?;
    }
    for line in device.report()? {
        writeln!(out, "            {}", text::one_line(&line))?;
    }
    Ok(())
}

/// The instruction set that the CPU kernels use, or why they are not used.
fn kernels() -> String {
    match Isa::chosen() {
        Ok(Isa::Generic) if std::env::var_os(isa::VARIABLE).is_none() => {
            "not used: this processor has no AVX2 with FMA".to_owned()
        }
        Ok(Isa::Generic) => format!("not used: see {}", isa::VARIABLE),
        Ok(isa) => format!("for {isa}"),
        Err(error) => error.to_string(),
    }
}

/// Reports hardware and plugins of one kind without loading anything.
fn accelerator(out: &mut impl Write, kind: &PluginKind) -> io::Result<()> {
    let root = Path::new("/");
    let name = kind.device();
    let signs = hardware::signs(kind, root);
    if signs.is_empty() {
        writeln!(
            out,
            "{name}         none: looked for {}",
            hardware::looked_for(kind)
        )?;
    } else {
        writeln!(out, "{name}         {}", signs.join(", "))?;
    }
    for path in plugins::candidates(kind, root) {
        let state = if path.is_file() { "found" } else { "not there" };
        writeln!(out, "  plugin    {}: {state}", shown(&path))?;
    }
    Ok(())
}

/// Who this process is among several, and whether they can be joined.
fn processes(out: &mut impl Write) -> io::Result<()> {
    match Processes::here(Asked::default()) {
        Ok(here) => {
            writeln!(out, "processes   {here}, by {}", here.source)?;
            writeln!(out, "  GPUs      {}", meeting(&here))?;
        }
        Err(error) => writeln!(out, "processes   {error}")?,
    }
    let library = mpi::library_path().filter(|path| path.is_file());
    match library {
        Some(path) => writeln!(out, "  MPI       {}: found", shown(&path)),
        None => writeln!(out, "  MPI       no library for it; `./setup mpi` makes it"),
    }
}

/// Where processes on GPUs would meet.
fn meeting(processes: &Processes) -> String {
    match address::here(None, processes) {
        Ok(Some(named)) => format!("meet at {}, by {}", named.address, named.by),
        Ok(None) => "of several processes meet where --coordinator says".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn data_folder(out: &mut impl Write, folder: &Path) -> io::Result<()> {
    let state = if folder.is_dir() {
        "there; `resnet-xla fetch` verifies it"
    } else {
        "not there yet; `resnet-xla fetch` makes it"
    };
    writeln!(out, "data        {}: {state}", shown(folder))
}
