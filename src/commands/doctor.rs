//! `doctor`: what the program finds on this machine, and what is wrong with it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cli::DoctorArgs;
use crate::config::DeviceChoice;
use crate::device::Device;
use crate::flags;
use crate::plugins::{self, PluginKind};
use crate::replicas::Counted;
use crate::runtime;

pub fn run(args: &DoctorArgs) -> Result<()> {
    println!("resnet-xla  {}", env!("CARGO_PKG_VERSION"));
    println!("runtime     {}", runtime::VERSION);
    match runtime::library() {
        Some(path) => println!("            {}", path.display()),
        None => println!("            its library is not mapped into the process: run `./setup`"),
    }
    match plugins::cache_dir() {
        Some(path) => println!("cache       {}", path.display()),
        None => println!("cache       none: neither HOME nor RESNET_XLA_CACHE is set"),
    }
    for variable in [
        plugins::TPU_VARIABLE,
        plugins::PLUGIN_VARIABLE,
        flags::XLA_FLAGS,
    ] {
        if let Ok(value) = std::env::var(variable) {
            println!("variable    {variable}={value}");
        }
    }
    accelerator(&PluginKind::Tpu);
    accelerator(&PluginKind::Gpu);
    data_folder(&args.data.data_dir.clone().unwrap_or(PathBuf::from("data")));

    let choice = args.device.device.unwrap_or(DeviceChoice::Auto);
    let plugin = args.device.plugin.as_deref();
    let device = Device::open(choice, plugin, args.device.replicas)?;
    let replicas = Counted(device.replicas);
    println!("device      {}: works, {replicas}", device.description());
    for each in device.client().devices() {
        println!("            {}", each.to_string());
    }
    Ok(())
}

/// Hardware and plugins of one kind; loads nothing.
fn accelerator(kind: &PluginKind) {
    let root = Path::new("/");
    let name = kind.device();
    let hardware = plugins::hardware(kind, root);
    if hardware.is_empty() {
        println!(
            "{name}         none: looked for {}",
            plugins::looked_for(kind)
        );
    } else {
        println!("{name}         {}", hardware.join(", "));
    }
    for path in plugins::candidates(kind, root) {
        let state = if path.is_file() { "found" } else { "not there" };
        println!("  plugin    {}: {state}", path.display());
    }
}

fn data_folder(folder: &Path) {
    let state = if folder.is_dir() {
        "there; `resnet-xla fetch` verifies it"
    } else {
        "not there yet; `resnet-xla fetch` makes it"
    };
    println!("data        {}: {state}", folder.display());
}
