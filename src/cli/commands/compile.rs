//! `compile`: compiles a computation of a run for devices that this machine does not have.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use xla::HloModuleProto;

use super::network;
use super::output::{print_json, stdout};
use crate::cli::args::CompileArgs;
use crate::cli::outputs::{self, Named};
use crate::compile::analysis::Analysis;
use crate::compile::hlo::{self, Schedule};
use crate::compile::{self, Compiled};
use crate::device::saved_executable::{self, About};
use crate::model::choose::BatchNormMode;
use crate::model::choose::ModelSettings;
use crate::system::files;

const PROGRAM: &str = "optimized.hlo.pb";
const TEXT: &str = "optimized.hlo.txt";
const REPORT: &str = "report.json";

pub fn run(args: &CompileArgs) -> Result<()> {
    check_outputs(args)?;
    let chips = args.target.chips();
    let (config, spec) = network::settings(&args.network)?;
    let settings = ModelSettings {
        batch_size: args.batch_per_chip as usize * chips,
        precision: args.precision,
        units: args.units,
        batch_norm: args.bn.unwrap_or(BatchNormMode::Sync),
        ..config.model(&spec, chips)
    };
    log::info!(
        "compiling {} for {}; depth 164 takes some minutes",
        settings.network,
        args.target
    );
    let compiled = compile::run(
        &args.target,
        &settings,
        args.step,
        args.plugin.clone(),
        args.save_executable.is_some(),
    )?;
    let program = compiled.executable.optimized_program()?;
    let schedule = Schedule::read(&program)?;
    let analysis = Analysis::of(&args.target, args.step, &compiled, &schedule)?;
    if let Some(folder) = &args.save {
        save(folder, &program, &analysis)?;
    }
    if let Some(file) = &args.save_executable {
        save_executable(file, args, &settings, &compiled)?;
    }
    if args.json {
        print_json(&analysis)
    } else {
        Ok(write!(stdout(), "{}", analysis.table())?)
    }
}

/// Saves the compiler's program, in binary form and as text, and the analysis.
fn save(folder: &Path, program: &[u8], analysis: &Analysis) -> Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let module = hlo::module_bytes(program)?;
    files::write_bytes(&folder.join(PROGRAM), &module)?;
    let text = HloModuleProto::parse_proto(&module, true)?.to_string()?;
    files::write_text(&folder.join(TEXT), &text)?;
    files::write_json(&folder.join(REPORT), analysis)?;
    log::info!("saved the optimised program in {}", folder.display());
    Ok(())
}

/// Saves the compiled computation, with what it needs where it is loaded.
fn save_executable(
    file: &Path,
    args: &CompileArgs,
    settings: &ModelSettings,
    compiled: &Compiled,
) -> Result<()> {
    let compiler = compiled.compiler.clone();
    let compiler = compiler.context(
        "--save-executable: the plugin does not say which version it is of, so another could not be told from it",
    )?;
    let described = format!(
        "{}, {} images a device, {}",
        settings.network, args.batch_per_chip, compiled.model.network.precision
    );
    let about = About::new(
        args.step.computation(),
        described,
        &compiled.hlo,
        (args.target.to_string(), args.target.chips()),
        compiler,
        compiled.compiled.as_secs_f64(),
    );
    let executable = compiled.executable.serialize()?;
    saved_executable::write(file, &about, &executable)?;
    log::info!(
        "saved the executable, {} bytes, in {}",
        executable.len(),
        file.display()
    );
    Ok(())
}

/// Refuses to overwrite the plugin that compiles.
fn check_outputs(args: &CompileArgs) -> Result<()> {
    let Some(plugin) = &args.plugin else {
        return Ok(());
    };
    let reports = args.save.iter().flat_map(|folder| {
        let files = [PROGRAM, TEXT, REPORT].map(|name| folder.join(name));
        files.map(|file| Named::new("--save", file))
    });
    let executable = args.save_executable.iter();
    let executable = executable.map(|file| Named::new("--save-executable", file));
    for output in reports.chain(executable) {
        outputs::keep_inputs(&output, &[Named::new("--plugin", plugin)])?;
    }
    Ok(())
}
