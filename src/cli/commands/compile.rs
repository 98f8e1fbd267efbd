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
use crate::compile;
use crate::compile::analysis::Analysis;
use crate::compile::hlo::{self, Schedule};
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
    let compiled = compile::run(&args.target, &settings, args.step, args.plugin.clone())?;
    let program = compiled.executable.optimized_program()?;
    let schedule = Schedule::read(&program)?;
    let analysis = Analysis::of(&args.target, args.step, &compiled, &schedule)?;
    if let Some(folder) = &args.save {
        save(folder, &program, &analysis)?;
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

/// Refuses to overwrite the plugin that compiles.
fn check_outputs(args: &CompileArgs) -> Result<()> {
    let (Some(folder), Some(plugin)) = (&args.save, &args.plugin) else {
        return Ok(());
    };
    for name in [PROGRAM, TEXT, REPORT] {
        let output = Named::new("--save", folder.join(name));
        outputs::keep_inputs(&output, &[Named::new("--plugin", plugin)])?;
    }
    Ok(())
}
