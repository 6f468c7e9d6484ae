//! The back end for NVIDIA boards: TensorRT.

mod board;
mod plans;

use std::path::PathBuf;
use std::time::Instant;

use anemia_bundle::{Bundle, ModelFile, OutputKind, Precision, Sha256, Task};
use anemia_tensorrt::{BuildOptions, Built, Context, Device, Progress, Runtime, Shim, Stream, TensorRtError};

pub use board::Board;
pub use plans::{KeptPlan, PlanKey, Refusal, kept_plans};

use crate::{BackEnd, Building, Engine, EngineError, Follow, Source, checked, self_test};
use plans::Plans;

/// Where TensorRT is and where its plans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRtOptions {
    /// Path of the shim; `None` looks in the usual places, see [`Shim::open`].
    pub library: Option<PathBuf>,
    /// Folder of the plans.
    pub cache: PathBuf,
    /// Most memory in MiB that an inference may use beside weights and values.
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

    /// Refuses a network that the board cannot run.
    pub(crate) fn check(&self, bundle: &Bundle, model: &ModelFile) -> Result<(), EngineError> {
        self.board.check(model.precision)?;
        // Its file for ONNX Runtime rounds to integers from 0 to 255, which TensorRT does not know.
        if model.precision == Precision::Int8 && model.tensorrt.is_none() {
            return Err(EngineError::NotForTensorRt { bundle: bundle.folder().to_owned() });
        }
        Ok(())
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

    /// Loads a network from the plan that is kept for it, or builds one. Either has to pass the self-test of the bundle.
    pub(crate) fn load(
        &self,
        bundle: &Bundle,
        precision: Precision,
        options: &TensorRtOptions,
        follow: &mut Follow<'_>,
    ) -> Result<TensorRt, EngineError> {
        let model = bundle.model(precision)?;
        self.check(bundle, model)?;
        let (network, path) = for_board(bundle, model)?;
        let source = Source::of(bundle.manifest(), &path, &network, precision);
        let (key, plans) = (self.key(&network, precision, options)?, Plans(&options.cache));
        if let Some(engine) = self.load_kept(bundle, &source, &plans, &key)? {
            return Ok(engine);
        }
        let mut waited = false;
        let lock = plans.lock(&mut || {
            waited = true;
            follow(Building::Waiting)
        });
        let _lock = lock.map_err(|plans::Cancelled| TensorRtError::Cancelled)?;
        if waited {
            follow(Building::Ended(precision));
        }
        // Whoever had the lock may have built this very plan.
        if let Some(engine) = self.load_kept(bundle, &source, &plans, &key)? {
            return Ok(engine);
        }
        plans.check_writable();
        let start = Instant::now();
        let built = self.build(&source, &plans, &key, follow)?;
        let mut kept = KeptPlan {
            model: format!("{} {}", bundle.manifest().name, bundle.manifest().version),
            key,
            plan_sha256: Sha256::of(&built.plan),
            bytes: built.plan.len() as u64,
            seconds: start.elapsed().as_secs_f64(),
            refused: None,
        };
        tracing::info!("the {precision} plan of {} was built in {:.1} s", kept.model, kept.seconds);
        plans.keep_timing(&kept.key, &built.timing_cache);
        let mut engine = self.start(&source, &built.plan)?;
        let proof = self_test(bundle, &mut engine);
        if let Some(error) = proof.as_ref().err().filter(|error| error.is_wrong_answer()) {
            kept.refused = Some(Refusal { bundle_sha256: bundle.sha256().clone(), cause: error.to_string() });
        }
        if proof.is_ok() || kept.refused.is_some() {
            plans.keep(&kept, &built.plan);
        }
        proof.map(|()| engine)
    }

    /// `None` where no plan is kept, or one that has to be built again.
    fn load_kept(
        &self,
        bundle: &Bundle,
        source: &Source<'_>,
        plans: &Plans<'_>,
        key: &PlanKey,
    ) -> Result<Option<TensorRt>, EngineError> {
        let Some((kept, plan)) = plans.find(key) else { return Ok(None) };
        if let Some(refusal) = kept.refused.filter(|refusal| refusal.bundle_sha256 == *bundle.sha256()) {
            return Err(EngineError::RefusedBefore { cause: refusal.cause, plan: plans.description(key) });
        }
        let again = |cause: &dyn std::fmt::Display| {
            tracing::warn!("{}: {cause}; the plan is built again", plans.description(key).display());
            Ok(None)
        };
        let mut engine = match self.start(source, &plan) {
            Ok(engine) => engine,
            Err(EngineError::TensorRt(error @ TensorRtError::BadPlan(_))) => return again(&error),
            Err(error) => return Err(error),
        };
        match self_test(bundle, &mut engine) {
            Ok(()) => Ok(Some(engine)),
            Err(error) if error.is_wrong_answer() => again(&error),
            Err(error) => Err(error),
        }
    }

    fn build(
        &self,
        source: &Source<'_>,
        plans: &Plans<'_>,
        key: &PlanKey,
        follow: &mut Follow<'_>,
    ) -> Result<Built, EngineError> {
        let precision = source.precision;
        let timing = plans.timing(key);
        let build = BuildOptions {
            // Next to 8-bit integers there are always values that stay floats.
            allow_fp16: precision != Precision::Fp32,
            allow_int8: precision == Precision::Int8,
            workspace_bytes: u64::from(key.workspace_mib) << 20,
            timing_cache: &timing,
            ..BuildOptions::default()
        };
        if !follow(Building::Started(precision)) {
            return Err(TensorRtError::Cancelled.into());
        }
        let built = self.shim.build(source.network, &build, &mut |progress| {
            let Progress { phase, step, steps } = progress;
            follow(Building::Step { precision, phase, step, steps })
        });
        follow(Building::Ended(precision));
        built.map_err(|error| match error {
            TensorRtError::Refused(cause) => EngineError::Model { model: source.path.to_owned(), cause },
            error => error.into(),
        })
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

    /// What results say of the engine. No board here computes in 4 bits, and TensorRT 11 and TensorRT-RTX compute in what the
    /// network holds, which is 32 bits.
    fn name(&self, precision: Precision) -> String {
        let versions = self.shim.versions();
        let by_the_network = versions.is_rtx || versions.library.major >= 11;
        let computes = match precision {
            Precision::Fp16 | Precision::Int4 if by_the_network => format!(" ({precision} storage, fp32 compute)"),
            Precision::Int4 => " (int4 storage, fp16 compute)".to_owned(),
            _ => String::new(),
        };
        format!("{}{computes}", self.tensorrt())
    }
}

/// The network of a precision in the form that TensorRT reads, and its path.
fn for_board(bundle: &Bundle, model: &ModelFile) -> Result<(Vec<u8>, PathBuf), EngineError> {
    let (path, sha256) = match &model.tensorrt {
        Some(file) => (&file.path, &file.sha256),
        None => (&model.path, &model.sha256),
    };
    let (network, path) = (bundle.read_file(path, sha256)?, bundle.path_of(path));
    if !matches!(model.precision, Precision::Fp16 | Precision::Int4) {
        return Ok((network, path));
    }
    // Weights that are stored in 4 or 16 bits become 32-bit floats: the boards read no others. TensorRT rounds them to 16 bits
    // again, which loses nothing.
    let failed = |error: anemia_onnx::OnnxError| EngineError::Model { model: path.clone(), cause: error.to_string() };
    let stored = anemia_onnx::decode(network).map_err(failed)?;
    let expanded = anemia_onnx::expand(&stored).map_err(failed)?;
    Ok((anemia_onnx::encode(&expanded), path))
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
