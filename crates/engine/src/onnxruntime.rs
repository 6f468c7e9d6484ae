//! The back end for any Linux machine: ONNX Runtime on the CPU.

use std::path::{Path, PathBuf};

use anemia_bundle::{OutputKind, Precision, Task};
use ort::AsPointer;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, Session};
use ort::value::{Tensor, TensorElementType, ValueType};

use crate::library::{self, one_line};
use crate::{BackEnd, Engine, EngineError, EngineOptions, Source, checked};

/// A network in ONNX Runtime, with an input and an output that stay where they are.
pub(crate) struct OnnxRuntime {
    binding: IoBinding,
    session: Session,
    input: Tensor<f32>,
    output: Tensor<f32>,
    is_probability: bool,
    name: String,
    precision: Precision,
}

impl OnnxRuntime {
    pub(crate) fn load(source: &Source<'_>, options: &EngineOptions) -> Result<Self, EngineError> {
        let Source { network, task, precision, .. } = *source;
        let (path, wanted, given) = (source.path.to_owned(), source.input, source.output);
        let opened = library::open(options.library.as_deref())?;
        let failed = |cause: String| EngineError::Model { model: path.clone(), cause: one_line(&cause) };

        // From memory, not by path: what runs is what was hashed, and nothing outside the file can be pulled in.
        let session = session(&opened.environment, network, precision, options.threads).map_err(failed)?;
        let size = [1, 3, i64::from(wanted.height), i64::from(wanted.width)];
        expect_shape(&path, "input", session.inputs(), &wanted.name, Some(&size))?;
        let output_shape = expect_shape(&path, "output", session.outputs(), &given.name, None)?;
        let is_classifier = task == Task::Classify;
        if is_classifier && output_shape.iter().product::<i64>() != 1 {
            let (found, expected) = (format!("of shape {output_shape:?}"), "a single number".into());
            return Err(EngineError::Shape { model: path, part: "output", found, expected });
        }
        let is_probability = is_classifier && given.kind == OutputKind::Probability;

        let allocator = session.allocator();
        let tensors = Tensor::<f32>::new(allocator, size).and_then(|mut input| {
            let mut output = Tensor::<f32>::new(allocator, output_shape)?;
            // Memory of the allocator holds whatever was there before.
            input.extract_tensor_mut().1.fill(0.0);
            let mut binding = session.create_binding()?;
            binding.bind_input(&wanted.name, &input)?;
            binding.bind_output(&given.name, &mut output)?;
            Ok((input, output, binding))
        });
        let (input, output, binding) = tensors.map_err(|error| failed(error.to_string()))?;
        let name = format!("onnxruntime {}", opened.version);
        Ok(Self { binding, session, input, output, is_probability, name, precision })
    }
}

fn session(
    environment: &ort::environment::Environment,
    network: &[u8],
    precision: Precision,
    threads: usize,
) -> Result<Session, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    // 4-bit weights only save space: unpacked once here, and not in every run.
    let unpack = if precision == Precision::Int4 { "1" } else { "0" };
    Session::builder(environment)
        .map_err(|error| text(&error))?
        .with_config_entry("session.disable_quant_qdq", unpack)
        .map_err(|error| text(&error))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|error| text(&error))?
        .with_env_allocators()
        .map_err(|error| text(&error))?
        // A pattern is one piece for all of a run, kept for this network alone. Piece by piece takes no longer, and is shared.
        .with_memory_pattern(false)
        .map_err(|error| text(&error))?
        .with_intra_threads(threads)
        .map_err(|error| text(&error))?
        .commit_from_memory(network)
        .map_err(|error| text(&error))
}

/// The shape of the named input or output, if it holds 32-bit floats of a fixed size and, where given, of that size.
fn expect_shape(
    model: &Path,
    part: &'static str,
    outlets: &[ort::value::Outlet],
    name: &str,
    expected: Option<&[i64]>,
) -> Result<Vec<i64>, EngineError> {
    let wrong = |found: String| EngineError::Shape {
        model: PathBuf::from(model),
        part,
        found,
        expected: match expected {
            Some(shape) => format!("float32 {name:?} of shape {shape:?}"),
            None => format!("float32 {name:?} of a fixed shape"),
        },
    };
    let outlet = outlets.iter().find(|outlet| outlet.name() == name).ok_or_else(|| {
        wrong(format!("named {}", outlets.iter().map(|outlet| outlet.name()).collect::<Vec<_>>().join(", ")))
    })?;
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else { return Err(wrong("not a tensor".into())) };
    let fixed = shape.iter().all(|&size| size > 0);
    if *ty != TensorElementType::Float32 || !fixed || expected.is_some_and(|expected| shape.as_ref() != expected) {
        return Err(wrong(format!("{ty:?} of shape {:?}", shape.as_ref())));
    }
    Ok(shape.to_vec())
}

impl Engine for OnnxRuntime {
    fn input(&mut self) -> &mut [f32] {
        self.input.extract_tensor_mut().1
    }

    fn run(&mut self) -> Result<&[f32], EngineError> {
        // `Session::run_binding` would collect the outputs into new vectors each time; they are bound already.
        // SAFETY: both pointers belong to live objects of the same session, and `&mut self` keeps other threads out.
        #[allow(unsafe_code)]
        let status =
            unsafe { (ort::api().RunWithBinding)(self.session.ptr().cast_mut(), std::ptr::null(), self.binding.ptr()) };
        // SAFETY: the status was just given by the call above and is handed over once.
        #[allow(unsafe_code)]
        let result = unsafe { ort::Error::result_from_status(status) };
        result.map_err(|error| EngineError::Failed(one_line(&error.to_string())))?;
        checked(self.output.extract_tensor().1, self.is_probability)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn back_end(&self) -> BackEnd {
        BackEnd::OnnxRuntime
    }
}
