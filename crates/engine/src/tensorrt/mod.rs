//! The back end for NVIDIA boards: TensorRT.

mod board;
mod plans;

use std::path::PathBuf;
use std::time::Instant;

use anemia_bundle::{OutputKind, Precision, Sha256, Task};
use anemia_tensorrt::{BuildOptions, Context, Device, Runtime, Shim, Stream, TensorRtError};

pub use board::Board;
pub use plans::{KeptPlan, PlanKey, kept_plans};

use crate::{BackEnd, Building, Engine, EngineError, Source, checked};
use plans::Plans;

/// Where TensorRT is and where its plans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRtOptions {
    /// Path of the shim; `None` looks in the usual places, see [`Shim::open`].
    pub library: Option<PathBuf>,
    /// Folder of the plans.
    pub cache: PathBuf,
    /// Most memory in MiB that an inference may use beside weights and values; 0 leaves it to TensorRT.
    pub workspace_mib: u32,
}

/// A network in TensorRT, with an input and an output that the processor and the GPU both see.
pub(crate) struct TensorRt {
    context: Context,
    stream: Stream,
    device: Device,
    /// The places of input and output among the bound tensors.
    input: usize,
    output: usize,
    is_probability: bool,
    name: String,
    precision: Precision,
}

/// A shim, a GPU and a board that go together.
pub(crate) struct Machine {
    shim: Shim,
    device: Device,
    board: Board,
}

impl Machine {
    pub(crate) fn open(options: &TensorRtOptions) -> Result<Self, EngineError> {
        let shim = Shim::open(options.library.as_deref())?;
        let device = Device::first()?;
        let board = Board::detect(&device)?;
        if let Some(fault) = board.known_fault(shim.versions().library) {
            tracing::warn!("{fault}");
        }
        Ok(Self { shim, device, board })
    }

    /// Refuses a precision that the board cannot run.
    pub(crate) fn check(&self, precision: Precision) -> Result<(), EngineError> {
        self.board.check(precision)
    }

    fn tensorrt(&self) -> String {
        let versions = self.shim.versions();
        format!("{} {}", if versions.is_rtx { "tensorrt-rtx" } else { "tensorrt" }, versions.library)
    }

    fn key(&self, network: &[u8], precision: Precision, options: &TensorRtOptions) -> Result<PlanKey, EngineError> {
        let (major, minor) = self.device.driver_version()?;
        Ok(PlanKey {
            network_sha256: Sha256::of(network),
            precision,
            tensorrt: self.tensorrt(),
            cuda: format!("{major}.{minor}"),
            board: self.board.name.clone(),
            gpu: self.board.gpu.clone(),
            compute_capability: self.board.compute_capability,
            workspace_mib: options.workspace_mib,
        })
    }

    /// Loads a network from the plan that is kept for it, or builds one. The flag says that the plan was an old one.
    pub(crate) fn load(
        &self,
        source: &Source<'_>,
        model: &str,
        options: &TensorRtOptions,
        follow: &mut dyn FnMut(Building<'_>) -> bool,
    ) -> Result<(TensorRt, bool), EngineError> {
        let key = self.key(source.network, source.precision, options)?;
        let plans = Plans(&options.cache);
        if let Some(engine) = self.load_kept(source, &plans, &key)? {
            return Ok((engine, true));
        }
        let _lock = plans.lock();
        // Whoever had the lock may have built this very plan.
        if let Some(engine) = self.load_kept(source, &plans, &key)? {
            return Ok((engine, true));
        }
        let plan = self.build(source, model, &plans, &key, follow)?;
        Ok((self.start(source, &plan)?, false))
    }

    /// Forgets the plan of a network, so that the next load builds it anew.
    pub(crate) fn forget(&self, source: &Source<'_>, options: &TensorRtOptions) -> Result<(), EngineError> {
        let key = self.key(source.network, source.precision, options)?;
        Plans(&options.cache).forget(&key);
        Ok(())
    }

    /// `None` where no plan is kept, or one that TensorRT does not accept.
    fn load_kept(
        &self,
        source: &Source<'_>,
        plans: &Plans<'_>,
        key: &PlanKey,
    ) -> Result<Option<TensorRt>, EngineError> {
        let Some(plan) = plans.find(key) else { return Ok(None) };
        match self.start(source, &plan) {
            Ok(engine) => Ok(Some(engine)),
            Err(EngineError::TensorRt(TensorRtError::BadPlan(cause))) => {
                tracing::warn!("{}: {cause}; the plan is built again", plans.0.display());
                plans.forget(key);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn build(
        &self,
        source: &Source<'_>,
        model: &str,
        plans: &Plans<'_>,
        key: &PlanKey,
        follow: &mut dyn FnMut(Building<'_>) -> bool,
    ) -> Result<Vec<u8>, EngineError> {
        let precision = source.precision;
        tracing::info!("building the {precision} plan of {model} for {}, which takes minutes on a board", key.board);
        let start = Instant::now();
        let timing = plans.timing(key);
        let build = BuildOptions {
            // Next to 8-bit integers there are always values that stay floats.
            allow_fp16: precision != Precision::Fp32,
            allow_int8: precision == Precision::Int8,
            workspace_bytes: u64::from(key.workspace_mib) << 20,
            timing_cache: &timing,
            ..BuildOptions::default()
        };
        if !follow(Building { precision, phase: "start", step: 0, steps: 0 }) {
            return Err(TensorRtError::Cancelled.into());
        }
        let built = self.shim.build(source.network, &build, &mut |progress| {
            follow(Building { precision, phase: progress.phase, step: progress.step, steps: progress.steps })
        });
        let built = match built {
            Ok(built) => built,
            Err(TensorRtError::Failed(cause)) => {
                return Err(EngineError::Model { model: source.path.to_owned(), cause });
            }
            Err(error) => return Err(error.into()),
        };
        let seconds = start.elapsed().as_secs_f64();
        tracing::info!("the {precision} plan of {model} was built in {seconds:.1} s");
        let kept = KeptPlan {
            model: model.to_owned(),
            key: key.clone(),
            plan_sha256: Sha256::of(&built.plan),
            bytes: built.plan.len() as u64,
            seconds,
        };
        plans.keep(&kept, &built.plan);
        plans.keep_timing(key, &built.timing_cache);
        Ok(built.plan)
    }

    fn start(&self, source: &Source<'_>, plan: &[u8]) -> Result<TensorRt, EngineError> {
        let engine = Runtime::new(&self.shim)?.load(plan)?;
        let (wanted, given) = (source.input, source.output);
        let wrong = |part, found: String, expected: String| EngineError::Shape {
            model: source.path.to_owned(),
            part,
            found,
            expected,
        };
        let shape = [1, 3, i64::from(wanted.height), i64::from(wanted.width)];
        for (part, is_input, name) in [("input", true, &wanted.name), ("output", false, &given.name)] {
            let found: Vec<_> = engine.tensors().iter().filter(|tensor| tensor.is_input == is_input).collect();
            let names = found.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>().join(", ");
            let [tensor] = found[..] else {
                return Err(wrong(part, format!("named {names}"), format!("{name:?} alone")));
            };
            let classifies = source.task == Task::Classify;
            let single = !is_input && classifies && tensor.shape.iter().product::<i64>() != 1;
            let other = is_input && tensor.shape != shape;
            if tensor.name != *name || !tensor.is_float32 || single || other {
                let expected = match is_input {
                    true => format!("float32 {name:?} of shape {shape:?}"),
                    false if classifies => format!("float32 {name:?} of a single number"),
                    false => format!("float32 {name:?}"),
                };
                return Err(wrong(part, format!("{:?} of shape {:?}", tensor.name, tensor.shape), expected));
            }
        }
        let mut context = engine.into_context()?;
        let input = context.bind(&wanted.name, &self.device)?;
        let output = context.bind(&given.name, &self.device)?;
        Ok(TensorRt {
            context,
            stream: Stream::new(&self.device)?,
            device: self.device,
            input,
            output,
            is_probability: source.task == Task::Classify && given.kind == OutputKind::Probability,
            name: self.name(source.precision),
            precision: source.precision,
        })
    }

    /// What results say of the engine. 4 bits are how the weights are stored: no board here computes in them.
    fn name(&self, precision: Precision) -> String {
        let computes = if precision == Precision::Int4 { " (int4 storage, fp16 compute)" } else { "" };
        format!("{}{computes}", self.tensorrt())
    }
}

impl Engine for TensorRt {
    fn input(&mut self) -> &mut [f32] {
        self.context.values(self.input)
    }

    fn run(&mut self) -> Result<&[f32], EngineError> {
        // The thread that loaded the network need not be the one that runs it.
        self.device.make_current()?;
        self.context.run(&self.stream).map_err(|error| EngineError::Failed(error.to_string()))?;
        checked(self.context.values(self.output), self.is_probability)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn back_end(&self) -> BackEnd {
        BackEnd::TensorRt
    }
}
