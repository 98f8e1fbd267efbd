//! What a run needs before its folder is touched: its images, its program and its first weights. Where one does not wait
//! for the other, the images are read beside the rest.

use std::panic;
use std::path::Path;
use std::thread;

use anyhow::Result;
use xla_graphs::Layout;

use super::together;
use crate::cli::args::TrainArgs;
use crate::cli::config::{Config, ConfigError, check_side, divide};
use crate::data::{self, DatasetSpec, Normalization, PictureOptions, RunImages};
use crate::device::Device;
use crate::model::choose::ModelSettings;
use crate::model::dirac;
use crate::model::initialise::initial_state;
use crate::model::network::STEM;
use crate::model::peers::Peers;
use crate::model::program::Program;
use crate::model::program_folder::{ProgramFolder, Use};
use crate::model::state::HostState;
use crate::run::checkpoint;
use crate::run::run_dir::RunDir;

pub struct Prepared<'a> {
    pub images: Images,
    pub program: Program<'a>,
    pub settings: ModelSettings,
    /// The first weights; `None` where the run is resumed, or another process has them.
    pub first: Option<HostState>,
}

/// The images of a run, with what the pixels for training have in common.
pub struct Images {
    pub images: RunImages,
    pub normalization: Normalization,
}

/// # Errors
/// Images that are damaged or not there, or that the network does not take; a program or an executable of others; first
/// weights that cannot be read.
pub fn prepare<'a>(
    device: &'a Device,
    peers: &Peers,
    config: &Config,
    args: &TrainArgs,
) -> Result<Prepared<'a>> {
    let is_first = peers.is_first();
    let load = || load(config, args, is_first);
    // Several processes go step by step, so that what one finds wrong ends them all.
    let spec = data::known_spec(config.dataset).filter(|_| !peers.are_there());
    if let Some(spec) = spec {
        let (program, settings) = program(device, &spec, config, args)?;
        let (images, first) = beside(load, || first(&program, config, args));
        return Ok(Prepared {
            images: images?,
            first: first?,
            program,
            settings,
        });
    }
    let images = together::one_after_another(peers, load)?;
    together::agree_on_data(peers, &images.images)?;
    let (program, settings) = program(device, &images.images.spec, config, args)?;
    let first = match is_first {
        true => first(&program, config, args)?,
        false => None,
    };
    Ok(Prepared {
        images,
        program,
        settings,
        first,
    })
}

/// What both return, `other` on a thread of its own if there may be one more.
fn beside<A: Send, B>(other: impl Fn() -> A + Sync, here: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, &other);
        let here = here();
        let other = match thread {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic)),
            Err(_) => other(),
        };
        (other, here)
    })
}

/// The images to train and validate on. A resumed run takes them from the same folder as before. The first process makes
/// the folder for decoded images next to the run; another one may be on a machine that does not see it.
fn load(config: &Config, args: &TrainArgs, is_first: bool) -> Result<Images> {
    let cache_folder = RunDir::of(&config.out_dir).decoded_images();
    let pictures = PictureOptions {
        cache_folder: cache_folder.filter(|folder| is_first || folder.is_dir()),
        ..config.pictures()
    };
    let dataset = match args.resume && !args.names_data_dir() {
        true => data::load_again(config.dataset, &config.data_dir, pictures)?,
        false => data::load(config.dataset, &config.data_dir, pictures)?,
    };
    let held_out = config.validation_split;
    let images = divide(dataset, held_out, config.seed, config.batch_size)?;
    Ok(Images {
        normalization: (config.model.normalization())
            .unwrap_or_else(|| Normalization::of(&images.training)),
        images,
    })
}

/// The program for images of this spec, of which nothing is traced yet.
fn program<'a>(
    device: &'a Device,
    spec: &DatasetSpec,
    config: &Config,
    args: &TrainArgs,
) -> Result<(Program<'a>, ModelSettings)> {
    check_side(config.network(), spec.side)?;
    // An earlier program took any, and its run can be finished.
    if !args.resume {
        config.check_cutout(spec.side)?;
    }
    let settings = config.model(spec, device.replicas);
    let folder = config.program.as_deref().map(ProgramFolder::open);
    let program = Program::of(device, &settings, Use::Training, folder.transpose()?)?;
    checkpoint::check_len(program.layout()).map_err(ConfigError::from)?;
    Ok((program, settings))
}

/// Traces and loads what was compiled before, and makes the first weights of a new run.
fn first(program: &Program, config: &Config, args: &TrainArgs) -> Result<Option<HostState>> {
    program.look_ahead()?;
    match args.resume {
        true => Ok(None),
        false => first_state(config, program.layout()).map(Some),
    }
}

/// The first weights, random or from `--init-weights`.
fn first_state(config: &Config, layout: &Layout) -> Result<HostState> {
    let random = initial_state(layout, config.seed);
    Ok(match &config.init_weights {
        Some(path) => {
            warn_of_other_normalization(config, path);
            checkpoint::load_into(path, layout, random)?
        }
        None => {
            warn_of_random_layers(config);
            match config.dirac {
                true => dirac::begin(layout, random),
                false => random,
            }
        }
    })
}

/// Says so if layers are to stay as random as they begin. A first convolution that whitens is not random.
fn warn_of_random_layers(config: &Config) {
    match &config.freeze_until {
        Some(until) if !(config.whiten && until == STEM) => log::warn!(
            "--freeze-until {until} without --init-weights: random layers stay random; name a checkpoint"
        ),
        _ => {}
    }
}

/// Says so if the weights at `path` are for images that are normalised in another way than this kind of network's are. A file
/// without that information says nothing.
fn warn_of_other_normalization(config: &Config, path: &Path) {
    let Some(usual) = config.model.normalization() else {
        return;
    };
    if checkpoint::load_info(path).is_ok_and(|info| info.normalization != usual) {
        log::warn!(
            "{} is for images that are normalised by another mean and deviation than ImageNet's, which this run takes",
            path.display()
        );
    }
}
